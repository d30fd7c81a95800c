//! Decides whether a pull makes progress: a state machine over observations and their times, without a clock.

use std::time::Duration;

/// Smaller growth of the file system is noise (logs, other programs), not unpacking.
const LEAST_GROWTH: u64 = 1024 * 1024;

/// No image unpacks to more than this many times its compressed bytes. Growth beyond that is caused by something else,
/// and does not count.
const MOST_GROWTH_FACTOR: u64 = 20;

/// A minimum of accepted growth, for small images whose files take whole blocks.
const MOST_GROWTH_FLOOR: u64 = 1 << 30;

/// How long a pull may make no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullLimits {
    /// During the download (`PULL_STALL_TIMEOUT`).
    pub stall: Duration,
    /// After the download (`UNPACK_TIMEOUT`).
    pub unpack: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { stall: Duration::from_secs(5 * 60), unpack: Duration::from_secs(30 * 60) }
    }
}

/// An observation of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Time since the pull began.
    pub at: Duration,
    /// The download's progress; `None` if the runtime does not show it.
    pub transfer: Option<Moved>,
    /// Bytes used on the file system of images; `None` if it cannot be measured.
    pub used: Option<u64>,
}

/// Bytes of a pull's missing layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes downloaded so far.
    pub done: u64,
    /// Bytes to download; grows while a runtime still discovers layers.
    pub total: u64,
    /// Whether layers of unknown size are being downloaded.
    pub open: bool,
    /// Compressed bytes unpacked so far, if the runtime shows it (Docker), else 0.
    pub unpacked: u64,
    /// Whether the registry has something to send now.
    pub fetching: bool,
}

impl Moved {
    /// Whether bytes are still to come.
    pub fn outstanding(&self) -> bool {
        self.open || self.done < self.total
    }
}

/// The verdict after one observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Continue to wait.
    Alive,
    /// Bytes are outstanding, and none arrived for this long.
    Stalled(Duration),
    /// All bytes arrived, and nothing was unpacked for this long.
    UnpackStuck(Duration),
}

/// The state for one pull.
#[derive(Clone, Debug)]
pub struct Liveness {
    limits: PullLimits,
    last_sign: Duration,
    unpacking: bool,
    done: u64,
    unpacked: u64,
    used: Option<u64>,
    grown: u64,
}

impl Liveness {
    /// A pull that starts now (time zero).
    pub fn new(limits: PullLimits) -> Self {
        Self { limits, last_sign: Duration::ZERO, unpacking: false, done: 0, unpacked: 0, used: None, grown: 0 }
    }

    /// Processes one observation.
    pub fn observe(&mut self, seen: Observation) -> Verdict {
        let unpacking = seen.transfer.is_some_and(|moved| !moved.outstanding());
        let arrived = seen.transfer.is_some_and(|moved| moved.done > self.done);
        let unpacked = seen.transfer.is_some_and(|moved| moved.unpacked > self.unpacked);
        let grew = self.grew(&seen);
        // Growth of the file system counts only if no bytes can be seen, so that another program's writes do not keep a
        // stalled download alive. Nothing is downloaded while the outstanding content is unpacked, or arrives in a form
        // that is not a layer.
        let by_growth = grew && (unpacking || seen.transfer.is_none_or(|moved| !moved.fetching));
        if arrived || by_growth || (unpacking && (unpacked || !self.unpacking)) {
            self.last_sign = seen.at;
        }
        self.unpacking = unpacking;
        if let Some(moved) = seen.transfer {
            self.done = moved.done;
            self.unpacked = moved.unpacked;
        }
        let idle = seen.at.saturating_sub(self.last_sign);
        match unpacking {
            true if idle >= self.limits.unpack => Verdict::UnpackStuck(idle),
            false if idle >= self.limits.stall => Verdict::Stalled(idle),
            _ => Verdict::Alive,
        }
    }

