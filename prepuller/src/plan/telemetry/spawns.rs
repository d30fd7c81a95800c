//! Metrics of labs that started.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use sidecar::metrics::Metrics;

use crate::plan::spawns::{Found, Spawn};

/// Upper bounds in seconds: from a lab whose image is present to one that waits for a large image.
const SECONDS: [f64; 13] = [1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct FoundLabel {
    image: &'static str,
}

impl From<Found> for FoundLabel {
    fn from(found: Found) -> Self {
        Self { image: found.as_str() }
    }
}

/// Labs by whether they found their image, and their start times.
#[derive(Debug)]
pub(super) struct SpawnMetrics {
    counts: Family<FoundLabel, Counter>,
    seconds: Family<FoundLabel, Histogram>,
}

impl Default for SpawnMetrics {
    fn default() -> Self {
        Self { counts: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }
}

impl SpawnMetrics {
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            let help = "Labs that started, by whether their node had reported their image when they were scheduled";
            registry.register("spawns", help, self.counts.clone());
            let help = "Time that labs took from scheduled to running";
            registry.register("spawn_duration_seconds", help, self.seconds.clone());
        });
    }

    pub(super) fn begin(&self) {
        for found in Found::ALL {
            drop(self.counts.get_or_create(&found.into()));
            drop(self.seconds.get_or_create(&found.into()));
        }
    }

    pub(super) fn count(&self, spawn: Spawn) {
        self.counts.get_or_create(&spawn.found.into()).inc();
        if let Some(took) = spawn.took {
            self.seconds.get_or_create(&spawn.found.into()).observe(took.as_secs_f64());
        }
    }
}
