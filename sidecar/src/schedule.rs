//! Intervals with jitter, so that many nodes do not act at the same moment.

use std::time::Duration;

/// The largest part of an interval that is added or subtracted.
const JITTER: f64 = 0.1;

/// A random number in [0, 1), good enough to spread many nodes.
pub fn random() -> f64 {
    fastrand::f64()
}

/// The interval plus or minus up to a tenth.
pub fn with_jitter(interval: Duration) -> Duration {
    jittered(interval, random())
}

fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_is_a_tenth_at_most(seconds in 1_u64..=100_000, random in 0.0..1.0) {
            let interval = Duration::from_secs(seconds);
            let next = jittered(interval, random);
            prop_assert!(next >= interval.mul_f64(0.899) && next <= interval.mul_f64(1.101), "{next:?}");
        }
    }

    #[test]
    fn two_nodes_act_at_different_moments() {
        let interval = Duration::from_secs(900);
        let moments: Vec<_> = (0..20).map(|_| with_jitter(interval)).collect();
        assert!(moments.iter().any(|moment| *moment != moments[0]));
    }
}
