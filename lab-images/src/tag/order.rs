//! The order of a menu: total, and the same for every scheme.

use std::cmp::{Ordering, Reverse};

use super::{Tag, Version};

impl Ord for Version {
    /// By the numbers (a missing one is the lowest), then candidates below the release that they lead to.
    fn cmp(&self, other: &Self) -> Ordering {
        let candidates = || match (&self.candidate, &other.candidate) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(b),
        };
        self.numbers.cmp(&other.numbers).then_with(candidates)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Tag {
    /// Where it stands in a menu: by class, then the newest first. `Less` comes first.
    ///
    /// After the version: cycle, its build, RSP build and rest, each highest first and a missing one last; then the tag for
    /// every architecture before those for one. Tags without a version follow those with one, by their base name from the end
    /// of the alphabet. The text decides at last (`w_2021_2` and `w_2021_02` are the same week).
    pub fn menu_order(&self, other: &Self) -> Ordering {
        let versioned = |tag: &Self| tag.version.is_some();
        let cycle = |tag: &Self| {
            tag.cycle.as_ref().map(|cycle| (cycle.number.value, cycle.build.as_ref().map(|build| build.value)))
        };
        let rsp_build = |tag: &Self| tag.rsp_build.as_ref().map(|build| build.value);
        let base = |a: &Self, b: &Self| if versioned(a) { Ordering::Equal } else { b.base.cmp(&a.base) };
        let arch = |tag: &Self| (tag.arch.is_some(), Reverse(tag.arch.clone()));
        self.class
            .cmp(&other.class)
            .then_with(|| other.version.cmp(&self.version))
            .then_with(|| base(self, other))
            .then_with(|| cycle(other).cmp(&cycle(self)))
            .then_with(|| rsp_build(other).cmp(&rsp_build(self)))
            .then_with(|| other.rest.cmp(&self.rest))
            .then_with(|| arch(self).cmp(&arch(other)))
            .then_with(|| other.text.cmp(&self.text))
    }
}
