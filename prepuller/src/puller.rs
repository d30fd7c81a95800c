//! The puller: pulls the ordered images to this machine by priority, and reports its progress.
//!
//! `schedule.rs` decides which pull starts next, `presence.rs` which images are present already (both pure).
//! `pulling.rs` carries out one pull under the disk guard, and `puller.rs` is the loop: look, decide, start, report.
//! `prepuller pull` runs it until everything is settled, `prepuller node` until a signal with orders that change.

mod factor;
mod presence;
mod pulling;
mod report;
mod schedule;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab_images::registry::{Credentials, Registry};
use lab_images::runtime::disk::DiskGuard;
use lab_images::runtime::{FileSystem, PullLimits, Runtime, RuntimeError};
use prometheus_client::metrics::histogram::Histogram;
use sidecar::schedule::random;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use pulling::{Ended, Pulling};
use schedule::{Next, Retries};

pub use report::{Done, Job, Orders, Report, RuntimeProblem};
pub use schedule::State;

/// How often running pulls are checked. A check takes microseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often the runtime's images are listed while nothing else happens, because an image may have been removed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// The pause before a runtime that did not answer is asked again.
const RUNTIME_RETRY: Duration = Duration::from_secs(5);

/// How often the disk is measured during a pull of unknown size: a fast disk fills by gigabytes a second.
const UNKNOWN_SIZE_INTERVAL: Duration = Duration::from_millis(25);

/// How the puller works.
#[derive(Debug)]
pub struct PullerSettings {
    /// When a pull is aborted.
    pub limits: PullLimits,
    /// The maximum number of running pulls (`PREPULLER_PARALLEL_IMAGES`): one downloads while others unpack.
    pub parallel: usize,
    /// The disk limit in percent (`DISK_HIGH`).
    pub disk_high: u8,
    /// The file of the unpack factor, if it is kept.
    pub factor_file: Option<PathBuf>,
    /// When the puller ends.
    pub until: Until,
    /// Records the durations of successful pulls.
    pub durations: Option<Histogram>,
}

/// When the puller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When every order is present or has failed for good (`prepuller pull`).
    Settled,
    /// Never: orders change, and failures are retried (`prepuller node`).
    Shutdown,
}

/// Pulls the ordered images to one machine.
pub struct Puller {
    runtime: Arc<dyn Runtime>,
    credentials: Arc<Credentials>,
    registry: Option<Arc<Registry>>,
    settings: PullerSettings,
    guard: DiskGuard,
    retries: Retries,
    report: watch::Sender<Report>,
    generation: i64,
    pulls: JoinSet<Ended>,
    /// In the order in which they started.
    running: Vec<Pulling>,
}

