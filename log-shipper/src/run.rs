//! `log-shipper run`: starts the parts, and ends them in order: readers, shipping, checkpoint.

mod readers;
mod watch;

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use axum::http::StatusCode;
use axum::routing::get;
use rustix::process::{Resource, getrlimit, setrlimit};
use sidecar::daemon::Daemon;
use sidecar::human::plural;
use sidecar::kubernetes::explain;
use sidecar::readiness::Health;
use sidecar::shutdown::Shutdown;
use sidecar::stdio;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::readers::Readers;
use self::watch::{RunEnd, Watch};
use crate::checkpoint_writer::CheckpointWriter;
use crate::content::Decoders;
use crate::discover::Findings;
use crate::encode::{Encoder, Shipper};
use crate::follow::{QUIET, QUIET_UNTIL_IDLE, Reading};
use crate::idle::Patience;
use crate::metrics::Metrics;
use crate::outgoing::{Batch, Budget};
use crate::output::Sink;
use crate::pods::{self, Pods};
use crate::settings::{Output, RunSettings};
use crate::threads::Ended;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// When the process ends after the signal, whatever is still running.
const END_LIMIT: Duration = Duration::from_millis(9500);

/// Runs until a signal, or with `--until-idle` until everything is shipped.
///
/// # Errors
///
/// If a part cannot be started, or fails; with `--until-idle` also if not everything could be shipped.
pub async fn run(settings: RunSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    let mut daemon = Daemon::start(NAME, VERSION, settings.log.clone().with_warnings(warnings))?;
    announce(&settings);
    if matches!(settings.output, Output::Stdout) && stdio::is_output_closed() {
        bail!(
            "cannot write to standard output: it was closed when log-shipper began (or is /dev/null, opened for reading and writing). \
             Let it lead to a file or a program, or set OUTPUT=null to discard all events"
        );
    }
    raise_open_files();
    let metrics = Metrics::default();
    metrics.register(&daemon.metrics);
    // The broker's state says nothing about whether this process works, so it has its own page.
    let (found, output) = (daemon.health.latch("logs"), Health::default());
    let (flows, findings) = (output.latch("output"), Findings::default());
    daemon.serve(settings.admin, routes(output.clone())).await?;

    let (writer, fresh) = CheckpointWriter::open(&settings.output, &settings.logs.state_dir, &metrics)?;
    let pods = Arc::new(Pods::new(settings.logs.labels.clone()));
    let node = settings.node_name.clone().filter(|_| settings.watch_pods);
    let watching_pods = node.map(|node| tokio::spawn(watch_pods(node, pods.clone(), metrics.clone())));
    let reading = Arc::new(reading(&settings, pods, &metrics));
    let (sender, batches) = unbounded_channel();
    let (ended, ends) = unbounded_channel();
    let logs = (writer.logs.clone(), fresh && settings.logs.at_end);
    let readers = Readers::start(&settings, &reading, logs, (found, findings.clone()), sender, &ended)?;

    let (shutdown, until_idle) = (daemon.shutdown.clone(), settings.until_idle);
    let watch = Watch {
        readers: &readers,
        writer: &writer,
        metrics: &metrics,
        to_reader: matches!(settings.output, Output::Stdout),
        patience: until_idle.map(|limit| Patience::new(limit, Instant::now())),
    };
    let sink = Sink {
        output: settings.output,
        budget: reading.budget.clone(),
        metrics: metrics.clone(),
        latch: flows,
        until_idle: until_idle.is_some(),
    };
    let shipping = ship((sink, batches), (watch, ends), &shutdown, &output, until_idle);
    let ended_by = async {
        shutdown.token().cancelled().await;
        Instant::now() + END_LIMIT
    };
    let (shipped, ended_by) = tokio::join!(shutdown.drain(shipping), ended_by);
    writer.logs.mark_changed();
    // A run until idle is not killed soon after its end, and its lines must not be shipped again.
    let patient = Instant::now().checked_add(until_idle.unwrap_or_default());
    let limit = patient.map_or(ended_by, |patient| patient.max(ended_by));
    let in_time = timeout_at(limit.into(), writer.write()).await.is_ok();
    if !in_time {
        tracing::error!("the last checkpoint could not be written in time; lines may be shipped twice after a restart");
    }
    readers.join_until(ended_by).await;
    watching_pods.inspect(JoinHandle::abort);
    daemon.end().await;
    shipped.unwrap_or(Ok(()))?;
    if until_idle.is_some() {
        all_was_shipped(in_time && !writer.complaint.is_open(), &findings, &metrics)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ships until the run ends. Everything that was read by then is still shipped, within the drain time.
async fn ship(
    (sink, mut batches): (Sink, UnboundedReceiver<Batch>),
    (mut watch, mut ends): (Watch<'_>, UnboundedReceiver<Ended>),
    shutdown: &Shutdown,
    output: &Health,
    until_idle: Option<Duration>,
) -> anyhow::Result<()> {
    let (stop, readers) = (shutdown.token(), watch.readers);
    let end_reading = || {
        shutdown.begin();
        readers.end();
    };
    let mut shipped = pin!(sink.run(&mut batches, &stop));
    let end = tokio::select! {
        biased;
        // The output failed, so further reading is pointless.
        shipped = &mut shipped => {
            end_reading();
            return shipped;
        }
        end = watch.until_end(&stop, &mut ends) => end,
    };
    let obstacles = output.not_ready();
    end_reading();
    shipped.await?;
    match end {
        RunEnd::Wanted => Ok(()),
        RunEnd::Thread(Ended { name, panicked: true }) => {
            Err(anyhow!("the {name} thread panicked; see the lines before this one"))
        }
        RunEnd::Thread(Ended { name, panicked: false }) => Err(anyhow!("the {name} thread ended")),
        RunEnd::Stuck => Err(stuck(until_idle, readers.unconfirmed(), &obstacles)),
    }
}

/// With `--until-idle`: an error if lines were not shipped, or may be shipped twice.
fn all_was_shipped(saved: bool, findings: &Findings, metrics: &Metrics) -> anyhow::Result<()> {
    if !saved {
        bail!("the checkpoint could not be written: the next run ships the same lines again");
    }
    if let Some(failure) = findings.failure() {
        bail!("not all logs could be read: {failure}");
    }
    match metrics.messages_given_up.get() {
        0 => Ok(()),
        given_up => {
            bail!("gave up {given_up} message{} that the broker never accepts; the log has each", plural(given_up))
        }
    }
}

/// The readers' settings and resources.
fn reading(settings: &RunSettings, pods: Arc<Pods>, metrics: &Metrics) -> Reading {
    let shipper = shipper(settings, &own_hostname());
    Reading {
        encoder: Encoder::new(settings.schema, &shipper),
        own_mark: matches!(settings.output, Output::Stdout).then_some(shipper.ephemeral_id),
        pods,
        opt_out: settings.logs.opt_out,
        asks_labels: settings.watch_pods && !settings.logs.labels.is_empty(),
        exclude: settings.lines.exclude.clone(),
        json_lines: settings.lines.json,
        lines_per_second: settings.lines.per_second,
        traces: settings.lines.traces,
        max_line: settings.lines.max_line,
        partial_bytes_max: settings.lines.partial_bytes_max,
        quiet: if settings.until_idle.is_some() { QUIET_UNTIL_IDLE } else { QUIET },
        until_idle: settings.until_idle.is_some(),
        batching: settings.batching,
        budget: Budget::new(settings.window_bytes),
        decoders: Decoders::default(),
        partial_bytes: Arc::default(),
        metrics: metrics.clone(),
    }
}

/// The error of `--until-idle` if there is no progress.
fn stuck(limit: Option<Duration>, unconfirmed: usize, obstacles: &[String]) -> anyhow::Error {
    let seconds = limit.unwrap_or_default().as_secs();
    let why = if obstacles.is_empty() { "the log says why".to_owned() } else { obstacles.join("; ") };
    anyhow!(
        "not everything was shipped: nothing was read or confirmed for {seconds} s (--give-up-after), and {unconfirmed} bytes of events are not \
         confirmed; {why}. The next run reads them again"
    )
}

/// The page `/output`: whether events can be shipped, and if not, why.
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
            tracing::error!(error, "the pods of this node can't be watched; events are shipped without pod labels");
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
