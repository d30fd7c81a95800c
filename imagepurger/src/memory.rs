//! Keeps the history in its file: read once the file can be read, written when it has changed.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::files::{FileError, Files};
use crate::history::{History, MOST_BYTES, Record};

/// The history, and the file that keeps it.
#[derive(Debug)]
pub struct Memory {
    /// The history.
    pub history: History,
    file: PathBuf,
    files: Files,
    state: State,
    saved: Saved,
}

/// What the file holds: each image with its repositories, and the whole text. As hashes, because a second history takes much
/// more memory.
#[derive(Debug, Default)]
struct Saved {
    hasher: RandomState,
    images: HashSet<u64>,
    text: Option<u64>,
}

/// The state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not read yet, or it hung: the file is not overwritten.
    Unread,
    /// The file did not exist.
    Missing,
    /// The file was read, or its content was unusable.
    Read,
}

impl Memory {
    /// A memory whose file has not been read yet.
    pub fn new(file: PathBuf, files: Files) -> Self {
        Self { history: History::default(), file, files, state: State::Unread, saved: Saved::default() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether this process started without a history: the file did not exist or could not be read.
    pub fn is_new(&self) -> bool {
        self.state != State::Read
    }

    /// Reads the file, unless it was read before. A damaged file is logged and ignored. If its file system hangs, the
    /// next call tries again.
    pub async fn load(&mut self, clock: &Clock) {
        if self.state != State::Unread {
            return;
        }
        let file = self.file.display().to_string();
        let lost = |why: &dyn std::fmt::Display| {
            tracing::warn!(
                file,
                "the history of images is lost, so the grace period of every image starts again: {why}"
            );
            (State::Read, History::default())
        };
        let (state, history) = match self.files.read(&self.file, MOST_BYTES).await {
            Ok(None) => (State::Missing, History::default()),
            Ok(Some(found)) => match History::parse(found.text.as_bytes()) {
                Ok(history) => (State::Read, history),
                Err(error) => lost(&error),
            },
            Err(error @ FileError::System(_)) => lost(&error),
            Err(error) => {
                tracing::warn!(file, "the history of images cannot be read yet: {error}");
                return;
            }
        };
        self.state = state;
        let meanwhile = std::mem::replace(&mut self.history, history);
        self.history.follow(clock.read());
        self.history.merge(meanwhile);
    }

    /// Whether the file holds enough to finish a removal that is interrupted.
    pub fn covers_a_cut(&self) -> bool {
        let Saved { hasher, images, .. } = &self.saved;
        self.history.images.iter().all(|image| images.contains(&mark(hasher, image)))
    }

    /// Writes the file, if the history changed. A dry run writes it too, because the observed uses are true.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or could not be read yet.
    pub async fn save(&mut self) -> Result<(), FileError> {
        if self.state == State::Unread {
            return Err(FileError::System("the file could not be read yet".into()));
        }
        let text = self.history.to_json().map_err(|error| FileError::System(error.to_string()))?;
        let hash = self.saved.hasher.hash_one(&text);
        if self.saved.text == Some(hash) {
            return Ok(());
        }
        self.files.replace(&self.file, text).await?;
        let Saved { hasher, images, text } = &mut self.saved;
        *images = self.history.images.iter().map(|image| mark(hasher, image)).collect();
        *text = Some(hash);
        self.state = State::Read;
        Ok(())
    }
}

fn mark(hasher: &RandomState, (id, record): (&String, &Record)) -> u64 {
    hasher.hash_one((id, &record.repositories))
}
