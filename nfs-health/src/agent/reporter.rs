//! Writes the node's report: soon after a change, and regularly as a heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use sidecar::kubernetes::{ClientError, client, explain_about};
use sidecar::metrics::Metrics;
use sidecar::readiness::Latch;
use sidecar::retry::{BackoffBuilder, forever};
use tokio::time::Instant;

use crate::agent::exports::ExportTable;
use crate::report::{AGENT, NfsReport, NfsReportSpec};
use crate::settings::ReportPlace;

/// The longest time between two reports.
const REFRESH: Duration = Duration::from_secs(120);

/// Changes within this time are reported together.
const GATHER: Duration = Duration::from_secs(5);

/// Writes the reports of one node.
pub struct Reporter {
    api: Api<NfsReport>,
    node: String,
    gather: Duration,
    written: Counter,
    failed: Counter,
    latch: Latch,
}

impl Reporter {
    /// A reporter that writes to `place`.
    ///
    /// # Errors
    ///
    /// If the cluster's client cannot be configured.
    pub async fn new(
        place: ReportPlace,
        interval: Duration,
        metrics: &Metrics,
        latch: Latch,
    ) -> Result<Self, ClientError> {
        let client: Client = client().await?;
        let (written, failed) = (Counter::default(), Counter::default());
        metrics.register(|registry| {
            registry.register("reports", "Reports of this node that were written", written.clone());
            registry.register("report_failures", "Reports of this node that could not be written", failed.clone());
        });
        let api = Api::namespaced(client, &place.namespace);
        Ok(Self { api, node: place.node, gather: GATHER.min(interval), written, failed, latch })
    }

    /// Writes reports until it is dropped; none before the mounts were `listed` for the first time, because it would say that they
    /// are well.
    pub async fn report(self, table: Arc<ExportTable>, listed: Arc<AtomicBool>) {
        let (mut written, mut due) = (None::<NfsReportSpec>, Instant::now());
        // A number that also increases over restarts of the agent.
        let mut number = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let mut pauses = forever().build();
        loop {
            tokio::select! { () = table.changed() => (), () = tokio::time::sleep_until(due) => () }
            tokio::time::sleep(self.gather).await;
            if !listed.load(Ordering::Relaxed) {
                continue;
            }
            if table.is_pending() && written.is_none() && Instant::now() < due + REFRESH {
                continue;
            }
            number += 1;
            let report = NfsReportSpec::new(number, REFRESH, table.reports());
            if Instant::now() < due && written.as_ref().is_some_and(|written| written.is_same_as(&report)) {
                continue;
            }
            match self.write(&report).await {
                Ok(()) => {
                    self.written.inc();
                    self.latch.ready();
                    (written, due) = (Some(report), Instant::now() + REFRESH);
                    pauses = forever().build();
                }
                Err(error) => {
                    self.failed.inc();
                    let error = explain_about::<NfsReport>(&(), &error);
                    self.latch.not_ready(format!("the node's report could not be written: {error}"));
                    tracing::warn!(error, node = self.node, "the node's report could not be written");
                    written = None;
                    tokio::time::sleep(pauses.next().unwrap_or(REFRESH)).await;
                    due = Instant::now();
                }
            }
        }
    }

    async fn write(&self, report: &NfsReportSpec) -> Result<(), kube::Error> {
        let report = NfsReport::new(&self.node, report.clone());
        let params = PatchParams::apply(AGENT).force();
        self.api.patch(&self.node, &params, &Patch::Apply(&report)).await.map(drop)
    }
}
