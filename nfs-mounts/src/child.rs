//! The child process: it reads one order, sends a heartbeat at each phase, and writes one answer.
//!
//! It must not need anything that could be on the hung mount: it starts from `/proc/self/exe`, in `/`, and reads its
//! order from stdin.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Phase;

/// The hidden subcommand with which a daemon starts itself as a child process.
pub const SUBCOMMAND: &str = "touch-mount";

/// The largest order and answer: imagepurger's child reads catalogues of up to 64 MiB.
pub(crate) const MOST_BYTES: u64 = 192 * 1024 * 1024;

/// One line from the child, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<A> {
    /// A phase started. This is the heartbeat.
    Started(Phase),
    /// The phase ended, after this many nanoseconds.
    Ended(Phase, u64),
    /// The answer.
    Answer(A),
}

/// Reports to the daemon what the child is about to do.
#[derive(Debug)]
pub struct Heartbeat {
    out: io::Stdout,
}

impl Heartbeat {
    /// Runs `work` as one phase, which must end within the daemon's limit.
    pub fn phase<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        if self.write_line(&Line::<()>::Started(phase)).is_err() {
            // The daemon ended before the kernel knew that this process ends with it.
            end();
        }
        let start = Instant::now();
        let done = work();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // If this fails, the daemon is gone, and so is this process in a moment.
        let _ = self.write_line(&Line::<()>::Ended(phase, nanoseconds));
        done
    }

    fn write_line<A: Serialize>(&mut self, line: &Line<A>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.out.write_all(&text)?;
        self.out.flush()
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing may be touched any more, and there is nobody to answer")]
fn end() -> ! {
    std::process::exit(1)
}

/// Whether this process is the child. Its `main` then calls [`run`] and nothing else.
pub fn is_child() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == SUBCOMMAND)
}

/// Runs the child: reads the order, does `work`, and writes the answer. The exit code is 0 if there is an answer.
pub fn run<O: DeserializeOwned, A: Serialize>(work: impl FnOnce(O, &mut Heartbeat) -> A) -> ExitCode {
    // A child that outlives its daemon would touch the volume at the same time as the next daemon's child.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let mut order = Vec::new();
    if io::stdin().take(MOST_BYTES).read_to_end(&mut order).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(order) = serde_json::from_slice(&order) else {
        let _ = writeln!(
            io::stderr(),
            "{SUBCOMMAND} is started by the daemon itself, with an order on stdin; it is an internal command"
        );
        return ExitCode::from(64);
    };
    let mut heartbeat = Heartbeat { out: io::stdout() };
    let answer = work(order, &mut heartbeat);
    match heartbeat.write_line(&Line::Answer(answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
