//! `log-shipper run`: starts the parts, and ends them in order: readers, then shipping, then the checkpoint.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, getrlimit, setrlimit};
use sidecar::admin::AdminServer;
use sidecar::readiness::Health;
use sidecar::shutdown::Shutdown;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, CheckpointError, Saved};
use crate::content::Decoders;
use crate::discover::{Choice, Discovery, Findings};
use crate::encode::Shipper;
use crate::follow::{QUIET, QUIET_UNTIL_IDLE, Reading};
use crate::metrics::Metrics;
use crate::outgoing::{Batch, Budget};
use crate::output;
use crate::own::Own;
use crate::pods::{self, Pods};
use crate::pool::{self, Pool};
use crate::registry::Registry;
use crate::settings::{Output, RunSettings};
use crate::ship::{Shipping, ship};
use crate::state_dir::{Complaint, StateDir};

/// How often the checkpoint is written, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// The least time between two of them; one that comes early costs this many times its own time at the most.
const CHECKPOINT_GAP: Duration = Duration::from_millis(100);
const CHECKPOINT_SHARE: u32 = 20;

/// How long shipping may go on after the readers ended; the rest of the drain time is for the checkpoint.
const SHIP_LIMIT: Duration = Duration::from_secs(7);

/// How long the last checkpoint may take.
const CHECKPOINT_LIMIT: Duration = Duration::from_millis(1500);

/// When the process ends after the signal, whatever still runs.
const END_LIMIT: Duration = Duration::from_millis(9500);

