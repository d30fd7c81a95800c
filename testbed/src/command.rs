//! Commands that run to their end.

use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::{Error, Result};

/// Runs a command to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).output().map_err(Error::io(format!("run `{shown}`")))?;
    let written = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(written);
    }
    let output_text = format!("{written}{}", String::from_utf8_lossy(&output.stderr));
    Err(Error::Command { command: shown, status: output.status.to_string(), output: output_text.trim_end().into() })
}

/// [`run`] for commands that take minutes: prints on standard error what it is doing, and again each minute.
pub fn run_long(command: &mut Command, what: &str) -> Result<String> {
    let (ends, over) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            eprintln!("testbed: {what}");
            let mut minutes = 0;
            while over.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                minutes += 1;
                eprintln!("testbed: still {what}, {minutes} min so far");
            }
        });
        let result = run(command);
        drop(ends);
        result
    })
}

/// [`run`] for a program with arguments.
pub fn run_args(program: &str, arguments: &[&str]) -> Result<String> {
    run(Command::new(program).args(arguments))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
