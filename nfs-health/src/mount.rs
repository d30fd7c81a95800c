//! Looking at an NFS mount from this node, in a child process (see `nfs_mounts`).

use std::path::PathBuf;
use std::time::Duration;

use nfs_mounts::Phase;
use nfs_mounts::child::Heartbeat;
use nfs_mounts::failure::Failure;
use nfs_mounts::helper::{Helper, Outcome};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use serde::{Deserialize, Serialize};

use crate::space::Space;

/// What a child saw of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The room on it.
    pub space: Space,
    /// Whether it may not be written to.
    pub read_only: bool,
}

/// What is known of a mount after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSeen {
    /// It answers.
    Answers {
        /// What it says.
        look: Look,
        /// How long that took.
        time: Duration,
    },
    /// It answers with an error.
    Failed(Failure),
    /// It does not answer; the child was killed.
    Hung {
        /// For how long.
        after: Duration,
    },
    /// It does not answer, and the child can't be killed.
    Stuck {
        /// For how long.
        after: Duration,
        /// The child.
        pid: u32,
    },
    /// The path can't be reached from here, or the child failed: nothing is known.
    Unknown(String),
}

/// The child's work: asks the server for the room on the mount, which no cache answers.
///
/// # Errors
///
/// [`Failure`]: what the system said.
pub fn touch(path: PathBuf, heartbeat: &mut Heartbeat) -> Result<Look, Failure> {
    heartbeat.phase(Phase::Stat, || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        let stat = rustix::fs::fstatvfs(&folder)?;
        let space = Space {
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            files_available: Some(stat.f_favail),
            files: Some(stat.f_files),
        };
        Ok(Look { space, read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY) })
    })
}

/// Has a child look at a mount.
pub async fn look(helper: &mut Helper, path: &PathBuf) -> MountSeen {
    match helper.run::<_, Result<Look, Failure>>(path).await {
        Ok(Outcome::Answered { answer: Ok(look), phases }) => {
            MountSeen::Answers { look, time: phases.iter().map(|(_, time)| *time).sum() }
        }
        Ok(Outcome::Answered { answer: Err(Failure::NotFound), .. }) => {
            MountSeen::Unknown("the path can't be reached from here".to_owned())
        }
        Ok(Outcome::Answered { answer: Err(failure), .. }) => MountSeen::Failed(failure),
        Ok(Outcome::Hung { after, .. }) => MountSeen::Hung { after },
        Ok(Outcome::Stuck { after, pid, .. }) => MountSeen::Stuck { after, pid },
        Err(error) => MountSeen::Unknown(error.to_string()),
    }
}