impl Puller {
    /// A puller for this runtime, which sends its reports to `report`.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        credentials: Arc<Credentials>,
        settings: PullerSettings,
        report: watch::Sender<Report>,
    ) -> Self {
        let factor = factor::read(settings.factor_file.as_deref());
        Self {
            guard: DiskGuard::new(settings.disk_high, factor),
            retries: match settings.until {
                Until::Settled => Retries::Few,
                Until::Shutdown => Retries::Forever,
            },
            runtime,
            credentials,
            registry: None,
            settings,
            report,
            generation: 0,
            pulls: JoinSet::new(),
            running: Vec::new(),
        }
    }

    /// Asks this registry for the size of an image just before its pull, if the order does not contain it.
    #[must_use]
    pub fn asking(mut self, registry: Arc<Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Works until everything is settled or `shutdown` is cancelled. Running pulls are then cancelled, and the runtime
    /// keeps what was downloaded.
    pub async fn run(mut self, mut orders: watch::Receiver<Orders>, shutdown: CancellationToken) {
        orders.mark_changed();
        let (mut next_look, mut usable) = (Instant::now(), false);
        loop {
            if orders.has_changed().unwrap_or(false) {
                self.take(orders.borrow_and_update().clone());
                next_look = Instant::now();
            }
            if Instant::now() >= next_look {
                usable = self.look().await;
                next_look = Instant::now() + if usable { REFRESH_INTERVAL } else { RUNTIME_RETRY };
            }
            let wake = if usable { self.start_next().await } else { Some(next_look) };
            if wake.is_none() && self.pulls.is_empty() && self.settings.until == Until::Settled {
                return;
            }
            let wake = wake.map_or(next_look, |wake| wake.min(next_look));
            let look_interval = self.look_interval();
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = orders.changed() => orders.mark_changed(),
                Some(ended) = self.pulls.join_next_with_id(), if !self.pulls.is_empty() => {
                    let (id, ended) = match ended {
                        Ok(ended) => ended,
                        Err(error) => (error.id(), Ended::Failed(format!("the pull ended without a result: {error}"))),
                    };
                    let failed = matches!(ended, Ended::Failed(_));
                    if failed {
                        // The runtime itself may be unavailable. That says nothing about the image, and the next pull
                        // would fail, too.
                        usable = self.look().await;
                        next_look = Instant::now() + if usable { REFRESH_INTERVAL } else { RUNTIME_RETRY };
                    }
                    self.end(id, if failed && !usable { Ended::WithTheRuntime } else { ended }).await;
                }
                () = tokio::time::sleep(look_interval), if !self.running.is_empty() => {
                    self.report_progress();
                    self.keep_room().await;
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Takes new orders: orders that remain keep their state, and pulls of others are cancelled.
    fn take(&mut self, Orders { generation, orders }: Orders) {
        self.generation = generation;
        let stays = |pulling: &Pulling| orders.iter().any(|order| pulling.is_for(order));
        for pulling in self.running.extract_if(.., |pulling| !stays(pulling)) {
            pulling.cancel(&mut self.guard);
        }
        self.report.send_modify(|report| report.take(orders));
    }

    /// Lists the runtime's images. Returns whether the runtime answered.
    async fn look(&mut self) -> bool {
        let looked: Result<_, RuntimeError> = async {
            Ok((self.runtime.version().await?, self.runtime.images().await?, self.runtime.file_system().await?))
        }
        .await;
        match looked {
            Ok((version, images, disk)) => {
                let held = presence::Held::new(&images);
                self.report.send_modify(|report| {
                    let is_back = report.runtime_problem.take().is_some();
                    (report.looked, report.runtime, report.disk) = (Some(self.generation), Some(version), Some(disk));
                    for job in &mut report.jobs {
                        // Failures while the runtime was unavailable were caused by that.
                        if is_back && matches!(job.state, State::Failed { .. }) {
                            job.enter(State::Waiting);
                        }
                        match (&job.state, held.holds(&job.order.image, job.order.digest.as_ref())) {
                            (State::Pulling { .. }, _) | (State::Present, presence::Presence::Here) => {}
                            (_, presence::Presence::Here) => job.enter(State::Present),
                            // The other image is gone.
                            (State::OtherDigest { .. }, presence::Presence::Absent) => job.enter(State::Waiting),
                            (State::Present, _) => job.enter(State::Waiting),
                            (
                                State::Waiting
                                | State::OtherDigest { .. }
                                | State::Failed { .. }
                                | State::Refused { .. },
                                _,
                            ) => {}
                        }
                    }
                });
                true
            }
            Err(error) => {
                self.report.send_modify(|report| {
                    if report.runtime_is_away(error.to_string()) {
                        tracing::warn!(%error, "the container runtime can't be used");
                    }
                });
                false
            }
        }
    }

    /// Starts pulls until the schedule says to wait. Returns when to check again, if there is anything to wait for.
    async fn start_next(&mut self) -> Option<Instant> {
        loop {
            let states: Vec<State> = self.report.borrow().jobs.iter().map(|job| job.state.clone()).collect();
            match schedule::next(&states, self.settings.parallel, Instant::now()) {
                Next::Start(job) => self.start(job).await,
                Next::WaitUntil(at) => return Some(at),
                Next::WaitForPulls => return Some(Instant::now() + REFRESH_INTERVAL),
                Next::Settled => return None,
            }
        }
    }

    /// Handles a pull that ended, successfully or not. A cancelled pull is not in the list any more.
    async fn end(&mut self, id: Id, ended: Ended) {
        let Some(index) = self.running.iter().position(|pulling| pulling.id() == id) else { return };
        // This keeps the order of starts, because the disk guard stops the pull that started last.
        let pulling = self.running.remove(index);
        let disk = self.runtime.file_system().await.ok();
        let well = matches!(ended, Ended::Present | Ended::OtherDigest(..));
        let (order, progress) = pulling.end(&mut self.guard, well, disk.as_ref());
        factor::write(self.settings.factor_file.as_deref(), self.guard.factor());
        let (retries, durations) = (self.retries, self.settings.durations.as_ref());
        self.report.send_modify(|report| {
            report.disk = disk.or(report.disk.take());
            report.done.bytes = report.done.bytes.saturating_add(progress.done);
            match ended {
                Ended::Present => report.done.pulled += 1,
                Ended::WithTheRuntime => report.done.interrupted += 1,
                Ended::OtherDigest(..) | Ended::Failed(_) => report.done.failed += 1,
            }
            let Some(job) = report.jobs.iter_mut().find(|job| job.is_for(&order)) else { return };
            let (image, seconds) = (&order.image, progress.elapsed.as_secs_f64());
            job.progress = progress;
            if matches!(ended, Ended::OtherDigest(..) | Ended::Failed(_)) {
                job.failures = job.failures.saturating_add(1);
            }
            let state = match ended {
                Ended::Present => {
                    if let Some(durations) = durations {
                        durations.observe(seconds);
                    }
                    tracing::info!(%image, bytes = job.progress.done, seconds, "pulled");
                    State::Present
                }
                Ended::WithTheRuntime => {
                    tracing::warn!(%image, seconds, "pull interrupted: the container runtime can't be used");
                    State::Waiting
                }
                Ended::OtherDigest(error, arrived) => {
                    tracing::warn!(%image, seconds, error, "a different image than the ordered one was pulled");
                    retries.other_digest(job.failures, (error, arrived), Instant::now(), random())
                }
                Ended::Failed(error) => {
                    tracing::warn!(%image, seconds, error, "pull failed");
                    retries.failed(job.failures, error, Instant::now(), random())
                }
            };
            job.enter(state);
        });
    }

    /// When to check running pulls and the disk next.
    fn look_interval(&self) -> Duration {
        let all_known = self.running.iter().all(Pulling::size_is_known);
        if all_known { LOOK_INTERVAL } else { UNKNOWN_SIZE_INTERVAL }
    }

    fn report_progress(&mut self) {
        let running = &mut self.running;
        self.report.send_modify(|report| {
            for pulling in running {
                let Some(job) = report.jobs.iter_mut().find(|job| pulling.is_for(&job.order)) else { continue };
                job.progress = pulling.progress();
                let state = State::Pulling { phase: job.progress.phase, idle: pulling.idle(&job.progress) };
                match &job.state {
                    State::Pulling { phase, .. } if *phase == job.progress.phase => job.state = state,
                    _ => job.enter(state),
                }
            }
        });
    }

    /// Measures the disk. If it is fuller than the limit, the pull that started last is stopped. The runtime keeps what
    /// was downloaded for a while.
    async fn keep_room(&mut self) {
        // The path comes from the last look at the runtime, because asking again would take too long here.
        let path = self.report.borrow().disk.as_ref().map(|disk| disk.path.clone());
        let Some(path) = path else { return };
        let Ok(disk) = FileSystem::measure(&path).await else { return };
        if let Some(overrun) = self.guard.overrun(&disk)
            && let Some(pulling) = self.running.pop()
        {
            let order = pulling.cancel(&mut self.guard);
            tracing::warn!(image = %order.image, %overrun, "pull stopped");
            let state = self.retries.refused(overrun.to_string(), !self.running.is_empty(), Instant::now());
            self.report.send_modify(|report| {
                report.done.refused += 1;
                if let Some(job) = report.jobs.iter_mut().find(|job| job.is_for(&order)) {
                    job.enter(state);
                }
            });
        }
        self.report.send_modify(|report| report.disk = Some(disk));
    }
}
