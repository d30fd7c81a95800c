//! `prepuller plan`: decides which images are wanted, and which node should pull which image now.
//!
//! It observes, decides and acts: `scanning.rs` and `watch.rs` observe; `decide.rs`, `eligible.rs` and `gate.rs` decide
//! (pure); `apply.rs`, `pull_pods.rs` and `publish.rs` act. `state.rs` keeps the state and builds the overview of it;
//! `telemetry.rs` records Events and counts.
//!
//! Every write can be repeated without harm, and all inputs of decisions are in the cluster's objects, so a restarted
//! planner continues where the last one was.

mod apply;
pub mod decide;
pub mod eligible;
pub mod gate;
mod outcome;
mod pauses;
mod publish;
pub mod pull_pods;
mod scan_requests;
mod scanning;
mod seen;
mod serve;
pub mod settings;
mod shared;
mod spawns;
mod state;
mod telemetry;
mod watch;

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use sidecar::daemon::Daemon;
use sidecar::kubernetes::explain;
use sidecar::readiness::{Latch, Pulse};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use apply::{Tried, Writer, Written};
use outcome::Outcome;
use pauses::Pauses;
use publish::Publisher;
use pull_pods::{PullPodSettings, PullPods};
use scan_requests::ScanRequests;
use scanning::Scanner;
use settings::PlanSettings;
use shared::Shared;
use state::ClusterState;
use telemetry::{Snapshot, Telemetry};
use watch::{Kind, Seen};

use crate::page;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Debounce: changes within this window are decided together.
const SETTLE: Duration = Duration::from_millis(100);

/// The least time between two decisions, however many reports arrive.
const PAUSE: Duration = Duration::from_millis(500);

/// Duty cycle: the pause before the next decision is at least this many times as long as the last decision took, so
/// that a large cluster does not keep the planner busy.
const REST: u32 = 300;

/// How often the planner decides if only time has passed: for stalled nodes and gates.
const TICK: Duration = Duration::from_secs(5);

/// How long the planner waits before it retries a failed write.
const WRITE_RETRY: Duration = Duration::from_secs(5);

/// A planner that has not decided for this long is stuck.
const LONGEST_STEP: Duration = Duration::from_secs(300);

/// Runs until a signal.
///
/// # Errors
///
/// If the cluster's client or the registry client cannot be configured, or the admin address cannot be bound.
pub async fn run(settings: PlanSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    let mut daemon = Daemon::start(NAME, VERSION, settings.log.with_warnings(warnings))?;
    tracing::info!(
        version = VERSION,
        repositories = ?settings.catalogue.source.repositories.iter().map(ToString::to_string).collect::<Vec<_>>(),
        scan_interval_seconds = settings.scan_interval.as_secs(),
        parallel_nodes = settings.rules.parallel,
        mode = ?settings.rules.mode,
        lab_namespace = settings.lab_namespace.as_deref().unwrap_or("(unset: pods are ignored)"),
        "{NAME} plan starts"
    );
    let client = sidecar::kubernetes::client().await?;
    let registry = crate::catalogue::registry(&settings.catalogue)?;
    // The planner is ready even without a catalogue: its page shows what went wrong with the scans, and a Service
    // routes to ready pods only.
    let cluster = daemon.health.latch("cluster");
    let pulse = daemon.health.pulse("planner", LONGEST_STEP);
    let mode = settings.rules.mode;
    let mut telemetry = Telemetry::new(&client, &daemon.metrics, &settings.catalogue_namespace, &settings.pod_name);
    let (shared, asked) = (Shared::new(ClusterState::new(settings.rules)), Arc::new(ScanRequests::default()));
    let config = page::nublado::Config::new(&settings.catalogue.source, &settings.catalogue.policy);
    let routes = serve::routes(shared.clone(), asked.clone());
    let routes = routes.merge(page::routes(shared.overviews(), config, daemon.shutdown.token()));
    daemon.serve(settings.admin, routes).await?;
    let deployment = own_deployment(&client, &settings.catalogue_namespace).await;
    match &deployment {
        Ok(deployment) => telemetry.set_uid(deployment),
        Err(error) => {
            let (error, name) = (explain(error), telemetry::DEPLOYMENT);
            tracing::warn!(error, "the Deployment {name} is not found: its Events will lack a UID");
        }
    }
    let pull_pods = match settings.pull_pods {
        Some(PullPodSettings { image, deadline }) => {
            let deployment = deployment.map_err(|error| anyhow::anyhow!("{}", explain(&error)));
            let image = image.map_or_else(|| deployment.and_then(image_of), Ok);
            let image = image.context("PULL_POD_IMAGE must be set if the planner is not a Deployment")?;
            Some(PullPods::new(&client, &settings.node_images_namespace, image, deadline))
        }
        None => None,
    };
    if settings.lab_namespace.is_some() {
        telemetry.labs_are_watched();
    }
    let telemetry = Arc::new(telemetry);
    let scanner = Scanner {
        registry,
        settings: settings.catalogue,
        interval: settings.scan_interval,
        publisher: Publisher::new(&client, &settings.catalogue_namespace, &settings.pod_name, settings.scan_interval),
        shared: shared.clone(),
        asked,
        telemetry: telemetry.clone(),
    };
    let (agents, labs) = (&settings.node_images_namespace, settings.lab_namespace.as_deref());
    let (seen, unlisted) = watch::all(&client, agents, labs, mode);
    let planner = Planner {
        seen,
        unlisted,
        writer: Writer::new(&client, agents),
        pull_pods,
        pauses: PausesByAct::default(),
        shared,
        telemetry,
        latch: cluster,
        pulse,
        due: None,
        decided: Instant::now(),
        pause: PAUSE,
    };
    let token = daemon.shutdown.token();
    daemon.run(async { tokio::join!(scanner.run(token.clone()), planner.run(token.clone())) }).await;
    Ok(ExitCode::SUCCESS)
}

