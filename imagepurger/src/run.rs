//! `imagepurger run`: rounds for ever, by the clock and when the disk is full.

use std::future::Future;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use lab_images::runtime::{FileSystem, Runtime, RuntimeEndpoint, RuntimeError, connect, discover};
use sidecar::admin::AdminServer;
use sidecar::kubernetes::{ClientError, Events, Gravity};
use sidecar::metrics::Metrics;
use sidecar::readiness::{Health, Latch, Pulse};
use sidecar::retry::{BackoffBuilder, forever};
use sidecar::shutdown::Shutdown;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::catalogue::CatalogueSource;
use crate::metrics::RoundMetrics;
use crate::pods::NodePods;
use crate::report::{gigabytes, names};
use crate::round::{Purger, Round};
use crate::settings::{Cluster, Place, RunSettings};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often the disk is looked at between rounds.
const DISK_INTERVAL: Duration = Duration::from_secs(60);

/// How long the last Events may take to be raised.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// One step of a round: a call to the runtime may take two minutes, on Docker for each name of an image.
const LONGEST_STEP: Duration = Duration::from_secs(60 * 60);

/// What the daemon tells the cluster, as Events about its own pod.
struct Teller {
    events: Events,
    pod: ObjectReference,
}

/// Runs until `shutdown`.
///
/// # Errors
///
/// When the admin address can't be had, or there is no way to the cluster that the settings name.
pub async fn run(settings: RunSettings, shutdown: Shutdown) -> anyhow::Result<()> {
    sidecar::log::init(settings.log);
    let RunSettings { node, interval, limits, admin, .. } = settings;
    tracing::info!(
        version = VERSION,
        scope = ?node.rules.scope,
        grace = %node.rules.grace,
        interval_seconds = interval.as_secs(),
        disk_high = node.watermarks.high,
        disk_low = node.watermarks.low,
        dry_run = limits.dry_run,
        place = ?node.place,
        "{NAME} starts"
    );
    let (health, metrics) = (Health::default(), Metrics::new(NAME, VERSION));
    let (latch, pulse) = (health.latch("rounds"), health.pulse("rounds", LONGEST_STEP + DISK_INTERVAL));
    let round_metrics = RoundMetrics::new(&metrics);
    let Surroundings { catalogue, pods, teller } = Surroundings::of(&node.place).await?;
    let events = teller.as_ref().map(|teller| teller.events.clone());
    events.iter().for_each(|events| events.register(&metrics));
    let server = AdminServer::bind(admin, health, metrics, Router::new()).await?;
    let serving = tokio::spawn(server.serve(shutdown.token()));
    let token = shutdown.token();
    let work = async {
        let Some(runtime) = until_connected(node.endpoint.as_ref(), &latch, &token).await else { return };
        let purger = Purger::new(runtime, catalogue, pods, node.rules, (node.watermarks, limits), node.history_file);
        Daemon { purger, interval, metrics: round_metrics, teller, latch, pulse }.run(&token).await;
        if let Some(events) = events {
            events.flush(FLUSH_LIMIT).await;
        }
    };
    // A removal that takes longer is left to the runtime, which ends it.
    shutdown.drain(work).await;
    serving.abort();
    Ok(())
}

/// Where the catalogue and the pods are seen, and where Events go.
pub struct Surroundings {
    /// The catalogue's source.
    pub catalogue: CatalogueSource,
    /// The node's pods, in a cluster.
    pub pods: Option<NodePods>,
    teller: Option<Teller>,
}

impl Surroundings {
    /// As the settings say; no word is sent to the API server yet.
    ///
    /// # Errors
    ///
    /// When there is no way to the cluster.
    pub async fn of(place: &Place) -> Result<Self, ClientError> {
        let (cluster, file) = match place {
            Place::Host { catalogue_file } => {
                return Ok(Self { catalogue: CatalogueSource::File(catalogue_file.clone()), pods: None, teller: None });
            }
            Place::Node { cluster, catalogue_file } => (cluster, catalogue_file),
        };
        let client = sidecar::kubernetes::client().await?;
        let catalogue = match file {
            Some(path) => CatalogueSource::File(path.clone()),
            None => CatalogueSource::in_cluster(&client, &cluster.catalogue_namespace),
        };
        let pods = Some(NodePods::new(&client, &cluster.node));
        Ok(Self { catalogue, pods, teller: Teller::new(&client, cluster) })
    }
}

/// Opens the runtime that is set, or the first usual one that answers.
///
/// # Errors
///
/// [`RuntimeError`] with what to do.
pub async fn open(endpoint: Option<&RuntimeEndpoint>) -> Result<Arc<dyn Runtime>, RuntimeError> {
    match endpoint {
        Some(endpoint) => connect(endpoint).await,
        None => discover(&RuntimeEndpoint::usual()).await.map(|(_, runtime)| runtime),
    }
}

