//! The history in its file: read once that file can be read, written when it has news.

use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::files::{FileError, Files};
use crate::history::{History, MOST_BYTES};

/// What is remembered, and the file that keeps it.
#[derive(Debug)]
pub struct Memory {
    /// What is remembered.
    pub history: History,
    file: PathBuf,
    files: Files,
    state: State,
    saved: Option<History>,
}

/// What is known of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was not read yet, or it hung: nothing is written over it.
    Unread,
    /// There was none.
    Missing,
    /// It was read, or is of no use.
    Read,
}

impl Memory {
    /// Nothing is read yet.
    pub fn new(file: PathBuf, files: Files) -> Self {
        Self { history: History::default(), file, files, state: State::Unread, saved: None }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether nothing was remembered before this process: no file, or it could not be read.
    pub fn is_new(&self) -> bool {
        self.state != State::Read
    }

    /// Reads the file, unless it was read before. A damaged file is logged and ignored; one that hangs
    /// is tried again the next time.
    pub async fn load(&mut self, clock: &Clock) {
        if self.state != State::Unread {
            return;
        }
        let file = self.file.display().to_string();
        let lost = |why: &dyn std::fmt::Display| {
            tracing::warn!(
                file,
                "what was known of the images is lost, every image stays its whole grace again: {why}"
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
        self.history.absorb(meanwhile);
    }

    /// Whether what is in the file is enough to finish a removal that is cut in the middle.
    pub fn covers_a_cut(&self) -> bool {
        self.saved.as_ref().is_some_and(|saved| self.history.is_covered_by(saved))
    }

    /// Writes the file, if there is news. A dry run writes too: what it learns of when images were used is true.
    ///
    /// # Errors
    ///
    /// When it can't be written, or could not be read yet.
    pub async fn save(&mut self) -> Result<(), FileError> {
        if self.state == State::Unread {
            return Err(FileError::System("it could not be read yet".into()));
        }
        if self.saved.as_ref() != Some(&self.history) {
            let text = self.history.to_json().map_err(|error| FileError::System(error.to_string()))?;
            self.files.replace(&self.file, text).await?;
            self.saved = Some(self.history.clone());
            self.state = State::Read;
        }
        Ok(())
    }
}