/// Runs until a signal comes, or with `--until-idle` until all is shipped.
///
/// # Errors
///
/// What can't be started.
pub async fn run(settings: RunSettings, hostname: String, warnings: &[String]) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen().context("cannot listen for signals")?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    announce(&settings);
    raise_open_files();
    let (metrics, health) = (Metrics::default(), Health::default());
    let exported = sidecar::metrics::Metrics::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    metrics.register(&exported);
    let (found, connected) = (health.latch("logs"), health.latch("output"));
    let findings = Findings::default();
    let found = (found, findings.clone());
    let admin = AdminServer::bind(settings.admin, health.clone(), exported, axum::Router::new()).await?;
    let admin_token = CancellationToken::new();
    let serving = tokio::spawn(admin.serve(admin_token.clone()));

    let checkpoint = checkpoint_path(&settings);
    let state = checkpoint.as_ref().map(|_| StateDir::take(&settings.logs.state_dir)).transpose()?.map(Arc::new);
    let (saved, fresh) = match &checkpoint {
        Some(path) => load(path)?,
        None => (Saved::default(), true),
    };
    let budget = Budget::new(settings.window_bytes);
    let pods = Arc::new(Pods::new(settings.logs.labels.clone()));
    let node = settings.node_name.clone().filter(|_| settings.watch_pods);
    let watching_pods = node.map(|node| tokio::spawn(watch_pods(node, pods.clone(), metrics.clone())));
    let shipper = shipper(&settings, &hostname);
    let own_mark = matches!(settings.output, Output::Stdout).then(|| shipper.ephemeral_id.clone());
    let reading = Arc::new(Reading {
        schema: settings.schema,
        shipper,
        own_mark,
        pods,
        opt_out: settings.logs.opt_out,
        asks_labels: settings.watch_pods && !settings.logs.labels.is_empty(),
        exclude: settings.lines.exclude,
        json_lines: settings.lines.json,
        lines_per_second: settings.lines.per_second,
        traces: settings.lines.traces,
        max_line: settings.lines.max_line,
        partial_bytes_max: settings.lines.partial_bytes_max,
        quiet: if settings.until_idle { QUIET_UNTIL_IDLE } else { QUIET },
        until_idle: settings.until_idle,
        batching: settings.batching,
        budget: budget.clone(),
        decoders: Decoders::default(),
        partial_bytes: Arc::default(),
        metrics: metrics.clone(),
    });
    let (pool, registry) = (Arc::new(Pool::default()), Arc::new(Registry::new(saved)));
    let (sender, mut batches) = unbounded_channel();
    let first_look_done = Arc::new(OnceLock::new());
    let (ended, mut ends) = unbounded_channel();
    let readers: Vec<_> = (0..settings.logs.reader_threads)
        .map(|_| {
            let (pool, reading, sender) = (pool.clone(), reading.clone(), sender.clone());
            let first_look_done = first_look_done.clone();
            thread("reader", &ended, move || {
                // What is kept of each log is then not among the events, whose memory is given back only from its end.
                first_look_done.wait();
                pool::read(&pool, &reading, &sender);
            })
        })
        .collect::<Result<_, _>>()?;
    drop(sender);
    let stop_looking = Arc::new(AtomicBool::new(false));
    let discovery = {
        let choice = Choice {
            namespaces: settings.logs.namespaces.clone(),
            excluded_namespaces: settings.logs.excluded_namespaces.clone(),
            labels: settings.logs.labels.clone(),
            asks_pods: settings.watch_pods,
            own: Own::of_process(settings.pod_uid.as_deref()),
        };
        let (pool, registry, reading) = (pool.clone(), registry.clone(), reading.clone());
        let at_end = fresh && settings.logs.at_end;
        let (roots, pinned) = (settings.logs.paths.clone(), settings.logs.pinned_bytes_max);
        let (stop, done) = (stop_looking.clone(), first_look_done.clone());
        thread("discovery", &ended, move || {
            let mut discovery = Discovery::new(roots, choice, pinned, at_end, reading, pool, registry, found);
            discovery.first_look();
            done.get_or_init(|| ());
            discovery.run(&stop);
        })?
    };

    let keeper =
        Keeper { place: checkpoint.zip(state), registry, metrics: metrics.clone(), complaint: Complaint::default() };
    let stop = shutdown.token();
    let is_idle = || first_look_done.get().is_some() && pool.is_idle() && budget.used() == 0;
    let end_reading = || {
        stop_looking.store(true, Ordering::Relaxed);
        pool.close();
        budget.close();
    };
    // Ends when a signal came, all is idle, or a thread that should go on has ended.
    let watching = async {
        let now = tokio::time::Instant::now();
        let (mut not_before, mut next) = (now + CHECKPOINT_GAP, now + CHECKPOINT_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(end) = ends.recv() => return Err(end),
                () = keeper.is_due(&budget, not_before, next) => {
                    let began = tokio::time::Instant::now();
                    keeper.write().await;
                    next = began + CHECKPOINT_EVERY;
                    not_before = began + (CHECKPOINT_SHARE * began.elapsed()).clamp(CHECKPOINT_GAP, CHECKPOINT_EVERY);
                }
                () = tokio::time::sleep(Duration::from_millis(50)), if settings.until_idle => if is_idle() {
                    return Ok(());
                },
            }
        }
    };
    let shipping = Ship { output: settings.output, budget: budget.clone(), metrics, latch: connected };
    let work = async {
        let shipped = shipping.run(&mut batches, &stop);
        tokio::pin!(shipped);
        let watched = tokio::select! {
            biased;
            // The output broke: nothing more is worth reading.
            shipped = &mut shipped => {
                shutdown.begin();
                end_reading();
                return shipped;
            }
            watched = watching => watched,
        };
        // No more is read; what was read is still shipped, within the drain time.
        shutdown.begin();
        end_reading();
        shipped.await?;
        match watched {
            Ok(()) => Ok(()),
            Err(Ended { name, panicked: true }) => {
                Err(anyhow!("the {name} thread panicked; see the lines before this one"))
            }
            Err(Ended { name, panicked: false }) => Err(anyhow!("the {name} thread ended")),
        }
    };
    let ended_by = async {
        stop.cancelled().await;
        Instant::now() + END_LIMIT
    };
    let (worked, ended_by) = tokio::join!(shutdown.drain(work), ended_by);
    keeper.registry.mark_changed();
    if tokio::time::timeout(CHECKPOINT_LIMIT, keeper.write()).await.is_err() {
        tracing::error!("the last checkpoint could not be written in time; lines may be shipped twice after a restart");
    }
    // A reader may be in the middle of a large compressed file. What it reads now is read again by the next run.
    while !readers.iter().chain([&discovery]).all(std::thread::JoinHandle::is_finished) && Instant::now() < ended_by {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Some(watching) = watching_pods {
        watching.abort();
    }
    admin_token.cancel();
    match tokio::time::timeout_at(ended_by.into(), serving).await {
        Ok(served) => served.context("the admin server broke")?,
        Err(_) => tracing::warn!("a client of the admin server is left behind"),
    }
    worked.unwrap_or(Ok(()))?;
    if settings.until_idle && keeper.complaint.is_open() {
        anyhow::bail!("the checkpoint could not be written: the same lines are shipped again by the next run");
    }
    match findings.failure().filter(|_| settings.until_idle) {
        Some(failure) => Err(anyhow!("not all logs could be read: {failure}")),
        None => Ok(()),
    }
}

