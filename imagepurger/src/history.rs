//! What is remembered of each image between rounds and restarts: when it was first seen, last used and last wanted, its
//! repositories, and whether the runtime refused to remove it.
//!
//! If the history is lost or damaged, it starts empty: every image then counts as first seen now, and stays longer.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::CatalogueImage;
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::Image;
use lab_images::tag::Class;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{EARLIEST, Reading, shifted};
use crate::names::{self, Named};

/// The largest history that is read. A node holds a few hundred images, and each record takes a few hundred bytes.
pub const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What is remembered of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// When the catalogue last wanted it: the time of the look that found it no longer wanted, not of the look before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wanted: Option<Timestamp>,
    /// Whether the last trusted catalogue wanted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
    /// The catalogue's entry that last wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_as: Option<WantedAs>,
    /// The repositories of its last names. They are kept because a removal that is interrupted has already removed the
    /// names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// The runtime's refusal to remove it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// The catalogue's entry that wanted an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedAs {
    /// Its full name, with the tag.
    pub reference: Reference,
    /// The tag's class.
    pub class: Class,
}

/// A runtime's refusal to remove an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When it last refused.
    pub at: Timestamp,
    /// How many times in a row it refused.
    pub times: u32,
    /// Whether the runtime says that the image is in use, by something that only the runtime sees.
    #[serde(default)]
    pub in_use: bool,
    /// The runtime's message.
    pub message: String,
}

impl Record {
    /// The record of an image that is seen for the first time.
    pub fn new(now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_used: None,
            last_wanted: None,
            wanted: false,
            wanted_as: None,
            repositories: Vec::new(),
            refusal: None,
        }
    }

    /// The last time at which something may have needed the image on this node.
    pub fn last_needed(&self) -> Timestamp {
        [self.last_used, self.last_wanted].into_iter().flatten().fold(self.first_seen, Timestamp::max)
    }

    /// Its remembered repositories, if all of them can be parsed.
    pub fn repositories(&self) -> Option<Vec<Repository>> {
        self.repositories.iter().map(|name| name.parse().ok()).collect()
    }

    fn each_time(&mut self, change: impl Fn(Timestamp) -> Timestamp) {
        let optional = self.last_used.iter_mut().chain(&mut self.last_wanted);
        let refusal = self.refusal.iter_mut().map(|refusal| &mut refusal.at);
        for time in optional.chain(refusal).chain([&mut self.first_seen]) {
            *time = change(*time);
        }
    }
}

/// What is remembered of all images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Records by the image's id.
    pub images: BTreeMap<String, Record>,
    /// How many images the last trusted catalogue wanted.
    #[serde(default)]
    pub wanted: Option<usize>,
    /// The clock reading to which the records' times belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Reading>,
}

/// Why a history cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The file's content is not a history.
    #[error("the file is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The file is far larger than any history.
    #[error("the file is larger than 16 MiB")]
    TooLarge,
}

