//! `nfs-health judge`: compares all nodes. It reads the nodes' reports, probes the servers of PersistentVolumes itself, and writes
//! node conditions, Events and, if configured, taints.
//!
//! - [`reports`], [`nfs_volumes`] and [`services`] read watches, the last two into a [`store`]; [`cluster`] lists what to probe
//! - [`evidence`], [`rule`] and [`state`] decide; [`nodes`] writes

pub mod cluster;
mod csi;
pub mod evidence;
pub mod metrics;
pub mod nfs_volumes;
pub mod nodes;
pub mod reports;
pub mod rule;
pub mod services;
pub mod state;
pub mod store;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use sidecar::daemon::Daemon;
use sidecar::kubernetes::{EventRecorder, EventType, client, explain_about, own_namespace};
use sidecar::readiness::{Latch, Pulse};
use sidecar::sync::lock;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::agent::debounce::Debounced;
use crate::agent::exports::ExportTable;
use crate::agent::metrics::HealthMetrics;
use crate::agent::rounds::{Discover, Monitor};
use crate::server::Server;
use crate::settings::JudgeSettings;
use crate::targets::{Target, TargetSettings};

use self::evidence::evidence;
use self::metrics::JudgeMetrics;
use self::nfs_volumes::{NfsVolume, nfs_volume};
use self::nodes::Nodes;
use self::reports::Reports;
use self::rule::{Ruling, rule};
use self::services::Services;
use self::state::NodeState;
use self::store::Store;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The most volumes that are named in Events when something happens to their server.
const MOST_VOLUMES: usize = 50;

/// How often to check whether the first lists are complete.
const FIRST_LIST: Duration = Duration::from_secs(1);

/// Judges until a signal.
///
/// # Errors
///
/// If the cluster's client cannot be configured, or the admin address cannot be bound.
pub async fn run(settings: JudgeSettings) -> anyhow::Result<ExitCode> {
    let JudgeSettings { target_settings, interval, rounds, namespace, taint, admin, log } = settings;
    let mut daemon = Daemon::start(NAME, VERSION, log)?;
    let client = client().await?;
    let namespace = match namespace {
        Some(namespace) => namespace,
        None => own_namespace().await?,
    };
    tracing::info!(
        version = VERSION,
        servers = ?target_settings.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        reports = namespace,
        interval_seconds = interval.as_secs_f64(),
        rounds,
        taint,
        "{NAME} judge starts"
    );
    let (health, table) = (daemon.health.clone(), Arc::new(ExportTable::default()));
    let (reports, services) = (Arc::<Mutex<Reports>>::default(), Arc::<Mutex<Services>>::default());
    let volumes = Arc::<Mutex<Store<NfsVolume>>>::default();
    let targets = Arc::<Mutex<BTreeMap<Server, Target>>>::default();
    let events = EventRecorder::new(client.clone(), "nfs-health-judge", &target_settings.probing.owner);
    events.register(&daemon.metrics);
    let of_cluster = OfCluster(targets.clone());
    let monitor = Monitor {
        probing: target_settings.probing.clone(),
        interval,
        rounds,
        metrics: HealthMetrics::new(&daemon.metrics),
        table: table.clone(),
    };
    let judge = Judge {
        nodes: Nodes::new(client.clone(), events.clone(), &namespace, taint),
        target_settings,
        events,
        interval,
        rounds,
        reports: reports.clone(),
        table,
        targets,
        watched: volumes.clone(),
        services: services.clone(),
        volumes: Vec::new(),
        rulings: BTreeMap::new(),
        states: BTreeMap::new(),
        metrics: JudgeMetrics::new(&daemon.metrics),
        written: health.latch("nodes"),
    };
    let latches = ["reports", "volumes", "services", "endpointslices"].map(|name| health.latch(name));
    let probing = health.pulse("rounds", Monitor::pulse_limit(interval));
    let judging = health.pulse("judge", Monitor::pulse_limit(interval) + Duration::from_secs(600));
    daemon.serve(admin, Router::new()).await?;
    let following = watch(&client, &namespace, latches, (reports, volumes, services));
    let token = daemon.shutdown.token();
    let probing = monitor.run(of_cluster, probing, token.clone());
    let judging = async {
        tokio::select! { () = judge.run(judging) => (), () = token.cancelled() => () }
    };
    daemon.run(async { tokio::join!(probing, judging) }).await;
    following.iter().for_each(JoinHandle::abort);
    Ok(ExitCode::SUCCESS)
}