/// A thread that ended before its time.
struct Ended {
    name: &'static str,
    panicked: bool,
}

/// Tells when its thread ends, and how.
struct Guard {
    name: &'static str,
    ended: UnboundedSender<Ended>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // After the end of the run nobody wants to know.
        let _ = self.ended.send(Ended { name: self.name, panicked: std::thread::panicking() });
    }
}

async fn watch_pods(node: String, pods: Arc<Pods>, metrics: Metrics) {
    match sidecar::kubernetes::client().await {
        Ok(client) => pods::watch(client, &node, &pods, &metrics).await,
        Err(error) => tracing::error!(%error, "the pods of this node can't be watched; events go without their labels"),
    }
}

struct Ship {
    output: Output,
    budget: Budget,
    metrics: Metrics,
    latch: sidecar::readiness::Latch,
}

impl Ship {
    async fn run(self, batches: &mut UnboundedReceiver<Batch>, stop: &CancellationToken) -> anyhow::Result<()> {
        let Self { output, budget, metrics, latch } = self;
        let limit = async {
            stop.cancelled().await;
            tokio::time::sleep(SHIP_LIMIT).await;
        };
        match output {
            Output::Amqp(broker) => {
                let shipping = Shipping { broker: *broker, budget, metrics, latch };
                tokio::select! {
                    () = ship(&shipping, batches, stop) => (),
                    () = limit => tracing::warn!("not all was confirmed in time; the rest is read again by the next run"),
                }
                Ok(())
            }
            Output::Null => {
                latch.ready();
                tokio::select! {
                    () = output::drop_all(batches, &budget, &metrics) => (),
                    () = limit => (),
                }
                Ok(())
            }
            Output::Stdout => {
                latch.ready();
                let (_, empty) = unbounded_channel();
                let mut batches = std::mem::replace(batches, empty);
                let (done, written) = oneshot::channel();
                let writing = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
                    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
                    let written = output::write_lines(&mut out, &mut batches, &budget, &metrics);
                    // Without a receiver the run has ended.
                    let _ = done.send(written);
                });
                writing.context("cannot start the output thread")?;
                tokio::select! {
                    written = written => {
                        written.context("the output thread panicked; see the lines before this one")?
                            .context("cannot write to standard output")
                    }
                    () = limit => {
                        tracing::warn!("standard output does not take all lines in time; the rest is written by the next run");
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Keeps the checkpoint up to date.
struct Keeper {
    /// The file and its folder; `None` for an output that keeps none.
    place: Option<(PathBuf, Arc<StateDir>)>,
    registry: Arc<Registry>,
    metrics: Metrics,
    complaint: Complaint,
}

impl Keeper {
    /// Returns at `at`, or as soon as much was confirmed: what was and is not written comes again after a kill.
    async fn is_due(&self, budget: &Budget, not_before: tokio::time::Instant, at: tokio::time::Instant) {
        if self.place.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(not_before).await;
        tokio::select! {
            () = tokio::time::sleep_until(at) => (),
            () = budget.much_given() => (),
        }
    }

    async fn write(&self) {
        let Some((path, state)) = self.place.clone() else { return };
        if self.metrics.checkpoints.get() > 0 && !path.exists() {
            // Somebody deleted it.
            self.registry.mark_changed();
        }
        let Some(saved) = self.registry.take_changes() else { return };
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || state.replace(&path, &checkpoint::render(&saved))).await;
        let error = match written {
            Ok(Ok(())) => {
                self.metrics.checkpoints.inc();
                if self.complaint.is_over() {
                    tracing::info!(file = shown, "the checkpoint is written again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.checkpoint_errors.inc();
        self.registry.mark_changed();
        if self.complaint.is_due() {
            tracing::error!(
                file = shown,
                error,
                "the checkpoint can't be written; lines may be shipped twice after a restart"
            );
        }
    }
}

/// Where it is kept how far logs were read: each kind of output has its own, so that lines that went elsewhere are shipped, too.
fn checkpoint_path(settings: &RunSettings) -> Option<PathBuf> {
    let name = match settings.output {
        Output::Amqp(_) => checkpoint::FILE_NAME,
        Output::Stdout => checkpoint::STDOUT_FILE_NAME,
        Output::Null => return None,
    };
    Some(settings.logs.state_dir.join(name))
}

/// What an earlier run left, and whether that was nothing.
fn load(path: &Path) -> anyhow::Result<(Saved, bool)> {
    match checkpoint::read(path) {
        Ok(Some(saved)) => Ok((saved, false)),
        Ok(None) => Ok((Saved::default(), true)),
        Err(error @ CheckpointError::Broken { .. }) => {
            let aside = checkpoint::set_aside(path).with_context(|| format!("{error}; it can't be moved aside"))?;
            tracing::error!(%error, kept_as = %aside.display(), "starting without a checkpoint, from READ_FROM");
            Ok((Saved::default(), true))
        }
        Err(error) => Err(error.into()),
    }
}

fn announce(settings: &RunSettings) {
    let output = match &settings.output {
        Output::Amqp(broker) => {
            let hosts: Vec<_> =
                broker.addresses.iter().map(|address| format!("{}:{}", address.host, address.port)).collect();
            format!("{}, exchange {}", hosts.join(","), broker.endpoint.exchange)
        }
        Output::Stdout => "stdout".to_owned(),
        Output::Null => "null".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), paths = ?settings.logs.paths, schema = ?settings.schema, output,
        state = %settings.logs.state_dir.display(), "log-shipper starts"
    );
}

fn shipper(settings: &RunSettings, hostname: &str) -> Shipper {
    let digits = |key: &str| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(key.as_bytes()));
    let started = jiff::Timestamp::now().as_nanosecond();
    Shipper {
        name: settings.shipper_name.as_deref().or(settings.node_name.as_deref()).unwrap_or(hostname).to_owned(),
        hostname: hostname.to_owned(),
        node: settings.node_name.clone(),
        id: digits(settings.node_name.as_deref().unwrap_or(hostname)),
        ephemeral_id: digits(&format!("{hostname} {} {started}", std::process::id())),
    }
}

/// Every log file stays open, so that a deletion loses nothing.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files can't be raised");
        }
    }
}

fn thread(
    name: &'static str,
    ended: &UnboundedSender<Ended>,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let guard = Guard { name, ended: ended.clone() };
    let builder = std::thread::Builder::new().name(name.to_owned());
    let spawned = builder.spawn(move || {
        let _guard = guard;
        work();
    });
    spawned.with_context(|| format!("cannot start the {name} thread"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_thread_is_heard_of_and_a_panic_too() {
        let (ended, mut ends) = unbounded_channel();
        thread("one", &ended, || ()).unwrap();
        let end = ends.recv().await.unwrap();
        assert_eq!((end.name, end.panicked), ("one", false));
        thread("two", &ended, || panic!("on purpose")).unwrap();
        let end = ends.recv().await.unwrap();
        assert_eq!((end.name, end.panicked), ("two", true));
    }
}
