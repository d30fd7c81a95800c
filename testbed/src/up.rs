//! Keeps real parts for manual use: `testbed up` and `./demo kubernetes` start and keep them, `testbed down` and `./demo
//! down` stop them. All they share is a folder whose name contains the id of the process to end.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process, kill_process_group};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind};

use crate::folder::{BASE, Folder};
use crate::{Error, Result, wait};

const NAME: &str = "up";

/// Starts parts, reports them, and keeps them until Ctrl-C or SIGTERM, then drops them. If the signal comes before all
/// have started, this process ends at once: its children end with it, and the janitor of its folders removes the rest.
///
/// `report` comes last: its reader may send a signal at once, which then stops the parts normally.
pub fn keep<T>(start: impl FnOnce() -> Result<T>, report: impl FnOnce() -> Result<()>) -> Result<()> {
    let signals = Signals::listen()?;
    let _record = Folder::new(NAME)?;
    let started = Arc::new(AtomicBool::new(false));
    let (ends, over) = channel::<()>();
    thread::spawn({
        let started = started.clone();
        move || {
            signals.wait();
            if !started.load(Ordering::SeqCst) {
                give_up();
            }
            drop(ends);
        }
    });
    let parts = start()?;
    started.store(true, Ordering::SeqCst);
    report()?;
    let _ = over.recv(); // ends when the other end is dropped
    drop(parts);
    Ok(())
}

/// Ends this process, and the children that it waits for: builds, `kubectl`.
#[expect(
    clippy::disallowed_methods,
    reason = "the main thread may be minutes from its destructors; the janitor does their work"
)]
fn give_up() -> ! {
    // If it does not lead its process group, its caller may be in the group.
    if getpgrp() == getpid() {
        let _ = kill_process_group(getpid(), Signal::TERM); // including this process, which handles it
    }
    std::process::exit(1)
}

/// Ctrl-C and SIGTERM, which from now on do not end the process.
struct Signals {
    runtime: Runtime,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let failed = || Error::io("listen for signals");
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed())?;
        let entered = runtime.enter();
        let interrupt = unix::signal(SignalKind::interrupt()).map_err(failed())?;
        let terminate = unix::signal(SignalKind::terminate()).map_err(failed())?;
        drop(entered);
        Ok(Signals { runtime, interrupt, terminate })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        });
    }
}

/// Stops every `testbed up` and `./demo kubernetes` on this machine and waits until its parts are gone. Returns how
/// many there were.
pub fn down() -> Result<usize> {
    let keepers: Vec<Pid> = keepers();
    for &keeper in &keepers {
        let _ = kill_process(keeper, Signal::TERM); // it may end this moment
    }
    let all = keepers.len();
    wait::until(wait::LIMIT, || {
        keepers.iter().all(|&keeper| !is_testbed(keeper) && folders_of(keeper) == 0).then_some(all)
    })
    .ok_or_else(|| Error::Missing(format!("a `testbed up` does not end within {:?}: look into {BASE}", wait::LIMIT)))
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

/// How many folders the janitor still has to remove.
fn folders_of(keeper: Pid) -> usize {
    let mine = format!("{}-", keeper.as_raw_nonzero());
    let entries = fs::read_dir(BASE).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine)).count()
}

/// The id may belong to another process by now.
fn is_testbed(process: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{}/comm", process.as_raw_nonzero())).unwrap_or_default();
    ["testbed", "demo"].contains(&name.trim_end())
}