/// What the watches of the cluster keep up to date.
type Watched = (Arc<Mutex<Reports>>, Arc<Mutex<Store<NfsVolume>>>, Arc<Mutex<Services>>);

/// Starts the watches.
fn watch(
    client: &Client,
    namespace: &str,
    [of_reports, of_volumes, of_services, of_slices]: [Latch; 4],
    (reports, volumes, services): Watched,
) -> [JoinHandle<()>; 4] {
    let slices = services.clone();
    let own = Api::namespaced(client.clone(), namespace);
    let reports = follow(own, "the nodes' reports", of_reports, move |event| match event {
        Some(event) => lock(&reports).take(event, Instant::now()),
        None => lock(&reports).broke(),
    });
    let volumes = follow(Api::all(client.clone()), "PersistentVolumes", of_volumes, move |event| {
        event.into_iter().for_each(|event| lock(&volumes).take(event, nfs_volume));
    });
    let services = follow(Api::all(client.clone()), "Services", of_services, move |event| {
        event.into_iter().for_each(|event| lock(&services).take_service(event));
    });
    let slices = follow(Api::all(client.clone()), "EndpointSlices", of_slices, move |event| {
        event.into_iter().for_each(|event| lock(&slices).take_slice(event));
    });
    [tokio::spawn(reports), tokio::spawn(volumes), tokio::spawn(services), tokio::spawn(slices)]
}

/// Passes on the events of a watch, forever, and `None` when it breaks.
async fn follow<K>(api: Api<K>, what: &'static str, latch: Latch, mut take: impl FnMut(Option<watcher::Event<K>>))
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let complete = matches!(event, watcher::Event::InitDone);
                take(Some(event));
                if complete {
                    latch.ready();
                }
            }
            Err(error) => {
                let error = explain_about::<K>(&(), &error);
                tracing::warn!(error, "{what} can't be read");
                latch.not_ready(format!("{what} can't be read: {error}"));
                take(None);
            }
        }
    }
}

/// What there is to look at in the cluster.
struct OfCluster(Arc<Mutex<BTreeMap<Server, Target>>>);

impl Discover for OfCluster {
    async fn targets(&mut self) -> Option<BTreeMap<Server, Target>> {
        Some(lock(&self.0).clone())
    }
}

struct Judge {
    target_settings: TargetSettings,
    events: EventRecorder,
    interval: Duration,
    rounds: u32,
    reports: Arc<Mutex<Reports>>,
    table: Arc<ExportTable>,
    targets: Arc<Mutex<BTreeMap<Server, Target>>>,
    watched: Arc<Mutex<Store<NfsVolume>>>,
    services: Arc<Mutex<Services>>,
    volumes: Vec<NfsVolume>,
    rulings: BTreeMap<Server, Debounced<Ruling>>,
    states: BTreeMap<String, Debounced<NodeState>>,
    nodes: Nodes,
    metrics: JudgeMetrics,
    written: Latch,
}

impl Judge {
    async fn run(mut self, pulse: Pulse) {
        let start = Instant::now();
        // A first judgment without the probes' results would blame the wrong part.
        let patience = self.interval * 2 + self.target_settings.probing.limit * 2;
        loop {
            pulse.beat();
            let is_late = start.elapsed() > patience;
            if !self.refresh(is_late) {
                tokio::time::sleep(self.interval.min(FIRST_LIST)).await;
                continue;
            }
            tokio::time::sleep(self.interval).await;
            if !self.table.is_pending() || is_late {
                self.reconcile(&pulse).await;
            }
        }
    }

