//! A process, mount and cgroup namespace for parts that start others: containerd, Docker, a Kubernetes node. When it
//! ends, the kernel ends every process in it (including shims and containers) and its mounts, so nothing has to be
//! found and killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::folder::Folder;
use crate::process::Process;
use crate::{Result, wait};

/// Enters its own cgroups, then the namespaces, and stays as their first process.
const KEEPER: &str = include_str!("enclosure.sh");

/// Enters the enclosure's cgroups, then becomes the part.
const JOIN: &str = r#"if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	echo 0 >/sys/fs/cgroup/init/cgroup.procs
else
	for procs in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >"$procs"; done
fi
exec "$@""#;

/// Separate namespaces: processes, mounts (with an empty `/run`), cgroups, and the network if requested.
#[derive(Debug)]
pub struct Enclosure {
    keeper: Process,
    cgroup: String,
}

impl Enclosure {
    /// Creates the namespaces. `folder` gives the cgroup its name and has the log.
    pub fn start(folder: &Folder) -> Result<Enclosure> {
        Enclosure::make(folder, "")
    }

    /// As [`Enclosure::start`], with a separate network that has only a loopback link at first.
    pub fn with_network(folder: &Folder) -> Result<Enclosure> {
        Enclosure::make(folder, "--net")
    }

    fn make(folder: &Folder, network: &str) -> Result<Enclosure> {
        let ready = folder.join("enclosure.ready");
        let _ = fs::remove_file(&ready); // left by an earlier enclosure in this folder
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "testbed-enclosure", &folder.name()]).arg(&ready).arg(network);
        let keeper = Process::start("enclosure", &command, &folder.join("enclosure.log"))?;
        let mut enclosure = Enclosure { keeper, cgroup: folder.name() }; // from here on dropping it removes the cgroups
        enclosure.keeper.ready("make namespaces (as root)", || ready.exists().then_some(()))?;
        enclosure.keeper.follow_child()?;
        Ok(enclosure)
    }

    /// The process id of its first process on this machine, for `nsenter -t` or `/proc/<id>/root`.
    pub fn id(&self) -> i32 {
        self.keeper.id()
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.id().to_string(), "-m", "-p", "-C", "-n", "--", "sh", "-c", JOIN, "sh", program]);
        command
    }

    /// Starts a part inside, from a command made by [`Enclosure::command`].
    pub fn process(&self, name: &str, command: &Command, log: &Path) -> Result<Process> {
        Process::start_wrapped(name, command, log)
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        // The first process's end ends all others; it can be reaped only when they are gone.
        self.keeper.signal(Signal::KILL);
        self.keeper.kill();
        wait::until(wait::END_LIMIT, || {
            let left = cgroups(&self.cgroup);
            left.iter().for_each(|cgroup| remove_cgroup(cgroup));
            left.is_empty().then_some(())
        });
    }
}

/// The cgroup of this name in each hierarchy of version 1, or in that of version 2.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies
        .chain([root.to_owned()])
        .map(|hierarchy| hierarchy.join(name))
        .filter(|cgroup| cgroup.is_dir())
        .collect()
}

fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup); // busy for a moment after its last process
}
