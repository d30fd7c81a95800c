//! Waiting for something to become true: always with a deadline, never by a fixed sleep.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub const POLL: Duration = Duration::from_millis(20);

/// Asks `see` until it answers, for at most `limit`. `None` when the time is over.
pub fn until<T>(limit: Duration, mut see: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = see() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(POLL);
    }
}
