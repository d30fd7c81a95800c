//! When the next round is due.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The Linux NFS client closes a connection that carried nothing for this long.
pub const CLIENT_IDLE_LIMIT: Duration = Duration::from_secs(300);

/// The largest part of the interval that is added or taken away at random, so that many nodes do not write at once.
const JITTER: f64 = 0.1;

/// The longest interval that stays below [`CLIENT_IDLE_LIMIT`] with its jitter.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(270);

/// The interval with jitter; `chance` is from 0 to 1.
pub fn with_jitter(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
}

/// A random number from 0 to 1, good enough to spread rounds.
pub fn chance() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_is_a_tenth_at_most_and_below_the_clients_limit(seconds in 1_u64..=270, chance in -1.0..2.0) {
            let interval = Duration::from_secs(seconds);
            let next = with_jitter(interval, chance);
            prop_assert!(next >= interval.mul_f64(0.899) && next <= interval.mul_f64(1.101));
            prop_assert!(next < CLIENT_IDLE_LIMIT);
        }
    }

    #[test]
    fn chances_differ() {
        let chances: Vec<_> = (0..20).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|chance| *chance != chances[0]));
    }
}
