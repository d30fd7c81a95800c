//! How long a node is skipped after the API server refused a write for it: longer each time, while all other nodes
//! continue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(5);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(300);

/// The nodes that are skipped.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<Arc<str>, Pause>);

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Pauses {
    /// Whether a write for `node` may be tried now.
    pub(super) fn may_try(&self, node: &str, now: Instant) -> bool {
        self.0.get(node).is_none_or(|pause| pause.until <= now)
    }

    /// A write for `node` was refused.
    pub(super) fn refused(&mut self, node: &Arc<str>, now: Instant) {
        let length = self.0.get(node).map_or(FIRST, |pause| (pause.length * 2).min(LONGEST));
        self.0.insert(node.clone(), Pause { length, until: now + length });
    }

    /// A write for `node` succeeded.
    pub(super) fn done(&mut self, node: &str) {
        self.0.remove(node);
    }

    /// When the next pause ends after `now`. Forgets nodes whose pause ended long ago.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        self.0.retain(|_, pause| now.saturating_duration_since(pause.until) < LONGEST);
        self.0.values().map(|pause| pause.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_end_with_success() {
        let (mut pauses, node, mut now) = (Pauses::default(), Arc::<str>::from("node1"), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..9 {
            pauses.refused(&node, now);
            assert!(!pauses.may_try("node1", now) && pauses.may_try("node2", now));
            let next = pauses.next(now).unwrap();
            lengths.push((next - now).as_secs());
            now = next;
            assert!(pauses.may_try("node1", now));
        }
        assert_eq!(lengths, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        pauses.done("node1");
        pauses.refused(&node, now);
        assert_eq!(pauses.next(now), Some(now + FIRST));
        assert_eq!(pauses.next(now + LONGEST * 3), None);
        assert!(pauses.0.is_empty());
    }
}
