//! Calculates how fast bytes arrive, and when the last one will.

use std::collections::VecDeque;
use std::time::Duration;

/// Older samples do not count.
const WINDOW: Duration = Duration::from_secs(15);

/// A shorter span gives no rate: two bytes in a millisecond are not 2 kB/s.
const SHORTEST_SPAN: Duration = Duration::from_secs(1);

/// The rate over the last 15 seconds, from samples of a counter of bytes.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Adds one sample: `bytes` so far, `at` this time since the start. If the counter falls, the window starts again.
    pub fn add(&mut self, at: Duration, bytes: u64) {
        if self.samples.back().is_some_and(|&(last_at, last)| bytes < last || at < last_at) {
            self.samples.clear();
        }
        self.samples.push_back((at, bytes));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|&(first, _)| at - first > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second; `None` while there are too few samples.
    pub fn bytes_per_second(&self) -> Option<u64> {
        let (&(from, first), &(to, last)) = (self.samples.front()?, self.samples.back()?);
        let span = to.checked_sub(from)?;
        if span < SHORTEST_SPAN {
            return None;
        }
        Some((last.saturating_sub(first) as f64 / span.as_secs_f64()) as u64)
    }

    /// The time until `remaining` more bytes have arrived at this rate; `None` while nothing moves.
    pub fn time_left(&self, remaining: u64) -> Option<Duration> {
        let rate = self.bytes_per_second().filter(|&rate| rate > 0)?;
        Some(Duration::from_secs(remaining.div_ceil(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(samples: &[(u64, u64)]) -> Rate {
        let mut rate = Rate::default();
        for &(seconds, bytes) in samples {
            rate.add(Duration::from_secs(seconds), bytes);
        }
        rate
    }

    #[test]
    fn rate_and_time_left() {
        type Case = (&'static [(u64, u64)], Option<u64>, Option<u64>);
        let table: [Case; 7] = [
            (&[], None, None),
            (&[(0, 0)], None, None),
            (&[(0, 0), (0, 100)], None, None),
            (&[(0, 0), (2, 200)], Some(100), Some(10)),
            (&[(0, 0), (10, 0)], Some(0), None),
            // The fast first minute has left the window.
            (&[(0, 0), (60, 60_000), (70, 60_100), (80, 60_200)], Some(10), Some(100)),
            // A layer that starts again makes the counter fall.
            (&[(0, 0), (5, 5000), (6, 100), (8, 300)], Some(100), Some(10)),
        ];
        for (samples, per_second, left) in table {
            let rate = rate(samples);
            assert_eq!(rate.bytes_per_second(), per_second, "{samples:?}");
            assert_eq!(rate.time_left(1000), left.map(Duration::from_secs), "{samples:?}");
        }
    }

    proptest! {
        #[test]
        fn any_samples_are_accepted_and_memory_is_bounded(samples in prop::collection::vec((0u64..1000, any::<u64>()), 0..200)) {
            let rate = rate(&samples);
            let _ = rate.time_left(u64::MAX);
            prop_assert!(rate.samples.len() <= samples.len());
        }
    }

    #[test]
    fn samples_outside_the_window_are_dropped() {
        let samples: Vec<_> = (0..10_000).map(|second| (second, second)).collect();
        assert!(rate(&samples).samples.len() <= 17);
    }
}
