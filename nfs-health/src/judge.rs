//! `nfs-health judge`: the one that judges across nodes. It reads the nodes' reports, looks at the servers of PersistentVolumes
//! itself, and writes node conditions, Events and, where it is asked to, taints.
//!
//! - [`reports`] come in by a watch; [`surroundings`] the volumes, and the pods behind Services
//! - [`cases`], [`rule`] and [`state`] decide; [`nodes`] writes

pub mod cases;
mod csi;
pub mod nodes;
pub mod reports;
pub mod rule;
pub mod state;
pub mod surroundings;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use sidecar::admin::AdminServer;
use sidecar::kubernetes::{Events, Gravity, client, own_namespace};
use sidecar::metrics::Metrics;
use sidecar::readiness::{Health, Latch};
use sidecar::shutdown::Shutdown;
use tokio::time::Instant;

use crate::board::Board;
use crate::metrics::{HealthMetrics, JudgeMetrics};
use crate::report::NfsReport;
use crate::server::Server;
use crate::settings::{Judge, Look};
use crate::steady::Steady;
use crate::targets::Target;
use crate::watch::Watch;

use self::cases::cases;
use self::nodes::Nodes;
use self::reports::Reports;
use self::rule::{Ruling, rule};
use self::state::NodeState;
use self::surroundings::NfsVolume;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// No more volumes than this are named in Events when something happens to their server.
const MOST_VOLUMES: usize = 50;

/// Judges until `shutdown`.
///
/// # Errors
///
/// When there is no way to the Kubernetes API, or the admin address can't be had.
pub async fn run(settings: Judge, shutdown: Shutdown) -> anyhow::Result<()> {
    let Judge { look, interval, rounds, namespace, taint, admin, log } = settings;
    sidecar::log::init(log);
    let client = client().await?;
    let namespace = match namespace {
        Some(namespace) => namespace,
        None => own_namespace().await?,
    };
    tracing::info!(
        version = VERSION,
        servers = ?look.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        reports = namespace,
        interval_seconds = interval.as_secs_f64(),
        rounds,
        taint,
        "{NAME} judge starts"
    );
    let (health, metrics, board) = (Health::default(), Metrics::new(NAME, VERSION), Arc::new(Board::default()));
    let (reports, targets) = (Arc::<Mutex<Reports>>::default(), Arc::<Mutex<BTreeMap<Server, Target>>>::default());
    let events = Events::new(client.clone(), "nfs-health-judge", &look.probing.owner);
    events.register(&metrics);
    let see = targets.clone();
    let watch = Watch {
        see: Box::new(move || locked(&see).clone()),
        probing: look.probing.clone(),
        interval,
        rounds,
        metrics: HealthMetrics::new(&metrics),
        board: board.clone(),
    };
    let court = Court {
        nodes: Nodes::new(client.clone(), events.clone(), &namespace, taint),
        look,
        client: client.clone(),
        events,
        interval,
        rounds,
        reports: reports.clone(),
        board,
        targets,
        volumes: Vec::new(),
        rulings: BTreeMap::new(),
        states: BTreeMap::new(),
        metrics: JudgeMetrics::new(&metrics),
        surroundings: health.latch("volumes"),
        written: health.latch("nodes"),
    };
    let (following, watching) = (health.latch("reports"), health.pulse("watch", Watch::pulse_limit(interval)));
    let judging = health.pulse("judge", Watch::pulse_limit(interval) + Duration::from_secs(600));
    let server = AdminServer::bind(admin, health, metrics, Router::new()).await?;
    let serving = tokio::spawn(server.serve(shutdown.token()));
    let following = tokio::spawn(follow(Api::namespaced(client, &namespace), reports, following));
    let watching = watch.watch(watching, shutdown.token());
    let token = shutdown.token();
    let judging = async {
        tokio::select! { () = court.judge(judging) => (), () = token.cancelled() => () }
    };
    shutdown.drain(async { tokio::join!(watching, judging) }).await;
    following.abort();
    serving.abort();
    Ok(())
}

/// Takes in the reports, without end.
async fn follow(api: Api<NfsReport>, reports: Arc<Mutex<Reports>>, latch: Latch) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let complete = matches!(event, watcher::Event::InitDone);
                locked(&reports).take(event, Instant::now());
                if complete {
                    latch.ready();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the nodes' reports can't be read");
                latch.not_ready(format!("the nodes' reports can't be read: {error}"));
                locked(&reports).broke();
            }
        }
    }
}

struct Court {
    look: Look,
    client: Client,
    events: Events,
    interval: Duration,
    rounds: u32,
    reports: Arc<Mutex<Reports>>,
    board: Arc<Board>,
    targets: Arc<Mutex<BTreeMap<Server, Target>>>,
    volumes: Vec<NfsVolume>,
    rulings: BTreeMap<Server, Steady<Ruling>>,
    states: BTreeMap<String, Steady<NodeState>>,
    nodes: Nodes,
    metrics: JudgeMetrics,
    surroundings: Latch,
    written: Latch,
}