/// Tries until the runtime answers; `None` when `shutdown` came first.
async fn until_connected(
    endpoint: Option<&RuntimeEndpoint>,
    latch: &Latch,
    shutdown: &CancellationToken,
) -> Option<Arc<dyn Runtime>> {
    for delay in forever().build() {
        match open(endpoint).await {
            Ok(runtime) => return Some(runtime),
            Err(error) => {
                tracing::warn!("{error}");
                latch.not_ready(error.to_string());
            }
        }
        if !or_shutdown(sleep(delay), shutdown).await {
            return None;
        }
    }
    None
}

/// Whether the wait ended before `shutdown`.
async fn or_shutdown(wait: impl Future<Output = ()>, shutdown: &CancellationToken) -> bool {
    tokio::select! { () = wait => true, () = shutdown.cancelled() => false }
}

struct Daemon {
    purger: Purger,
    interval: Duration,
    metrics: RoundMetrics,
    teller: Option<Teller>,
    latch: Latch,
    pulse: Pulse,
}

impl Daemon {
    async fn run(mut self, shutdown: &CancellationToken) {
        loop {
            self.pulse.beat();
            match self.purger.round(shutdown).await {
                Ok(round) => {
                    self.latch.ready();
                    self.tell(&round);
                }
                Err(error) => {
                    tracing::warn!("no round: {error}");
                    self.metrics.blind();
                    self.latch.not_ready(error.to_string());
                }
            }
            let next = Instant::now() + with_jitter(self.interval, std::hash::RandomState::new().hash_one(()));
            if !self.wait(next, shutdown).await {
                return;
            }
        }
    }

    /// Until the next round is due or the disk is full; whether there is a next round.
    async fn wait(&self, next: Instant, shutdown: &CancellationToken) -> bool {
        loop {
            self.pulse.beat();
            let look = next.min(Instant::now() + DISK_INTERVAL);
            if !or_shutdown(sleep_until(look), shutdown).await {
                return false;
            }
            if Instant::now() >= next {
                return true;
            }
            let used = self.purger.runtime.file_system().await.ok().as_ref().map(FileSystem::used_percent);
            self.metrics.disk(used);
            if used.is_some_and(|used| self.purger.is_pressed_by(used)) {
                return true;
            }
        }
    }

    fn tell(&self, round: &Round) {
        let dry_run = self.purger.limits.dry_run;
        self.metrics.round(round, dry_run, Timestamp::now());
        let (freed, removed) = (gigabytes(round.freed), names(&round.removed));
        tracing::info!(
            images = round.images,
            to_go = round.to_go,
            removed = if dry_run { 0 } else { round.removed.len() },
            would_remove = if dry_run { round.removed.join(",") } else { String::new() },
            freed_bytes = round.freed,
            disk_used_percent = round.used_percent,
            "round done"
        );
        if let Some(hold) = &round.hold {
            tracing::warn!(reason = hold.word(), "nothing is removed: {hold}");
            self.raise(Gravity::Warning, hold.reason(), &format!("Nothing is removed: {hold}"));
        }
        if let Some(error) = &round.unsaved {
            tracing::error!(%error, file = %self.purger.history_file.display(), "the history of images cannot be saved");
        }
        for image in &round.lost {
            tracing::error!(image, "a container began to use this image in the instant of its removal");
        }
        let mut note = Vec::new();
        if !round.removed.is_empty() && !dry_run {
            note.push(format!("{} images removed, {freed} freed: {removed}", round.removed.len()));
        }
        if let Some((image, error)) = round.failed.first() {
            note.push(format!("{} removals failed, such as {image}: {error}", round.failed.len()));
        }
        if !round.put_back.is_empty() {
            note.push(format!("put back, since needed again meanwhile: {}", names(&round.put_back)));
        }
        if !round.lost.is_empty() {
            note.push(format!("removed in the instant in which a container began to use it: {}", names(&round.lost)));
        }
        let bad = !round.failed.is_empty() || !round.lost.is_empty();
        let (gravity, reason) =
            if bad { (Gravity::Warning, "ImagesNotRemoved") } else { (Gravity::Normal, "ImagesRemoved") };
        if !note.is_empty() {
            self.raise(gravity, reason, &note.join("; "));
        }
    }

    fn raise(&self, gravity: Gravity, reason: &str, note: &str) {
        if let Some(Teller { events, pod }) = &self.teller {
            events.raise(pod, gravity, reason, "Purge", note);
        }
    }
}

impl Teller {
    fn new(client: &kube::Client, cluster: &Cluster) -> Option<Self> {
        let (namespace, name) = cluster.pod.clone()?;
        let pod = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace),
            name: Some(name),
            uid: cluster.pod_uid.clone(),
            ..ObjectReference::default()
        };
        Some(Self { events: Events::new(client.clone(), NAME, &cluster.node), pod })
    }
}

/// The interval with up to a tenth more or less, so that not all nodes act at once.
fn with_jitter(interval: Duration, random: u64) -> Duration {
    let share = random as f64 / u64::MAX as f64;
    interval.mul_f64(0.9 + 0.2 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let interval = Duration::from_secs(900);
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            let secs = with_jitter(interval, random).as_secs_f64();
            assert!((809.9..=990.1).contains(&secs), "{secs}");
        }
        assert_ne!(with_jitter(interval, 0), with_jitter(interval, u64::MAX));
    }
}
