//! Decides when a status is written. Pure.
//!
//! A change of state (an image is being pulled, is present or has failed; new orders; the runtime disappears) is
//! written at once, progress every ten seconds, and an unchanged status every five minutes as a heartbeat. After
//! failed writes the attempts become less frequent.
//!
//! One budget bounds all writes: each costs `INTERVAL`, and at most `STATE_CREDIT` is spent in advance. So a node
//! writes once in ten seconds on average, whatever its images do, and six times more in a burst: 5,000 nodes that all
//! pull make 500 writes a second.

use std::time::{Duration, Instant};

use lab_images::reference::{Digest, Reference};
use sidecar::retry;

use crate::node_images::{ImageReport, NodeImagesStatus, PullState, REPORT_INTERVAL};

/// The time between two statuses that differ only in progress, and the cost of each write.
const INTERVAL: Duration = Duration::from_secs(10);

/// The shortest time between two statuses of one node. Changes in between are written together.
const COALESCE: Duration = Duration::from_secs(1);

/// How much of the budget changes of state may spend in advance.
const STATE_CREDIT: Duration = Duration::from_secs(60);

/// How much of the budget progress may spend in advance. The rest is for changes of state.
const PROGRESS_CREDIT: Duration = Duration::from_secs(20);

/// The longest time between two tries if writes fail.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What to do with a status now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write it.
    Write,
    /// Do not write before this time.
    WaitUntil(Instant),
}

/// What was written last, and when the next write is allowed.
#[derive(Debug, Default)]
pub(super) struct StatusThrottle {
    last: Option<Written>,
    /// When the first try after a failure is allowed.
    retry: Option<Instant>,
    failures: u32,
}

#[derive(Debug)]
struct Written {
    uid: String,
    status: NodeImagesStatus,
    at: Instant,
    /// When the status is written again although nothing changed.
    again: Instant,
    /// The time up to which the writes so far have used the budget.
    paid: Instant,
}

impl StatusThrottle {
    /// Decides about the status of the object with this UID. A recreated object has no status yet.
    pub(super) fn next(&self, uid: &str, status: &NodeImagesStatus, now: Instant) -> Next {
        let due = self.last.as_ref().map(|last| {
            // If the clock started a moment ago, there is no earlier time to subtract to; the budget is unused then.
            let solvent = |credit| last.paid.checked_sub(credit).unwrap_or(last.at);
            if last.uid != uid || !same_state(&last.status, status) {
                (last.at + COALESCE).max(solvent(STATE_CREDIT))
            } else if !same(&last.status, status) {
                (last.at + INTERVAL).max(solvent(PROGRESS_CREDIT))
            } else {
                last.again
            }
        });
        match due.max(self.retry) {
            Some(moment) if moment > now => Next::WaitUntil(moment),
            _ => Next::Write,
        }
    }

    /// The status was written. `jitter` in [0, 1) spreads the heartbeats of many nodes.
    pub(super) fn written(&mut self, uid: String, status: NodeImagesStatus, now: Instant, jitter: f64) {
        let again = now + REPORT_INTERVAL.mul_f64(1.0 - jitter / 5.0);
        let paid = self.last.as_ref().map_or(now, |last| last.paid.max(now)) + INTERVAL;
        *self = Self { last: Some(Written { uid, status, at: now, again, paid }), retry: None, failures: 0 };
    }

    /// The status could not be written. `jitter` in [0, 1) spreads the tries of many nodes.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let delay = retry::pause(INTERVAL, self.failures, LONGEST_RETRY);
        self.retry = Some(now + delay.mul_f64(1.0 + jitter / 2.0));
    }
}

/// Whether two statuses look the same to a person: a disk usage that changes by less than a percent does not count.
fn same(written: &NodeImagesStatus, status: &NodeImagesStatus) -> bool {
    let as_written = |status: &NodeImagesStatus| NodeImagesStatus { disk: written.disk, ..status.clone() };
    let used = |status: &NodeImagesStatus| {
        status.disk.map(|disk| (disk.total, disk.high, u128::from(disk.used) * 100 / u128::from(disk.total.max(1))))
    };
    used(written) == used(status) && *written == as_written(status)
}

