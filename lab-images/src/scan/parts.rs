//! Merges the result of a scan with the last catalogue, repository by repository. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Scanned;
use crate::catalogue::{Catalogue, CatalogueImage, Kind, RepositoryState};
use crate::reference::Repository;
use crate::registry::RegistryError;

/// A repository whose tags were listed.
#[derive(Debug)]
pub struct ScannedRepository {
    /// The repository.
    pub name: Repository,
    /// Its tags as images, in the order of a menu.
    pub images: Vec<CatalogueImage>,
    /// Whether the registry returned the whole list. An incomplete list contains an arbitrary part of the tags, so
    /// nothing is chosen from it.
    pub is_listed: bool,
    /// How many tags are in the list.
    pub tags: Option<u64>,
    /// How many of them the scheme could not parse.
    pub unread: Option<u64>,
    /// What could not be scanned. If empty, the scan of it is complete.
    pub problems: Vec<RegistryError>,
    /// What needs attention although the scan was complete.
    pub remark: Option<String>,
}

/// An image that is configured by name.
#[derive(Debug)]
pub struct NamedImage {
    /// The setting that names it.
    pub setting: &'static str,
    /// The image.
    pub image: CatalogueImage,
    /// What could not be looked up.
    pub problem: Option<RegistryError>,
}

impl ScannedRepository {
    pub(super) fn new(name: Repository) -> Self {
        Self {
            name,
            images: Vec::new(),
            is_listed: false,
            tags: None,
            unread: None,
            problems: Vec::new(),
            remark: None,
        }
    }
}

impl NamedImage {
    /// What needs attention: it is configured, but there is no usable image.
    pub(super) fn remark(&self) -> Option<String> {
        (!self.image.wanted).then(|| format!("{}: {}", self.image.reference, self.image.why))
    }
}

impl Scanned {
    /// The catalogue of this scan, generated at `now`. A repository that was not scanned completely keeps its part of
    /// the last catalogue, and so does one in which nothing is wanted now. An image that is configured by name
    /// keeps what was known of it.
    pub fn catalogue(&self, last: Option<&Catalogue>, now: Timestamp) -> Catalogue {
        let mut images: Vec<CatalogueImage> = Vec::new();
        let mut states: Vec<RepositoryState> = Vec::new();
        for repository in &self.repositories {
            let (part, state) = repository.part(last, now);
            images.extend(part);
            states.push(state);
        }
        for named in &self.named {
            let known = || last?.images.iter().find(|image| image.reference == named.image.reference);
            let image = match (&named.problem, known()) {
                // The old data is better than none, but whether it is wanted is known.
                (Some(_), Some(known)) => CatalogueImage {
                    wanted: true,
                    why: named.image.why.clone(),
                    kind: named.image.kind,
                    ..known.clone()
                },
                _ => named.image.clone(),
            };
            images.push(image);
            named.note(&mut states, last, now);
        }
        let mut seen = BTreeSet::new();
        images.retain(|image| seen.insert(image.reference.to_string()));
        let complete = states.iter().all(|state| state.complete);
        Catalogue { repositories: states, ..Catalogue::new(now, complete, images) }
    }
}

impl ScannedRepository {
    /// Whether this scan adds anything to the catalogue: everything, or the listed tags if there is nothing better.
    pub(super) fn has_changed(&self, last: Option<&Catalogue>) -> bool {
        match last.and_then(|last| last_good(last, &self.name)) {
            Some((images, _)) => self.problems.is_empty() && !self.has_lost_all(&images),
            None => self.problems.is_empty() || (self.is_listed && self.images.iter().any(|image| image.wanted)),
        }
    }

    /// Whether nothing is wanted now although something was before.
    fn has_lost_all(&self, before: &[CatalogueImage]) -> bool {
        before.iter().any(|image| image.wanted) && !self.images.iter().any(|image| image.wanted)
    }

    fn part(&self, last: Option<&Catalogue>, now: Timestamp) -> (Vec<CatalogueImage>, RepositoryState) {
        let last_part = last.and_then(|last| last_good(last, &self.name));
        let lost_all = last_part.as_ref().is_some_and(|(before, _)| self.has_lost_all(before));
        let complete = self.problems.is_empty() && !lost_all;
        let problem = match self.problems.as_slice() {
            [] if lost_all => Some(self.lost_all()),
            [] => self.remark.clone(),
            [only] => Some(only.to_string()),
            [first, others @ ..] => Some(format!("{first} (and {} more)", others.len())),
        };
        let state = |complete, scanned| RepositoryState {
            name: self.name.clone(),
            complete,
            scanned,
            problem: problem.clone(),
            tags: self.tags,
            unread: self.unread,
        };
        match last_part {
            _ if complete => (self.images.clone(), state(true, Some(now))),
            Some((images, scanned)) => (images, state(false, Some(scanned))),
            None if self.is_listed => (self.images.clone(), state(false, None)),
            None => (Vec::new(), state(false, None)),
        }
    }

    fn lost_all(&self) -> String {
        let now = self.remark.as_deref().unwrap_or("the registry lists no tags");
        format!(
            "none of its images are wanted now, although some were before: {now}; check LAB_KEEP, and whether the repository was emptied"
        )
    }
}

/// The images of a repository's last good scan, and its time.
fn last_good(last: &Catalogue, name: &Repository) -> Option<(Vec<CatalogueImage>, Timestamp)> {
    let state = last.repositories.iter().find(|state| state.name == *name);
    let scanned = match state {
        Some(state) => state.scanned?,
        // An older prepuller wrote a catalogue only after a complete scan.
        None if last.repositories.is_empty() && last.complete => last.generated,
        None => return None,
    };
    let of_it = |image: &&CatalogueImage| image.repository == *name && image.kind == Kind::Lab;
    let images: Vec<CatalogueImage> = last.images.iter().filter(of_it).cloned().collect();
    (!images.is_empty() || state.is_some()).then_some((images, scanned))
}

impl NamedImage {
    /// Adds the result to the state of the repository.
    fn note(&self, states: &mut Vec<RepositoryState>, last: Option<&Catalogue>, now: Timestamp) {
        let name = &self.image.repository;
        let before = || last?.repositories.iter().find(|state| state.name == *name)?.scanned;
        let index = states.iter().position(|state| state.name == *name).unwrap_or_else(|| {
            states.push(RepositoryState {
                name: name.clone(),
                complete: true,
                scanned: before(),
                problem: None,
                tags: None,
                unread: None,
            });
            states.len() - 1
        });
        let state = &mut states[index];
        match &self.problem {
            Some(problem) => {
                state.complete = false;
                if state.tags.is_none() {
                    state.scanned = before();
                }
                state.problem.get_or_insert_with(|| problem.to_string());
            }
            None => {
                if state.tags.is_none() && state.complete {
                    state.scanned = Some(now);
                }
                if let Some(remark) = self.remark() {
                    state.problem.get_or_insert(remark);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
