//! Errors of the testbed, with what to do about them.

use std::io;
use std::path::Path;

/// Why a part of the testbed did not start, answer or end.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// A part ended, or was not ready in time.
    #[error("{part} {reason}; the end of its log:\n{log}")]
    Part { part: String, reason: String, log: String },
    /// A command ended with a failure.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command { command: String, status: String, output: String },
    /// A part's HTTP answer was not the expected one.
    #[error("{request}: {reason}")]
    Http { request: String, reason: String },
    /// The arguments of `testbed` are wrong.
    #[error("{0}")]
    Usage(String),
    /// Something is missing on this machine.
    #[error("{0}")]
    Missing(String),
}

/// The result of everything in the testbed.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an [`io::Error`] into an error that names the operation.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn part(part: &str, reason: impl Into<String>, log: &Path) -> Error {
        Error::Part { part: part.into(), reason: reason.into(), log: tail(log) }
    }
}

/// The last lines of a log, to show why a part did not start.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
