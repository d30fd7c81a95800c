//! Decides which Event is new, which is counted in an earlier one, and which has to wait.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{EventType, Raised};

/// Within this time the same thing is counted in the same Event.
const SAME_WITHIN: Duration = Duration::from_secs(600);

/// How many Events may be recorded at once about one object for one reason.
const BURST: u32 = 20;

/// After this time one more may be recorded.
const REFILL: Duration = Duration::from_secs(30);

/// The most objects and Events that are remembered; the oldest are forgotten.
const MOST_KEPT: usize = 16 * 1024;

/// The longest name of an object, minus the suffix that is added.
const NAME_BYTES: usize = 253 - 33;

/// The subject of an Event: the object and the reason.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Subject {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    reason: String,
}

/// The content of an Event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct EventContent {
    subject: Subject,
    type_: EventType,
    action: String,
    note: String,
}

/// An Event that was raised.
#[derive(Debug)]
struct Known {
    name: String,
    count: i32,
    last: Instant,
}

/// The remaining allowance of a subject, and the Event that waits for it.
#[derive(Debug)]
struct Allowance {
    left: u32,
    refilled: Instant,
    held: Option<Raised>,
}

/// A write to the API.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Create an Event with this name.
    Create { name: String, raised: Raised },
    /// Set the count of the Event of this name.
    Count { name: String, count: i32, raised: Raised },
}

impl Step {
    pub(super) fn raised(&self) -> &Raised {
        let (Self::Create { raised, .. } | Self::Count { raised, .. }) = self;
        raised
    }

    pub(super) fn name(&self) -> &str {
        let (Self::Create { name, .. } | Self::Count { name, .. }) = self;
        name
    }
}

/// The Events that were recorded.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: HashMap<EventContent, Known>,
    allowances: HashMap<Subject, Allowance>,
    made: u64,
    /// When old entries were last removed.
    swept: Option<Instant>,
}

impl Ledger {
    /// What to write for this Event now; `None` if it has to wait. It then replaces an older waiting Event about the
    /// same subject.
    pub(super) fn take(&mut self, raised: Raised, now: Instant) -> Option<Step> {
        self.forget(now);
        let subject = Subject::of(&raised);
        let allowance = self.allowances.entry(subject).or_insert(Allowance { left: BURST, refilled: now, held: None });
        allowance.refill(now);
        if allowance.left == 0 || allowance.held.is_some() {
            allowance.held = Some(raised);
            return None;
        }
        allowance.left -= 1;
        Some(self.step(raised, now))
    }

    /// When the next waiting Event may be written.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let held = self.allowances.values().filter(|allowance| allowance.held.is_some());
        held.map(|allowance| allowance.refilled + REFILL).min()
    }

    /// A waiting Event that may be written now.
    pub(super) fn release(&mut self, now: Instant) -> Option<Step> {
        let mut waiting = self.allowances.values_mut().filter(|allowance| allowance.held.is_some());
        let allowance = waiting.find_map(|allowance| {
            allowance.refill(now);
            (allowance.left > 0).then_some(allowance)
        })?;
        allowance.left -= 1;
        let raised = allowance.held.take()?;
        Some(self.step(raised, now))
    }

    /// All waiting Events, whether they are due or not.
    pub(super) fn release_all(&mut self, now: Instant) -> Vec<Step> {
        let held: Vec<Raised> = self.allowances.values_mut().filter_map(|allowance| allowance.held.take()).collect();
        held.into_iter().map(|raised| self.step(raised, now)).collect()
    }

    fn step(&mut self, raised: Raised, now: Instant) -> Step {
        let content = EventContent {
            subject: Subject::of(&raised),
            type_: raised.type_,
            action: raised.action.clone(),
            note: raised.note.clone(),
        };
        if let Some(known) = self.known.get_mut(&content) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            return Step::Count { name: known.name.clone(), count: known.count, raised };
        }
        self.made += 1;
        let about = raised.regarding.name.as_deref().unwrap_or("labhands");
        let about = &about[..about.floor_char_boundary(NAME_BYTES)];
        let name = format!("{about}.{:x}.{:x}", raised.at.as_nanosecond(), self.made);
        self.known.insert(content, Known { name: name.clone(), count: 1, last: now });
        Step::Create { name, raised }
    }

    /// Removes entries that are too old or too many, but not on each of thousands of calls.
    fn forget(&mut self, now: Instant) {
        let is_full = self.known.len() >= MOST_KEPT || self.allowances.len() >= MOST_KEPT;
        if !is_full && self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < REFILL) {
            return;
        }
        self.swept = Some(now);
        let fresh = |last: Instant| now.saturating_duration_since(last) < SAME_WITHIN;
        self.known.retain(|_, known| fresh(known.last));
        self.allowances.retain(|_, allowance| allowance.held.is_some() || fresh(allowance.refilled));
        if self.known.len() >= MOST_KEPT {
            self.known.clear();
        }
        if self.allowances.len() >= MOST_KEPT {
            self.allowances.retain(|_, allowance| allowance.held.is_some());
        }
    }
}

