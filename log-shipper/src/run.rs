//! `log-shipper run`: starts the parts, and ends them in order: readers, then shipping, then the checkpoint.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use axum::http::StatusCode;
use axum::routing::get;
use rustix::process::{Resource, getrlimit, setrlimit};
use sidecar::daemon::Daemon;
use sidecar::kubernetes::explain;
use sidecar::readiness::Health;
use tokio::sync::mpsc::unbounded_channel;

use crate::checkpoint::Saved;
use crate::content::Decoders;
use crate::discover::{Choice, Discovery, Findings};
use crate::encode::Shipper;
use crate::follow::{QUIET, QUIET_UNTIL_IDLE, Reading};
use crate::idle::{Patience, Progress};
use crate::keeper::{self, Keeper};
use crate::metrics::Metrics;
use crate::outgoing::Budget;
use crate::output::Sink;
use crate::own::Own;
use crate::pods::{self, Pods};
use crate::pool::{self, Pool};
use crate::registry::Registry;
use crate::settings::{Output, RunSettings};
use crate::state_dir::{Complaint, StateDir};
use crate::threads::{Ended, thread};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often the checkpoint is written, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// The least time between two of them; one that comes early costs this many times its own time at the most.
const CHECKPOINT_GAP: Duration = Duration::from_millis(100);
const CHECKPOINT_SHARE: u32 = 20;

/// How long the last checkpoint may take.
const CHECKPOINT_LIMIT: Duration = Duration::from_millis(1500);

/// When the process ends after the signal, whatever still runs.
const END_LIMIT: Duration = Duration::from_millis(9500);

/// How often `--until-idle` looks whether all is done.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// Why the process ends.
enum End {
    /// A signal came, or all is shipped.
    Wanted,
    /// A thread ended that should go on.
    Thread(Ended),
    /// With `--until-idle`: nothing was read or confirmed for too long.
    Stuck,
}

