//! What can be wrong with a volume.

use std::fmt;

use nfs_mounts::Phase;
use nfs_mounts::failure::Failure;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a round was not good.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A system call failed.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The path is on the root file system.
    #[error(
        "nothing is mounted there (the path itself must be a mount or lie on one, without links); nothing is written to the root file system"
    )]
    MissingMount,
    /// Another file system is mounted there than before.
    #[error("another file system is mounted there than before; it is taken for the volume from the next round on")]
    ChangedMount,
    /// The server gave back something else than was written.
    #[error("the record read back from the server differs from what was written")]
    ReadBack,
    /// Something that is not ours stands where our file should be.
    #[error("{0} is a link, a folder or another's file; remove it")]
    Foreign(String),
    /// A call did not come back within the limit; the child was killed.
    #[error("no answer for {0} s")]
    Hung(u64),
    /// A call did not come back, and the child can't even be killed.
    #[error("no answer for {seconds} s, and process {pid} that waits for it can't be killed{}", waiting(.waits_in.as_deref()))]
    Stuck {
        /// For how long.
        seconds: u64,
        /// The child.
        pid: u32,
        /// The kernel function that it waits in.
        waits_in: Option<String>,
    },
    /// The round itself could not be carried out.
    #[error("{0}")]
    Helper(String),
}

fn waiting(waits_in: Option<&str>) -> String {
    waits_in.map(|name| format!(" (in {name})")).unwrap_or_default()
}

impl Trouble {
    /// The trouble in one word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.name(),
            Self::MissingMount => "missing_mount",
            Self::ChangedMount => "changed_mount",
            Self::ReadBack => "read_back",
            Self::Foreign(_) => "foreign",
            Self::Hung(_) => "hung",
            Self::Stuck { .. } => "stuck",
            Self::Helper(_) => "helper",
        }
    }
}

/// A trouble with the phase in which it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The phase; `None` before the first.
    pub phase: Option<Phase>,
    /// What was wrong.
    pub trouble: Trouble,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            Some(phase) => write!(f, "{phase}: {}", self.trouble),
            None => self.trouble.fmt(f),
        }
    }
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { phase: None, trouble }
    }
}
