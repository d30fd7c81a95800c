use std::fmt;

use serde::{Deserialize, Serialize};

/// What a child does on a file system, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looks at the volume: opens its folder, `fstat`, `fstatfs`.
    Stat,
    /// Opens or makes a file.
    Open,
    /// Writes.
    Write,
    /// Has the server put it on stable storage.
    Fsync,
    /// Reads back.
    Read,
    /// Lists and removes files.
    Unlink,
}

impl Phase {
    /// The phase as it stands in metrics and logs.
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
