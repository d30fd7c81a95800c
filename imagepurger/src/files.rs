//! Reads and writes files that may be on a mount that hangs: in a child process with a time limit, never in the daemon
//! itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use nfs_mounts::Phase;
use nfs_mounts::child::{self, Heartbeat};
use nfs_mounts::helper::{Helper, Outcome};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A file system that does not answer within this time counts as hung.
const LIMIT: Duration = Duration::from_secs(10);

/// The most files that are read from one folder.
const MOST_FILES: usize = 1000;

/// Reads and writes files, with at most one child process at a time.
#[derive(Debug)]
pub struct Files(Helper);

/// Why a file could not be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// A system call failed.
    #[error("{0}")]
    System(String),
    /// The file system did not answer.
    #[error("no answer from its file system for {0} s")]
    Hung(u64),
    /// The file system did not answer, and the child process that waits for it cannot be killed.
    #[error("no answer from its file system for {seconds} s, and process {pid} that waits for it can't be killed")]
    Stuck {
        /// How long it has hung.
        seconds: u64,
        /// The child's process id.
        pid: u32,
    },
    /// The child process could not be started or used.
    #[error("{0}")]
    Child(String),
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its content.
    pub text: String,
    /// Its modification time.
    pub modified: Timestamp,
}

/// The child's order.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Read { path: PathBuf, most: u64 },
    ReadFolder { path: PathBuf, suffix: String, most: u64 },
    Replace { path: PathBuf, text: String },
}

/// The child's answer.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    NotThere,
    Found(Found),
    FoundAll(Vec<(PathBuf, String)>),
    Written,
    Failed(String),
}

impl Files {
    /// The child processes run this same program.
    pub fn new() -> Self {
        Self(Helper::new(LIMIT))
    }

    /// The child processes run `program`, whose main calls [`serve`]: for tests that run inside another program.
    pub fn by(program: &Path) -> Self {
        Self(Helper::starting(program.to_owned(), LIMIT))
    }

    /// Reads a text file of at most `most` bytes; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`FileError`], within little more than ten seconds.
    pub async fn read(&mut self, path: &Path, most: u64) -> Result<Option<Found>, FileError> {
        match self.ask(&Order::Read { path: path.to_owned(), most }).await? {
            Answer::Found(found) => Ok(Some(found)),
            Answer::NotThere => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads all files below a folder whose names end in `suffix`, sorted by path; `None` if the folder does not exist.
    ///
    /// # Errors
    ///
    /// As [`Files::read`].
    pub async fn read_folder(
        &mut self,
        path: &Path,
        suffix: &str,
        most: u64,
    ) -> Result<Option<Vec<(PathBuf, String)>>, FileError> {
        match self.ask(&Order::ReadFolder { path: path.to_owned(), suffix: suffix.to_owned(), most }).await? {
            Answer::FoundAll(found) => Ok(Some(found)),
            Answer::NotThere => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes a file atomically: after a crash it holds either the old text or the new text. Creates its folder.
    ///
    /// # Errors
    ///
    /// As [`Files::read`].
    pub async fn replace(&mut self, path: &Path, text: String) -> Result<(), FileError> {
        match self.ask(&Order::Replace { path: path.to_owned(), text }).await? {
            Answer::Written => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&mut self, order: &Order) -> Result<Answer, FileError> {
        match self.0.run(order).await.map_err(|error| FileError::Child(error.to_string()))? {
            Outcome::Answered { answer: Answer::Failed(why), .. } => Err(FileError::System(why)),
            Outcome::Answered { answer, .. } => Ok(answer),
            Outcome::Hung { after, .. } => Err(FileError::Hung(after.as_secs())),
            Outcome::Stuck { after, pid, .. } => Err(FileError::Stuck { seconds: after.as_secs(), pid }),
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}

fn unexpected(answer: &Answer) -> FileError {
    FileError::Child(format!("unexpected answer from the child process: {answer:.40?}"))
}

/// Carries out one order in the child process.
pub fn serve() -> ExitCode {
    child::run(|order: Order, heartbeat: &mut Heartbeat| {
        let phase = if matches!(order, Order::Replace { .. }) { Phase::Write } else { Phase::Read };
        let done = heartbeat.phase(phase, || match order {
            Order::Read { path, most } => read(&path, most).map(Answer::Found),
            Order::ReadFolder { path, suffix, most } => read_folder(&path, &suffix, most).map(Answer::FoundAll),
            Order::Replace { path, text } => replace(&path, &text).map(|()| Answer::Written),
        });
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound && phase == Phase::Read => Answer::NotThere,
            done => done.unwrap_or_else(|error| Answer::Failed(error.to_string())),
        }
    })
}

fn read(path: &Path, most: u64) -> io::Result<Found> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text"))?;
    Ok(Found { text, modified })
}

fn read_folder(folder: &Path, suffix: &str, most: u64) -> io::Result<Vec<(PathBuf, String)>> {
    let (mut folders, mut paths, mut listed) = (vec![folder.to_owned()], Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            listed += 1;
            if listed > MOST_FILES {
                return Err(io::Error::other(format!("it has more than {MOST_FILES} files")));
            }
            // Links to folders are not followed, as kubelet does not.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().to_string_lossy().ends_with(suffix) && entry.path().is_file() {
                paths.push(entry.path());
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path, most).map(|found| (path, found.text))).collect()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    sidecar::files::replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_read_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        assert_eq!(read(&path, 10).unwrap_err().kind(), io::ErrorKind::NotFound);
        replace(&path, "text").unwrap();
        let found = read(&path, 4).unwrap();
        assert_eq!(found.text, "text");
        assert!(found.modified.duration_since(Timestamp::now()).as_secs().abs() < 60);
        assert!(read(&path, 3).unwrap_err().to_string().contains("larger than 3 bytes"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read(&path, 4).unwrap_err().to_string().contains("not text"));
        assert_eq!(read(folder.path(), 4).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_folders_files_are_sorted_by_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("15-site/more")).unwrap();
        for name in ["20-b.conf", "10-a.conf", "notes", "30.conf.bak", "15-site/more/c.conf", "15-site/d.conf"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let texts: Vec<_> =
            read_folder(folder.path(), ".conf", 100).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["10-a.conf", "15-site/d.conf", "15-site/more/c.conf", "20-b.conf"]);
    }
}