impl History {
    /// Parses the file's content.
    ///
    /// # Errors
    ///
    /// If it is damaged. The caller then starts with an empty history.
    pub fn parse(bytes: &[u8]) -> Result<Self, HistoryError> {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(HistoryError::TooLarge);
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Formats the history for the file.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON, which does not happen.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Shifts all times by the step, if the wall clock was set since the last look. Returns the step.
    pub fn follow(&mut self, clock: Reading) -> SignedDuration {
        let wall = clock.wall;
        let step = match &self.clock {
            Some(earlier) => clock.step_since(earlier),
            None => SignedDuration::ZERO,
        };
        let belongs_to_a_clock = self.clock.is_some();
        for record in self.images.values_mut() {
            record.each_time(|time| {
                let time = shifted(time, step);
                // A time from before the clock was set, or in the future, is meaningless.
                if (!belongs_to_a_clock && time < EARLIEST) || time > wall { wall } else { time }
            });
        }
        self.clock = Some(clock);
        step
    }

    /// Records the images that are on the node now, and forgets those that are gone.
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
                // If a name cannot be parsed, the repositories stay unknown later as well.
                record.repositories.clear();
            }
            self.images.insert(image.id.clone(), record);
        }
    }

    /// Records what the catalogue wants. `None` means not known: whatever was wanted last then still counts as wanted,
    /// so that the grace starts when an image is seen to be no longer wanted.
    pub fn note_wanted(&mut self, images: &[Image], wanted: Option<&Named<&CatalogueImage>>, now: Timestamp) {
        for image in images {
            let Some(record) = self.images.get_mut(&image.id) else { continue };
            let entry = wanted.and_then(|wanted| wanted.of(image));
            if entry.is_some() || record.wanted {
                record.last_wanted = Some(now);
            }
            if wanted.is_some() {
                record.wanted = entry.is_some();
            }
            if let Some(entry) = entry {
                record.wanted_as = Some(WantedAs { reference: entry.reference.clone(), class: entry.class });
            }
        }
    }

    /// Records that the runtime refused to remove an image. Returns whether the refusal is new.
    pub fn note_refusal(&mut self, id: &str, in_use: bool, message: String, now: Timestamp) -> bool {
        let Some(record) = self.images.get_mut(id) else { return true };
        let times = record.refusal.as_ref().map_or(0, |refusal| refusal.times);
        record.refusal = Some(Refusal { at: now, times: times.saturating_add(1), in_use, message });
        times == 0
    }

    /// Merges what was learned before the file could be read.
    pub fn merge(&mut self, meanwhile: Self) {
        for (id, new) in meanwhile.images {
            match self.images.get_mut(&id) {
                Some(record) => {
                    record.last_used = record.last_used.max(new.last_used);
                    record.last_wanted = record.last_wanted.max(new.last_wanted);
                }
                None => drop(self.images.insert(id, new)),
            }
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

    fn reading(wall: i64, boot: i64, boot_id: &str) -> Reading {
        Reading { wall: at(wall), boot: SignedDuration::from_secs(boot), boot_id: boot_id.into() }
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_saved_history_is_loaded() {
        let mut history = History::default();
        history.follow(reading(NOW, 5, "a"));
        history.note(&[image("sha256:a", &["lab:1"]), image("sha256:b", &[])], |image| image.id == "sha256:a", at(NOW));
        history.note_refusal("sha256:a", true, "in use".into(), at(NOW));
        history.wanted = Some(3);
        assert_eq!(History::parse(history.to_json().unwrap().as_bytes()).unwrap(), history);
        assert_eq!(history.images["sha256:a"].repositories, ["docker.io/library/lab"]);
    }

    #[test]
    fn a_history_of_an_earlier_version_is_read() {
        let old = r#"{"images":{"a":{"first_seen":"2027-01-15T08:00:00Z","last_used":"2027-01-15T08:00:01Z","repositories":["a.org/lab"]}},"wanted":2}"#;
        let record = &History::parse(old.as_bytes()).unwrap().images["a"];
        assert_eq!((record.last_needed(), record.wanted), (at(NOW + 1), false));
    }

    #[test]
    fn a_damaged_history_is_reported() {
        for damaged in ["", "{", "[]", r#"{"images":{"a":{}}}"#, "\0\0\0\0", r#"{"images":{"a":{"first_seen":"x"}}}"#] {
            assert!(matches!(History::parse(damaged.as_bytes()), Err(HistoryError::Damaged(_))), "{damaged}");
        }
        assert!(matches!(History::parse(&vec![b' '; MOST_BYTES as usize + 1]), Err(HistoryError::TooLarge)));
    }

    #[test]
    fn impossible_times_count_as_now() {
        for (wrong, clock) in [(NOW + 1000, None), (60, None), (NOW + 1000, Some(reading(NOW, 5, "a")))] {
            let mut history = History::default();
            history.note(&[image("sha256:a", &[])], |_| true, at(wrong));
            history.clock = clock;
            history.follow(reading(NOW, 5, "a"));
            let record = &history.images["sha256:a"];
            assert_eq!((record.first_seen, record.last_used), (at(NOW), Some(at(NOW))), "{wrong}");
        }
    }

    /// A sequence of looks some minutes apart, some with the wall clock set by years in between, some after a reboot.
    #[test]
    fn an_age_is_the_time_that_passed_however_the_wall_clock_was_set() {
        const YEARS: i64 = 10 * 365 * 86_400;
        let steps = [0, YEARS, -2 * YEARS, -NOW + 5 * YEARS, NOW, 3600, -3600, 0];
        let mut history = History::default();
        let (mut wall, mut boot, mut boots, mut passed) = (NOW, 50, 0, 0);
        history.follow(reading(wall, boot, "boot 0"));
        history.note(&[image("sha256:a", &[])], |_| false, at(wall));
        for (number, step) in steps.into_iter().enumerate() {
            let saved = history.to_json().unwrap();
            history = History::parse(saved.as_bytes()).unwrap();
            let seconds = 60 * (1 + number as i64);
            wall += seconds + step;
            if number % 3 == 2 {
                // How long the machine was off is not known.
                (boot, boots) = (20, boots + 1);
            } else {
                (boot, passed) = (boot + seconds, passed + seconds);
            }
            history.follow(reading(wall, boot, &format!("boot {boots}")));
            let age = at(wall).duration_since(history.images["sha256:a"].last_needed());
            assert_eq!(age.as_secs(), passed, "after look {number}");
        }
    }

    #[test]
    fn a_grace_begins_when_an_image_is_no_longer_wanted() {
        let mut history = History::default();
        let images = [image("sha256:a", &["lab:1"]), image("sha256:b", &["lab:2"])];
        history.note(&images, |_| false, at(1));
        let entry = serde_json::json!({"reference": "lab:1", "repository": "lab", "tag": "1", "class": "weekly", "name": "1",
            "digest": null, "size": null, "wanted": true, "why": "newest"});
        let entry: CatalogueImage = serde_json::from_value(entry).unwrap();
        let mut wanted = Named::default();
        wanted.add("lab:1", &&entry);
        let needed =
            |history: &History| ["sha256:a", "sha256:b"].map(|id| history.images[id].last_needed().as_second());
        history.note_wanted(&images, Some(&wanted), at(10));
        assert_eq!(needed(&history), [10, 1]);
        // While it is unknown what is wanted, whatever was wanted last still is.
        history.note_wanted(&images, None, at(20));
        assert_eq!(needed(&history), [20, 1]);
        history.note_wanted(&images, Some(&Named::default()), at(30));
        history.note_wanted(&images, Some(&Named::default()), at(40));
        history.note_wanted(&images, None, at(50));
        assert_eq!(needed(&history), [30, 1]);
        let wanted_as = WantedAs { reference: entry.reference.clone(), class: Class::Weekly };
        assert_eq!(history.images["sha256:a"].wanted_as, Some(wanted_as));
    }

    #[test]
    fn a_refusal_is_new_once() {
        let mut history = History::default();
        history.note(&[image("sha256:a", &[])], |_| false, at(1));
        assert!(history.note_refusal("sha256:a", true, "in use".into(), at(2)));
        assert!(!history.note_refusal("sha256:a", true, "in use by another".into(), at(3)));
        let refusal = history.images["sha256:a"].refusal.as_ref().unwrap();
        assert_eq!((refusal.times, refusal.at), (2, at(3)));
    }

    #[test]
    fn first_seen_stays_last_used_moves_and_missing_images_are_forgotten() {
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