    /// Adopts the volumes and the pods behind their servers' addresses once all lists are complete; if `is_late`, it uses the
    /// lists that are. Returns whether it adopted anything.
    fn refresh(&mut self, is_late: bool) -> bool {
        let (volumes, services) = (lock(&self.watched), lock(&self.services));
        let is_complete = volumes.is_complete() && services.are_complete();
        if !is_complete && !is_late {
            return false;
        }
        self.volumes = volumes.objects().values().cloned().collect();
        *lock(&self.targets) =
            cluster::targets(&self.target_settings, &self.volumes, |server| services.pod_behind(server));
        true
    }

    /// Makes one judgment.
    async fn reconcile(&mut self, pulse: &Pulse) {
        let Some(reports) = lock(&self.reports).known(Instant::now()) else { return };
        let (probes, locations) = {
            let exports = self.table.exports();
            let locations =
                exports.iter().filter_map(|(server, entry)| Some((server.clone(), entry.location.clone()?)));
            let probes = exports.iter().map(|(server, entry)| (server.clone(), entry.verdict.clone()));
            (probes.collect(), locations.collect())
        };
        let evidence = evidence(&probes, &locations, &reports);
        let rulings: BTreeMap<Server, Ruling> = evidence
            .into_iter()
            .map(|(server, seen)| (server, rule(seen.probe.as_ref(), &seen.verdicts, seen.is_tunnel)))
            .collect();
        let named = rulings.iter().map(|(server, ruling)| (server.to_string(), ruling.clone())).collect();
        self.rulings.retain(|server, _| rulings.contains_key(server));
        for (server, ruling) in rulings {
            let debounced = self.rulings.entry(server.clone()).or_insert_with(|| Debounced::new(self.rounds));
            let changed = debounced.take(ruling);
            let shown = debounced.shown().cloned().unwrap_or_default();
            if let Some(before) = changed {
                self.report_change(&server, &shown, before.is_some_and(|before| before.trouble.is_some()));
            }
        }
        self.states.retain(|node, _| reports.contains_key(node));
        self.nodes.keep(|node| reports.contains_key(node));
        for (node, report) in &reports {
            let state = if report.is_some() { NodeState::new(node, &named) } else { NodeState::Silent };
            let debounced = self.states.entry(node.clone()).or_insert_with(|| Debounced::new(self.rounds));
            debounced.take(state);
        }
        let wanted = self.states.iter().filter_map(|(node, debounced)| Some((node, debounced.shown()?)));
        let failed = self.nodes.write_all(wanted, || pulse.beat()).await;
        for (node, error) in &failed {
            tracing::warn!(error, node, "the node's conditions could not be written");
            self.metrics.write_failures.inc();
        }
        match failed.first() {
            None => self.written.ready(),
            Some((node, error)) => self.written.not_ready(format!("{node}: {error}")),
        }
        let rulings = self.rulings.iter().filter_map(|(server, debounced)| Some((server, debounced.shown()?)));
        self.metrics.show(rulings, self.states.values().filter_map(Debounced::shown));
    }

    /// Reports what is new about an export: in the log, and in Events on its volumes and their claims.
    fn report_change(&self, server: &Server, ruling: &Ruling, was_troubled: bool) {
        let export = server.to_string();
        let (type_, reason, note) = match &ruling.trouble {
            Some(trouble) => {
                tracing::warn!(
                    export,
                    verdict = trouble.kind.name(),
                    blame = trouble.blame.name(),
                    "{}",
                    trouble.sentence
                );
                (EventType::Warning, trouble.kind.event(), format!("{export}: {}", trouble.sentence))
            }
            None if was_troubled => {
                tracing::info!(export, "healthy again");
                (EventType::Normal, "NFSRecovered", format!("{export}: healthy again"))
            }
            None => return,
        };
        let of_server = |volume: &&NfsVolume| volume.server == *server || server.holds(&volume.server, None);
        let volumes: Vec<&NfsVolume> = self.volumes.iter().filter(of_server).collect();
        if volumes.len() > MOST_VOLUMES {
            tracing::warn!(
                export,
                volumes = volumes.len(),
                "Events are recorded on the first {MOST_VOLUMES} volumes only"
            );
        }
        for volume in volumes.into_iter().take(MOST_VOLUMES) {
            for about in [Some(&volume.reference), volume.claim.as_ref()].into_iter().flatten() {
                self.events.raise(about, type_, reason, "Judge", &note);
            }
        }
    }
}