async fn own_deployment(client: &kube::Client, namespace: &str) -> kube::Result<Deployment> {
    kube::Api::namespaced(client.clone(), namespace).get(telemetry::DEPLOYMENT).await
}

fn image_of(deployment: Deployment) -> anyhow::Result<String> {
    let containers = deployment.spec.and_then(|spec| spec.template.spec).map(|spec| spec.containers);
    let image = containers.and_then(|containers| containers.into_iter().next()?.image);
    image.with_context(|| format!("the Deployment {} names no image", telemetry::DEPLOYMENT))
}

/// Observes, decides and acts, in a loop.
struct Planner {
    seen: BoxStream<'static, Seen>,
    /// The kinds of objects that were not listed completely yet. There are no decisions about half of a cluster.
    unlisted: HashSet<Kind>,
    writer: Writer,
    pull_pods: Option<PullPods>,
    pauses: PausesByAct,
    shared: Shared,
    telemetry: Arc<Telemetry>,
    latch: Latch,
    pulse: Pulse,
    /// When to decide next.
    due: Option<Instant>,
    decided: Instant,
    /// The pause between two decisions.
    pause: Duration,
}

impl Planner {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            self.pulse.beat();
            let due = self.due.unwrap_or(self.decided + TICK);
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(seen) = self.seen.next() => self.see(seen),
                () = self.shared.changed() => self.soon(),
                () = sleep_until(due.into()) => {
                    // Whichever list completes last triggers a decision.
                    let silent = self.shared.update(|cluster| cluster.listen(Instant::now()));
                    let waits = self.due.take().is_some() || silent || !self.shared.look(ClusterState::is_settled);
                    self.decided = Instant::now();
                    if waits && self.unlisted.is_empty() {
                        self.decide().await;
                    } else if waits {
                        // There is no decision, but the result of the scans is shown.
                        self.shared.decided();
                    }
                }
            }
        }
    }

    fn soon(&mut self) {
        let now = Instant::now();
        self.due.get_or_insert((now + SETTLE).max(self.decided + self.pause));
    }

    fn see(&mut self, seen: Seen) {
        let now = Instant::now();
        let mut occurrences = Vec::new();
        let changed = self.shared.update(|cluster| match seen {
            Seen::Node(name, Some(node)) => cluster.apply_node(&name, node),
            Seen::Node(name, None) => {
                cluster.delete_node(&name);
                true
            }
            Seen::Orders(name, Some(orders)) => {
                let (changed, changes) = cluster.apply_orders(&name, *orders, (Timestamp::now(), now));
                occurrences = changes;
                changed
            }
            Seen::Orders(name, None) => {
                cluster.delete_orders(&name);
                true
            }
            Seen::Pod(name, pod) => {
                let (changed, spawned) = cluster.apply_pod(&name, pod, Timestamp::now());
                occurrences.extend(spawned);
                changed
            }
            Seen::Pull(name, pull) => {
                cluster.apply_pull(&name, pull);
                true
            }
            Seen::Listed(kind, names) => {
                match kind {
                    Kind::Nodes => cluster.reset_nodes(&names),
                    Kind::NodeImages => cluster.reset_orders(&names),
                    Kind::Pods => cluster.reset_pods(&names, Timestamp::now()),
                    Kind::PullPods => cluster.reset_pulls(&names),
                }
                self.unlisted.remove(&kind);
                cluster.is_listed(kind);
                true
            }
            Seen::Broken(kind, error) => {
                cluster.watch_broken(kind, &error, now);
                if self.unlisted.contains(&kind) {
                    self.latch.not_ready(error.clone());
                }
                tracing::warn!(error, "the watch of {kind:?} is interrupted");
                false
            }
        });
        self.telemetry.record(occurrences);
        if changed {
            self.soon();
        }
    }

    async fn decide(&mut self) {
        let begun = Instant::now();
        let writes = self.shared.update(|cluster| cluster.decide(Timestamp::now(), begun));
        self.pause = (begun.elapsed() * REST).clamp(PAUSE, TICK);
        let writes = writes.into_iter().filter(|write| self.pauses.orders.may_try(&write.node, begun)).collect();
        let done = |tried: Tried| {
            self.pulse.beat(); // thousands of writes may take minutes
            self.telemetry.written(matches!(tried, Tried::Written(_)));
            match tried {
                Tried::Written(Written { write, generation, uid }) => {
                    self.pauses.orders.done(&write.node);
                    self.shared.update(|cluster| cluster.written(write, generation, uid, Instant::now()));
                }
                Tried::Refused(node, words) => {
                    self.pauses.orders.refused(&node, Instant::now());
                    self.shared.update(|cluster| cluster.orders_refused(&node, words));
                }
                Tried::Unanswered => {}
            }
        };
        let written = self.writer.write(writes, done).await;
        self.shared.update(|cluster| cluster.unanswered = written.first.clone().filter(|_| written.stopped));
        if !written.stopped {
            self.latch.ready();
        }
        log_failure(&written, "orders can't be written yet");
        let turned = self.turn_pull_pods().await;
        log_failure(&turned, "pull pods can't be managed yet");
        let opened = self.open_gates().await;
        log_failure(&opened, "gates can't be opened yet");
        let now = Instant::now();
        if [written, turned, opened].iter().any(|outcome| outcome.stopped) {
            self.due = Some(now + WRITE_RETRY);
        }
        if let Some(next) = self.pauses.next(now) {
            self.due = Some(self.due.map_or(next, |due| due.min(next)));
        }
        let snapshot = self.shared.look(Snapshot::of);
        self.telemetry.decided(snapshot);
        self.decided = Instant::now();
        self.shared.decided();
    }

    async fn turn_pull_pods(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(pull_pods) = &self.pull_pods else { return outcome };
        for (node, turn) in self.shared.look(|cluster| cluster.pull_turns(Timestamp::now())) {
            self.pulse.beat();
            if !self.pauses.pulls.may_try(&node, Instant::now()) {
                continue;
            }
            match pull_pods.carry_out(&node, turn).await {
                Ok(()) => self.pauses.pulls.done(&node),
                Err(failed) => {
                    if failed.refused {
                        self.pauses.pulls.refused(&node, Instant::now());
                    }
                    outcome.note(failed);
                }
            }
            if outcome.stopped {
                break;
            }
        }
        outcome
    }

    async fn open_gates(&mut self) -> Outcome {
        let (gates, key) = self
            .shared
            .look(|cluster| (cluster.gates_to_open(Timestamp::now()), cluster.rules.nodes.gate_taint.clone()));
        let mut outcome = Outcome::default();
        for (node, lacks) in gates {
            self.pulse.beat();
            if !self.pauses.gates.may_try(&node, Instant::now()) {
                continue;
            }
            match self.writer.remove_taint(&node, &key).await {
                Ok(opened) => {
                    self.pauses.gates.done(&node);
                    if opened {
                        self.telemetry.opened(&node, &lacks);
                    }
                }
                Err(failed) => {
                    if failed.refused {
                        self.telemetry.gate_refused(&node, &failed.words);
                        self.pauses.gates.refused(&node, Instant::now());
                    }
                    outcome.note(failed);
                }
            }
            if outcome.stopped {
                break;
            }
        }
        outcome
    }
}

/// The nodes that are skipped for a while, by the kind of write that was refused.
#[derive(Default)]
struct PausesByAct {
    orders: Pauses,
    pulls: Pauses,
    gates: Pauses,
}

impl PausesByAct {
    fn next(&mut self, now: Instant) -> Option<Instant> {
        [&mut self.orders, &mut self.pulls, &mut self.gates].into_iter().filter_map(|pauses| pauses.next(now)).min()
    }
}

/// Logs the first failure. The writes are retried.
fn log_failure(outcome: &Outcome, what: &str) {
    if let Some(error) = &outcome.first {
        tracing::warn!(error, failed = outcome.failed, stopped = outcome.stopped, "{what}");
    }
}
