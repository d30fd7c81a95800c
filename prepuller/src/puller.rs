//! The puller: has this machine hold what was ordered, in order of priority, and tells how far it is.
//!
//! `schedule.rs` decides which pull starts next, `presence.rs` what is there already (both pure), `pulling.rs` carries out
//! one pull behind the disk guard, `puller.rs` goes round: look, decide, start, tell. `prepuller pull` runs it until
//! everything is settled, `prepuller node` for ever with orders that change.

mod factor;
mod presence;
mod pulling;
mod schedule;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab_images::registry::Credentials;
use lab_images::runtime::disk::DiskGuard;
use lab_images::runtime::{FileSystem, Phase, Progress, PullLimits, Runtime, RuntimeError};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::node_images::Order;
use pulling::{Ended, Pulling};
use schedule::{Next, Retries};

pub use schedule::State;

/// How often running pulls are looked at. A look costs microseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often the runtime is asked what it holds while nothing else happens: somebody may have removed an image.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// After how long a runtime that did not answer is asked again.
const RUNTIME_RETRY: Duration = Duration::from_secs(5);

/// How the puller works.
#[derive(Debug)]
pub struct PullerSettings {
    /// When a pull is given up.
    pub limits: PullLimits,
    /// Pulls in flight (`PREPULLER_PARALLEL_IMAGES`): one downloads while others unpack.
    pub parallel: usize,
    /// The disk limit in percent (`DISK_HIGH`).
    pub disk_high: u8,
    /// Where the unpack factor is kept; nowhere when unset.
    pub factor_file: Option<PathBuf>,
    /// Whether it ends once nothing is left to do.
    pub until: Until,
}

/// When the puller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When every order is there or has failed for good (`prepuller pull`).
    Settled,
    /// Never: orders change, failures are tried again (`prepuller node`).
    Shutdown,
}

/// How far one order is.
#[derive(Clone, Debug)]
pub struct Job {
    /// What was ordered.
    pub order: Order,
    /// How far it is.
    pub state: State,
    /// Tries that failed.
    pub failures: u32,
    /// Bytes, while it is pulled and after.
    pub progress: Progress,
    /// Since when it has been in this state.
    pub since: jiff::Timestamp,
}

/// What the puller tells.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One job for each order, by priority.
    pub jobs: Vec<Job>,
    /// The file system of images, as last measured.
    pub disk: Option<FileSystem>,
    /// Why the runtime can't be used, while it can't.
    pub runtime_problem: Option<String>,
}

impl Report {
    /// Whether every order is there.
    pub fn all_present(&self) -> bool {
        self.jobs.iter().all(|job| matches!(job.state, State::Present { .. }))
    }
}

/// Has one machine hold what was ordered.
pub struct Puller {
    runtime: Arc<dyn Runtime>,
    credentials: Arc<Credentials>,
    settings: PullerSettings,
    guard: DiskGuard,
    retries: Retries,
    report: watch::Sender<Report>,
    pulls: JoinSet<Ended>,
    running: Vec<Pulling>,
}

