//! Limits how often one server is probed from here, however many of its exports are checked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use sidecar::sync::lock;
use tokio::time::Instant;

use crate::server::{Host, Server};

/// The shortest time between the starts of two rounds of one server.
const GAP: Duration = Duration::from_millis(100);

/// When each server may be probed next.
#[derive(Debug, Default)]
pub struct RateLimiter(Mutex<HashMap<(Host, u16), Instant>>);

impl RateLimiter {
    /// When a round of `server` that would start `now` may start.
    pub fn next_start(&self, server: &Server, now: Instant) -> Instant {
        let mut next = lock(&self.0);
        next.retain(|_, at| *at > now);
        let free = next.entry((server.host.clone(), server.port)).or_insert(now);
        let next_start = *free;
        *free += GAP;
        next_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_server_follow_each_other_and_no_other_waits() {
        let (limiter, now) = (RateLimiter::default(), Instant::now());
        let [home, data, other] = ["a/home", "a/data", "a:2050/home"].map(|text| text.parse::<Server>().unwrap());
        assert_eq!(limiter.next_start(&home, now), now);
        assert_eq!(limiter.next_start(&data, now), now + GAP);
        assert_eq!(limiter.next_start(&other, now), now);
        assert_eq!(limiter.next_start(&home, now + GAP), now + 2 * GAP);
        let later = now + 9 * GAP;
        assert_eq!(limiter.next_start(&home, later), later, "time that was not used is not saved up");
        assert_eq!(limiter.0.lock().unwrap().len(), 1);
    }
}