impl Subject {
    fn of(raised: &Raised) -> Self {
        let about = raised.regarding.clone();
        Self {
            kind: about.kind,
            namespace: about.namespace,
            name: about.name,
            uid: about.uid,
            reason: raised.reason.clone(),
        }
    }
}

impl Allowance {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::node_reference;

    fn raised(node: &str, reason: &str, note: &str) -> Raised {
        Raised {
            regarding: node_reference(node),
            type_: EventType::Warning,
            reason: reason.to_owned(),
            action: "Pull".to_owned(),
            note: note.to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn count(step: Option<Step>) -> Option<i32> {
        match step? {
            Step::Create { .. } => Some(1),
            Step::Count { count, .. } => Some(count),
        }
    }

    #[test]
    fn only_the_same_thing_about_the_same_object_is_counted_together() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let first = raised("node1", "ImagePullFailed", "w_2026_52: broken pipe");
        assert_eq!(count(ledger.take(first.clone(), now)), Some(1));
        assert_eq!(count(ledger.take(first.clone(), now)), Some(2));
        for other in [
            raised("node1", "ImagePullFailed", "w_2026_53: broken pipe"),
            raised("node1", "ImagePullFailed", "w_2026_52: not found"),
            raised("node2", "ImagePullFailed", "w_2026_52: broken pipe"),
            raised("node1", "ImagesDoNotFit", "w_2026_52: broken pipe"),
            Raised { type_: EventType::Normal, ..first.clone() },
            Raised { action: "Scan".to_owned(), ..first.clone() },
        ] {
            assert_eq!(count(ledger.take(other, now)), Some(1));
        }
        assert_eq!(count(ledger.take(first.clone(), now)), Some(3));
        // After a long time it is a new Event.
        assert_eq!(count(ledger.take(first, now + SAME_WITHIN)), Some(1));
    }

    #[test]
    fn of_too_many_events_the_newest_is_raised_in_the_end() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let notes: Vec<String> = (0..BURST + 50).map(|number| format!("image {number}")).collect();
        let raised_now =
            notes.iter().filter_map(|note| ledger.take(raised("node1", "ImagePullFailed", note), now)).count();
        assert_eq!(raised_now, BURST as usize);
        // Another object has its own allowance.
        assert!(ledger.take(raised("node2", "ImagePullFailed", "x"), now).is_some());
        let due = ledger.next_due().unwrap();
        assert!(ledger.release(now).is_none());
        let step = ledger.release(due).unwrap();
        assert_eq!(Some(&step.raised().note), notes.last());
        assert_eq!((ledger.next_due(), ledger.release(due)), (None, None));
    }

    #[test]
    fn waiting_events_are_raised_before_the_end() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for number in 0..=BURST {
            ledger.take(raised("node1", "ImagePullFailed", &number.to_string()), now);
        }
        assert_eq!(ledger.release_all(now).len(), 1);
        assert_eq!(ledger.release_all(now), []);
    }

    #[test]
    fn memory_is_bounded_and_names_are_valid() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for number in 0..MOST_KEPT + 10 {
            ledger.take(raised(&format!("node{number}"), "ImagePullFailed", "x"), now);
        }
        assert!(ledger.known.len() <= MOST_KEPT && ledger.allowances.len() <= MOST_KEPT);
        let long = "n".repeat(300);
        let step = ledger.take(raised(&long, "ImagePullFailed", "x"), now).unwrap();
        assert!(step.name().len() <= 253);
    }
}
