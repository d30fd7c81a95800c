//! The decision on one image: first what protects it, then whether it may be removed at all, then whether its grace is
//! over.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use lab_images::catalogue::{Catalogue, CatalogueImage};
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::{ContainerImages, Image};

use super::own::{is_own, is_sandbox};
use super::{Pods, Rules, Scope, Seen, SeenCatalogue};
use crate::history::{History, Record, Refusal};
use crate::names::{self, Named, names_of_entry};
use crate::pattern::Pattern;
use crate::succession::Succession;
use crate::verdict::{Action, Cause, Hold, KeepReason, OutOfScope, RemoveReason, Use};

/// While the disk is full, an image that has not been needed for this long may be removed.
const SHORT_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// The longest time after which a runtime that refused to remove an image is asked again.
const LONGEST_RETRY: SignedDuration = SignedDuration::from_hours(24);

/// The name that the runtime adapter gives to the user of the sandbox image.
const SANDBOX: &str = "sandbox";

/// Everything that the verdict on one image depends on, looked up once.
pub(super) struct Decision<'a> {
    seen: &'a Seen,
    rules: &'a Rules,
    hold: Option<Hold>,
    uses: Named<Use>,
    wanted: Named<&'a CatalogueImage>,
    pinned: Named<String>,
    repositories: BTreeSet<&'a Repository>,
    succession: Succession<'a>,
}

impl<'a> Decision<'a> {
    pub(super) fn new(seen: &'a Seen, history: &History, rules: &'a Rules, hold: Option<Hold>) -> Self {
        let catalogue = seen.catalogue.as_ref().ok().map(|seen| &seen.catalogue);
        let mut pinned = Named::default();
        for reference in &rules.pinned_images {
            let name = reference.to_string();
            pinned.add(&name, &name);
        }
        // Computed before the names of wanted images, because each of the two uses much memory for a moment.
        let succession = Succession::new(catalogue, &seen.images, history, &rules.tag_scheme);
        let repositories = catalogue.iter().flat_map(|catalogue| &catalogue.images).map(|image| &image.repository);
        Self {
            seen,
            rules,
            hold,
            uses: uses(&seen.containers, &seen.pods),
            wanted: catalogue.map(wanted).unwrap_or_default(),
            pinned,
            repositories: repositories.collect(),
            succession,
        }
    }

    pub(super) fn action(&self, image: &Image, record: &Record) -> Action {
        if let Some(kept) = self.protected(image) {
            return Action::Keep(kept);
        }
        if self.may_be_of_a_partial_repository(image, record) {
            return Action::Keep(KeepReason::Held(Hold::CataloguePartial));
        }
        let cause = match self.cause(image, record) {
            Ok(cause) => cause,
            Err(why) => return Action::Keep(KeepReason::OutOfScope(why)),
        };
        // An image that an operator denies needs no successor.
        if !matches!(cause, Cause::Denied(_))
            && let Some((class, successor)) = self.succession.awaited_by(image)
        {
            return Action::Keep(KeepReason::Predecessor { class, successor });
        }
        let grace = self.rules.grace;
        let short = if self.seen.freeing { grace.min(SHORT_GRACE) } else { grace };
        if let Some(refusal) = &record.refusal {
            let again =
                retry_after(refusal, self.rules.retry, short).saturating_sub(self.seen.now.duration_since(refusal.at));
            if again > SignedDuration::ZERO {
                return Action::Keep(KeepReason::Refused { message: refusal.message.clone(), again });
            }
        }
        let needed = self.seen.now.duration_since(record.last_needed());
        if needed < short {
            return Action::Keep(KeepReason::Grace { cause, needed, grace: short });
        }
        Action::Remove(RemoveReason { early: needed < grace || cause == Cause::Unused, cause })
    }

    /// The reason for which the image must never be removed, if any.
    fn protected(&self, image: &Image) -> Option<KeepReason> {
        let names = || image.tags.iter().chain(&image.digests);
        if let Some(by) = self.uses.of(image) {
            return Some(KeepReason::InUse(by.clone()));
        }
        if names().any(|name| is_sandbox(name)) {
            return Some(KeepReason::InUse(Use::Sandbox));
        }
        if image.pinned {
            return Some(KeepReason::PinnedByRuntime);
        }
        if let Some(pin) = self.pinned.of(image) {
            return Some(KeepReason::PinnedBySetting(pin.clone()));
        }
        if let Some(tag) = names().find_map(|name| self.rules.pinned_tags.get(tag_of(name)?.as_str())) {
            return Some(KeepReason::PinnedBySetting(tag.clone()));
        }
        if let Some(pattern) = self.rules.allow.iter().find(|pattern| names().any(|name| pattern.fits(name))) {
            return Some(KeepReason::Allowed(pattern.to_string()));
        }
        if names().any(|name| is_own(name)) {
            return Some(KeepReason::Own);
        }
        if let Some(entry) = self.wanted.of(image) {
            return Some(KeepReason::Wanted(entry.reference.to_string()));
        }
        self.hold.clone().map(KeepReason::Held)
    }

    /// Whether the image may be wanted by a repository whose scan was incomplete.
    fn may_be_of_a_partial_repository(&self, image: &Image, record: &Record) -> bool {
        let Ok(SeenCatalogue { catalogue, .. }) = &self.seen.catalogue else { return false };
        let names = image.tags.iter().chain(&image.digests).filter_map(|name| name.parse::<Reference>().ok());
        let of = names.map(|name| name.repository).chain(record.repositories().into_iter().flatten());
        let of: BTreeSet<Repository> = of.collect();
        catalogue.repositories.iter().any(|state| !state.complete && of.contains(&state.name))
    }

    /// Why the image may be removed, or why it is out of scope.
    fn cause(&self, image: &Image, record: &Record) -> Result<Cause, OutOfScope> {
        if let Some(pattern) = self.denied(image) {
            return Ok(Cause::Denied(pattern.to_string()));
        }
        self.catalogue_cause(image, record).or_else(|why| match self.rules.scope {
            Scope::All if self.seen.freeing => Ok(Cause::Unused),
            _ => Err(why),
        })
    }

    /// Removing an image removes all its names, so each of them must be denied. Digests are checked only if there is no
    /// tag.
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
        // An image that also has a name in another repository belongs to another owner, too.
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

/// The images that are in use: by containers in every state, by the runtime, and by pods bound to this node.
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

/// The images that the catalogue wants, by each of their names.
pub fn wanted(catalogue: &Catalogue) -> Named<&CatalogueImage> {
    let mut wanted = Named::default();
    for image in catalogue.wanted() {
        names_of_entry(image).for_each(|name| wanted.add(&name, &image));
    }
    wanted
}

/// How long after a refusal the runtime is asked again. An image that the runtime called in use counts as needed at
/// that time.
fn retry_after(refusal: &Refusal, first: SignedDuration, grace: SignedDuration) -> SignedDuration {
    let doublings = refusal.times.saturating_sub(1).min(20);
    let retry = first.saturating_mul(1 << doublings).min(LONGEST_RETRY);
    if refusal.in_use { retry.max(grace) } else { retry }
}

fn tag_of(name: &str) -> Option<String> {
    Some(name.parse::<Reference>().ok()?.tag?.to_string())
}
