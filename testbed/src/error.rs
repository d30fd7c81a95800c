//! Errors of the testbed, with what to do about them.

use std::io;
use std::path::Path;

/// Why a part of the testbed did not start, answer or end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// The operation, and its object.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A part ended, or was not ready in time.
    #[error("{part} {reason}; the end of its log:\n{log}")]
    Part {
        /// The part's name.
        part: String,
        /// What was waited for.
        reason: String,
        /// The last lines the part wrote.
        log: String,
    },
    /// A command ended with a failure.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// Program and arguments.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to standard output and standard error.
        output: String,
    },
    /// A part's HTTP answer was not the expected one.
    #[error("{request}: {reason}")]
    Http {
        /// Method and address.
        request: String,
        /// Status and body, or the transport's error.
        reason: String,
    },
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
