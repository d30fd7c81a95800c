//! The decision: gives a verdict for every image from what was seen of a node. It is pure and reads no clock.
//!
//! Reasons that protect an image come first and win: see [`KeepReason`], whose order is the order of the checks. After
//! them it checks whether the image may be removed at all (its [`Cause`]) and whether its grace is over.

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

/// Which images may be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Images of the catalogue's repositories.
    #[default]
    Catalogue,
    /// Also every other unused image, while the disk is full.
    All,
}

/// The rules from the settings.
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
    /// How long after a refusal the runtime is asked again. The time doubles with each further refusal.
    pub retry: SignedDuration,
}

/// A catalogue that was read.
#[derive(Clone, Debug)]
pub struct SeenCatalogue {
    /// The catalogue.
    pub catalogue: Catalogue,
    /// When its Lease was renewed or its file was written.
    pub fresh_at: Timestamp,
}

/// The images that one pod of this node names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodImages {
    /// Its namespace and name.
    pub pod: String,
    /// The names in its specification and its status.
    pub images: Vec<String>,
}

/// The pods that are bound to this node, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// This machine is not a node of a cluster.
    NoCluster,
    /// The pods cannot be listed, for this reason.
    Unknown(String),
    /// The pods that were listed.
    Seen {
        /// When they were listed.
        at: Timestamp,
        /// The pods.
        pods: Vec<PodImages>,
    },
}

/// Everything that a look saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The time of the look.
    pub now: Timestamp,
    /// The images of the node.
    pub images: Vec<Image>,
    /// The images that the node's containers use.
    pub containers: Vec<ContainerImages>,
    /// The pods that are bound to the node.
    pub pods: Pods,
    /// The catalogue, or why there is none.
    pub catalogue: Result<SeenCatalogue, String>,
    /// The disk was above `DISK_HIGH` and is still above `DISK_LOW`.
    pub freeing: bool,
}

/// A verdict for every image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Why nothing at all is removed, if that is so.
    pub hold: Option<Hold>,
    /// The images to remove in the order of removal, then the kept images by name.
    pub verdicts: Vec<Verdict<'a>>,
}

impl<'a> Plan<'a> {
    /// The images to remove, in the order of removal.
    pub fn to_remove(&self) -> impl Iterator<Item = (&'a Image, &RemoveReason)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.action {
            Action::Remove(to_go) => Some((verdict.image, to_go)),
            Action::Keep(_) => None,
        })
    }

    /// How many images remain because the runtime refused to remove them.
    pub fn refused(&self) -> usize {
        self.verdicts
            .iter()
            .filter(|verdict| matches!(verdict.action, Action::Keep(KeepReason::Refused { .. })))
            .count()
    }

    /// The images that only a grace keeps, each with its remaining time.
    pub fn waiting(&self) -> impl Iterator<Item = (&'a Image, SignedDuration)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.action {
            Action::Keep(KeepReason::Grace { needed, grace, .. }) => {
                Some((verdict.image, grace.saturating_sub(*needed)))
            }
            _ => None,
        })
    }

    /// The time until the next grace is over.
    pub fn next(&self) -> Option<SignedDuration> {
        self.waiting().map(|(_, left)| left).min()
    }
}

/// Whether early removal is active: it starts above `high` and ends at `low` (percent of the file system).
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
            // Images that were refused before come last, so that they do not block others.
            Action::Remove(to_go) => (refusals(&id), rank(to_go), verdict.last_needed, String::new(), id),
            Action::Keep(_) => (u32::MAX, u8::MAX, Timestamp::MIN, first_name(verdict.image), id),
        }
    });
    Plan { hold, verdicts }
}

fn first_name(image: &Image) -> String {
    image.tags.iter().chain(&image.digests).min().cloned().unwrap_or_default()
}

/// The order of removal: the images that are least likely to be needed come first.
fn rank(to_go: &RemoveReason) -> u8 {
    match (&to_go.cause, to_go.early) {
        (Cause::Unfinished, _) => 0,
        (Cause::Unused, _) => 3,
        (_, false) => 1,
        (_, true) => 2,
    }
}

#[cfg(test)]
mod tests;
