//! Ends `run --until-idle` if not everything can be shipped: a broker that is down or refuses messages is waited for no
//! longer than `--give-up-after`.

use std::time::{Duration, Instant};

/// Counters that grow while there is progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from log files.
    pub read: u64,
    /// Messages that were confirmed or given up.
    pub settled: u64,
    /// Whether the first scan of all folders has ended.
    pub looked: bool,
}

/// Waits for progress, up to a limit.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    last: Progress,
    since: Instant,
}

impl Patience {
    /// A wait of at most `limit` without progress, from `now` on.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, last: Progress::default(), since: now }
    }

    /// Whether there was no progress for too long. If events wait for a `reader` of standard output, there is no limit:
    /// a pager may be left open overnight.
    pub fn is_over(&mut self, progress: Progress, reader: bool, now: Instant) -> bool {
        if progress != self.last || reader {
            (self.last, self.since) = (progress, now);
        }
        now.saturating_duration_since(self.since) >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_without_progress_and_starts_again_with_it() {
        let (start, limit) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(limit, start);
        let mut progress = Progress::default();
        assert!(!patience.is_over(progress, false, at(9)));
        progress.looked = true;
        assert!(!patience.is_over(progress, false, at(10)));
        progress.read = 5;
        assert!(!patience.is_over(progress, false, at(19)));
        progress.settled = 1;
        assert!(!patience.is_over(progress, false, at(28)));
        assert!(!patience.is_over(progress, false, at(37)));
        assert!(patience.is_over(progress, false, at(38)));
        assert!(!patience.is_over(progress, true, at(60)));
        assert!(!patience.is_over(progress, false, at(69)));
        assert!(patience.is_over(progress, false, at(70)));
    }
}
