//! The decision: from what was seen of a node to a verdict for every image. Pure; it has no clock of its own.
//!
//! Whatever protects an image is asked first and wins: see [`KeepReason`], whose order is the order of the questions. Only then is
//! asked whether it may go at all (its [`Cause`]) and whether its grace is over.

mod decision;
mod holds;
mod own;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::Catalogue;
use lab_images::reference::Reference;
use lab_images::runtime::{ContainerImages, Image};
use lab_images::tag::TagScheme;

pub use self::decision::{uses, wanted};
pub use self::holds::{distrust, pods_unsure};

use self::decision::Decision;
use crate::history::{History, Record};
use crate::pattern::Pattern;
use crate::verdict::{Action, Cause, Hold, KeepReason, RemoveReason, Verdict};

/// Which images are this program's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of the catalogue's repositories.
    #[default]
    Catalogue,
    /// While the disk is full, every unused image besides.
    All,
}

/// What the settings say.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `PURGE_SCOPE`
    pub scope: Scope,
    /// `PURGE_GRACE`
    pub grace: SignedDuration,
    /// `CATALOGUE_MAX_AGE`
    pub catalogue_max_age: SignedDuration,
    /// `PURGE_FORCE_SHRINK`
    pub force_shrink: bool,
    /// `LAB_PINNED`: tags, in any repository of the catalogue.
    pub pinned_tags: BTreeSet<String>,
    /// `LAB_INFRASTRUCTURE_IMAGES`: images that are always wanted.
    pub pinned_images: Vec<Reference>,
    /// `PURGE_ALLOW`
    pub allow: Vec<Pattern>,
    /// `PURGE_DENY`
    pub deny: Vec<Pattern>,
    /// `LAB_TAG_SCHEME`: the class and the order of tags that the catalogue does not list.
    pub tag_scheme: TagScheme,
    /// How long after a refusal the runtime is asked again; twice as long after each further one.
    pub retry: SignedDuration,
}

/// The catalogue, as it was found.
#[derive(Clone, Debug)]
pub struct SeenCatalogue {
    /// The catalogue.
    pub catalogue: Catalogue,
    /// When somebody last vouched for it.
    pub fresh_at: Timestamp,
}

/// The images that one pod of this node names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodImages {
    /// Its namespace and name.
    pub pod: String,
    /// As its specification and its status name them.
    pub images: Vec<String>,
}

/// The pods that are bound to this node, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// This machine is no node of a cluster.
    NoCluster,
    /// They can't be known.
    Unknown(String),
    /// Those that were seen.
    Seen {
        /// When.
        at: Timestamp,
        /// The pods.
        pods: Vec<PodImages>,
    },
}

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub now: Timestamp,
    /// The images of the node.
    pub images: Vec<Image>,
    /// What its containers use.
    pub containers: Vec<ContainerImages>,
    /// The pods bound to it.
    pub pods: Pods,
    /// The catalogue, or why there is none.
    pub catalogue: Result<SeenCatalogue, String>,
    /// The disk was above `DISK_HIGH` and is still above `DISK_LOW`.
    pub freeing: bool,
}

/// A verdict for every image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Why nothing at all is removed, if so.
    pub hold: Option<Hold>,
    /// Those to go in the order of removal, then those kept by their names.
    pub verdicts: Vec<Verdict<'a>>,
}

impl<'a> Plan<'a> {
    /// The images to go, in the order of removal.
    pub fn to_remove(&self) -> impl Iterator<Item = (&'a Image, &RemoveReason)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.action {
            Action::Remove(to_go) => Some((verdict.image, to_go)),
            Action::Keep(_) => None,
        })
    }

    /// How many images stay because the runtime refused to remove them.
    pub fn refused(&self) -> usize {
        self.verdicts
            .iter()
            .filter(|verdict| matches!(verdict.action, Action::Keep(KeepReason::Refused { .. })))
            .count()
    }

    /// The images that only a grace keeps, each with what is left of it.
    pub fn waiting(&self) -> impl Iterator<Item = (&'a Image, SignedDuration)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.action {
            Action::Keep(KeepReason::Grace { needed, grace, .. }) => {
                Some((verdict.image, grace.saturating_sub(*needed)))
            }
            _ => None,
        })
    }

    /// How long from now until the next grace is over.
    pub fn next(&self) -> Option<SignedDuration> {
        self.waiting().map(|(_, left)| left).min()
    }
}

/// Whether early removal goes on: it starts above `high` and ends at `low` (percent of the file system).
pub fn freeing(before: bool, used: u8, low: u8, high: u8) -> bool {
    used > high || (before && used > low)
}

/// Decides on every image. The same input gives the same plan, in whatever order the runtime lists its images.
pub fn plan<'a>(seen: &'a Seen, history: &History, rules: &Rules) -> Plan<'a> {
    let hold = holds::hold(seen, history.wanted, rules);
    let decision = Decision::new(seen, history, rules, hold.clone());
    let verdict = |image: &'a Image| {
        let unknown = Record::new(seen.now);
        let record = history.images.get(&image.id).unwrap_or(&unknown);
        Verdict { image, last_needed: record.last_needed(), action: decision.action(image, record) }
    };
    let refusals =
        |id: &str| history.images.get(id).and_then(|record| Some(record.refusal.as_ref()?.times)).unwrap_or(0);
    let mut verdicts: Vec<_> = seen.images.iter().map(verdict).collect();
    verdicts.sort_by_cached_key(|verdict| {
        let id = verdict.image.id.clone();
        match &verdict.action {
            // What was refused before would only be in the way of the others.
            Action::Remove(to_go) => (refusals(&id), rank(to_go), verdict.last_needed, String::new(), id),
            Action::Keep(_) => (u32::MAX, u8::MAX, Timestamp::MIN, first_name(verdict.image), id),
        }
    });
    Plan { hold, verdicts }
}

fn first_name(image: &Image) -> String {
    image.tags.iter().chain(&image.digests).min().cloned().unwrap_or_default()
}

/// What costs nobody anything goes first.
fn rank(to_go: &RemoveReason) -> u8 {
    match (&to_go.cause, to_go.early) {
        (Cause::Unfinished, _) => 0,
        (Cause::Unused, _) => 3,
        (_, false) => 1,
        (_, true) => 2,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
