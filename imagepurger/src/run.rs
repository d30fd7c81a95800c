//! `imagepurger run`: repeats rounds at an interval and whenever the disk is full.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use lab_images::runtime::{FileSystem, Opened, Runtime, RuntimeEndpoint, RuntimeError, open};
use lab_images::settings::unclear_runtime;
use sidecar::daemon::Daemon;
use sidecar::human::bytes;
use sidecar::kubernetes::EventType;
use sidecar::readiness::{Latch, Pulse};
use sidecar::retry::{BackoffBuilder, forever};
use sidecar::schedule::with_jitter;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::environment::{PodEvents, PurgerEnvironment};
use crate::files::Files;
use crate::memory::Memory;
use crate::metrics::RoundMetrics;
use crate::report::{images, names};
use crate::round::{Failed, Purger, Round};
use crate::settings::RunSettings;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often the disk is checked between rounds.
const DISK_INTERVAL: Duration = Duration::from_secs(60);

/// How long the last Events may take to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Upper bound for one removal. Docker removes one name per call, each of which may take two minutes.
const LONGEST_STEP: Duration = Duration::from_secs(60 * 60);

/// Runs until a signal.
///
/// # Errors
///
/// If the admin address cannot be bound, if the configured cluster's client cannot be built, or if several runtimes
/// answer and none is configured.
pub async fn run(settings: RunSettings) -> anyhow::Result<ExitCode> {
    let RunSettings { node, limits, admin, log } = settings;
    let mut daemon = Daemon::start(NAME, VERSION, log)?;
    let token = daemon.shutdown.token();
    let first = token.run_until_cancelled(open(node.endpoint.as_ref())).await;
    let first = match first {
        Some(Err(error)) if unclear_runtime(&error).is_some() => return Err(error.into()),
        first => first,
    };
    let runtime = match (&node.endpoint, &first) {
        (Some(endpoint), _) | (None, Some(Ok((endpoint, _)))) => endpoint.to_string(),
        _ => "none found yet".to_owned(),
    };
    tracing::info!(
        version = VERSION,
        runtime,
        scope = ?node.rules.scope,
        grace = %node.rules.grace,
        interval_seconds = node.interval.as_secs(),
        disk_high = node.watermarks.high,
        disk_low = node.watermarks.low,
        kubelet_thresholds = %node.kubelet,
        dry_run = limits.dry_run,
        mode = ?node.mode,
        "{NAME} starts"
    );
    let (latch, pulse) = (daemon.health.latch("rounds"), daemon.health.pulse("rounds", LONGEST_STEP + DISK_INTERVAL));
    let metrics = RoundMetrics::new(&daemon.metrics);
    let PurgerEnvironment { catalogue, pods, events } = PurgerEnvironment::of(&node.mode).await?;
    let recorder = events.as_ref().map(|events| events.recorder.clone());
    recorder.iter().for_each(|recorder| recorder.register(&daemon.metrics));
    daemon.serve(admin, Router::new()).await?;
    let work = async {
        let Some(runtime) = until_connected(first, node.endpoint.as_ref(), &latch, &token).await? else {
            return Ok(());
        };
        let memory = Memory::new(node.history_file, Files::new());
        let purger = Purger::new(runtime, catalogue, pods, node.rules, (node.watermarks, limits), memory);
        Rounds { purger, interval: node.interval, metrics, events, latch, pulse }.run(&token).await;
        if let Some(recorder) = recorder {
            recorder.flush(FLUSH_LIMIT).await;
        }
        Ok::<_, RuntimeError>(())
    };
    // The runtime finishes a removal that outlasts the drain limit.
    daemon.run(work).await.unwrap_or(Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// Tries until the runtime answers; `None` if `shutdown` was cancelled first.
///
/// # Errors
///
/// [`RuntimeError::SeveralFound`] if several answer and none is configured.
async fn until_connected(
    first: Option<Result<Opened, RuntimeError>>,
    endpoint: Option<&RuntimeEndpoint>,
    latch: &Latch,
    shutdown: &CancellationToken,
) -> Result<Option<Arc<dyn Runtime>>, RuntimeError> {
    let mut answer = first;
    for delay in forever().build() {
        match answer {
            None => return Ok(None),
            Some(Ok((found, runtime))) => {
                tracing::info!(endpoint = %found, "the container runtime answers");
                return Ok(Some(runtime));
            }
            Some(Err(error)) => {
                if unclear_runtime(&error).is_some() {
                    return Err(error);
                }
                tracing::warn!("{error}");
                latch.not_ready(error.to_string());
            }
        }
        if !or_shutdown(sleep(delay), shutdown).await {
            return Ok(None);
        }
        answer = shutdown.run_until_cancelled(open(endpoint)).await;
    }
    Ok(None)
}

/// Waits. Returns whether the wait ended before `shutdown`.
async fn or_shutdown(wait: impl Future<Output = ()>, shutdown: &CancellationToken) -> bool {
    tokio::select! { () = wait => true, () = shutdown.cancelled() => false }
}

struct Rounds {
    purger: Purger,
    interval: Duration,
    metrics: RoundMetrics,
    events: Option<PodEvents>,
    latch: Latch,
    pulse: Pulse,
}

impl Rounds {
    async fn run(mut self, shutdown: &CancellationToken) {
        loop {
            self.pulse.beat();
            match self.purger.round(shutdown).await {
                Ok(round) => {
                    match &round.broken {
                        None => self.latch.ready(),
                        Some(error) => self.latch.not_ready(error.to_string()),
                    }
                    self.report(&round);
                }
                Err(error) => {
                    tracing::warn!("the round failed: {error}");
                    self.metrics.round_failed();
                    self.latch.not_ready(error.to_string());
                }
            }
            let next = Instant::now() + with_jitter(self.interval);
            if !self.wait(next, shutdown).await {
                return;
            }
        }
    }

    /// Waits until the next round is due or the disk is full. Returns whether there is a next round.
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
            let measured = self.purger.runtime.file_system();
            let Some(disk) = shutdown.run_until_cancelled(measured).await else { return false };
            let used = disk.ok().as_ref().map(FileSystem::used_percent);
            self.metrics.disk(used);
            if used.is_some_and(|used| self.purger.is_too_full(used)) {
                return true;
            }
        }
    }

    fn report(&self, round: &Round) {
        let dry_run = self.purger.limits.dry_run;
        self.metrics.round(round, dry_run, Timestamp::now());
        let (freed, removed) = (bytes(round.freed), names(&round.removed));
        tracing::info!(
            images = round.images,
            to_go = round.to_go,
            refused = round.refused,
            removed = if dry_run { 0 } else { round.removed.len() },
            would_remove = if dry_run { round.removed.join(",") } else { String::new() },
            freed_bytes = round.freed,
            disk_used_percent = round.used_percent,
            "round done"
        );
        if let Some(hold) = &round.hold {
            tracing::warn!(reason = hold.word(), "nothing is removed: {hold}");
            self.raise(EventType::Warning, hold.reason(), &format!("Nothing is removed: {hold}"));
        }
        if let Some(error) = &round.unsaved {
            tracing::error!(%error, file = %self.purger.memory.file().display(), "cannot save the history of images");
        }
        if let Some(error) = &round.broken {
            tracing::warn!("the round ended early: {error}");
        }
        for image in &round.lost {
            tracing::error!(image, "this image was removed while a container was starting to use it");
        }
        let mut note = Vec::new();
        if !round.removed.is_empty() && !dry_run {
            note.push(format!("{} removed, {freed} freed: {removed}", images(round.removed.len())));
        }
        // Earlier failures were reported when they happened.
        let news: Vec<&Failed> = round.failed.iter().filter(|failed| !failed.again).collect();
        if let Some(Failed { image, error, .. }) = news.first() {
            note.push(format!("{} not removed, such as {image}: {error}", images(news.len())));
        }
        if !round.restored.is_empty() {
            note.push(format!("restored, because something needs it again: {}", names(&round.restored)));
        }
        if !round.lost.is_empty() {
            note.push(format!("removed while a container was starting to use it: {}", names(&round.lost)));
        }
        let bad = !news.is_empty() || !round.lost.is_empty();
        let (type_, reason) =
            if bad { (EventType::Warning, "ImagesNotRemoved") } else { (EventType::Normal, "ImagesRemoved") };
        if !note.is_empty() {
            self.raise(type_, reason, &note.join("; "));
        }
    }

    fn raise(&self, type_: EventType, reason: &str, note: &str) {
        if let Some(events) = &self.events {
            events.raise(type_, reason, note);
        }
    }
}
