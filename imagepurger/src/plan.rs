//! The decision: from what was seen of a node to a verdict for every image. Pure; it has no clock of its own.
//!
//! Whatever protects an image is asked first and wins: see [`Kept`], whose order is the order of the questions. Only then is
//! asked whether it may go at all (its [`Cause`]) and whether its grace is over.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::Catalogue;
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::{ContainerImages, Image};

use crate::history::{History, Record};
use crate::names::{self, Named};
use crate::pattern::Pattern;
use crate::verdict::{Cause, Fate, Hold, Kept, OutOfScope, ToGo, Use, Verdict};

/// While the disk is full, what was needed longer ago than this may go.
const SHORT_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// What was seen of the pods may be this old.
const PODS_MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// The name under which the runtime adapter tells the image that pods are started with.
const SANDBOX: &str = "sandbox";

/// The last part of the repositories of Labhands' own images, alone or after `labhands-`.
const OWN_NAMES: [&str; 5] = ["prepuller", "imagepurger", "fs-keepalive", "log-shipper", "nfs-health"];

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
    pub fn to_go(&self) -> impl Iterator<Item = (&'a Image, &ToGo)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.fate {
            Fate::ToGo(to_go) => Some((verdict.image, to_go)),
            Fate::Kept(_) => None,
        })
    }
}

/// Whether early removal goes on: it starts above `high` and ends at `low` (percent of the file system).
pub fn freeing(before: bool, used: u8, low: u8, high: u8) -> bool {
    used > high || (before && used > low)
}

/// What uses images now: containers in every state, the runtime, and pods bound to this node.
pub fn uses(containers: &[ContainerImages], pods: &Pods) -> Named<Use> {
    let mut uses = Named::default();
    for container in containers {
        let by = match container.container.as_str() {
            SANDBOX => Use::Sandbox,
            id => Use::Container(id.to_owned()),
        };
        container.images.iter().for_each(|name| uses.add(name, &by));
    }
    if let Pods::Seen { pods, .. } = pods {
        for pod in pods {
            let by = Use::Pod(pod.pod.clone());
            pod.images.iter().for_each(|name| uses.add(name, &by));
        }
    }
    uses
}

/// Why the catalogue must not be acted on, if so. `before` is how many images the last one that was believed wanted.
pub fn distrust(
    catalogue: &Result<SeenCatalogue, String>,
    before: Option<usize>,
    rules: &Rules,
    now: Timestamp,
) -> Option<Hold> {
    let SeenCatalogue { catalogue, fresh_at } = match catalogue {
        Ok(seen) => seen,
        Err(why) => return Some(Hold::CatalogueUnreadable(why.clone())),
    };
    let wanted = catalogue.wanted().count();
    // A time far in the future would never grow stale.
    if now.duration_since(*fresh_at).abs() > rules.catalogue_max_age {
        return Some(Hold::CatalogueStale { fresh_at: *fresh_at, max_age: rules.catalogue_max_age });
    }
    if !catalogue.complete {
        return Some(Hold::CataloguePartial);
    }
    if wanted == 0 {
        return Some(Hold::CatalogueEmpty);
    }
    match before {
        Some(before) if wanted * 2 < before && !rules.force_shrink => {
            Some(Hold::CatalogueShrank { before, now: wanted })
        }
        _ => None,
    }
}

/// Why the pods of this node are not known well enough to remove anything, if so.
pub fn pods_unsure(pods: &Pods, now: Timestamp) -> Option<Hold> {
    match pods {
        Pods::NoCluster => None,
        Pods::Unknown(why) => Some(Hold::PodsUnknown(why.clone())),
        Pods::Seen { at, .. } if now.duration_since(*at).abs() > PODS_MAX_AGE => Some(Hold::PodsStale(*at)),
        Pods::Seen { .. } => None,
    }
}

/// Decides on every image. The same input gives the same plan, in whatever order the runtime lists its images.
pub fn plan<'a>(seen: &'a Seen, history: &History, rules: &Rules) -> Plan<'a> {
    let hold = distrust(&seen.catalogue, history.wanted, rules, seen.now).or_else(|| pods_unsure(&seen.pods, seen.now));
    let decision = Decision::new(seen, rules, hold.clone());
    let verdict = |image: &'a Image| {
        let unknown = Record::new(seen.now);
        let record = history.images.get(&image.id).unwrap_or(&unknown);
        Verdict { image, last_needed: record.last_needed(), fate: decision.fate(image, record) }
    };
    let mut verdicts: Vec<_> = seen.images.iter().map(verdict).collect();
    verdicts.sort_by_cached_key(|verdict| {
        let id = verdict.image.id.clone();
        match &verdict.fate {
            Fate::ToGo(to_go) => (rank(to_go), verdict.last_needed, String::new(), id),
            Fate::Kept(_) => (u8::MAX, Timestamp::MIN, first_name(verdict.image), id),
        }
    });
    Plan { hold, verdicts }
}

fn first_name(image: &Image) -> String {
    image.tags.iter().chain(&image.digests).min().cloned().unwrap_or_default()
}

/// What costs nobody anything goes first.
fn rank(to_go: &ToGo) -> u8 {
    match (&to_go.cause, to_go.early) {
        (Cause::Unfinished, _) => 0,
        (Cause::Unused, _) => 3,
        (_, false) => 1,
        (_, true) => 2,
    }
}

/// Everything that the verdict on one image rests on, looked up once.
struct Decision<'a> {
    seen: &'a Seen,
    rules: &'a Rules,
    hold: Option<Hold>,
    uses: Named<Use>,
    wanted: Named<String>,
    pinned: Named<String>,
    repositories: BTreeSet<&'a Repository>,
}

