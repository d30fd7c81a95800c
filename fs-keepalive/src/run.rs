//! Wires the daemon.

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use sidecar::daemon::Daemon;
use tokio::task::JoinSet;

use crate::metrics::VolumeMetrics;
use crate::page::Page;
use crate::settings::Settings;
use crate::volume::{Volume, longest_round};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs until a signal, with one task per volume.
///
/// # Errors
///
/// If the admin address cannot be bound.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let Settings { keepalive, admin, log } = settings;
    let mut daemon = Daemon::start(NAME, VERSION, log)?;
    tracing::info!(
        version = VERSION,
        paths = ?keepalive.paths,
        interval_seconds = keepalive.interval.as_secs_f64(),
        timeout_seconds = keepalive.timeout.as_secs_f64(),
        node = keepalive.node,
        pod = keepalive.pod,
        "{NAME} starts"
    );
    let (volume_metrics, page) = (VolumeMetrics::new(&daemon.metrics), Page::default());
    let mut volumes = JoinSet::new();
    for path in keepalive.paths.clone() {
        // Leaked once per configured path, so memory does not grow.
        volume_metrics.begin(&path);
        let name: &'static str = path.display().to_string().leak();
        let (latch, pulse) = (daemon.health.latch(name), daemon.health.pulse(name, longest_round(&keepalive)));
        let volume = Volume::new(path, keepalive.clone(), volume_metrics.clone(), page.clone(), latch);
        volumes.spawn(volume.run(pulse, daemon.shutdown.token()));
    }
    let volumes_page = get(move || async move { page.answer() });
    daemon.serve(admin, Router::new().route("/volumes", volumes_page)).await?;
    // A round that hangs is abandoned after the drain limit, and its child is killed.
    daemon.run(async { while volumes.join_next().await.is_some() {} }).await;
    Ok(ExitCode::SUCCESS)
}
