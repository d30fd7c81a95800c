//! When a status is told: on change, not more often than every ten seconds, and every five minutes anyway, as a sign of life; after a
//! failure ever more seldom. Pure.

use std::time::{Duration, Instant};

use sidecar::retry;

use crate::node_images::{NodeImagesStatus, REPORT_INTERVAL};

/// Between two statuses of one node.
const INTERVAL: Duration = Duration::from_secs(10);

/// Between two tries, when they fail.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What to do with a status now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Tell it.
    Tell,
    /// Not before this moment.
    WaitUntil(Instant),
}

/// What was told last, and from when on the next may be.
#[derive(Debug, Default)]
pub(super) struct StatusThrottle {
    told: Option<(String, NodeImagesStatus)>,
    /// When it is told again although nothing changed.
    again: Option<Instant>,
    not_before: Option<Instant>,
    failures: u32,
}

impl StatusThrottle {
    /// Decides over the status of the object with this uid: an object made anew was never told anything.
    pub(super) fn next(&self, uid: &str, status: &NodeImagesStatus, now: Instant) -> Next {
        let is_told = self.told.as_ref().is_some_and(|(object, told)| object == uid && same(told, status));
        match if is_told { self.again.max(self.not_before) } else { self.not_before } {
            Some(moment) if moment > now => Next::WaitUntil(moment),
            _ => Next::Tell,
        }
    }

    /// It was told. `jitter` in [0, 1) spreads the signs of life of many nodes.
    pub(super) fn told(&mut self, uid: String, status: NodeImagesStatus, now: Instant, jitter: f64) {
        let again = now + REPORT_INTERVAL.mul_f64(1.0 - jitter / 5.0);
        *self = Self { told: Some((uid, status)), again: Some(again), not_before: Some(now + INTERVAL), failures: 0 };
    }

    /// It could not be told. `jitter` in [0, 1) spreads the tries of many nodes.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let delay = retry::pause(INTERVAL, self.failures, LONGEST_RETRY);
        self.not_before = Some(now + delay.mul_f64(1.0 + jitter / 2.0));
    }
}

/// Whether two statuses say the same to a person: a disk that moves by less than a percent of itself is no news.
fn same(told: &NodeImagesStatus, status: &NodeImagesStatus) -> bool {
    let as_told = |status: &NodeImagesStatus| NodeImagesStatus { disk: told.disk, ..status.clone() };
    let used = |status: &NodeImagesStatus| {
        status.disk.map(|disk| (disk.total, disk.high, u128::from(disk.used) * 100 / u128::from(disk.total.max(1))))
    };
    used(told) == used(status) && *told == as_told(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node_images::Disk;

    fn status(present: u32, used: u64) -> NodeImagesStatus {
        let disk = Some(Disk { total: 1000, used, high: 75 });
        NodeImagesStatus { present, disk, ..NodeImagesStatus::default() }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_same_as_a_sign_of_life() {
        let (mut throttle, now) = (StatusThrottle::default(), Instant::now());
        assert_eq!(throttle.next("a", &status(1, 0), now), Next::Tell);
        throttle.told("a".into(), status(1, 0), now, 0.0);
        let later = now + Duration::from_secs(200);
        assert_eq!(throttle.next("a", &status(1, 9), later), Next::WaitUntil(now + REPORT_INTERVAL));
        assert_eq!(throttle.next("a", &status(1, 10), later), Next::Tell);
        assert_eq!(throttle.next("a", &status(2, 0), later), Next::Tell);
        assert_eq!(throttle.next("a", &status(1, 0), now + REPORT_INTERVAL), Next::Tell);
        // An agent whose sign of life can't be written tries again before anybody takes it for silent.
        throttle.failed(now + REPORT_INTERVAL, 0.0);
        assert_eq!(throttle.next("a", &status(1, 0), now + REPORT_INTERVAL + INTERVAL), Next::Tell);
        throttle.told("a".into(), status(1, 0), now, 0.9);
        let Next::WaitUntil(spread) = throttle.next("a", &status(1, 0), now) else { panic!("it was told") };
        assert!(spread < now + REPORT_INTERVAL && spread > now + REPORT_INTERVAL / 2);
    }

    #[test]
    fn an_object_made_anew_is_told_again() {
        let (mut throttle, now) = (StatusThrottle::default(), Instant::now());
        throttle.told("a".into(), status(1, 0), now, 0.0);
        assert_eq!(throttle.next("b", &status(1, 0), now + INTERVAL), Next::Tell);
    }

    #[test]
    fn failures_are_tried_again_ever_more_seldom() {
        let (mut throttle, mut now) = (StatusThrottle::default(), Instant::now());
        for seconds in [10, 20, 40, 60, 60] {
            throttle.failed(now, 0.0);
            let then = now + Duration::from_secs(seconds);
            assert_eq!(throttle.next("a", &status(1, 0), now), Next::WaitUntil(then));
            now = then;
            assert_eq!(throttle.next("a", &status(1, 0), now), Next::Tell);
        }
    }

    proptest! {
        /// Whatever comes when, two statuses are ten seconds apart, and the last one is told in the end.
        #[test]
        fn never_more_often_than_every_ten_seconds(steps in proptest::collection::vec((0_u64..5_000, 0_u32..3), 1..60)) {
            let (mut throttle, mut now) = (StatusThrottle::default(), Instant::now());
            let mut told: Option<Instant> = None;
            let mut tell = |throttle: &mut StatusThrottle, status: NodeImagesStatus, now: Instant| {
                if let Some(before) = told.replace(now) {
                    assert!(now - before >= INTERVAL);
                }
                throttle.told("a".into(), status, now, 0.0);
            };
            let mut last = 0;
            for (milliseconds, present) in steps {
                now += Duration::from_millis(milliseconds);
                last = present;
                if throttle.next("a", &status(last, 0), now) == Next::Tell {
                    tell(&mut throttle, status(last, 0), now);
                }
            }
            if let Next::WaitUntil(then) = throttle.next("a", &status(last, 0), now) {
                prop_assert_eq!(throttle.next("a", &status(last, 0), then), Next::Tell);
                tell(&mut throttle, status(last, 0), then);
                now = then;
            }
            prop_assert_eq!(throttle.next("a", &status(last, 0), now), Next::WaitUntil(now + REPORT_INTERVAL));
        }
    }
}
