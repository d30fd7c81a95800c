//! The backoff of all daemons: exponential with jitter, so that many nodes do not retry at once.

use std::time::Duration;

pub use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

/// Retries forever after 1 s, 2 s, 4 s … up to 60 s, with jitter.
pub fn forever() -> ExponentialBuilder {
    few().without_max_times().with_max_delay(Duration::from_secs(60))
}

/// Retries three times, after 1 s, 2 s and 4 s, with jitter.
pub fn few() -> ExponentialBuilder {
    ExponentialBuilder::new().with_jitter().with_min_delay(Duration::from_secs(1)).with_max_times(3)
}

/// The pause after the `failures`th failure in a row, for callers that keep the count themselves: `first`, doubled each
/// time, at most `most`. It has no jitter.
pub fn pause(first: Duration, failures: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_never_end() {
        let delays: Vec<_> = forever().build().take(40).collect();
        assert_eq!(delays.len(), 40);
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(120)));
        assert!(delays[6] > delays[0]);
    }

    #[test]
    fn a_few_tries_are_three() {
        assert_eq!(few().build().count(), 3);
    }

    #[test]
    fn a_pause_doubles_up_to_its_limit() {
        let seconds = |failures| pause(Duration::from_secs(5), failures, Duration::from_secs(60)).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 33, u32::MAX].map(seconds), [5, 5, 10, 20, 40, 60, 60, 60]);
    }
}