    /// Whether the file system grew by more than noise since the last growth, and the image can be the cause.
    fn grew(&mut self, seen: &Observation) -> bool {
        let Some(used) = seen.used else { return false };
        // A removal elsewhere lowers the base for growth.
        let base = self.used.map_or(used, |base| base.min(used));
        self.used = Some(base);
        if used - base < LEAST_GROWTH {
            return false;
        }
        self.used = Some(used);
        self.grown = self.grown.saturating_add(used - base);
        let most = seen
            .transfer
            .map_or(u64::MAX, |moved| moved.total.saturating_mul(MOST_GROWTH_FACTOR).saturating_add(MOST_GROWTH_FLOOR));
        self.grown <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: PullLimits = PullLimits { stall: Duration::from_secs(300), unpack: Duration::from_secs(1800) };
    const MIB: u64 = 1024 * 1024;

    fn bytes(at: u64, done: u64, total: u64, used: u64) -> Observation {
        let transfer = Some(Moved { done, total, open: false, unpacked: 0, fetching: true });
        Observation { at: Duration::from_secs(at), transfer, used: Some(used) }
    }

    /// Bytes are outstanding, and nothing is requested from the registry.
    fn quiet(at: u64, used: u64) -> Observation {
        let transfer = Some(Moved { done: 1, total: 10, open: false, unpacked: 0, fetching: false });
        Observation { at: Duration::from_secs(at), transfer, used: Some(used) }
    }

    fn unseen(at: u64, used: u64) -> Observation {
        Observation { at: Duration::from_secs(at), transfer: None, used: Some(used) }
    }

    fn last(observations: &[Observation]) -> Verdict {
        let mut liveness = Liveness::new(LIMITS);
        let (end, before) = observations.split_last().expect("a case has observations");
        for seen in before {
            assert_eq!(liveness.observe(*seen), Verdict::Alive, "{seen:?} in {observations:?}");
        }
        liveness.observe(*end)
    }

    #[test]
    fn judgment_from_observations() {
        let alive = Verdict::Alive;
        let stalled = |idle| Verdict::Stalled(Duration::from_secs(idle));
        let stuck = |idle| Verdict::UnpackStuck(Duration::from_secs(idle));
        let table: Vec<(&str, Vec<Observation>, Verdict)> = vec![
            ("not a byte, just before", vec![bytes(0, 0, 10, 0), bytes(299, 0, 10, 0)], alive),
            ("not a byte", vec![bytes(0, 0, 10, 0), bytes(300, 0, 10, 0)], stalled(300)),
            ("one byte restarts the wait", vec![bytes(200, 1, 10, 0), bytes(499, 1, 10, 0)], alive),
            ("then none", vec![bytes(200, 1, 10, 0), bytes(500, 1, 10, 0)], stalled(300)),
            (
                "hours, but it moves",
                vec![bytes(299, 1, 99, 0), bytes(598, 2, 99, 0), bytes(897, 3, 99, 0), bytes(1196, 4, 99, 0)],
                alive,
            ),
            (
                "a layer starts again and moves",
                vec![bytes(200, 50, 99, 0), bytes(400, 0, 99, 0), bytes(450, 10, 99, 0), bytes(749, 10, 99, 0)],
                alive,
            ),
            (
                "growth is not a byte",
                vec![bytes(10, 1, 10, 0), bytes(200, 1, 10, 900 * MIB), bytes(310, 1, 10, 950 * MIB)],
                stalled(300),
            ),
            ("the unpack limit counts from the last byte", vec![bytes(299, 10, 10, 0), bytes(2098, 10, 10, 0)], alive),
            ("never unpacks", vec![bytes(299, 10, 10, 0), bytes(2099, 10, 10, 0)], stuck(1800)),
            (
                "unpacks slowly",
                vec![bytes(1, 10, 10, 0), bytes(1700, 10, 10, 2 * MIB), bytes(3400, 10, 10, 4 * MIB)],
                alive,
            ),
            ("noise is no unpacking", vec![bytes(1, 10, 10, 0), bytes(1801, 10, 10, MIB - 1)], stuck(1800)),
            (
                "growth counts from where a removal left the disk",
                vec![
                    bytes(1, 10, 10, 90 * MIB),
                    bytes(100, 10, 10, 0),
                    bytes(1700, 10, 10, 5 * MIB),
                    bytes(3400, 10, 10, 5 * MIB),
                ],
                alive,
            ),
            (
                "more growth than the image can be",
                vec![bytes(1, 10, 10, 0), bytes(1000, 10, 10, 2048 * MIB), bytes(1801, 10, 10, 4096 * MIB)],
                stuck(1800),
            ),
            ("all was there", vec![bytes(0, 0, 0, 0), bytes(1799, 0, 0, 0)], alive),
            ("all was there, then nothing", vec![bytes(0, 0, 0, 0), bytes(1800, 0, 0, 0)], stuck(1800)),
            (
                "outstanding content arrives in another form: it grows",
                vec![bytes(10, 1, 10, 0), quiet(200, 2 * MIB), quiet(490, 4 * MIB), quiet(789, 4 * MIB)],
                alive,
            ),
            (
                "and grows no more",
                vec![bytes(10, 1, 10, 0), quiet(200, 2 * MIB), quiet(490, 4 * MIB), quiet(790, 4 * MIB)],
                stalled(300),
            ),
            (
                "growth before the fetch continues is not a byte",
                vec![bytes(10, 1, 10, 0), quiet(200, 2 * MIB), bytes(400, 1, 10, 4 * MIB), bytes(500, 1, 10, 6 * MIB)],
                stalled(300),
            ),
            ("bytes unseen, growth", vec![unseen(0, 0), unseen(299, 2 * MIB), unseen(598, 4 * MIB)], alive),
            ("bytes unseen, no growth", vec![unseen(0, 0), unseen(300, 10)], stalled(300)),
        ];
        for (case, observations, verdict) in table {
            assert_eq!(last(&observations), verdict, "{case}");
        }
    }

    #[test]
    fn a_size_not_yet_known_is_outstanding() {
        let mut liveness = Liveness::new(LIMITS);
        let transfer = Some(Moved { done: 0, total: 0, open: true, unpacked: 0, fetching: true });
        let seen = Observation { at: LIMITS.stall, transfer, used: None };
        assert_eq!(liveness.observe(seen), Verdict::Stalled(LIMITS.stall));
    }

    #[test]
    fn reported_unpacking_is_progress() {
        let mut liveness = Liveness::new(LIMITS);
        for step in 0..10 {
            let transfer = Some(Moved { done: 10, total: 10, open: false, unpacked: step, fetching: true });
            let seen =
                Observation { at: LIMITS.unpack * u32::try_from(step).unwrap() - Duration::ZERO, transfer, used: None };
            let seen = Observation { at: seen.at.saturating_sub(Duration::from_secs(step)), ..seen };
            assert_eq!(liveness.observe(seen), Verdict::Alive, "{step}");
        }
    }

    proptest! {
        #[test]
        fn a_pull_that_shows_nothing_ends_within_its_limits(
            steps in prop::collection::vec((1u64..400, any::<bool>(), 0u64..100, 0u64..1 << 40), 1..100),
        ) {
            let mut liveness = Liveness::new(LIMITS);
            let mut at = 0;
            for (wait, known, done, used) in steps {
                at += wait;
                let transfer = known.then_some(Moved { done, total: 100, open: false, unpacked: 0, fetching: true });
                liveness.observe(Observation { at: Duration::from_secs(at), transfer, used: Some(used) });
            }
            // From here on nothing changes; the change of phase itself may count once.
            let still = |at| bytes(at, 100, 100, 0);
            liveness.observe(still(at + 1));
            prop_assert_ne!(liveness.observe(still(at + 1 + 1800)), Verdict::Alive);
        }
    }
}
