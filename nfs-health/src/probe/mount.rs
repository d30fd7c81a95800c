//! Checks an NFS mount of this node, in a child process (see `nfs_mounts`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use nfs_mounts::Phase;
use nfs_mounts::child::Heartbeat;
use nfs_mounts::failure::Failure;
use nfs_mounts::helper::{Helper, Outcome};
use nfs_mounts::mountinfo::{self, Device};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::space::Space;

/// A child's result for a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountState {
    /// Its free space.
    pub space: Space,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// The state of a mount after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSeen {
    /// It answers.
    Answers {
        /// The result.
        look: MountState,
        /// The duration.
        time: Duration,
    },
    /// It answers with an error.
    Failed(Failure),
    /// It does not answer; the child was killed.
    Hung {
        /// How long it has hung.
        after: Duration,
    },
    /// It does not answer, and the child can't be killed.
    Stuck {
        /// How long it has hung.
        after: Duration,
        /// The child's process id.
        pid: u32,
    },
    /// The path cannot be reached from here, or the child failed, so nothing is known.
    Unknown(String),
}

/// What a child has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Check a mount.
    Check {
        /// Where the mount is.
        #[serde(with = "nfs_mounts::path_bytes")]
        path: PathBuf,
        /// Its device, major and minor, because the path may now lead to another mount, or to none.
        device: (u32, u32),
    },
    /// Read a list of mounts, and the counters beside it.
    List(PathBuf),
}

/// A child's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The mount.
    Found(MountState),
    /// Something else is at the path: another mount covers it, or the path leads elsewhere from here.
    OtherDevice,
    /// A folder on the way to the mount is closed to this process.
    Closed,
    /// A list of mounts, and its counters (empty if they cannot be read).
    List {
        /// As in mountinfo.
        mounts: Vec<u8>,
        /// As in mountstats.
        statistics: Vec<u8>,
    },
    /// The list cannot be read, for this reason.
    NoList(String),
}

/// The child's work.
///
/// # Errors
///
/// [`Failure`]: the system's error for a mount.
pub fn serve(order: Order, heartbeat: &mut Heartbeat) -> Result<Answer, Failure> {
    match order {
        Order::Check { path, device } => heartbeat.phase(Phase::Stat, || touch(&path, device)),
        Order::List(path) => heartbeat.phase(Phase::Read, || {
            let statistics = mountinfo::read(&path.with_file_name("mountstats")).unwrap_or_default();
            Ok(match mountinfo::read(&path) {
                Ok(mounts) => Answer::List { mounts, statistics },
                Err(error) => Answer::NoList(error.to_string()),
            })
        }),
    }
}

/// Asks the server for the free space of the mount, which no cache answers.
fn touch(path: &Path, device: (u32, u32)) -> Result<Answer, Failure> {
    // The mount may be a file: what a pod mounts by a `subPath`.
    let mount = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Answer::Closed),
        opened => opened?,
    };
    // This reads the device without asking the server.
    let no_question = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let known = rustix::fs::statx(&mount, "", no_question, StatxFlags::empty())?;
    if (known.stx_dev_major, known.stx_dev_minor) != device {
        return Ok(Answer::OtherDevice);
    }
    let stat = rustix::fs::fstatvfs(&mount)?;
    let space = Space {
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        files_available: Some(stat.f_favail),
        files: Some(stat.f_files),
    };
    Ok(Answer::Found(MountState { space, read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY) }))
}

/// The most paths of a device that are tried in a round.
const MOST_PATHS: usize = 8;

/// A child for the mounts of one device, and the path with which it begins.
#[derive(Debug)]
pub struct DeviceLook {
    helper: Helper,
    begin: usize,
}

impl DeviceLook {
    /// A device that has not been checked yet; `limit` is how long it may take to answer.
    pub fn new(limit: Duration) -> Self {
        Self { helper: Helper::new(limit), begin: 0 }
    }

    /// Whether a child is stuck.
    pub fn is_stuck(&mut self) -> bool {
        self.helper.is_stuck()
    }

    /// A child checks the mount through the first of its paths that leads to it. Returns that path, or the last one that was tried.
    /// The next check begins with the path that worked, or with the paths that were not tried.
    pub async fn look(&mut self, device: Device, paths: &[PathBuf]) -> (PathBuf, MountSeen) {
        let mut last = (PathBuf::new(), MountSeen::Unknown("it has no path".to_owned()));
        for _ in 0..paths.len().min(MOST_PATHS) {
            let path = &paths[self.begin % paths.len()];
            last = (path.clone(), look_at(&mut self.helper, device, path).await);
            if !matches!(last.1, MountSeen::Unknown(_)) {
                break;
            }
            self.begin = (self.begin + 1) % paths.len();
        }
        last
    }
}

async fn look_at(helper: &mut Helper, device: Device, path: &Path) -> MountSeen {
    let order = Order::Check { path: path.to_owned(), device: (device.major, device.minor) };
    match helper.run::<_, Result<Answer, Failure>>(&order).await {
        Ok(Outcome::Answered { answer: Ok(Answer::Found(look)), phases }) => {
            MountSeen::Answers { look, time: phases.iter().map(|(_, time)| *time).sum() }
        }
        Ok(Outcome::Answered { answer: Ok(Answer::List { .. } | Answer::NoList(_)), .. }) => {
            MountSeen::Unknown("unexpected answer from the child process".to_owned())
        }
        Ok(Outcome::Answered { answer: Ok(Answer::OtherDevice), .. }) => MountSeen::Unknown(
            "the path leads to another file system: another mount covers it, or a link leads elsewhere".to_owned(),
        ),
        Ok(Outcome::Answered { answer: Ok(Answer::Closed), .. }) => {
            MountSeen::Unknown("a folder in the path is closed to this process".to_owned())
        }
        Ok(Outcome::Answered { answer: Err(Failure::NotFound), .. }) => {
            MountSeen::Unknown("the path is not visible to this process".to_owned())
        }
        Ok(Outcome::Answered { answer: Err(failure), .. }) => MountSeen::Failed(failure),
        Ok(Outcome::Hung { after, .. }) => MountSeen::Hung { after },
        Ok(Outcome::Stuck { after, pid, .. }) => MountSeen::Stuck { after, pid },
        Err(error) => MountSeen::Unknown(error.to_string()),
    }
}

impl MountSeen {
    /// The state in one word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answers { .. } => "ok",
            Self::Failed(_) => "failed",
            Self::Hung { .. } => "hangs",
            Self::Stuck { .. } => "stuck",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// All states of a mount.
pub const STATES: [&str; 5] = ["ok", "failed", "hangs", "stuck", "unknown"];
