//! What `testbed up`, `./demo kubernetes` and `testbed down` know of each other: a folder that has the number of the process to end in its name.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind};

use crate::folder::{BASE, Folder};
use crate::{Error, Result, wait};

const NAME: &str = "up";

/// How long parts may take to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Says that this process keeps parts; gone with it.
#[derive(Debug)]
pub struct Record {
    _folder: Folder,
}

impl Record {
    /// Writes it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new() -> Result<Record> {
        Ok(Record { _folder: Folder::new(NAME)? })
    }
}

/// Ctrl-C and SIGTERM, which from now on do not end the process.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Signals> {
        let failed = || Error::io("listen for signals");
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed())?;
        let entered = runtime.enter();
        let interrupt = unix::signal(SignalKind::interrupt()).map_err(failed())?;
        let terminate = unix::signal(SignalKind::terminate()).map_err(failed())?;
        drop(entered);
        Ok(Signals { runtime, interrupt, terminate })
    }

    /// Waits for one of them.
    pub fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        });
    }
}

/// Ends every `testbed up` and `./demo kubernetes` on this machine and waits until its parts are gone; gives back how many there were.
///
/// # Errors
/// When one does not end in time.
pub fn down() -> Result<usize> {
    let keepers: Vec<Pid> = keepers();
    for &keeper in &keepers {
        let _ = kill_process(keeper, Signal::TERM); // it may end this moment
    }
    let all = keepers.len();
    wait::until(LIMIT, || keepers.iter().all(|&keeper| !is_testbed(keeper)).then_some(all))
        .ok_or_else(|| Error::Missing(format!("a `testbed up` does not end within {LIMIT:?}: look into {BASE}")))
}

fn keepers() -> Vec<Pid> {
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (number, rest) = name.split_once('-')?;
            let keeper = Pid::from_raw(number.parse().ok()?)?;
            (rest.split('-').next() == Some(NAME) && is_testbed(keeper)).then_some(keeper)
        })
        .collect()
}

/// The number may be another process's by now.
fn is_testbed(process: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{}/comm", process.as_raw_nonzero())).unwrap_or_default();
    ["testbed", "demo"].contains(&name.trim_end())
}
