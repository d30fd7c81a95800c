//! A real Docker engine, with separate data, socket and containerd; several may run at the same time.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::enclosure::Enclosure;
use crate::folder::{Folder, mount_in_memory};
use crate::packages::{self, Part};
use crate::process::Process;
use crate::{Result, command};

/// The options of a Docker engine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Registries (`host:port`) to reach over plain HTTP, in addition to those on the loopback address.
    pub plain_registries: Vec<String>,
    /// Put the data on a file system of this many bytes, in memory.
    pub root_size: Option<u64>,
}

/// A running Docker engine without a network bridge: containers use the machine's network (`--network host`) or none.
#[derive(Debug)]
pub struct Docker {
    process: Option<Process>,
    socket: PathBuf,
    root: PathBuf,
    plain_registries: Vec<String>,
    enclosure: Enclosure,
    folder: Folder,
}

impl Docker {
    /// Starts it; registries on the loopback address need no TLS.
    pub fn start() -> Result<Docker> {
        Docker::with(&Options::default())
    }

    /// Starts it with these options.
    pub fn with(options: &Options) -> Result<Docker> {
        packages::require(Part::Docker)?;
        let folder = Folder::new("docker")?;
        let root = folder.folder("root")?;
        if options.root_size.is_some() {
            mount_in_memory(&root, options.root_size)?;
        }
        let (enclosure, socket) = (Enclosure::start(&folder)?, folder.join("docker.sock"));
        let plain_registries = options.plain_registries.clone();
        let mut docker = Docker { process: None, socket, root, plain_registries, enclosure, folder };
        docker.launch()?;
        Ok(docker)
    }

    /// Its unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `docker:///…`, as `RUNTIME_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        format!("docker://{}", self.socket.display())
    }

    /// The folder of its images and containers.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Stops it normally (SIGTERM), with its containers.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its process, if it is running, for example to pause it.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Starts it again, with its data. Stops it first if it is still running.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Runs the `docker` command and returns its output.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.socket.display());
        command::run(Command::new("docker").args(["--host", &host]).args(arguments))
    }

    fn launch(&mut self) -> Result<()> {
        let path = self.folder.path().display();
        let log = self.folder.join("docker.log");
        let _ = std::fs::remove_file(&self.socket); // the socket of a killed engine would look ready
        let _ = std::fs::remove_file(self.folder.join("docker.pid"));
        let mut command = self.enclosure.command("dockerd");
        // Its exec root is in the enclosure's own /run, where the containerd that it starts has its sockets, too.
        command.args([
            format!("--data-root={}", self.root.display()),
            "--exec-root=/run/docker".into(),
            format!("--pidfile={path}/docker.pid"),
            format!("--host=unix://{path}/docker.sock"),
            format!("--config-file={path}/none.json"),
            "--storage-driver=overlay2".into(),
            "--bridge=none".into(),
            "--iptables=false".into(),
            "--ip6tables=false".into(),
        ]);
        self.folder.write("none.json", "{}")?;
        command.args(self.plain_registries.iter().map(|registry| format!("--insecure-registry={registry}")));
        let mut process = self.enclosure.process("dockerd", &command, &log)?;
        process.ready("answer", || (self.socket.exists() && self.docker(&["version"]).is_ok()).then_some(()))?;
        self.process = Some(process);
        Ok(())
    }
}