impl Puller {
    /// A puller for this runtime, and its reports.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        credentials: Arc<Credentials>,
        settings: PullerSettings,
    ) -> (Self, watch::Receiver<Report>) {
        let (report, reports) = watch::channel(Report::default());
        let factor = factor::read(settings.factor_file.as_deref());
        let puller = Self {
            guard: DiskGuard::new(settings.disk_high, factor),
            retries: match settings.until {
                Until::Settled => Retries::Few,
                Until::Shutdown => Retries::Forever,
            },
            runtime,
            credentials,
            settings,
            report,
            pulls: JoinSet::new(),
            running: Vec::new(),
        };
        (puller, reports)
    }

    /// Works until everything is settled or `shutdown` is cancelled; pulls in flight are then cancelled, and what arrived is
    /// kept by the runtime.
    pub async fn run(mut self, mut orders: watch::Receiver<Vec<Order>>, shutdown: CancellationToken) {
        orders.mark_changed();
        let mut refreshed = None;
        loop {
            if orders.has_changed().unwrap_or(false) {
                self.take(orders.borrow_and_update().clone());
                refreshed = None;
            }
            if refreshed.is_none_or(|at: Instant| at.elapsed() >= REFRESH_INTERVAL) {
                refreshed = self.look().await.then(Instant::now);
            }
            let wake = if refreshed.is_some() { self.start_next().await } else { Some(Instant::now() + RUNTIME_RETRY) };
            if wake.is_none() && self.pulls.is_empty() && self.settings.until == Until::Settled && refreshed.is_some() {
                return;
            }
            let wake = wake.unwrap_or_else(|| Instant::now() + REFRESH_INTERVAL);
            tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = orders.changed() => orders.mark_changed(),
                Some(ended) = self.pulls.join_next_with_id(), if !self.pulls.is_empty() => match ended {
                    Ok((id, ended)) => self.end(id, ended).await,
                    Err(error) => self.end(error.id(), Err(format!("the pull ended without a word: {error}"))).await,
                },
                () = tokio::time::sleep(LOOK_INTERVAL), if !self.running.is_empty() => self.tell_progress(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Takes over changed orders: those that stay keep their state, pulls of others are cancelled.
    fn take(&mut self, orders: Vec<Order>) {
        let stays = |pulling: &Pulling| orders.iter().any(|order| pulling.is_for(order));
        for pulling in self.running.extract_if(.., |pulling| !stays(pulling)) {
            pulling.cancel(&mut self.guard);
        }
        self.report.send_modify(|report| {
            let known = std::mem::take(&mut report.jobs);
            let job = |order: Order| {
                let same = |job: &&Job| job.order.image == order.image && job.order.digest == order.digest;
                match known.iter().find(same) {
                    Some(job) => Job { order, ..job.clone() },
                    None => Job::new(order),
                }
            };
            report.jobs = orders.into_iter().map(job).collect();
            report.jobs.sort_by_key(|job| job.order.priority);
        });
    }

    /// Asks the runtime what is there. Whether it answered.
    async fn look(&mut self) -> bool {
        let looked: Result<_, RuntimeError> =
            async { Ok((self.runtime.images().await?, self.runtime.file_system().await?)) }.await;
        match looked {
            Ok((images, disk)) => {
                let held = presence::Held::new(&images);
                self.report.send_modify(|report| {
                    (report.disk, report.runtime_problem) = (Some(disk), None);
                    for job in &mut report.jobs {
                        match (&job.state, held.holds(&job.order.image, job.order.digest.as_ref())) {
                            (State::Pulling { .. }, _) | (State::Present { .. }, presence::Presence::Here) => {}
                            // What arrived was not what the catalogue named; a new catalogue will say so.
                            (State::Present { remark: Some(_) }, presence::Presence::OtherDigest) => {}
                            (_, presence::Presence::Here) => job.enter(State::Present { remark: None }),
                            (State::Present { .. }, _) => job.enter(State::Waiting),
                            (State::Waiting | State::Failed { .. } | State::Refused { .. }, _) => {}
                        }
                    }
                });
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the container runtime does not answer");
                self.report.send_modify(|report| report.runtime_problem = Some(error.to_string()));
                false
            }
        }
    }

    /// Starts pulls until the schedule says to wait. When to look again, if there is anything to wait for.
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

    async fn start(&mut self, job: usize) {
        let order = self.report.borrow().jobs[job].order.clone();
        let missing = pulling::missing_bytes(&*self.runtime, &order).await;
        let disk = self.runtime.file_system().await;
        let now = Instant::now();
        let state = match (missing, disk) {
            (Ok(missing), Ok(disk)) => match self.guard.admit(&disk, missing) {
                Ok(reservation) => {
                    tracing::info!(image = %order.image, bytes = missing, "pull begins");
                    let (runtime, credentials) = (self.runtime.clone(), self.credentials.clone());
                    let limits = self.settings.limits;
                    self.running.push(Pulling::start(
                        &mut self.pulls,
                        runtime,
                        credentials,
                        order,
                        limits,
                        reservation,
                    ));
                    State::Pulling { phase: Phase::Waiting, idle: Duration::ZERO }
                }
                Err(refusal) => {
                    tracing::warn!(image = %order.image, %refusal, "pull does not begin");
                    // Pulls in flight reserve more than they take in the end: worth another look.
                    let room_may_come = refusal.fits_alone() && !self.running.is_empty();
                    self.retries.refused(refusal.to_string(), room_may_come, now)
                }
            },
            (Err(error), _) | (_, Err(error)) => {
                self.report.send_modify(|report| report.jobs[job].failures += 1);
                let failures = self.report.borrow().jobs[job].failures;
                self.retries.failed(failures, error.to_string(), now, jitter())
            }
        };
        self.report.send_modify(|report| report.jobs[job].enter(state));
    }

    /// A pull ended, well or not. One that was cancelled is no longer among the running.
    async fn end(&mut self, id: Id, ended: Ended) {
        let Some(index) = self.running.iter().position(|pulling| pulling.id() == id) else { return };
        let pulling = self.running.swap_remove(index);
        let disk = self.runtime.file_system().await.ok();
        let (order, progress) = pulling.end(&mut self.guard, ended.is_ok(), disk.as_ref());
        factor::write(self.settings.factor_file.as_deref(), self.guard.factor());
        let retries = self.retries;
        self.report.send_modify(|report| {
            report.disk = disk.or(report.disk.take());
            let same = |job: &&mut Job| job.order.image == order.image && job.order.digest == order.digest;
            let Some(job) = report.jobs.iter_mut().find(same) else { return };
            let (image, seconds) = (&order.image, progress.elapsed.as_secs_f64());
            job.progress = progress;
            match ended {
                Ok(remark) => {
                    tracing::info!(%image, bytes = job.progress.done, seconds, remark, "pulled");
                    job.enter(State::Present { remark });
                }
                Err(error) => {
                    tracing::warn!(%image, seconds, error, "pull failed");
                    job.failures = job.failures.saturating_add(1);
                    let state = retries.failed(job.failures, error, Instant::now(), jitter());
                    job.enter(state);
                }
            }
        });
    }

    fn tell_progress(&mut self) {
        let running = &mut self.running;
        self.report.send_modify(|report| {
            for pulling in running {
                let Some(job) = report.jobs.iter_mut().find(|job| pulling.is_for(&job.order)) else { continue };
                job.progress = pulling.progress();
                job.state = State::Pulling { phase: job.progress.phase, idle: pulling.idle(&job.progress) };
            }
        });
    }
}

impl Job {
    fn new(order: Order) -> Self {
        Self { order, state: State::Waiting, failures: 0, progress: Progress::default(), since: jiff::Timestamp::now() }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.since = jiff::Timestamp::now();
    }
}

/// A number in [0, 1) that differs from node to node and from time to time.
fn jitter() -> f64 {
    let nanoseconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    f64::from(nanoseconds.wrapping_mul(2_654_435_761) >> 8) / f64::from(1_u32 << 24)
}
