//! The order of a menu: a total order, the same for every scheme except for the part after the version.

use std::cmp::{Ordering, Reverse};

use super::Tag;
use super::version::{Piece, pieces};

impl Tag {
    /// Compares positions in a menu: by class, then the newest first. `Less` comes first.
    ///
    /// After the version, it compares the cycle, its build and the RSP build, each highest first and a missing one last; then the
    /// rest; then a tag for every architecture comes before those for one. Tags without a version follow those with one, by their
    /// base name in reverse alphabetical order. The text is compared last (`w_2021_2` and `w_2021_02` are the same week).
    ///
    /// In the Rubin scheme, the rest is ordered as in Nublado: in reverse alphabetical order, with a missing one last. In all
    /// others, the plain tag comes before its variants and builds, which are compared by words and numbers.
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
            .then_with(|| self.plain_first.cmp(&other.plain_first))
            .then_with(|| self.rest_order(other))
            .then_with(|| arch(self).cmp(&arch(other)))
            .then_with(|| other.text.cmp(&self.text))
    }

    /// Compares the rest. Both tags are of one scheme, or of an unknown form.
    fn rest_order(&self, other: &Self) -> Ordering {
        if !self.plain_first {
            return other.rest.cmp(&self.rest);
        }
        match (self.rest.as_deref(), other.rest.as_deref()) {
            (Some(a), Some(b)) if a != b => variants(&pieces(a), &pieces(b)),
            (a, b) => a.cmp(&b),
        }
    }
}

/// If one begins with the other, the one with fewer pieces comes first; else numbers come before words, each highest first.
fn variants(a: &[Piece], b: &[Piece]) -> Ordering {
    let differ = a.iter().zip(b).find(|(a, b)| a != b);
    differ.map_or_else(
        || a.len().cmp(&b.len()),
        |pair| match pair {
            (Piece::Number(_), Piece::Word(_)) => Ordering::Less,
            (Piece::Word(_), Piece::Number(_)) => Ordering::Greater,
            (a, b) => b.cmp(a),
        },
    )
}
