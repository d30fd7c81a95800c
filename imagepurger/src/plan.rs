//! The decision: from what was seen of a node to a verdict for every image. Pure; it has no clock of its own.
//!
//! Whatever protects an image is asked first and wins: see [`Kept`], whose order is the order of the questions. Only then is
//! asked whether it may go at all (its [`Cause`]) and whether its grace is over.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::Catalogue;
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::{ContainerImages, Image};
use lab_images::tag::TagScheme;

use crate::clock::EARLIEST;
use crate::history::{History, Record, Refusal, WantedAs};
use crate::names::{self, Named, names_of_entry};
use crate::pattern::Pattern;
use crate::succession::Succession;
use crate::verdict::{Cause, Fate, Hold, Kept, OutOfScope, ToGo, Use, Verdict};

/// While the disk is full, what was needed longer ago than this may go.
const SHORT_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// What was seen of the pods may be this old.
const PODS_MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// A runtime that refused to remove an image is asked again within this.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_hours(24);

/// The name under which the runtime adapter tells the image that pods are started with.
const SANDBOX: &str = "sandbox";

/// The last part of the repositories of Labhands' own images, alone or after `labhands-`.
const OWN_NAMES: [&str; 5] = ["prepuller", "imagepurger", "fs-keepalive", "log-shipper", "nfs-health"];

