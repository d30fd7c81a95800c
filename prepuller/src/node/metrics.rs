//! Metrics of a node agent. The puller's report is encoded at each scrape; everything else is counted.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use sidecar::metrics::{Metrics, start_at_zero};
use tokio::sync::watch;

use super::status;
use crate::node_images::PullState;
use crate::puller::Report;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
}

/// What is counted outside of the puller; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    api_failures: Family<Call, Counter>,
    orders_not_kept: Counter,
    durations: Histogram,
}

/// Upper bounds in seconds: from an image whose layers are already present to a download that takes all night.
const DURATIONS: [f64; 13] = [1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0];

impl Default for Counters {
    fn default() -> Self {
        let (api_failures, orders_not_kept) = (Family::default(), Counter::default());
        start_at_zero(&api_failures, ["watch", "status"].map(|call| Call { call }));
        Self { api_failures, orders_not_kept, durations: Histogram::new(DURATIONS) }
    }
}

impl Counters {
    /// Counts a failed call to the API server: `watch` or `status`.
    pub(super) fn api_failed(&self, call: &'static str) {
        self.api_failures.get_or_create(&Call { call }).inc();
    }

    /// Durations of successful pulls.
    pub(super) fn durations(&self) -> Histogram {
        self.durations.clone()
    }

    /// Counts that the orders could not be written to `STATE_DIR`.
    pub(super) fn orders_not_kept(&self) {
        self.orders_not_kept.inc();
    }
}

/// Registers all metrics of the agent.
pub(super) fn register(metrics: &Metrics, reports: watch::Receiver<Report>) -> Counters {
    let counters = Counters::default();
    metrics.register(|registry| {
        let help = "Failed calls to the API server: watches of the orders, or writes of the status";
        registry.register("node_api_failures", help, counters.api_failures.clone());
        let help = "Failed writes of the orders to STATE_DIR";
        registry.register("node_orders_not_kept", help, counters.orders_not_kept.clone());
        let help = "Duration of successful pulls, from the call to the runtime until the image could be used";
        registry.register("node_pull_duration_seconds", help, counters.durations.clone());
        registry.register_collector(Box::new(ReportCollector(reports)));
    });
    counters
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfImage {
    image: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

const STATES: [(PullState, &str); 6] = [
    (PullState::Waiting, "waiting"),
    (PullState::Downloading, "downloading"),
    (PullState::Unpacking, "unpacking"),
    (PullState::Present, "present"),
    (PullState::Failed, "failed"),
    (PullState::Refused, "refused"),
];

/// Encodes the latest report as metrics.
#[derive(Debug)]
struct ReportCollector(watch::Receiver<Report>);

impl Collector for ReportCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: &dyn Encode| metric.encode_as(&mut encoder, name, help);
        let report = self.0.borrow();

        let images = Family::<InState, Gauge>::default();
        for (wanted, state) in STATES {
            let count = report.jobs.iter().filter(|job| status::state(&job.state) == wanted).count();
            images.get_or_create(&InState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        put("node_images", "Ordered images by state", &images)?;

        let (done, total) = (Family::<OfImage, Gauge>::default(), Family::<OfImage, Gauge>::default());
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        for job in report.jobs.iter().filter(|job| job.progress.total.is_some()) {
            let image = OfImage { image: job.order.image.to_string() };
            done.get_or_create(&image).set(bytes(job.progress.done));
            total.get_or_create(&image).set(bytes(job.progress.total.unwrap_or(0)));
        }
        put("node_image_done_bytes", "Downloaded compressed bytes of the image's missing layers", &done)?;
        put("node_image_bytes", "Compressed bytes of the image's layers that were missing", &total)?;

        let pulls = Family::<Ended, Counter>::default();
        let ended = report.done;
        for (result, count) in [
            ("pulled", ended.pulled),
            ("failed", ended.failed),
            ("refused", ended.refused),
            ("interrupted", ended.interrupted),
        ] {
            pulls.get_or_create(&Ended { result }).inc_by(count);
        }
        put(
            "node_pulls",
            "Pulls by result; refused: by the disk guard, interrupted: the container runtime ended",
            &pulls,
        )?;
        put("node_pulled_bytes", "Compressed bytes that finished pulls downloaded", &ConstCounter::new(ended.bytes))?;

        let up = i64::from(report.looked.is_some() && report.runtime_problem.is_none());
        put("node_runtime_up", "Whether the container runtime answers", &ConstGauge::new(up))?;
        if let Some(disk) = &report.disk {
            let used = Gauge::<f64, AtomicU64>::default();
            used.set(disk.used as f64 / disk.capacity().max(1) as f64);
            put("node_disk_used_ratio", "Used share of the file system that holds images", &used)?;
        }
        Ok(())
    }
}

/// [`EncodeMetric`], as an object.
trait Encode {
    fn encode_as(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> fmt::Result;
}

impl<T: EncodeMetric> Encode for T {
    fn encode_as(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_metrics() {
        let metrics = Metrics::new("prepuller", "1");
        let (report, reports) = watch::channel(Report::default());
        let counters = register(&metrics, reports);
        counters.api_failed("watch");
        counters.durations().observe(42.0);
        report.send_modify(|report| (report.looked, report.done.bytes) = (Some(1), 7));
        let text = metrics.encode(sidecar::metrics::Format::Classic);
        for line in [
            "labhands_prepuller_node_runtime_up 1",
            "labhands_prepuller_node_pulled_bytes_total 7",
            "labhands_prepuller_node_images{state=\"present\"} 0",
            "labhands_prepuller_node_pulls_total{result=\"refused\"} 0",
            "# TYPE labhands_prepuller_node_pull_duration_seconds histogram",
            "labhands_prepuller_node_pull_duration_seconds_bucket{le=\"60.0\"} 1",
            "labhands_prepuller_node_pull_duration_seconds_sum 42.0",
            "labhands_prepuller_node_api_failures_total{call=\"watch\"} 1",
            "labhands_prepuller_node_api_failures_total{call=\"status\"} 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
