//! What can be wrong with a volume.

use std::fmt;

use nfs_mounts::Phase;
use nfs_mounts::failure::Failure;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a round failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A system call failed.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The folder of the records is missing, and this user may not create it.
    #[error("{denied}; {0} is missing, so create it once in the export: mkdir -m 1777 {0}", denied = Failure::Denied)]
    NoFolder(String),
    /// The path is on the root file system.
    #[error(
        "nothing is mounted there (the path must be a mount or lie on one, without symbolic links), so nothing is written"
    )]
    MissingMount,
    /// Another file system is mounted there than before.
    #[error("a different file system is mounted there now; the next round accepts it as the volume")]
    ChangedMount,
    /// The server returned something other than what was written.
    #[error("the record read back from the server differs from what was written")]
    ReadBack,
    /// Our file's name is taken by something that is not ours.
    #[error("{0} is a link, a folder or another user's file; remove it")]
    Foreign(String),
    /// A call did not return within the limit; the child was killed.
    #[error("no answer for {0} s")]
    Hung(u64),
    /// A call did not return, and the child cannot be killed.
    #[error("no answer for {seconds} s, and process {pid} that waits for it can't be killed{}", waiting(.waits_in.as_deref()))]
    Stuck {
        /// How long it has hung.
        seconds: u64,
        /// The child's process id.
        pid: u32,
        /// The kernel function in which it waits.
        waits_in: Option<String>,
    },
    /// The round could not be run at all.
    #[error("{0}")]
    Helper(String),
}

fn waiting(waits_in: Option<&str>) -> String {
    waits_in.map(|name| format!(" (in {name})")).unwrap_or_default()
}

impl Trouble {
    /// All kinds in one word, except those of [`Failure`].
    pub const NAMES: [&str; 7] = ["missing_mount", "changed_mount", "read_back", "foreign", "hung", "stuck", "helper"];

    /// The kind of trouble in one word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.name(),
            // The user is not permitted to do it, as for other steps.
            Self::NoFolder(_) => Failure::Denied.name(),
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

/// A trouble with the phase in which it occurred.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_a_name() {
        let troubles = [
            Trouble::MissingMount,
            Trouble::ChangedMount,
            Trouble::ReadBack,
            Trouble::Foreign(String::new()),
            Trouble::Hung(1),
            Trouble::Stuck { seconds: 1, pid: 1, waits_in: None },
            Trouble::Helper(String::new()),
        ];
        assert_eq!(troubles.map(|trouble| trouble.name()), Trouble::NAMES);
        let no_folder = Trouble::NoFolder("x".to_owned());
        assert_eq!(no_folder.name(), "denied");
        assert!(no_folder.to_string().ends_with("mkdir -m 1777 x"), "{no_folder}");
    }
}
