//! `STATE_DIR`: locks the folder of the checkpoint for one process.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sidecar::sync;
use thiserror::Error;

/// The lock's name within `STATE_DIR`.
const LOCK_NAME: &str = "lock";

/// How often the same problem is logged.
const COMPLAIN: Duration = Duration::from_secs(60);

/// Why `STATE_DIR` cannot be used.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum StateDirError {
    /// It cannot be created, or nothing can be written there.
    #[error(
        "cannot write to STATE_DIR {path}: {source}; set it to a folder that survives restarts and that this user may write to"
    )]
    Write { path: PathBuf, source: io::Error },
    /// Another process uses it.
    #[error(
        "STATE_DIR {path} is in use by {holder}: two shippers would overwrite each other's checkpoint; give each its own STATE_DIR"
    )]
    Taken { path: PathBuf, holder: String },
}

/// The folder, locked as long as this exists.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// `None` while nothing can be written there.
    lock: Mutex<Option<File>>,
}

impl StateDir {
    /// Creates the folder if it is missing, and locks it for this process. A folder that is full or read-only is
    /// accepted, because lines are more important than the checkpoint. It is locked as soon as something can be
    /// written.
    ///
    /// # Errors
    ///
    /// [`StateDirError`] if it cannot be created or another process uses it.
    pub fn take(path: &Path) -> Result<Self, StateDirError> {
        fs::create_dir_all(path).map_err(|source| StateDirError::Write { path: path.to_owned(), source })?;
        let lock = match lock(path) {
            Err(StateDirError::Write { .. }) => None,
            taken => Some(taken?),
        };
        Ok(Self { path: path.to_owned(), lock: Mutex::new(lock) })
    }

    /// Replaces a file of the folder. Creates the folder again if it was deleted.
    ///
    /// # Errors
    ///
    /// [`StateDirError`] if that fails. The old content is then still there.
    pub fn replace(&self, file: &Path, bytes: &[u8]) -> Result<(), StateDirError> {
        let failed = |source| StateDirError::Write { path: self.path.clone(), source };
        // One call at a time, because all use the same temporary file. The run may end while one is not finished.
        let mut held = sync::lock(&self.lock);
        self.restore(&mut held)?;
        sidecar::files::replace(file, bytes).map_err(failed)
    }

    /// Creates the folder again, and locks it again if its lock file was deleted with it.
    fn restore(&self, held: &mut Option<File>) -> Result<(), StateDirError> {
        let key = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(self.path.join(LOCK_NAME)).ok().map(key);
        let ours = held.as_ref().and_then(|held| held.metadata().ok()).map(key);
        if ours.is_none() || there != ours {
            *held = Some(lock(&self.path)?);
        }
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StateDirError> {
    let failed = |source| StateDirError::Write { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path.join(LOCK_NAME));
    let mut file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => (),
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = file.take(200).read_to_string(&mut holder);
            let known = read.is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
            return Err(StateDirError::Taken { path: path.to_owned(), holder });
        }
        // A file system without locks, such as some network file systems, is used without one.
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => (),
        Err(error) => return Err(failed(error.into())),
    }
    // On a full disk the lock file stays empty, and is still a lock.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let _ = file.set_len(0).and_then(|()| writeln!(file, "process {} on {host}", std::process::id()));
    Ok(file)
}

/// Limits a log message to once a minute.
#[derive(Debug, Default)]
pub struct Complaint(Mutex<Option<Instant>>);

impl Complaint {
    /// Whether it is time to log it.
    pub fn is_due(&self) -> bool {
        let mut logged = sync::lock(&self.0);
        let due = logged.is_none_or(|logged| logged.elapsed() >= COMPLAIN);
        if due {
            *logged = Some(Instant::now());
        }
        due
    }

    /// The problem is over. Returns whether it was logged.
    pub fn is_over(&self) -> bool {
        sync::lock(&self.0).take().is_some()
    }

    /// Whether it was logged and is not over.
    pub fn is_open(&self) -> bool {
        sync::lock(&self.0).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_the_name_of_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/the/way");
        let first = StateDir::take(&path).unwrap();
        let refused = StateDir::take(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateDir::take(&path).unwrap();
    }

    #[test]
    fn a_deleted_folder_is_created_and_locked_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (state, file) = (StateDir::take(&path).unwrap(), path.join("file"));
        state.replace(&file, b"1").unwrap();
        fs::remove_dir_all(&path).unwrap();
        state.replace(&file, b"2").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"2");
        assert!(matches!(StateDir::take(&path), Err(StateDirError::Taken { .. })));
        // Another process was faster.
        fs::remove_dir_all(&path).unwrap();
        let _other = StateDir::take(&path).unwrap();
        assert!(matches!(state.replace(&file, b"3"), Err(StateDirError::Taken { .. })));
    }

    #[test]
    fn the_same_problem_is_logged_once_until_it_is_over() {
        let complaint = Complaint::default();
        assert!(!complaint.is_over());
        assert_eq!([complaint.is_due(), complaint.is_due()], [true, false]);
        assert!(complaint.is_open() && complaint.is_over() && !complaint.is_open());
        assert!(complaint.is_due());
    }
}