impl Court {
    async fn judge(mut self, pulse: sidecar::readiness::Pulse) {
        let (start, mut looked) = (Instant::now(), None::<Instant>);
        // A first judgement that lacks what the probes see would blame the wrong one.
        let patience = self.interval * 2 + self.look.probing.limit * 2;
        loop {
            pulse.beat();
            if looked.is_none_or(|at| at.elapsed() >= self.interval * 2) {
                self.look_around().await;
                looked = Some(Instant::now());
            }
            tokio::time::sleep(self.interval).await;
            if !self.board.is_pending() || start.elapsed() > patience {
                self.sit().await;
            }
        }
    }

    /// Asks the cluster for volumes, and for what is behind their servers' addresses.
    async fn look_around(&mut self) {
        let seen = async {
            let volumes = surroundings::volumes(&self.client).await?;
            let servers = self.look.servers.iter().chain(volumes.iter().map(|volume| &volume.server));
            let behind = surroundings::behind(&self.client, servers).await?;
            Ok::<_, kube::Error>((volumes, behind))
        };
        match seen.await {
            Ok((volumes, behind)) => {
                *locked(&self.targets) = surroundings::targets(&self.look, &volumes, &behind);
                self.volumes = volumes;
                self.surroundings.ready();
            }
            Err(error) => {
                tracing::warn!(%error, "volumes and Services can't be read");
                self.surroundings.not_ready(format!("volumes and Services can't be read: {error}"));
            }
        }
    }

    /// One judgement.
    async fn sit(&mut self) {
        let Some(reports) = locked(&self.reports).known(Instant::now()) else { return };
        let (probes, places) = {
            let exports = self.board.exports();
            let places = exports.iter().filter_map(|(server, entry)| Some((server.clone(), entry.place.clone()?)));
            let probes = exports.iter().map(|(server, entry)| (server.clone(), entry.verdict.clone()));
            (probes.collect(), places.collect())
        };
        let cases = cases(&probes, &places, &reports);
        let rulings: BTreeMap<Server, Ruling> =
            cases.into_iter().map(|(server, case)| (server, rule(case.probe.as_ref(), &case.sights))).collect();
        let named = rulings.iter().map(|(server, ruling)| (server.to_string(), ruling.clone())).collect();
        self.rulings.retain(|server, _| rulings.contains_key(server));
        for (server, ruling) in rulings {
            let steady = self.rulings.entry(server.clone()).or_insert_with(|| Steady::new(self.rounds));
            let changed = steady.take(ruling);
            let shown = steady.shown().cloned().unwrap_or_default();
            if let Some(before) = changed {
                self.tell(&server, &shown, before.is_some_and(|before| before.trouble.is_some()));
            }
        }
        self.states.retain(|node, _| reports.contains_key(node));
        self.nodes.keep(|node| reports.contains_key(node));
        let mut failed = None;
        for (node, report) in &reports {
            let state = if report.is_some() { NodeState::new(node, &named) } else { NodeState::Silent };
            let steady = self.states.entry(node.clone()).or_insert_with(|| Steady::new(self.rounds));
            steady.take(state);
            let Some(shown) = steady.shown() else { continue };
            if let Err(error) = self.nodes.bring(node, shown).await {
                tracing::warn!(%error, node, "the node's conditions could not be written");
                self.metrics.write_failures.inc();
                failed = Some(format!("{node}: {error}"));
            }
        }
        match failed {
            None => self.written.ready(),
            Some(why) => self.written.not_ready(why),
        }
        let rulings = self.rulings.iter().filter_map(|(server, steady)| Some((server, steady.shown()?)));
        self.metrics.show(rulings, self.states.values().filter_map(Steady::shown));
    }

    /// Says what is new about an export: in the log, and in Events on its volumes and their claims.
    fn tell(&self, server: &Server, ruling: &Ruling, was_troubled: bool) {
        let export = server.to_string();
        let (gravity, reason, note) = match &ruling.trouble {
            Some(trouble) => {
                tracing::warn!(
                    export,
                    verdict = trouble.kind.name(),
                    blame = trouble.blame.name(),
                    "{}",
                    trouble.sentence
                );
                (Gravity::Warning, trouble.kind.event(), format!("{export}: {}", trouble.sentence))
            }
            None if was_troubled => {
                tracing::info!(export, "well again");
                (Gravity::Normal, "NFSRecovered", format!("{export}: well again"))
            }
            None => return,
        };
        let of_server = |volume: &&NfsVolume| volume.server == *server || server.holds(&volume.server, None);
        let volumes: Vec<&NfsVolume> = self.volumes.iter().filter(of_server).collect();
        if volumes.len() > MOST_VOLUMES {
            tracing::warn!(
                export,
                volumes = volumes.len(),
                "Events are raised on the first {MOST_VOLUMES} volumes only"
            );
        }
        for volume in volumes.into_iter().take(MOST_VOLUMES) {
            for about in [Some(&volume.reference), volume.claim.as_ref()].into_iter().flatten() {
                self.events.raise(about, gravity, reason, "Judge", &note);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
