//! Readiness as latches and liveness as pulses, one for each part of a daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// The state of all parts; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    /// Why a part is not ready; `None` for a part that is.
    latches: BTreeMap<&'static str, Option<String>>,
    pulses: BTreeMap<&'static str, (Instant, Duration)>,
}

/// Readiness of one part. It starts as not ready.
#[derive(Debug)]
pub struct Latch {
    health: Health,
    part: &'static str,
}

/// Liveness of one part.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    part: &'static str,
}

impl Health {
    /// A latch for `part`, not ready yet.
    pub fn latch(&self, part: &'static str) -> Latch {
        self.parts().latches.insert(part, Some("not started yet".to_owned()));
        Latch { health: self.clone(), part }
    }

    /// A pulse for `part`, which counts as dead if it has not beaten for `limit`.
    pub fn pulse(&self, part: &'static str, limit: Duration) -> Pulse {
        self.parts().pulses.insert(part, (Instant::now(), limit));
        Pulse { health: self.clone(), part }
    }

    /// `part: reason` for each part that is not ready.
    pub fn not_ready(&self) -> Vec<String> {
        let parts = self.parts();
        parts.latches.iter().filter_map(|(part, why)| why.as_ref().map(|why| format!("{part}: {why}"))).collect()
    }

    /// A sentence for each part whose pulse is overdue at `now`.
    pub fn not_alive(&self, now: Instant) -> Vec<String> {
        let overdue = |(part, (beat, limit)): (&&'static str, &(Instant, Duration))| {
            let silent = now.saturating_duration_since(*beat);
            (silent > *limit).then(|| format!("{part}: no progress for {} s", silent.as_secs()))
        };
        self.parts().pulses.iter().filter_map(overdue).collect()
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        lock(&self.0)
    }
}

impl Latch {
    /// The part is ready.
    pub fn ready(&self) {
        self.health.parts().latches.insert(self.part, None);
    }

    /// The part is not ready, for this reason.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.health.parts().latches.insert(self.part, Some(why.into()));
    }
}

impl Pulse {
    /// The part made progress.
    pub fn beat(&self) {
        if let Some((beat, _)) = self.health.parts().pulses.get_mut(self.part) {
            *beat = Instant::now();
        }
    }
}

impl Drop for Pulse {
    /// A part that ended no longer counts.
    fn drop(&mut self) {
        self.health.parts().pulses.remove(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_not_ready_until_it_reports_it() {
        let health = Health::default();
        let (scan, watch) = (health.latch("scan"), health.latch("watch"));
        watch.ready();
        assert_eq!(health.not_ready(), ["scan: not started yet"]);
        scan.ready();
        watch.not_ready("the API server does not answer");
        assert_eq!(health.not_ready(), ["watch: the API server does not answer"]);
    }

    #[test]
    fn a_pulse_that_stops_is_named() {
        let health = Health::default();
        let pulse = health.pulse("reader", Duration::from_secs(30));
        assert!(health.not_alive(Instant::now()).is_empty());
        let later = Instant::now() + Duration::from_secs(31);
        assert_eq!(health.not_alive(later), ["reader: no progress for 31 s"]);
        drop(pulse);
        assert!(health.not_alive(later).is_empty());
    }
}
