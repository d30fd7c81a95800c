use std::fmt;

use serde::{Deserialize, Serialize};

/// What a child does on a file system, one phase at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Examines the volume: opens its folder, `fstat`, `fstatfs`.
    Stat,
    /// Opens or creates a file.
    Open,
    /// Writes.
    Write,
    /// Flushes it to the server's stable storage.
    Fsync,
    /// Reads back.
    Read,
    /// Lists and removes files.
    Unlink,
}

impl Phase {
    /// The phase's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Open => "open",
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::Read => "read",
            Self::Unlink => "unlink",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
