//! Decides when a new node with the gate's taint is opened. Pure.

use std::time::Duration;

use jiff::Timestamp;
use lab_images::catalogue::CatalogueImage;

use super::eligible::Eligibility;

/// The rules of the gate.
#[derive(Clone, Debug)]
pub struct GateRules {
    /// How long a new node may stay closed.
    pub timeout: Duration,
    /// Tags or full names that it must have; empty means all wanted images.
    pub images: Vec<String>,
}

impl GateRules {
    /// Whether the gate waits for this image.
    pub(super) fn waits_for(&self, image: &CatalogueImage) -> bool {
        let named =
            |name: &String| *name == image.tag || image.aliases.contains(name) || *name == image.reference.to_string();
        self.images.is_empty() || self.images.iter().any(named)
    }

    /// The images that a node lacks when its gate is to be opened; `None` while it stays closed. `lacks` is unset while
    /// it is not known which images are wanted.
    pub(super) fn opens(
        &self,
        eligibility: &Eligibility,
        created: Option<Timestamp>,
        lacks: Option<Vec<String>>,
        now: Timestamp,
    ) -> Option<Vec<String>> {
        let age = created.map(|created| Duration::try_from(now.duration_since(created)).unwrap_or_default());
        let over = age.is_none_or(|age| age >= self.timeout);
        match lacks {
            // A node that gets no lab images has nothing to wait for.
            Some(_) if matches!(eligibility, Eligibility::Excluded(_)) => Some(Vec::new()),
            Some(lacks) if lacks.is_empty() || over => Some(lacks),
            None if over => Some(vec!["the wanted images are not known".to_owned()]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_when_nothing_is_missing_or_time_is_up() {
        let rules = GateRules { timeout: Duration::from_secs(60), images: Vec::new() };
        let lacks = || Some(vec!["lab:1".to_owned()]);
        let excluded = Eligibility::Excluded("taint".to_owned());
        for (eligibility, age, lacks, opens) in [
            (Eligibility::Eligible, 10, lacks(), None),
            (Eligibility::Eligible, 10, Some(Vec::new()), Some(0)),
            (Eligibility::Eligible, 60, lacks(), Some(1)),
            (Eligibility::Eligible, 10, None, None),
            (Eligibility::Eligible, 60, None, Some(1)),
            (Eligibility::Paused("not ready".to_owned()), 10, lacks(), None),
            (excluded, 10, lacks(), Some(0)),
        ] {
            let created = Some(Timestamp::UNIX_EPOCH);
            let now = Timestamp::from_second(age).unwrap();
            let found = rules.opens(&eligibility, created, lacks.clone(), now);
            assert_eq!(found.map(|lacks| lacks.len()), opens, "{eligibility:?} {age} {lacks:?}");
        }
    }
}
