//! Metrics of fs-keepalive.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nfs_mounts::Phase;
use nfs_mounts::failure::Failure;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use sidecar::metrics::{Metrics, start_at_zero};

use crate::trouble::Trouble;

/// The upper bounds of the phases' histogram, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VolumeLabels {
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    path: String,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VolumeResult {
    path: String,
    result: &'static str,
}

/// The metrics of all volumes; clones share them.
#[derive(Clone, Debug)]
pub struct VolumeMetrics {
    rounds: Family<VolumeResult, Counter>,
    phases: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    good: Family<VolumeLabels, Gauge>,
    last_good: Family<VolumeLabels, Gauge<f64, AtomicU64>>,
    stuck: Family<VolumeLabels, Gauge>,
    removed: Family<VolumeLabels, Counter>,
    clock_offset: Family<VolumeLabels, Gauge<f64, AtomicU64>>,
}

impl VolumeMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self {
            rounds: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            good: Family::default(),
            last_good: Family::default(),
            stuck: Family::default(),
            removed: Family::default(),
            clock_offset: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("rounds", "Rounds by result", this.rounds.clone());
            registry.register("phase_duration_seconds", "Duration of each phase", this.phases.clone());
            registry.register("good", "1 if the last round succeeded", this.good.clone());
            registry.register(
                "last_good_timestamp_seconds",
                "Time of the last successful round",
                this.last_good.clone(),
            );
            registry.register("child_stuck", "1 while a hung child process cannot be killed", this.stuck.clone());
            registry.register(
                "removed_files",
                "Records removed because their writer has been gone for a day",
                this.removed.clone(),
            );
            let help = "The server's clock minus this node's clock when the record was written";
            registry.register("server_clock_offset_seconds", help, this.clock_offset.clone());
        });
        this
    }

    /// A volume is watched from now on.
    pub fn begin(&self, path: &Path) {
        let path = path.display().to_string();
        let results = ["ok"].into_iter().chain(Failure::NAMES).chain(Trouble::NAMES);
        start_at_zero(&self.rounds, results.map(|result| VolumeResult { path: path.clone(), result }));
    }

    /// Counts a round; `result` is `ok` or [`Trouble::name`](crate::trouble::Trouble::name).
    pub fn round(&self, path: &Path, result: &'static str, phases: &[(Phase, Duration)]) {
        let name = path.display().to_string();
        for (phase, time) in phases {
            let labels = PhaseLabels { path: name.clone(), phase: phase.name() };
            self.phases.get_or_create(&labels).observe(time.as_secs_f64());
        }
        self.rounds.get_or_create(&VolumeResult { path: name.clone(), result }).inc();
        let volume = VolumeLabels { path: name };
        self.good.get_or_create(&volume).set(i64::from(result == "ok"));
        self.stuck.get_or_create(&volume).set(i64::from(result == "stuck"));
    }

    /// Records the results of a successful round.
    pub fn good(&self, path: &Path, time: jiff::Timestamp, removed: u32, clock_offset: f64) {
        let volume = VolumeLabels { path: path.display().to_string() };
        self.last_good.get_or_create(&volume).set(time.as_second() as f64);
        self.removed.get_or_create(&volume).inc_by(removed.into());
        self.clock_offset.get_or_create(&volume).set(clock_offset);
    }
}
