//! `log-shipper run`: starts the parts, and ends them in order: readers, then shipping, then the checkpoint.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use sidecar::admin::AdminServer;
use sidecar::readiness::Health;
use sidecar::shutdown::Shutdown;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
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

/// How often the checkpoint is written, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How long shipping may go on after the readers ended; the rest of the drain time is for the checkpoint.
const SHIP_LIMIT: Duration = Duration::from_secs(8);

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

    let (saved, fresh) = load(&settings.logs.state_dir)?;
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
    let readers: Vec<_> = (0..settings.logs.reader_threads)
        .map(|_| {
            let (pool, reading, sender) = (pool.clone(), reading.clone(), sender.clone());
            let first_look_done = first_look_done.clone();
            thread("reader", move || {
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
        thread("discovery", move || {
            let mut discovery = Discovery::new(roots, choice, pinned, at_end, reading, pool, registry, found);
            discovery.first_look();
            done.get_or_init(|| ());
            discovery.run(&stop);
        })?
    };

    let keeper =
        Keeper { path: settings.logs.state_dir.join(checkpoint::FILE_NAME), registry, metrics: metrics.clone() };
    let stop = shutdown.token();
    let is_idle = || first_look_done.get().is_some() && pool.is_idle() && budget.used() == 0;
    let watching = async {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(CHECKPOINT_EVERY), if !settings.until_idle => keeper.write().await,
                () = tokio::time::sleep(Duration::from_millis(50)), if settings.until_idle => if is_idle() {
                    shutdown.begin();
                },
            }
        }
        // No more is read; what was read is still shipped, within the drain time.
        stop_looking.store(true, Ordering::Relaxed);
        pool.close();
        budget.close();
    };
    let shipping = Ship { output: settings.output, budget: budget.clone(), metrics, latch: connected };
    let work = async {
        let shipped = shipping.run(&mut batches, &stop);
        let ((), shipped) = tokio::join!(watching, shipped);
        shipped
    };
    let worked = shutdown.drain(work).await;
    keeper.registry.mark_changed();
    keeper.write().await;
    for thread in readers.into_iter().chain([discovery]) {
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
    if let Some(watching) = watching_pods {
        watching.abort();
    }
    admin_token.cancel();
    serving.await.context("the admin server broke")?;
    worked.unwrap_or(Ok(()))?;
    match findings.failure().filter(|_| settings.until_idle) {
        Some(failure) => anyhow::bail!("not all logs could be read: {failure}"),
        None => Ok(()),
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
        match output {
            Output::Amqp(broker) => {
                let shipping = Shipping { broker: *broker, budget, metrics, latch };
                let limit = async {
                    stop.cancelled().await;
                    tokio::time::sleep(SHIP_LIMIT).await;
                };
                tokio::select! {
                    () = ship(&shipping, batches, stop) => (),
                    () = limit => tracing::warn!("not all was confirmed in time; the rest is read again by the next run"),
                }
                Ok(())
            }
            local => {
                latch.ready();
                let (_, empty) = unbounded_channel();
                let mut batches = std::mem::replace(batches, empty);
                let writing = tokio::task::spawn_blocking(move || match local {
                    Output::Stdout => {
                        let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
                        output::write_lines(&mut out, &mut batches, &budget, &metrics)
                    }
                    _ => {
                        output::drop_all(&mut batches, &budget, &metrics);
                        Ok(())
                    }
                });
                writing.await.context("writing broke")?.context("cannot write to standard output")
            }
        }
    }
}

/// Keeps the checkpoint up to date.
struct Keeper {
    path: PathBuf,
    registry: Arc<Registry>,
    metrics: Metrics,
}

impl Keeper {
    async fn write(&self) {
        let Some(saved) = self.registry.take_changes() else { return };
        let path = self.path.clone();
        let written =
            tokio::task::spawn_blocking(move || sidecar::files::replace(&path, &checkpoint::render(&saved))).await;
        let error = match written {
            Ok(Ok(())) => {
                self.metrics.checkpoints.inc();
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.checkpoint_errors.inc();
        self.registry.mark_changed();
        tracing::error!(file = %self.path.display(), error, "the checkpoint can't be written; lines may be shipped twice after a restart");
    }
}

/// What an earlier run left, and whether that was nothing.
fn load(state_dir: &Path) -> anyhow::Result<(Saved, bool)> {
    std::fs::create_dir_all(state_dir).with_context(|| format!("cannot create STATE_DIR {}", state_dir.display()))?;
    let path = state_dir.join(checkpoint::FILE_NAME);
    match checkpoint::read(&path) {
        Ok(Some(saved)) => Ok((saved, false)),
        Ok(None) => Ok((Saved::default(), true)),
        Err(error @ CheckpointError::Broken { .. }) => {
            let aside = checkpoint::set_aside(&path).with_context(|| format!("{error}; it can't be moved aside"))?;
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

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).with_context(|| format!("cannot start the {name} thread"))
}
