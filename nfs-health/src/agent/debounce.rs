//! Flap damping: one odd round changes nothing. Also detects changes of the server's identity.

use crate::probe::verdict::Verdict;
use crate::wire::nfs4::session::Identity;

/// A value whose wording may change while it means the same.
pub trait Debounce {
    /// Whether `other` means the same.
    fn is_same_as(&self, other: &Self) -> bool;
    /// Whether both are trouble or both are none, even if they do not mean the same.
    fn is_like(&self, other: &Self) -> bool;
}

impl Debounce for Verdict {
    fn is_same_as(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    fn is_like(&self, other: &Self) -> bool {
        self.kind.is_healthy() == other.kind.is_healthy()
    }
}

/// The shown value, and how often in a row another one has been seen.
#[derive(Clone, Debug)]
pub struct Debounced<T> {
    after: u32,
    shown: Option<T>,
    other: Option<(T, u32)>,
}

impl<T: Debounce> Debounced<T> {
    /// A new value is shown after it was seen `after` times in a row; the very first one at once. Different troubles in a row count
    /// together against a shown value without trouble, and the other way round.
    pub fn new(after: u32) -> Self {
        Self { after, shown: None, other: None }
    }

    /// Handles a round's value. Returns the value that was shown before, if that changes.
    pub fn take(&mut self, seen: T) -> Option<Option<T>> {
        if self.shown.as_ref().is_some_and(|shown| shown.is_same_as(&seen)) {
            // The same value, possibly with newer words.
            (self.shown, self.other) = (Some(seen), None);
            return None;
        }
        let turns = self.shown.as_ref().is_some_and(|shown| !shown.is_like(&seen));
        let times = match &self.other {
            Some((other, times)) if other.is_same_as(&seen) || (turns && other.is_like(&seen)) => times + 1,
            _ => 1,
        };
        if self.shown.is_some() && times < self.after {
            self.other = Some((seen, times));
            return None;
        }
        self.other = None;
        Some(self.shown.replace(seen))
    }

    /// The shown value.
    pub fn shown(&self) -> Option<&T> {
        self.shown.as_ref()
    }
}

/// A change of the server between two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same server was restarted.
    Restarted,
    /// Another server answers at the address.
    Replaced,
}

/// Detects restarts and replacements by the server's identity.
#[derive(Clone, Debug, Default)]
pub struct Known {
    identity: Option<Identity>,
    /// Whether the epoch was the same twice. Some servers create a new one each time, which then means nothing.
    epoch_is_steady: bool,
}

impl Known {
    /// Handles the identity that a round saw.
    pub fn take(&mut self, identity: &Identity) -> Option<Change> {
        let before = self.identity.replace(identity.clone())?;
        if (&before.owner, &before.scope) != (&identity.owner, &identity.scope) {
            self.epoch_is_steady = false;
            return Some(Change::Replaced);
        }
        if before.epoch == identity.epoch {
            self.epoch_is_steady = true;
            return None;
        }
        std::mem::take(&mut self.epoch_is_steady).then_some(Change::Restarted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::verdict::Kind;
    use proptest::prelude::*;

    fn verdict(kind: Kind) -> Verdict {
        Verdict { kind, phase: "null", sentence: String::new() }
    }

    fn change(steady: &mut Debounced<Verdict>, kind: Kind) -> Option<Option<Kind>> {
        Some(steady.take(verdict(kind))?.map(|before| before.kind))
    }

    #[test]
    fn the_first_verdict_counts_at_once_and_a_change_only_when_it_lasts() {
        let mut steady = Debounced::new(2);
        assert_eq!(change(&mut steady, Kind::Ok), Some(None));
        assert_eq!(change(&mut steady, Kind::ServerDown), None);
        assert_eq!(steady.shown().map(|shown| shown.kind), Some(Kind::Ok));
        assert_eq!(change(&mut steady, Kind::Ok), None);
        assert_eq!(change(&mut steady, Kind::ServerDown), None);
        assert_eq!(change(&mut steady, Kind::ServerDown), Some(Some(Kind::Ok)));
        assert_eq!(change(&mut steady, Kind::Ok), None);
        assert_eq!(change(&mut steady, Kind::Ok), Some(Some(Kind::ServerDown)));
    }

    #[test]
    fn troubles_that_alternate_are_trouble() {
        let mut steady = Debounced::new(3);
        let kinds = [Kind::Ok, Kind::ServerDown, Kind::Unreachable, Kind::ServerDown];
        let shown = kinds.map(|kind| change(&mut steady, kind));
        assert_eq!(shown, [Some(None), None, None, Some(Some(Kind::Ok))]);
        assert_eq!(steady.shown().map(|shown| shown.kind), Some(Kind::ServerDown));
        // One trouble after another needs as many rounds as before, and both healthy kinds count together.
        let kinds = [Kind::Unreachable, Kind::Stale, Kind::Unreachable, Kind::Grace, Kind::Ok, Kind::Grace];
        let shown = kinds.map(|kind| change(&mut steady, kind));
        assert_eq!(shown, [None, None, None, None, None, Some(Some(Kind::ServerDown))]);
    }

    proptest! {
        #[test]
        fn what_is_shown_changes_only_after_enough_in_a_row(rounds in proptest::collection::vec(0_usize..3, 1..40), after in 1_u32..5) {
            let kinds = [Kind::Ok, Kind::ServerDown, Kind::Stale];
            let mut steady = Debounced::new(after);
            for (index, kind) in rounds.iter().enumerate() {
                if let Some(Some(before)) = change(&mut steady, kinds[*kind]) {
                    let last = &rounds[(index + 1).saturating_sub(after as usize)..=index];
                    let agree = |other: &usize| other == kind || (before == Kind::Ok && kinds[*other] != Kind::Ok);
                    prop_assert!(last.len() == after as usize && last.iter().all(agree));
                }
            }
        }
    }

    fn identity(owner: &str, epoch: u32) -> Identity {
        Identity { owner: owner.into(), scope: Vec::new(), epoch }
    }

    #[test]
    fn a_restart_is_a_new_epoch_after_a_steady_one() {
        let mut known = Known::default();
        let changes: Vec<_> = [7, 7, 8, 9, 9, 10].map(|epoch| known.take(&identity("a", epoch))).into_iter().collect();
        assert_eq!(changes, [None, None, Some(Change::Restarted), None, None, Some(Change::Restarted)]);
        assert_eq!(known.take(&identity("b", 10)), Some(Change::Replaced));
    }
}