/// Whether two statuses are equal in everything that the planner decides by or an operator waits for.
fn same_state(written: &NodeImagesStatus, status: &NodeImagesStatus) -> bool {
    fn image(report: &ImageReport) -> (&Reference, Option<&Digest>, PullState, u32) {
        let state = match report.state {
            // Both are progress of one pull.
            PullState::Unpacking => PullState::Downloading,
            state => state,
        };
        (&report.image, report.digest.as_ref(), state, report.failures)
    }
    let kinds = |status: &NodeImagesStatus| status.conditions.iter().map(|one| one.kind.clone()).collect::<Vec<_>>();
    written.observed_generation == status.observed_generation
        && kinds(written) == kinds(status)
        && written.images.iter().map(image).eq(status.images.iter().map(image))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::node_images::{Condition, Disk, RUNTIME_UNAVAILABLE};

    const SECOND: Duration = Duration::from_secs(1);

    fn status(state: PullState, done: u64, used: u64) -> NodeImagesStatus {
        let disk = Some(Disk { total: 1000, used, high: 75 });
        let image = "r.example.org/lab:w_2026_47".parse().unwrap();
        let (total, since) = (1000, Timestamp::UNIX_EPOCH);
        let (digest, rate, eta_seconds, failures, error) = (None, None, None, 0, None);
        let images = vec![ImageReport { image, digest, state, done, total, rate, eta_seconds, failures, error, since }];
        NodeImagesStatus { disk, images, ..NodeImagesStatus::default() }
    }

    fn pulling(done: u64) -> NodeImagesStatus {
        status(PullState::Downloading, done, 0)
    }

    fn present(used: u64) -> NodeImagesStatus {
        status(PullState::Present, 1000, used)
    }

    #[test]
    fn the_first_is_written_at_once_and_the_same_again_as_a_heartbeat() {
        let (mut throttle, now) = (StatusThrottle::default(), Instant::now());
        assert_eq!(throttle.next("a", &present(0), now), Next::Write);
        throttle.written("a".into(), present(0), now, 0.0);
        let later = now + Duration::from_secs(200);
        assert_eq!(throttle.next("a", &present(9), later), Next::WaitUntil(now + REPORT_INTERVAL));
        assert_eq!(throttle.next("a", &present(10), later), Next::Write);
        assert_eq!(throttle.next("a", &pulling(0), later), Next::Write);
        assert_eq!(throttle.next("a", &present(0), now + REPORT_INTERVAL), Next::Write);
        // An agent that cannot write its heartbeat tries again before it counts as silent.
        throttle.failed(now + REPORT_INTERVAL, 0.0);
        assert_eq!(throttle.next("a", &present(0), now + REPORT_INTERVAL + INTERVAL), Next::Write);
        throttle.written("a".into(), present(0), now, 0.9);
        let Next::WaitUntil(spread) = throttle.next("a", &present(0), now) else { panic!("it was written") };
        assert!(spread < now + REPORT_INTERVAL && spread > now + REPORT_INTERVAL / 2);
    }

    #[test]
    fn a_state_is_written_within_a_second_and_progress_every_ten() {
        let (mut throttle, now) = (StatusThrottle::default(), Instant::now());
        throttle.written("a".into(), pulling(1), now, 0.0);
        let next = |status: &NodeImagesStatus| throttle.next("a", status, now);
        assert_eq!(next(&pulling(2)), Next::WaitUntil(now + INTERVAL));
        assert_eq!(next(&status(PullState::Unpacking, 1000, 0)), Next::WaitUntil(now + INTERVAL));
        let mut failed_again = pulling(1);
        failed_again.images[0].failures = 1;
        let runtime_is_gone = Condition {
            kind: RUNTIME_UNAVAILABLE.into(),
            status: "True".into(),
            reason: "RuntimeDoesNotAnswer".into(),
            message: "nobody listens".into(),
            last_transition_time: Timestamp::UNIX_EPOCH,
        };
        for state in [
            present(0),
            status(PullState::Failed, 1, 0),
            failed_again,
            NodeImagesStatus { images: Vec::new(), ..pulling(1) },
            NodeImagesStatus { observed_generation: 2, ..pulling(1) },
            NodeImagesStatus { conditions: vec![runtime_is_gone], ..pulling(1) },
        ] {
            assert_eq!(next(&state), Next::WaitUntil(now + COALESCE), "{state:?}");
            assert_eq!(throttle.next("a", &state, now + COALESCE), Next::Write, "{state:?}");
        }
    }

    #[test]
    fn a_recreated_object_is_written_again() {
        let (mut throttle, now) = (StatusThrottle::default(), Instant::now());
        throttle.written("a".into(), present(0), now, 0.0);
        assert_eq!(throttle.next("b", &present(0), now + COALESCE), Next::Write);
    }

    #[test]
    fn progress_leaves_room_for_a_state() {
        let (mut throttle, mut now) = (StatusThrottle::default(), Instant::now());
        for done in 0..100 {
            if throttle.next("a", &pulling(done), now) == Next::Write {
                throttle.written("a".into(), pulling(done), now, 0.0);
            }
            now += SECOND;
        }
        assert_eq!(throttle.next("a", &present(0), now), Next::Write);
    }

    #[test]
    fn failures_are_retried_less_and_less_often() {
        let (mut throttle, mut now) = (StatusThrottle::default(), Instant::now());
        for seconds in [10, 20, 40, 60, 60] {
            throttle.failed(now, 0.0);
            let then = now + Duration::from_secs(seconds);
            assert_eq!(throttle.next("a", &present(0), now), Next::WaitUntil(then));
            now = then;
            assert_eq!(throttle.next("a", &present(0), now), Next::Write);
        }
    }

    #[test]
    fn a_node_whose_images_flap_writes_once_in_ten_seconds() {
        let (mut throttle, mut now, mut writes) = (StatusThrottle::default(), Instant::now(), 0);
        for turn in 0..36_000 {
            let flaps = if turn % 2 == 0 { pulling(turn) } else { status(PullState::Failed, turn, 0) };
            if throttle.next("a", &flaps, now) == Next::Write {
                throttle.written("a".into(), flaps, now, 0.0);
                writes += 1;
            }
            now += Duration::from_millis(100);
        }
        assert!((360..=367).contains(&writes), "{writes} in an hour");
    }

    proptest! {
        /// Whatever happens at whatever time, no period has more writes than its share plus one burst, and the last
        /// status is always written.
        #[test]
        fn never_more_often_than_the_budget_allows(
            steps in proptest::collection::vec((0_u64..5_000, 0_u8..3, 0_u64..3), 1..120)
        ) {
            let (mut throttle, mut now) = (StatusThrottle::default(), Instant::now());
            let mut times: Vec<Instant> = Vec::new();
            let mut last = present(0);
            let states = [PullState::Downloading, PullState::Failed, PullState::Present];
            for (milliseconds, state, done) in steps {
                now += Duration::from_millis(milliseconds);
                last = status(states[usize::from(state)], done, 0);
                if throttle.next("a", &last, now) == Next::Write {
                    throttle.written("a".into(), last.clone(), now, 0.0);
                    times.push(now);
                }
            }
            if let Next::WaitUntil(then) = throttle.next("a", &last, now) && then < now + 2 * STATE_CREDIT {
                prop_assert_eq!(throttle.next("a", &last, then), Next::Write);
                throttle.written("a".into(), last.clone(), then, 0.0);
                times.push(then);
                now = then;
            }
            // The status is written, and not again before the next heartbeat.
            let is_quiet = matches!(throttle.next("a", &last, now), Next::WaitUntil(then) if then > now + 2 * STATE_CREDIT);
            prop_assert!(is_quiet);
            for (first, begin) in times.iter().enumerate() {
                for (second, end) in times.iter().enumerate().skip(first + 1) {
                    let (count, time) = (u32::try_from(second - first).unwrap(), *end - *begin);
                    prop_assert!(time >= COALESCE);
                    prop_assert!(INTERVAL * count <= time + STATE_CREDIT + INTERVAL, "{count} after the first in {time:?}");
                }
            }
        }
    }
}
