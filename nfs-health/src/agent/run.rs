//! `nfs-health run`: watches servers and the mounts of this node; in a cluster it writes its node's report.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use nfs_mounts::mountinfo::Mounts;
use sidecar::daemon::Daemon;
use sidecar::readiness::Latch;

use crate::agent::exports::ExportTable;
use crate::agent::metrics::HealthMetrics;
use crate::agent::reporter::Reporter;
use crate::agent::rounds::{Discover, Monitor};
use crate::probe::mount_list::MountList;
use crate::server::Server;
use crate::settings::RunSettings;
use crate::targets::{Found, Target, TargetSettings, targets};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs until a signal.
///
/// # Errors
///
/// If the admin address cannot be bound, or a report is configured and the cluster's client cannot be.
pub async fn run(settings: RunSettings) -> anyhow::Result<ExitCode> {
    let RunSettings { target_settings, interval, rounds, report, admin, log } = settings;
    let mut daemon = Daemon::start(NAME, VERSION, log)?;
    let servers: Vec<String> = target_settings.servers.iter().map(ToString::to_string).collect();
    tracing::info!(
        version = VERSION,
        ?servers,
        mountinfo = ?target_settings.mountinfo,
        excluded = ?target_settings.excluded,
        report = report.as_ref().map(|report| format!("{}/{}", report.namespace, report.node)),
        interval_seconds = interval.as_secs_f64(),
        timeout_seconds = target_settings.probing.limit.as_secs_f64(),
        rounds,
        "{NAME} run starts"
    );
    let (health, table) = (daemon.health.clone(), Arc::new(ExportTable::default()));
    // Ready means that this process works. The state of the exports is in metrics, on the page and in the report.
    let (pulse, listing) = (health.pulse("rounds", Monitor::pulse_limit(interval)), health.latch("mounts"));
    let health_metrics = HealthMetrics::new(&daemon.metrics);
    let reporter = match report {
        Some(place) => Some(Reporter::new(place, interval, &daemon.metrics, health.latch("report")).await?),
        None => None,
    };
    let (probing, listed) = (target_settings.probing.clone(), Arc::<AtomicBool>::default());
    let of_node = OfNode {
        list: target_settings.mountinfo.clone().map(MountList::new),
        target_settings,
        metrics: health_metrics.clone(),
        listing,
        listed: listed.clone(),
    };
    let monitor = Monitor { probing, interval, rounds, metrics: health_metrics, table: table.clone() };
    let shown = table.clone();
    let page = move || {
        let exports = shown.json().to_string();
        async move { ([(header::CONTENT_TYPE, "application/json")], exports) }
    };
    daemon.serve(admin, Router::new().route("/exports", get(page))).await?;
    let reporting = reporter.map(|reporter| tokio::spawn(reporter.report(table, listed)));
    let token = daemon.shutdown.token();
    daemon.run(monitor.run(of_node, pulse, token)).await;
    reporting.inspect(tokio::task::JoinHandle::abort);
    Ok(ExitCode::SUCCESS)
}

/// What there is to look at on this node.
struct OfNode {
    target_settings: TargetSettings,
    list: Option<MountList>,
    metrics: HealthMetrics,
    listing: Latch,
    /// Whether the mounts were listed once.
    listed: Arc<AtomicBool>,
}

impl Discover for OfNode {
    /// `None` if the mounts were listed before and cannot be listed now, so that nothing is known to have changed.
    async fn targets(&mut self) -> Option<BTreeMap<Server, Target>> {
        let listed = match &mut self.list {
            Some(list) => list.read().await,
            None => Ok((Mounts::default(), Vec::new())),
        };
        let mounts = match listed {
            Ok((mounts, statistics)) => {
                self.listing.ready();
                self.listed.store(true, Ordering::Relaxed);
                self.metrics.mounts(statistics);
                mounts
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list the mounts");
                self.listing.not_ready(format!("cannot list the mounts in {error}"));
                if self.listed.load(Ordering::Relaxed) {
                    return None;
                }
                Mounts::default()
            }
        };
        let Found { targets, left_out } = targets(&self.target_settings, &mounts);
        self.metrics.left_out(&left_out);
        Some(targets)
    }
}
