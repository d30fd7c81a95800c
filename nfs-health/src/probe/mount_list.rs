//! Lists the mounts: from procfs, or from another file, which may be on a mount that hangs, through a child process.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nfs_mounts::failure::Failure;
use nfs_mounts::helper::{Helper, Outcome};
use nfs_mounts::mountinfo::Mounts;
use nfs_mounts::mountstats::{self, MountStatistics};

use crate::probe::mount::{Answer, Order};

/// A file system that does not answer within this time counts as hung.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether the path is `/proc/PROCESS/mountinfo`. Some links below `/proc`, such as `root`, lead to other file systems.
fn is_in_procfs(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    path.starts_with("/proc") && parts.len() == 4 && !parts.contains(&Component::ParentDir)
}

/// The file that lists the mounts.
#[derive(Debug)]
pub struct MountList {
    path: PathBuf,
    helper: Helper,
    /// Whether it had mounts before.
    had_mounts: bool,
}

impl MountList {
    /// The list in this file; the counters of its mounts are in `mountstats` beside it.
    pub fn new(path: PathBuf) -> Self {
        Self { path, helper: Helper::new(LIMIT), had_mounts: false }
    }

    /// The mounts, and the counters of those that are NFS (none if they cannot be read).
    ///
    /// # Errors
    ///
    /// With the file's name, if it cannot be read within little more than ten seconds, or lists no mounts although it had
    /// some: then it is being rewritten, because the mount at `/` never goes away.
    pub async fn read(&mut self) -> io::Result<(Mounts, Vec<MountStatistics>)> {
        let read = if is_in_procfs(&self.path) { self.of_procfs() } else { self.by_child().await };
        let read = match read {
            Ok((mounts, _)) if mounts.mounts.is_empty() && self.had_mounts => {
                Err(io::Error::other("it lists no mounts, but it did before"))
            }
            read => read.inspect(|(mounts, _)| self.had_mounts = !mounts.mounts.is_empty()),
        };
        read.map_err(|error| io::Error::other(format!("{}: {error}", self.path.display())))
    }

    /// A file of procfs never hangs.
    fn of_procfs(&self) -> io::Result<(Mounts, Vec<MountStatistics>)> {
        let mounts = Mounts::read(&self.path)?;
        Ok((mounts, mountstats::read(&self.path.with_file_name("mountstats")).unwrap_or_default()))
    }

    async fn by_child(&mut self) -> io::Result<(Mounts, Vec<MountStatistics>)> {
        let order = Order::List(self.path.clone());
        let answer = match self.helper.run::<_, Result<Answer, Failure>>(&order).await.map_err(io::Error::other)? {
            Outcome::Answered { answer, .. } => answer.map_err(|failure| io::Error::other(failure.to_string()))?,
            Outcome::Hung { .. } | Outcome::Stuck { .. } => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer"));
            }
        };
        match answer {
            Answer::List { mounts, statistics } => Ok((Mounts::parse(&mounts), mountstats::parse(&statistics))),
            Answer::NoList(error) => Err(io::Error::other(error)),
            _ => Err(io::Error::other("unexpected answer from the child process")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_procfs_itself_are_read_without_a_child() {
        for (path, expected) in [
            ("/proc/self/mountinfo", true),
            ("/proc/1/mountinfo", true),
            ("/proc/1/root/srv/mountinfo", false),
            ("/proc/self/cwd/mountinfo", false),
            ("/proc/../srv/mountinfo", false),
            ("/process/1/mountinfo", false),
            ("/srv/mountinfo", false),
        ] {
            assert_eq!(is_in_procfs(Path::new(path)), expected, "{path}");
        }
    }
}
