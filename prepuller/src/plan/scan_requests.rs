//! Decides when a requested scan begins: at once, or when the last one ended long enough ago.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sidecar::sync::lock;
use tokio::sync::Notify;
use tokio::time::sleep_until;

/// The shortest time between the end of a scan and the beginning of a requested one. Any client that reaches the planner
/// may request scans.
pub(super) const LEAST_PAUSE: Duration = Duration::from_secs(30);

/// The requests for scans, and the last scan. Several requests at once are one.
#[derive(Debug, Default)]
pub(super) struct ScanRequests {
    asked: Notify,
    scan: Mutex<Scan>,
}

/// The state of the last scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Scan {
    /// There was no scan yet.
    #[default]
    Never,
    Runs,
    EndedAt(Instant),
}

/// When a requested scan begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begins {
    /// Now.
    Now,
    /// This long after the running one.
    AfterThisOne(Duration),
    /// After this time.
    In(Duration),
}

impl ScanRequests {
    /// Requests a scan. A request is never lost, at most delayed.
    pub(super) fn ask(&self, now: Instant) -> Begins {
        self.asked.notify_one();
        match *self.scan() {
            // The first scan begins as soon as the cluster answers.
            Scan::Never => Begins::Now,
            Scan::Runs => Begins::AfterThisOne(LEAST_PAUSE),
            Scan::EndedAt(ended) => match LEAST_PAUSE.saturating_sub(now.saturating_duration_since(ended)) {
                Duration::ZERO => Begins::Now,
                pause => Begins::In(pause),
            },
        }
    }

    /// A scan begins.
    pub(super) fn scan_begins(&self) {
        *self.scan() = Scan::Runs;
    }

    /// A scan ended, well or not.
    pub(super) fn scan_ended(&self, now: Instant) {
        *self.scan() = Scan::EndedAt(now);
    }

    /// Waits until a scan is requested and allowed.
    pub(super) async fn due(&self) {
        self.asked.notified().await;
        let scan = *self.scan();
        if let Scan::EndedAt(ended) = scan {
            sleep_until((ended + LEAST_PAUSE).into()).await;
        }
    }

    fn scan(&self) -> MutexGuard<'_, Scan> {
        lock(&self.scan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn requested_scans_keep_a_minimum_distance_and_none_is_forgotten() {
        let asked = ScanRequests::default();
        let now = || tokio::time::Instant::now().into_std();
        assert_eq!(asked.ask(now()), Begins::Now);
        asked.due().await;
        asked.scan_begins();
        assert_eq!(asked.ask(now()), Begins::AfterThisOne(LEAST_PAUSE));
        asked.scan_ended(now());
        let ended = now();
        for _ in 0..100 {
            assert_eq!(asked.ask(now()), Begins::In(LEAST_PAUSE));
        }
        asked.due().await;
        assert_eq!(now() - ended, LEAST_PAUSE);
        // A hundred requests are one.
        asked.scan_begins();
        asked.scan_ended(now());
        assert!(timeout(Duration::from_secs(1000), asked.due()).await.is_err());
        assert_eq!(asked.ask(now()), Begins::Now);
    }
}
