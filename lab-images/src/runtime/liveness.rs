//! Whether a pull still moves: a state machine fed with what was seen and when, without a clock of its own.

use std::time::Duration;

/// Growth of the file system below this is noise (logs, other programs), not unpacking.
const LEAST_GROWTH: u64 = 1024 * 1024;

/// No image unpacks to more than this many times its compressed bytes; growth beyond is somebody else's and no sign of life.
const MOST_GROWTH_FACTOR: u64 = 20;

/// Room for the growth of small images, whose files take whole blocks.
const MOST_GROWTH_FLOOR: u64 = 1 << 30;

/// How long a pull may show no sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullLimits {
    /// While bytes are outstanding (`PULL_STALL_TIMEOUT`).
    pub stall: Duration,
    /// After the last byte (`UNPACK_TIMEOUT`).
    pub unpack: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { stall: Duration::from_secs(5 * 60), unpack: Duration::from_secs(30 * 60) }
    }
}

/// What one look at a pull showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Time since the pull began.
    pub at: Duration,
    /// What moved over the network; `None` when the runtime does not tell.
    pub transfer: Option<Moved>,
    /// Bytes used on the file system of images; `None` when it cannot be measured.
    pub used: Option<u64>,
}

/// Bytes of a pull's missing layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Arrived so far.
    pub done: u64,
    /// To arrive; grows while a runtime still finds out.
    pub total: u64,
    /// Layers whose size is not known yet are on their way.
    pub open: bool,
    /// Compressed bytes unpacked so far, where the runtime tells (Docker), else 0.
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

/// The judgement after one observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on waiting.
    Alive,
    /// Bytes are outstanding and none came for this long.
    Stalled(Duration),
    /// All bytes are there and nothing was unpacked for this long.
    UnpackStuck(Duration),
}

/// The state of the judgement of one pull.
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
    /// A pull that begins now (time zero).
    pub fn new(limits: PullLimits) -> Self {
        Self { limits, last_sign: Duration::ZERO, unpacking: false, done: 0, unpacked: 0, used: None, grown: 0 }
    }

    /// Takes one observation and judges.
    pub fn observe(&mut self, seen: Observation) -> Verdict {
        let unpacking = seen.transfer.is_some_and(|moved| !moved.outstanding());
        let arrived = seen.transfer.is_some_and(|moved| moved.done > self.done);
        let unpacked = seen.transfer.is_some_and(|moved| moved.unpacked > self.unpacked);
        let grew = self.grew(&seen);
        // Growth of the file system counts only where no bytes can be seen: a stalled download does not live by a neighbour's
        // writes. Nothing is fetched while what is outstanding is unpacked, or comes in a form that is no layer.
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

    /// Whether the file system grew by more than noise since growth was last seen, and the image can be the cause.
    fn grew(&mut self, seen: &Observation) -> bool {
        let Some(used) = seen.used else { return false };
        // A removal elsewhere lowers what growth is measured from.
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

    /// Bytes are outstanding and nothing is asked of the registry.
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
    fn judgement_by_what_was_seen() {
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
                "growth is no byte",
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
                "what is outstanding comes in another form: it grows",
                vec![bytes(10, 1, 10, 0), quiet(200, 2 * MIB), quiet(490, 4 * MIB), quiet(789, 4 * MIB)],
                alive,
            ),
            (
                "and grows no more",
                vec![bytes(10, 1, 10, 0), quiet(200, 2 * MIB), quiet(490, 4 * MIB), quiet(790, 4 * MIB)],
                stalled(300),
            ),
            (
                "growth before the fetch goes on is no byte",
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
    fn reported_unpacking_is_a_sign_of_life() {
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
            // From here on nothing changes any more; the change of phase itself may count once.
            let still = |at| bytes(at, 100, 100, 0);
            liveness.observe(still(at + 1));
            prop_assert_ne!(liveness.observe(still(at + 1 + 1800)), Verdict::Alive);
        }
    }
}
