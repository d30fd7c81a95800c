//! What is remembered of each image between rounds and restarts: when it was first seen and last used, and its repositories.
//!
//! A history that is lost or damaged begins anew: every image then counts as first seen now, and stays longer.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use lab_images::reference::Repository;
use lab_images::runtime::Image;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names;

/// A node holds some hundred images, each a record of some hundred bytes.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What is remembered of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// The repositories that its names were last of: a removal cut half way takes the names first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
}

impl Record {
    /// A record of an image that was not seen before.
    pub fn new(now: Timestamp) -> Self {
        Self { first_seen: now, last_used: None, repositories: Vec::new() }
    }

    /// The last moment at which somebody may have had a reason to have it here.
    pub fn last_needed(&self) -> Timestamp {
        self.last_used.map_or(self.first_seen, |used| used.max(self.first_seen))
    }

    /// Its remembered repositories, if all can be read.
    pub fn repositories(&self) -> Option<Vec<Repository>> {
        self.repositories.iter().map(|name| name.parse().ok()).collect()
    }
}

/// What is remembered of all images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Records by the image's id.
    pub images: BTreeMap<String, Record>,
    /// How many images the last catalogue that was believed wanted.
    #[serde(default)]
    pub wanted: Option<usize>,
}

/// Why a history can't be had.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The file can't be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The file is far larger than any history.
    #[error("it is larger than 16 MiB")]
    TooLarge,
}

impl History {
    /// Reads the file; one that is not there is an empty history. Times in the future count as now.
    ///
    /// # Errors
    ///
    /// When it can't be read or is damaged: begin with an empty history then.
    pub fn load(path: &Path, now: Timestamp) -> Result<Self, HistoryError> {
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(HistoryError::TooLarge);
        }
        let mut history: Self = serde_json::from_slice(&bytes)?;
        for record in history.images.values_mut() {
            record.first_seen = record.first_seen.min(now);
            record.last_used = record.last_used.map(|used| used.min(now));
        }
        Ok(history)
    }

    /// Writes the file, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        sidecar::files::replace(path, &serde_json::to_vec(self)?)
    }

    /// Takes note of all images that are here now; those that are gone are forgotten.
    pub fn note(&mut self, images: &[Image], is_used: impl Fn(&Image) -> bool, now: Timestamp) {
        let mut known = std::mem::take(&mut self.images);
        for image in images {
            let mut record = known.remove(&image.id).unwrap_or_else(|| Record::new(now));
            if is_used(image) {
                record.last_used = Some(now);
            }
            let repositories = names::repositories(image).unwrap_or_default();
            if !repositories.is_empty() {
                record.repositories = repositories.iter().map(Repository::to_string).collect();
                record.repositories.sort();
                record.repositories.dedup();
            } else if !(image.tags.is_empty() && image.digests.is_empty()) {
                // Names that can't be read: whose it is can't be told later either.
                record.repositories.clear();
            }
            self.images.insert(image.id.clone(), record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn image(id: &str, tags: &[&str]) -> Image {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        Image { id: id.into(), tags, digests: Vec::new(), size: 1, pinned: false }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/history.json");
        let mut history = History::default();
        history.note(&[image("sha256:a", &["lab:1"]), image("sha256:b", &[])], |image| image.id == "sha256:a", at(5));
        history.wanted = Some(3);
        history.save(&path).unwrap();
        assert_eq!(History::load(&path, at(9)).unwrap(), history);
        assert_eq!(history.images["sha256:a"].repositories, ["docker.io/library/lab"]);
    }

    #[test]
    fn a_lost_history_is_empty_and_a_damaged_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        assert_eq!(History::load(&path, at(1)).unwrap(), History::default());
        for damaged in ["", "{", "[]", r#"{"images":{"a":{}}}"#, "\0\0\0\0", r#"{"images":{"a":{"first_seen":"x"}}}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(History::load(&path, at(1)), Err(HistoryError::Damaged(_))), "{damaged}");
        }
        std::fs::File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(matches!(History::load(&path, at(1)), Err(HistoryError::TooLarge)));
        assert!(matches!(History::load(folder.path(), at(1)), Err(HistoryError::Unreadable(_))));
    }

    #[test]
    fn times_in_the_future_count_as_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        let mut history = History::default();
        history.note(&[image("sha256:a", &[])], |_| true, at(1000));
        history.save(&path).unwrap();
        let record = &History::load(&path, at(10)).unwrap().images["sha256:a"];
        assert_eq!((record.first_seen, record.last_used), (at(10), Some(at(10))));
    }

    #[test]
    fn first_seen_stays_and_last_used_moves_and_what_is_gone_is_forgotten() {
        let mut history = History::default();
        let (a, b) = (image("sha256:a", &["lab:1"]), image("sha256:b", &["lab:2"]));
        history.note(&[a.clone(), b], |_| false, at(1));
        history.note(std::slice::from_ref(&a), |_| true, at(2));
        history.note(&[a], |_| false, at(3));
        assert_eq!(history.images.keys().collect::<Vec<_>>(), ["sha256:a"]);
        let record = &history.images["sha256:a"];
        assert_eq!((record.first_seen, record.last_used, record.last_needed()), (at(1), Some(at(2)), at(2)));
    }

    #[test]
    fn an_image_that_lost_its_names_keeps_its_repositories() {
        let mut history = History::default();
        history.note(&[image("sha256:a", &["x.org/lab:1", "x.org/lab:2"])], |_| false, at(1));
        history.note(&[image("sha256:a", &[])], |_| false, at(2));
        assert_eq!(history.images["sha256:a"].repositories, ["x.org/lab"]);
        history.note(&[image("sha256:a", &["NO:name"])], |_| false, at(3));
        assert!(history.images["sha256:a"].repositories.is_empty());
    }
}
