//! One child process that does not outlive the test, even after a panic, Ctrl-C or a kill.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result, wait};

/// A running part. Dropping it sends SIGTERM, waits, kills if needed, and reaps.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// The part itself: the child, or the child's child in an [`Enclosure`](crate::enclosure::Enclosure).
    target: Pid,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command with its output in a log file, in a separate process group. The kernel kills it when this test
    /// process ends, however it ends.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Process> {
        let child = spawn(command, log).map_err(Error::io(format!("start {name}")))?;
        let target = pid_of(&child)?;
        Ok(Process { name: name.into(), child, target, log: log.into(), ended: None })
    }

    /// As [`Process::start`] for a command that forks the part and waits for it, as `nsenter` does: signals go to the
    /// part.
    pub(crate) fn start_wrapped(name: &str, command: &Command, log: &Path) -> Result<Process> {
        let mut process = Process::start(name, command, log)?;
        process.follow_child()?;
        Ok(process)
    }

    /// From now on signals go to the child of the started process.
    pub(crate) fn follow_child(&mut self) -> Result<()> {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        self.target = self.ready("start its child", || {
            let text = std::fs::read_to_string(&children).ok()?;
            Pid::from_raw(text.split_whitespace().next()?.parse().ok()?)
        })?;
        Ok(())
    }

    /// The part's process id on this machine.
    pub fn id(&self) -> i32 {
        self.target.as_raw_nonzero().get()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// Sends a signal, if it is still running.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let _ = kill_process(self.target, signal); // it may have ended this moment
        }
    }

    /// Pauses it (SIGSTOP), like a hung part.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Resumes it after [`Process::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Waits until `see` returns something, for at most [`wait::LIMIT`].
    pub fn ready<T>(&mut self, what: &str, mut see: impl FnMut() -> Option<T>) -> Result<T> {
        let mut ended = None;
        let seen = wait::until(wait::LIMIT, || {
            let seen = see().map(Some);
            if seen.is_none() && !self.is_running() {
                ended = self.ended;
                return Some(None);
            }
            seen
        });
        match (seen.flatten(), ended) {
            (Some(seen), _) => Ok(seen),
            (None, Some(status)) => {
                Err(Error::part(&self.name, format!("ended before it could {what} ({status})"), &self.log))
            }
            (None, None) => Err(Error::part(&self.name, format!("did not {what} within {:?}", wait::LIMIT), &self.log)),
        }
    }

    /// Waits until the part ends on its own.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until(limit, || if self.is_running() { None } else { self.ended })
            .ok_or_else(|| Error::part(&self.name, format!("still runs after {limit:?}"), &self.log))
    }

    /// Stops it: SIGTERM, and SIGKILL after a minute.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT); // a paused part would never see the first one
        if self.wait(wait::END_LIMIT).is_err() {
            self.kill();
        }
    }

    /// Kills it (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.is_running() && self.id() != self.child.id().cast_signed() && self.wait(wait::END_LIMIT).is_ok() {
            return; // the wrapper saw its child end
        }
        let _ = self.child.kill();
        self.ended = self.child.wait().ok().or(self.ended);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| Error::Missing("a process without an id".into()))
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a command that the kernel kills when this process ends. The kernel watches the *thread* that starts a child,
/// and a test's threads end early, so one thread that never ends starts all of them.
fn spawn(command: &Command, log: &Path) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let log = File::options().create(true).append(true).open(log)?;
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    tied.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let (answer, result) = channel();
    let gone = |_| io::Error::other("the starting thread is gone");
    starter.send((tied, answer)).map_err(|error| gone(error.to_string()))?;
    result.recv().map_err(|error| gone(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn alive(id: i32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn a_dropped_process_ends_even_if_it_ignores_the_first_signal_or_is_paused() {
        let folder = Folder::new("process").unwrap();
        let mut process = Process::start("paused", &shell("exec sleep 1000"), &folder.join("log")).unwrap();
        process.pause();
        let id = process.id();
        drop(process);
        assert!(!alive(id));
    }

    #[test]
    fn it_outlives_the_thread_that_asked_for_it() {
        let folder = Folder::new("process").unwrap();
        let log = folder.join("log");
        let mut process =
            thread::spawn(move || Process::start("sleep", &shell("exec sleep 1000"), &log)).join().unwrap().unwrap();
        assert!(process.wait(Duration::from_millis(300)).is_err());
    }

    #[test]
    fn a_failed_start_shows_the_end_of_the_log() {
        let folder = Folder::new("process").unwrap();
        let mut process = Process::start("broken", &shell("echo no such flag; exit 3"), &folder.join("log")).unwrap();
        let error = process.ready("answer", || None::<()>).unwrap_err().to_string();
        assert!(error.contains("broken ended before it could answer (exit status: 3)"), "{error}");
        assert!(error.contains("no such flag"), "{error}");
    }
}
