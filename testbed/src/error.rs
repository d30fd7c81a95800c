//! What can go wrong while a part starts, said so that the reader knows what to do.

use std::io;
use std::path::Path;

/// Why a part of the testbed did not start, answer or end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
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
    /// Something must be on this machine and is not.
    #[error("{0}")]
    Missing(String),
}

/// The result of everything in the testbed.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an [`io::Error`] into an error that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn part(part: &str, reason: impl Into<String>, log: &Path) -> Error {
        Error::Part { part: part.into(), reason: reason.into(), log: tail(log) }
    }
}

/// The last lines of a log: enough to see why a part did not start.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
