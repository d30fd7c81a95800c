//! Waiting for something to become true: always with a deadline, never by a fixed sleep.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// For what happens soon on a machine that is not stalled. kubelet pauses up to two minutes before it tries a failed mount
/// again, and a virtual machine may stand still for as long.
pub const LIMIT: Duration = Duration::from_secs(300);

/// How long a part may take to end normally, and the kernel to end and remove what is left of it.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// As [`until`], but less often, for conditions that start a program.
pub fn patiently<T>(limit: Duration, see: impl FnMut() -> Option<T>) -> Option<T> {
    every(10 * POLL, limit, see)
}

/// Calls `see` until it returns something, for at most `limit`. `None` if the limit is exceeded.
pub fn until<T>(limit: Duration, see: impl FnMut() -> Option<T>) -> Option<T> {
    every(POLL, limit, see)
}

fn every<T>(pause: Duration, limit: Duration, mut see: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = see() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(pause);
    }
}
