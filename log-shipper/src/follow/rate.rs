//! `LINES_PER_SECOND`: drops lines that a container writes faster than that.

use std::time::{Duration, Instant};

/// How often drops of one container are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The length of RFC 3339 from year to second.
const TO_SECOND: usize = 19;

/// Counts the lines of one container. A line is dropped only if its container wrote too many lines in the second of its
/// time stamp, and too many were read in the current second as well. So a backlog is not too many lines, nor are the
/// lines of a container whose clock stopped.
#[derive(Debug)]
pub(super) struct Rate {
    written: (Vec<u8>, u32),
    read: (Instant, u32),
    left_out: u64,
    logged: Option<Instant>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { written: (Vec::new(), 0), read: (now, 0), left_out: 0, logged: None }
    }

    /// Counts a line that was written at `time`; `false` if it must be dropped.
    pub(super) fn takes(&mut self, time: Option<&str>, now: Instant, limit: u32) -> bool {
        let second = time.map_or(&b""[..], |time| &time.as_bytes()[..time.len().min(TO_SECOND)]);
        if self.written.0 != second {
            self.written.0.clear();
            self.written.0.extend_from_slice(second);
            self.written.1 = 0;
        }
        if now.saturating_duration_since(self.read.0) >= Duration::from_secs(1) {
            self.read = (now, 0);
        }
        let takes = self.written.1 < limit || self.read.1 < limit;
        if takes {
            self.written.1 = self.written.1.saturating_add(1);
            self.read.1 = self.read.1.saturating_add(1);
        } else {
            self.left_out += 1;
        }
        takes
    }

    /// How many lines were dropped, if it is time to log that.
    pub(super) fn take_unlogged(&mut self, now: Instant) -> Option<u64> {
        let due = self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL);
        if self.left_out == 0 || !due {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(rate: &mut Rate, lines: u32, time: &str, now: Instant) -> usize {
        (0..lines).filter(|_| rate.takes(Some(time), now, 10)).count()
    }

    #[test]
    fn a_burst_is_cut_off_and_logged_once_a_minute() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        assert_eq!(taken(&mut rate, 1000, "2026-11-22T10:00:00.5Z", now), 10);
        assert_eq!((rate.take_unlogged(now), rate.take_unlogged(now)), (Some(990), None));
        assert_eq!(taken(&mut rate, 20, "2026-11-22T10:00:01.5Z", now + SECOND), 10);
        assert_eq!((rate.take_unlogged(now + SECOND), rate.take_unlogged(now + 60 * SECOND)), (None, Some(10)));
    }

    #[test]
    fn delayed_lines_and_lines_of_a_stopped_clock_are_not_too_many() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        for second in 0..60 {
            assert_eq!(taken(&mut rate, 5, &format!("2026-11-22T10:00:{second:02}Z"), now), 5);
        }
        let mut rate = Rate::new(now);
        for second in 0..60 {
            assert_eq!(taken(&mut rate, 5, "2026-11-22T10:00:00Z", now + second * SECOND), 5);
        }
    }
}
