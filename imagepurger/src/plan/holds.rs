//! Reasons for which nothing at all may be removed: the clock, the catalogue, the pods.

use jiff::{SignedDuration, Timestamp};

use super::{Pods, Rules, Seen, SeenCatalogue};
use crate::clock::EARLIEST;
use crate::verdict::Hold;

/// The list of pods may be this old.
const PODS_MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// The reason for which nothing is removed, if any. `before` is how many images the last trusted catalogue wanted.
pub(super) fn hold(seen: &Seen, before: Option<usize>, rules: &Rules) -> Option<Hold> {
    let unset = (seen.now < EARLIEST).then_some(Hold::ClockUnset(seen.now));
    unset.or_else(|| distrust(&seen.catalogue, before, rules, seen.now)).or_else(|| pods_unsure(&seen.pods, seen.now))
}

/// The reason for which the catalogue must not be trusted, if any. `before` is how many images the last trusted one
/// wanted.
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
    // A time far in the future would never become stale.
    if now.duration_since(*fresh_at).abs() > rules.catalogue_max_age {
        return Some(Hold::CatalogueStale { fresh_at: *fresh_at, max_age: rules.catalogue_max_age });
    }
    // If the catalogue has a state for each repository, only images of the partial repositories are held.
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

/// The reason for which the pods of this node are not known well enough to remove anything, if any.
pub fn pods_unsure(pods: &Pods, now: Timestamp) -> Option<Hold> {
    match pods {
        Pods::NoCluster => None,
        Pods::Unknown(why) => Some(Hold::PodsUnknown(why.clone())),
        Pods::Seen { at, .. } if now.duration_since(*at).abs() > PODS_MAX_AGE => Some(Hold::PodsStale(*at)),
        Pods::Seen { .. } => None,
    }
}
