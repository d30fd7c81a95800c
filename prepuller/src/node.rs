//! `prepuller node`: pulls the images that the planner orders, until a signal.
//!
//! Orders come from the node's own `NodeImages` object and are saved on disk. The puller carries them out, and the
//! object's status reports the progress. None of the three waits for another: without the API server the saved orders
//! are carried out, and without the runtime its absence is reported.
//!
//! `status.rs` (what is reported) and `throttle.rs` (when) are pure. `orders.rs` and `status_writer.rs` talk to the API
//! server. `page.rs` and `metrics.rs` show the same to people and to Prometheus.

mod metrics;
mod orders;
mod page;
mod status;
mod status_writer;
mod throttle;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use lab_images::registry::Credentials;
use lab_images::runtime::{Runtime, RuntimeEndpoint, open};
use sidecar::daemon::Daemon;
use sidecar::retry::{BackoffBuilder, forever};
use tokio::sync::watch;

use self::orders::OrderWatcher;
use self::status_writer::StatusWriter;
use crate::node_images::NodeImages;
use crate::puller::{Orders, Puller, PullerSettings, Report};
use crate::settings::NodeSettings;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest pause between two tries to connect to the runtime.
const LONGEST_RUNTIME_RETRY: Duration = Duration::from_secs(10);

/// Runs until a signal.
///
/// # Errors
///
/// If the cluster's client cannot be configured, the credentials cannot be read, or the admin address cannot be bound.
pub async fn run(settings: NodeSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    let mut daemon = Daemon::start(NAME, VERSION, settings.log.with_warnings(warnings))?;
    let namespace = sidecar::kubernetes::own_namespace().await?;
    let disk_high = settings.puller.disk_high;
    let runtime = settings.runtime.as_ref().map_or_else(|| "the first that answers".to_owned(), ToString::to_string);
    tracing::info!(version = VERSION, node = settings.node, namespace, disk_high, runtime, "{NAME} node starts");

    let api: Api<NodeImages> = Api::namespaced(sidecar::kubernetes::client().await?, &namespace);
    let credentials = Arc::new(Credentials::new(settings.credentials)?);
    // One machine may be a node of two clusters, or have a prepuller in two namespaces.
    let orders_file = settings.state_dir.join(format!("orders.{namespace}.json"));
    let kept = orders::kept(&orders_file);
    let (report, reports) = watch::channel(Report::default());
    let counters = metrics::register(&daemon.metrics, reports.clone());
    let puller = PullerSettings { durations: Some(counters.durations()), ..settings.puller };
    let following = OrderWatcher::new(&daemon.health, counters.clone(), orders_file, kept.is_some());
    let writer = StatusWriter::new(&daemon.health, counters, disk_high);
    let (orders, ordered) = watch::channel(kept.unwrap_or_default());
    let (object, objects) = watch::channel(None);
    let routes = page::routes(&settings.node, disk_high, reports.clone());
    daemon.serve(settings.admin, routes).await?;

    let (token, endpoint) = (daemon.shutdown.token(), settings.runtime);
    let pulling = async {
        let runtime = until_open(endpoint.as_ref(), &report, &ordered).await;
        if let Some(runtime) = runtime {
            Puller::new(runtime, credentials, puller, report).run(ordered, token.clone()).await;
        }
    };
    let work = async {
        tokio::select! {
            () = pulling => {}
            () = following.follow(api.clone(), &settings.node, &orders, &object) => {}
            () = writer.run(api.clone(), &settings.node, reports, objects) => {}
            () = token.cancelled() => {}
        }
    };
    daemon.run(work).await;
    Ok(ExitCode::SUCCESS)
}

/// Tries until the runtime answers, and reports meanwhile why it does not.
async fn until_open(
    endpoint: Option<&RuntimeEndpoint>,
    report: &watch::Sender<Report>,
    ordered: &watch::Receiver<Orders>,
) -> Option<Arc<dyn Runtime>> {
    for delay in forever().with_max_delay(LONGEST_RUNTIME_RETRY).build() {
        match open(endpoint).await {
            Ok((endpoint, runtime)) => {
                tracing::info!(%endpoint, "the container runtime answers");
                return Some(runtime);
            }
            Err(error) => {
                tracing::warn!(%error, "no container runtime yet");
                report.send_modify(|report| {
                    report.take(ordered.borrow().orders.clone());
                    report.runtime_is_away(error.to_string());
                });
            }
        }
        tokio::time::sleep(delay).await;
    }
    None
}