impl<'a> Decision<'a> {
    fn new(seen: &'a Seen, rules: &'a Rules, hold: Option<Hold>) -> Self {
        let listed = seen.catalogue.iter().flat_map(|seen| &seen.catalogue.images);
        let (mut wanted, mut pinned) = (Named::default(), Named::default());
        for image in listed.clone() {
            if image.wanted {
                let name = image.reference.to_string();
                wanted.add(&name, &name);
                // The digest alone: a node may hold the image by digest, or under a tag that moved here.
                image.digest.iter().for_each(|digest| wanted.add(digest.as_str(), &name));
                image.aliases.iter().for_each(|alias| wanted.add(&format!("{}:{alias}", image.repository), &name));
            }
        }
        for reference in &rules.pinned_images {
            let name = reference.to_string();
            pinned.add(&name, &name);
        }
        let repositories = listed.map(|image| &image.repository).collect();
        Self { seen, rules, hold, uses: uses(&seen.containers, &seen.pods), wanted, pinned, repositories }
    }

    fn fate(&self, image: &Image, record: &Record) -> Fate {
        if let Some(kept) = self.protected(image) {
            return Fate::Kept(kept);
        }
        let cause = match self.cause(image, record) {
            Ok(cause) => cause,
            Err(why) => return Fate::Kept(Kept::OutOfScope(why)),
        };
        let grace = self.rules.grace;
        let short = if self.seen.freeing { grace.min(SHORT_GRACE) } else { grace };
        let needed = self.seen.now.duration_since(record.last_needed());
        if needed < short {
            return Fate::Kept(Kept::Grace { cause, needed, grace: short });
        }
        Fate::ToGo(ToGo { early: needed < grace || cause == Cause::Unused, cause })
    }

    /// What must never be removed.
    fn protected(&self, image: &Image) -> Option<Kept> {
        let names = || image.tags.iter().chain(&image.digests);
        if let Some(by) = self.uses.of(image) {
            return Some(Kept::InUse(by.clone()));
        }
        if names().any(|name| is_sandbox(name)) {
            return Some(Kept::InUse(Use::Sandbox));
        }
        if image.pinned {
            return Some(Kept::PinnedByRuntime);
        }
        if let Some(pin) = self.pinned.of(image) {
            return Some(Kept::PinnedBySetting(pin.clone()));
        }
        if let Some(tag) = names().find_map(|name| self.rules.pinned_tags.get(tag_of(name)?.as_str())) {
            return Some(Kept::PinnedBySetting(tag.clone()));
        }
        if let Some(pattern) = self.rules.allow.iter().find(|pattern| names().any(|name| pattern.fits(name))) {
            return Some(Kept::Allowed(pattern.to_string()));
        }
        if names().any(|name| is_own(name)) {
            return Some(Kept::Own);
        }
        if let Some(reference) = self.wanted.of(image) {
            return Some(Kept::Wanted(reference.clone()));
        }
        self.hold.clone().map(Kept::Held)
    }

    /// Why it may go, or why it is none of our business.
    fn cause(&self, image: &Image, record: &Record) -> Result<Cause, OutOfScope> {
        if let Some(pattern) = self.denied(image) {
            return Ok(Cause::Denied(pattern.to_string()));
        }
        self.catalogue_cause(image, record).or_else(|why| match self.rules.scope {
            Scope::All if self.seen.freeing => Ok(Cause::Unused),
            _ => Err(why),
        })
    }

    /// All names go with an image, so each must be denied; its digests only where it has no tag.
    fn denied(&self, image: &Image) -> Option<&Pattern> {
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        let of = |name: &String| self.rules.deny.iter().find(|pattern| pattern.fits(name));
        let patterns: Option<Vec<&Pattern>> = names.iter().map(of).collect();
        patterns?.first().copied()
    }

    fn catalogue_cause(&self, image: &Image, record: &Record) -> Result<Cause, OutOfScope> {
        let has_name = !(image.tags.is_empty() && image.digests.is_empty());
        let of = if has_name { names::repositories(image) } else { record.repositories() };
        let of = of.ok_or(OutOfScope::Unreadable)?;
        if of.is_empty() {
            return Err(OutOfScope::Nameless);
        }
        // An image that somebody named otherwise as well is theirs too.
        if !of.iter().all(|repository| self.repositories.contains(repository)) {
            return Err(OutOfScope::Foreign);
        }
        Ok(match (has_name, image.tags.is_empty()) {
            (false, _) => Cause::Unfinished,
            (true, true) => Cause::Untagged,
            (true, false) => Cause::Unwanted,
        })
    }
}

fn tag_of(name: &str) -> Option<String> {
    Some(name.parse::<Reference>().ok()?.tag?.to_string())
}

/// The last part of a name's repository, and those before it.
fn repository_parts(name: &str) -> Option<(String, Vec<String>)> {
    let reference: Reference = name.parse().ok()?;
    let mut parts: Vec<String> = reference.repository.path().split('/').map(str::to_owned).collect();
    Some((parts.pop()?, parts))
}

fn is_own(name: &str) -> bool {
    repository_parts(name).is_some_and(|(last, before)| {
        OWN_NAMES.contains(&last.strip_prefix("labhands-").unwrap_or(&last))
            || before.iter().any(|part| part == "labhands")
    })
}

/// Not every runtime tells which image it starts pods with; they are all called that.
fn is_sandbox(name: &str) -> bool {
    repository_parts(name)
        .is_some_and(|(last, _)| last == "pause" || last.starts_with("pause-") || last.ends_with("-pause"))
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