/// Runs until a signal comes, or with `--until-idle` until all is shipped.
///
/// # Errors
///
/// What can't be started; a part that broke; with `--until-idle` what could not be shipped.
pub async fn run(settings: RunSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    let mut daemon = Daemon::start(NAME, VERSION, settings.log.clone().with_warnings(warnings))?;
    announce(&settings);
    raise_open_files();
    let metrics = Metrics::default();
    metrics.register(&daemon.metrics);
    // How the broker is, is no question of whether this works.
    let (found, output) = (daemon.health.latch("logs"), Health::default());
    let flows = output.latch("output");
    let findings = Findings::default();
    let found = (found, findings.clone());
    daemon.serve(settings.admin, routes(output.clone())).await?;
    let shutdown = daemon.shutdown.clone();

    let checkpoint = keeper::checkpoint_path(&settings.output, &settings.logs.state_dir);
    let state = checkpoint.as_ref().map(|_| StateDir::take(&settings.logs.state_dir)).transpose()?.map(Arc::new);
    let (saved, fresh) = match &checkpoint {
        Some(path) => keeper::load(path)?,
        None => (Saved::default(), true),
    };
    let budget = Budget::new(settings.window_bytes);
    let pods = Arc::new(Pods::new(settings.logs.labels.clone()));
    let node = settings.node_name.clone().filter(|_| settings.watch_pods);
    let watching_pods = node.map(|node| tokio::spawn(watch_pods(node, pods.clone(), metrics.clone())));
    let shipper = shipper(&settings, &own_hostname());
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
        quiet: if settings.until_idle.is_some() { QUIET_UNTIL_IDLE } else { QUIET },
        until_idle: settings.until_idle.is_some(),
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
    let progress = || Progress {
        read: metrics.bytes_read.get(),
        settled: metrics.messages_confirmed.get() + metrics.messages_given_up.get() + metrics.events_confirmed.get(),
        looked: first_look_done.get().is_some(),
    };
    let to_reader = matches!(settings.output, Output::Stdout);
    let mut patience = settings.until_idle.map(|limit| Patience::new(limit, Instant::now()));
    let watching = async {
        let now = tokio::time::Instant::now();
        let (mut not_before, mut next) = (now + CHECKPOINT_GAP, now + CHECKPOINT_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return End::Wanted,
                Some(end) = ends.recv() => return End::Thread(end),
                () = keeper.is_due(&budget, not_before, next) => {
                    let began = tokio::time::Instant::now();
                    keeper.write().await;
                    next = began + CHECKPOINT_EVERY;
                    not_before = began + (CHECKPOINT_SHARE * began.elapsed()).clamp(CHECKPOINT_GAP, CHECKPOINT_EVERY);
                }
                () = tokio::time::sleep(IDLE_CHECK), if patience.is_some() => {
                    if is_idle() {
                        return End::Wanted;
                    }
                    let reader = to_reader && budget.used() > 0;
                    if patience.as_mut().is_some_and(|patience| patience.is_over(progress(), reader, Instant::now())) {
                        return End::Stuck;
                    }
                }
            }
        }
    };
    let (budget_of_sink, until_idle) = (budget.clone(), settings.until_idle.is_some());
    let sink =
        Sink { output: settings.output, budget: budget_of_sink, metrics: metrics.clone(), latch: flows, until_idle };
    let work = async {
        let shipped = sink.run(&mut batches, &stop);
        tokio::pin!(shipped);
        let end = tokio::select! {
            biased;
            // The output broke: nothing more is worth reading.
            shipped = &mut shipped => {
                shutdown.begin();
                end_reading();
                return shipped;
            }
            end = watching => end,
        };
        let obstacles = output.not_ready();
        // No more is read; what was read is still shipped, within the drain time.
        shutdown.begin();
        end_reading();
        shipped.await?;
        match end {
            End::Wanted => Ok(()),
            End::Thread(Ended { name, panicked: true }) => {
                Err(anyhow!("the {name} thread panicked; see the lines before this one"))
            }
            End::Thread(Ended { name, panicked: false }) => Err(anyhow!("the {name} thread ended")),
            End::Stuck => Err(stuck(settings.until_idle, budget.used(), &obstacles)),
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
    daemon.end().await;
    worked.unwrap_or(Ok(()))?;
    if settings.until_idle.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    if keeper.complaint.is_open() {
        bail!("the checkpoint could not be written: the same lines are shipped again by the next run");
    }
    if let Some(failure) = findings.failure() {
        bail!("not all logs could be read: {failure}");
    }
    match metrics.messages_given_up.get() {
        0 => Ok(ExitCode::SUCCESS),
        given_up => bail!("{given_up} messages were given up that the broker never takes; the log names them"),
    }
}

/// What `--until-idle` ends with when it waits in vain.
fn stuck(limit: Option<Duration>, unconfirmed: usize, obstacles: &[String]) -> anyhow::Error {
    let seconds = limit.unwrap_or_default().as_secs();
    let why = if obstacles.is_empty() { "the log says why".to_owned() } else { obstacles.join("; ") };
    anyhow!(
        "not all was shipped: nothing was read or confirmed for {seconds} s (--give-up-after), and {unconfirmed} bytes of events are not \
         confirmed; {why}. The next run reads them again"
    )
}

/// `/output`: whether events go out, and if not, why.
fn routes(output: Health) -> axum::Router {
    let answer = async move || match output.not_ready() {
        obstacles if obstacles.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        obstacles => (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n"),
    };
    axum::Router::new().route("/output", get(answer))
}

async fn watch_pods(node: String, pods: Arc<Pods>, metrics: Metrics) {
    match sidecar::kubernetes::client().await {
        Ok(client) => pods::watch(client, &node, &pods, &metrics).await,
        Err(error) => {
            let error = explain(&error);
            tracing::error!(error, "the pods of this node can't be watched; events go without their labels");
        }
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
        version = VERSION, paths = ?settings.logs.paths, schema = ?settings.schema, output,
        state = %settings.logs.state_dir.display(), "{NAME} starts"
    );
}

fn own_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
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