/// Others have one too: ours is in `labhands/`, or after `labhands-`.
const FILE_SERVER: &str = "fileserver";

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
    pub fn to_go(&self) -> impl Iterator<Item = (&'a Image, &ToGo)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.fate {
            Fate::ToGo(to_go) => Some((verdict.image, to_go)),
            Fate::Kept(_) => None,
        })
    }

    /// How many images stay because the runtime refused to remove them.
    pub fn refused(&self) -> usize {
        self.verdicts.iter().filter(|verdict| matches!(verdict.fate, Fate::Kept(Kept::Refused { .. }))).count()
    }

    /// The images that only a grace keeps, each with what is left of it.
    pub fn waiting(&self) -> impl Iterator<Item = (&'a Image, SignedDuration)> {
        self.verdicts.iter().filter_map(|verdict| match &verdict.fate {
            Fate::Kept(Kept::Grace { needed, grace, .. }) => Some((verdict.image, grace.saturating_sub(*needed))),
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
    // A catalogue with a state for each repository holds only what belongs to those that are partial.
    if !catalogue.complete && catalogue.repositories.is_empty() {
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

/// What the catalogue wants, by every name that it has.
pub fn wanted(catalogue: &Catalogue) -> Named<WantedAs> {
    let mut wanted = Named::default();
    for image in catalogue.wanted() {
        let entry = WantedAs { reference: image.reference.clone(), class: image.class };
        names_of_entry(image).for_each(|name| wanted.add(&name, &entry));
    }
    wanted
}

/// How long after a refusal the runtime is asked again: what it calls in use was needed then.
fn retry_after(refusal: &Refusal, first: SignedDuration, grace: SignedDuration) -> SignedDuration {
    let doublings = refusal.times.saturating_sub(1).min(20);
    let retry = first.saturating_mul(1 << doublings).min(LONGEST_RETRY);
    if refusal.in_use { retry.max(grace) } else { retry }
}

/// Decides on every image. The same input gives the same plan, in whatever order the runtime lists its images.
pub fn plan<'a>(seen: &'a Seen, history: &History, rules: &Rules) -> Plan<'a> {
    let unset = (seen.now < EARLIEST).then_some(Hold::ClockUnset(seen.now));
    let hold = unset
        .or_else(|| distrust(&seen.catalogue, history.wanted, rules, seen.now))
        .or_else(|| pods_unsure(&seen.pods, seen.now));
    let decision = Decision::new(seen, history, rules, hold.clone());
    let verdict = |image: &'a Image| {
        let unknown = Record::new(seen.now);
        let record = history.images.get(&image.id).unwrap_or(&unknown);
        Verdict { image, last_needed: record.last_needed(), fate: decision.fate(image, record) }
    };
    let refusals =
        |id: &str| history.images.get(id).and_then(|record| Some(record.refusal.as_ref()?.times)).unwrap_or(0);
    let mut verdicts: Vec<_> = seen.images.iter().map(verdict).collect();
    verdicts.sort_by_cached_key(|verdict| {
        let id = verdict.image.id.clone();
        match &verdict.fate {
            // What was refused before would only be in the way of the others.
            Fate::ToGo(to_go) => (refusals(&id), rank(to_go), verdict.last_needed, String::new(), id),
            Fate::Kept(_) => (u32::MAX, u8::MAX, Timestamp::MIN, first_name(verdict.image), id),
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
    wanted: Named<WantedAs>,
    pinned: Named<String>,
    repositories: BTreeSet<&'a Repository>,
    succession: Succession<'a>,
}

impl<'a> Decision<'a> {
    fn new(seen: &'a Seen, history: &History, rules: &'a Rules, hold: Option<Hold>) -> Self {
        let catalogue = seen.catalogue.as_ref().ok().map(|seen| &seen.catalogue);
        let mut pinned = Named::default();
        for reference in &rules.pinned_images {
            let name = reference.to_string();
            pinned.add(&name, &name);
        }
        let repositories = catalogue.iter().flat_map(|catalogue| &catalogue.images).map(|image| &image.repository);
        Self {
            seen,
            rules,
            hold,
            uses: uses(&seen.containers, &seen.pods),
            wanted: catalogue.map(wanted).unwrap_or_default(),
            pinned,
            repositories: repositories.collect(),
            succession: Succession::new(catalogue, &seen.images, history, &rules.tag_scheme),
        }
    }

    fn fate(&self, image: &Image, record: &Record) -> Fate {
        if let Some(kept) = self.protected(image) {
            return Fate::Kept(kept);
        }
        if self.may_be_of_a_partial_repository(image, record) {
            return Fate::Kept(Kept::Held(Hold::CataloguePartial));
        }
        let cause = match self.cause(image, record) {
            Ok(cause) => cause,
            Err(why) => return Fate::Kept(Kept::OutOfScope(why)),
        };
        // What an operator names is known to be wanted by nobody.
        if !matches!(cause, Cause::Denied(_))
            && let Some((class, successor)) = self.succession.awaited_by(image)
        {
            return Fate::Kept(Kept::Predecessor { class, successor });
        }
        let grace = self.rules.grace;
        let short = if self.seen.freeing { grace.min(SHORT_GRACE) } else { grace };
        if let Some(refusal) = &record.refusal {
            let again =
                retry_after(refusal, self.rules.retry, short).saturating_sub(self.seen.now.duration_since(refusal.at));
            if again > SignedDuration::ZERO {
                return Fate::Kept(Kept::Refused { message: refusal.message.clone(), again });
            }
        }
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
        if let Some(entry) = self.wanted.of(image) {
            return Some(Kept::Wanted(entry.reference.to_string()));
        }
        self.hold.clone().map(Kept::Held)
    }

    /// Whether a repository that was not scanned completely may want it.
    fn may_be_of_a_partial_repository(&self, image: &Image, record: &Record) -> bool {
        let Ok(SeenCatalogue { catalogue, .. }) = &self.seen.catalogue else { return false };
        let names = image.tags.iter().chain(&image.digests).filter_map(|name| name.parse::<Reference>().ok());
        let of = names.map(|name| name.repository).chain(record.repositories().into_iter().flatten());
        let of: BTreeSet<Repository> = of.collect();
        catalogue.repositories.iter().any(|state| !state.complete && of.contains(&state.name))
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

/// `prepuller`, `labhands-prepuller` and `labhands/prepuller`, wherever they are mirrored to; not whatever else lies in a folder
/// of that name.
fn is_own(name: &str) -> bool {
    repository_parts(name).is_some_and(|(last, before)| match last.strip_prefix("labhands-") {
        Some(rest) => OWN_NAMES.contains(&rest) || rest == FILE_SERVER,
        None => {
            OWN_NAMES.contains(&last.as_str())
                || (last == FILE_SERVER && before.last().is_some_and(|part| part == "labhands"))
        }
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
