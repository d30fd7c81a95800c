//! Metrics of imagepurger.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sidecar::metrics::{Metrics, start_at_zero};

use crate::round::Round;
use crate::verdict::Hold;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoundResult {
    result: &'static str,
}

/// The metrics of all rounds; clones share them.
#[derive(Clone, Debug, Default)]
pub struct RoundMetrics {
    rounds: Family<RoundResult, Counter>,
    last_round: Gauge<f64, AtomicU64>,
    images: Gauge,
    to_go: Gauge,
    refused: Gauge,
    used: Gauge<f64, AtomicU64>,
    removed: Counter,
    freed: Counter,
    failures: Counter,
    restored: Counter,
    lost_races: Counter,
    unsaved: Counter,
}

impl RoundMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self::default();
        let results = ["ok", "failed"].into_iter().chain(Hold::WORDS);
        start_at_zero(&this.rounds, results.map(|result| RoundResult { result }));
        metrics.register(|registry| {
            registry.register("rounds", "Rounds by result", this.rounds.clone());
            registry.register(
                "last_round_timestamp_seconds",
                "Time of the last round that could see everything",
                this.last_round.clone(),
            );
            registry.register("images", "Images on the node", this.images.clone());
            registry.register("images_to_go", "Images that are still to be removed", this.to_go.clone());
            let help = "Images that remain because the runtime refused to remove them";
            registry.register("refused_images", help, this.refused.clone());
            registry.register("disk_used_ratio", "Used share of the file system that holds images", this.used.clone());
            registry.register("removed_images", "Images removed", this.removed.clone());
            registry.register("freed_bytes", "Bytes freed on the file system by removals", this.freed.clone());
            registry.register("failed_removals", "Removals that failed", this.failures.clone());
            let help = "Images restored because something began to use them during their removal";
            registry.register("put_back_images", help, this.restored.clone());
            let help = "Images removed while a container was starting to use them";
            registry.register("lost_races", help, this.lost_races.clone());
            registry.register("history_save_failures", "Times the history could not be saved", this.unsaved.clone());
        });
        this
    }

    /// Counts a round that could not see the node's images or containers.
    pub fn round_failed(&self) {
        self.rounds.get_or_create(&RoundResult { result: "failed" }).inc();
    }

    /// Counts a round. Its result is `ok`, or the reason why nothing may be removed.
    pub fn round(&self, round: &Round, dry_run: bool, now: Timestamp) {
        let result = round.hold.as_ref().map_or("ok", |hold| hold.word());
        self.rounds.get_or_create(&RoundResult { result }).inc();
        self.last_round.set(now.as_second() as f64);
        self.images.set(i64::try_from(round.images).unwrap_or(i64::MAX));
        self.to_go.set(i64::try_from(round.to_go).unwrap_or(i64::MAX));
        self.refused.set(i64::try_from(round.refused).unwrap_or(i64::MAX));
        self.disk(round.used_percent);
        if !dry_run {
            self.removed.inc_by(round.removed.len() as u64);
        }
        self.freed.inc_by(round.freed);
        self.failures.inc_by(round.failed.len() as u64);
        self.restored.inc_by(round.restored.len() as u64);
        self.lost_races.inc_by(round.lost.len() as u64);
        self.unsaved.inc_by(u64::from(round.unsaved.is_some()));
    }

    /// Records how full the disk is.
    pub fn disk(&self, used_percent: Option<u8>) {
        if let Some(percent) = used_percent {
            self.used.set(f64::from(percent) / 100.0);
        }
    }
}
