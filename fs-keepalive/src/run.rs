//! Puts the daemon together.

use axum::Router;
use axum::routing::get;
use sidecar::admin::{AdminServer, BindError};
use sidecar::metrics::Metrics;
use sidecar::readiness::Health;
use sidecar::shutdown::Shutdown;
use tokio::task::JoinSet;

use crate::metrics::VolumeMetrics;
use crate::page::Page;
use crate::settings::Settings;
use crate::volume::{Volume, longest_round};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs until `shutdown`: one loop per volume, and the admin server.
///
/// # Errors
///
/// [`BindError`] when the admin address can't be had.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), BindError> {
    let Settings { keepalive, admin, log } = settings;
    sidecar::log::init(log);
    tracing::info!(
        version = VERSION,
        paths = ?keepalive.paths,
        interval_seconds = keepalive.interval.as_secs_f64(),
        timeout_seconds = keepalive.timeout.as_secs_f64(),
        node = keepalive.node,
        pod = keepalive.pod,
        "{NAME} starts"
    );
    let (health, metrics) = (Health::default(), Metrics::new(NAME, VERSION));
    let (volume_metrics, page) = (VolumeMetrics::new(&metrics), Page::default());
    let mut volumes = JoinSet::new();
    for path in keepalive.paths.clone() {
        // Once for each setting, so nothing grows.
        let name: &'static str = path.display().to_string().leak();
        let (latch, pulse) = (health.latch(name), health.pulse(name, longest_round(&keepalive)));
        let volume = Volume::new(path, keepalive.clone(), volume_metrics.clone(), page.clone(), latch);
        volumes.spawn(volume.run(pulse, shutdown.token()));
    }
    let volumes_page = get(move || async move { page.answer() });
    let pages = Router::new().route("/volumes", volumes_page);
    let server = AdminServer::bind(admin, health, metrics, pages).await?;
    let serving = tokio::spawn(server.serve(shutdown.token()));
    // A round that hangs is left after the drain limit; its child is killed with it.
    shutdown.drain(async { while volumes.join_next().await.is_some() {} }).await;
    serving.abort();
    Ok(())
}
