//! Events on nodes and on the planner's Deployment, and metrics.

mod spawns;
mod troubles;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use lab_images::catalogue::RepositoryState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sidecar::kubernetes::{EventRecorder, EventType, Trouble, node_reference};
use sidecar::metrics::{Metrics, start_at_zero};
use sidecar::sync::lock;

use self::spawns::SpawnMetrics;
use self::troubles::Words;
use super::state::{ClusterState, Occurrence, Trouble as NodeTrouble};
use crate::overview::Wave;

/// The planner's Deployment, which its Events are about.
pub(super) const DEPLOYMENT: &str = "prepuller-plan";

/// How many causes of one stopped rollout are remembered as reported.
const MOST_CAUSES: usize = 16;

/// The reasons of Events about scans.
const SCAN: (&str, &str) = ("ScanFailed", "ScanRecovered");

/// The reasons of Events about nodes' orders.
const ORDERS: (&str, &str) = ("OrdersNotWritten", "OrdersWritten");

/// The reasons of Events about the published catalogue.
const PUBLISH: (&str, &str) = ("CatalogueNotPublished", "CataloguePublished");

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct StandingLabel {
    standing: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ImageLabel {
    image: String,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct TroubleLabel {
    trouble: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct RepositoryLabel {
    repository: String,
}

/// Records Events and metrics; shared by the parts of the planner.
pub(super) struct Telemetry {
    events: EventRecorder,
    planner: ObjectReference,
    scanning: Trouble,
    publishing: Trouble,
    ordering: Trouble,
    publishes: Family<ResultLabel, Counter>,
    scans: Family<ResultLabel, Counter>,
    last_good_scan: Gauge<f64, AtomicU64>,
    nodes: Family<StandingLabel, Gauge>,
    present: Family<ImageLabel, Gauge>,
    eligible: Family<ImageLabel, Gauge>,
    stopped: Gauge,
    writes: Family<ResultLabel, Counter>,
    gates: Family<ResultLabel, Counter>,
    failures: Counter,
    refusals: Counter,
    troubled: Family<TroubleLabel, Gauge>,
    tags: Family<RepositoryLabel, Gauge>,
    unread: Family<RepositoryLabel, Gauge>,
    complete: Family<RepositoryLabel, Gauge>,
    spawns: SpawnMetrics,
    /// The reported trouble of each node.
    reported_nodes: Mutex<HashMap<Arc<str>, &'static Words>>,
    /// The reported causes that stopped each image's rollout.
    reported: Mutex<HashMap<String, ReportedStop>>,
}

impl Telemetry {
    pub(super) fn new(client: &Client, metrics: &Metrics, namespace: &str, instance: &str) -> Self {
        let events = EventRecorder::new(client.clone(), DEPLOYMENT, instance);
        events.register(metrics);
        let planner = ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(DEPLOYMENT.to_owned()),
            ..ObjectReference::default()
        };
        let this = Self {
            scanning: Trouble::new(&events, &planner, "Scan", SCAN),
            publishing: Trouble::new(&events, &planner, "Publish", PUBLISH),
            ordering: Trouble::new(&events, &planner, "Plan", ORDERS),
            publishes: Family::default(),
            events,
            planner,
            scans: Family::default(),
            last_good_scan: Gauge::default(),
            nodes: Family::default(),
            present: Family::default(),
            eligible: Family::default(),
            stopped: Gauge::default(),
            writes: Family::default(),
            gates: Family::default(),
            failures: Counter::default(),
            refusals: Counter::default(),
            troubled: Family::default(),
            tags: Family::default(),
            unread: Family::default(),
            complete: Family::default(),
            spawns: SpawnMetrics::default(),
            reported_nodes: Mutex::default(),
            reported: Mutex::default(),
        };
        this.spawns.register(metrics);
        for family in [&this.publishes, &this.scans, &this.writes] {
            start_at_zero(family, ["ok", "failed"].map(|result| ResultLabel { result }));
        }
        start_at_zero(&this.gates, ["complete", "timeout", "refused"].map(|result| ResultLabel { result }));
        metrics.register(|registry| {
            registry.register("scans", "Scans by result", this.scans.clone());
            let help = "Attempts to publish the catalogue by result";
            registry.register("catalogue_publishes", help, this.publishes.clone());
            let help = "Time of the last complete scan";
            registry.register("last_good_scan_timestamp_seconds", help, this.last_good_scan.clone());
            registry.register("nodes", "Nodes by eligibility", this.nodes.clone());
            let help = "Eligible nodes that have a wanted image";
            registry.register("image_nodes_present", help, this.present.clone());
            let help = "Eligible nodes that should have a wanted image";
            registry.register("image_nodes_eligible", help, this.eligible.clone());
            let help = "Wanted images whose rollout stopped because the canary node could not pull them";
            registry.register("stopped_waves", help, this.stopped.clone());
            registry.register("order_writes", "Writes of nodes' orders by result", this.writes.clone());
            let help = "Gates of new nodes by result: opened with all images (complete), opened without (timeout), or refused by the API server (refused)";
            registry.register("gates_opened", help, this.gates.clone());
            registry.register("failed_pulls", "Failed pulls that nodes reported", this.failures.clone());
            let help = "Pulls that nodes refused because the disk has no room";
            registry.register("refused_pulls", help, this.refusals.clone());
            let help = "Eligible nodes that cannot pull: no agent, a silent agent, no container runtime, or orders that cannot be written";
            registry.register("nodes_in_trouble", help, this.troubled.clone());
            registry.register("repository_tags", "Tags that a repository has", this.tags.clone());
            let help = "Tags of a repository that LAB_TAG_SCHEME could not read";
            registry.register("repository_unread_tags", help, this.unread.clone());
            let help = "Whether the last scan of a repository was complete; if not, its images are those of an earlier scan";
            registry.register("repository_complete", help, this.complete.clone());
        });
        this
    }

    /// Sets the Deployment's UID, without which `kubectl describe` shows no Events.
    pub(super) fn set_uid(&mut self, deployment: &Deployment) {
        self.planner.uid.clone_from(&deployment.metadata.uid);
        self.scanning = Trouble::new(&self.events, &self.planner, "Scan", SCAN);
        self.publishing = Trouble::new(&self.events, &self.planner, "Publish", PUBLISH);
        self.ordering = Trouble::new(&self.events, &self.planner, "Plan", ORDERS);
    }

    /// Labs are watched from now on, so counters that are missing start at zero.
    pub(super) fn labs_are_watched(&self) {
        self.spawns.begin();
    }

    /// Records the state of the repositories after a good scan.
    pub(super) fn repositories(&self, states: &[RepositoryState]) {
        for family in [&self.tags, &self.unread, &self.complete] {
            family.clear();
        }
        for state in states {
            let label = RepositoryLabel { repository: state.name.to_string() };
            // A repository that was not listed has no number of tags.
            for (family, count) in [(&self.tags, state.tags), (&self.unread, state.unread)] {
                if let Some(count) = count {
                    family.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
            self.complete.get_or_create(&label).set(i64::from(state.complete));
        }
    }

    /// A scan ended, with this many wanted images or with a problem; `first` while there has been no catalogue.
    pub(super) fn scanned(&self, found: Result<usize, &str>, first: bool, now: Timestamp) {
        let result = if found.is_ok() { "ok" } else { "failed" };
        self.scans.get_or_create(&ResultLabel { result }).inc();
        match found {
            Ok(wanted) => {
                self.last_good_scan.set(now.as_second() as f64);
                self.scanning.ends(&format!("A scan was complete again; images wanted: {wanted}"));
            }
            Err(problem) => {
                let stays = if first { "Nothing is wanted yet" } else { "The last good catalogue is kept" };
                self.scanning.begins(&format!("{stays}: {problem}"));
            }
        }
    }

    /// The catalogue was published, or could not be.
    pub(super) fn published(&self, published: Result<(), &str>) {
        let result = if published.is_ok() { "ok" } else { "failed" };
        self.publishes.get_or_create(&ResultLabel { result }).inc();
        match published {
            Ok(()) => {
                self.publishing.ends("The catalogue was published again");
            }
            Err(error) => {
                tracing::warn!(error, "the catalogue cannot be published yet");
                self.publishing.begins(&format!("Purgers and Hubs see an old catalogue: {error}"));
            }
        }
    }

    /// Records what nodes reported.
    pub(super) fn record(&self, occurrences: Vec<Occurrence>) {
        for occurrence in occurrences {
            match occurrence {
                Occurrence::Spawned(spawn) => self.spawns.count(spawn),
                Occurrence::Failed { node, image, error } => {
                    self.failures.inc();
                    tracing::warn!(%node, image, error, "a node could not pull an image");
                    let note = format!("{image}: {error}");
                    self.events.raise(&node_reference(&node), EventType::Warning, "ImagePullFailed", "Pull", &note);
                }
                Occurrence::NoRoom { node, image, error } => {
                    self.refusals.inc();
                    tracing::warn!(%node, image, error, "a node has no room for an image");
                    let note = format!("{image}: {error}");
                    self.events.raise(&node_reference(&node), EventType::Warning, "ImagesDoNotFit", "Pull", &note);
                }
            }
        }
    }

    /// A node's orders were written, or could not be.
    pub(super) fn written(&self, fine: bool) {
        self.writes.get_or_create(&ResultLabel { result: if fine { "ok" } else { "failed" } }).inc();
    }

    /// A new node's gate was opened; `lacks` names the images that it does not have.
    pub(super) fn opened(&self, node: &str, lacks: &[String]) {
        let result = if lacks.is_empty() { "complete" } else { "timeout" };
        self.gates.get_or_create(&ResultLabel { result }).inc();
        tracing::info!(node, ?lacks, "the gate of a new node is open");
        if lacks.is_empty() {
            let note = "The node has its images and is open to labs now".to_owned();
            self.events.raise(&node_reference(node), EventType::Normal, "GateOpened", "OpenGate", &note);
        } else {
            let note = format!("The gate timed out; the node was opened without {}", lacks.join(", "));
            self.events.raise(&node_reference(node), EventType::Warning, "GateTimedOut", "OpenGate", &note);
        }
    }

    /// The API server refused to open a new node's gate.
    pub(super) fn gate_refused(&self, node: &str, error: &str) {
        self.gates.get_or_create(&ResultLabel { result: "refused" }).inc();
        self.events.raise(&node_reference(node), EventType::Warning, "GateNotOpened", "OpenGate", error);
    }

    /// Records the state of nodes and rollouts after a decision.
    pub(super) fn decided(&self, snapshot: Snapshot) {
        self.troubles(&snapshot.troubles);
        self.waves(snapshot);
    }

    fn waves(&self, snapshot: Snapshot) {
        let ([eligible, paused, excluded], waves) = (snapshot.standings, &snapshot.waves);
        for (standing, count) in [("eligible", eligible), ("paused", paused), ("excluded", excluded)] {
            self.nodes.get_or_create(&StandingLabel { standing }).set(signed(count));
        }
        // Removes images that are no longer wanted.
        self.present.clear();
        self.eligible.clear();
        for wave in waves {
            let label = ImageLabel { image: wave.image.clone() };
            self.present.get_or_create(&label).set(signed(wave.present));
            self.eligible.get_or_create(&label).set(signed(wave.eligible));
        }
        self.stopped.set(signed(waves.iter().filter(|wave| wave.stopped.is_some()).count()));
        let (stopped, moving) = self.turns(&snapshot);
        for (image, node, error) in stopped {
            tracing::warn!(image, %node, error, "the rollout of an image stopped: the canary node could not pull it");
            let note = format!("The rollout of {image} stopped: the canary node {node} could not pull it: {error}");
            self.events.raise(&self.planner, EventType::Warning, "WaveStopped", "Plan", &note);
        }
        for image in moving {
            tracing::info!(image, "the rollout of an image continues");
            let note = format!("The rollout of {image} continues");
            self.events.raise(&self.planner, EventType::Normal, "WaveContinues", "Plan", &note);
        }
    }

    /// Rollouts that were stopped since the last decision, including by another node or cause, and wanted ones that
    /// continue.
    fn turns(&self, snapshot: &Snapshot) -> (Vec<Stop>, Vec<String>) {
        let mut known = lock(&self.reported);
        let stopped = snapshot.waves.iter().filter_map(|wave| {
            let (node, error) = wave.stopped.as_ref()?;
            Some((wave.image.clone(), node.clone(), error.clone()))
        });
        let stopped: Vec<Stop> = stopped.collect();
        // A node that keeps trying reports the same causes in turn: each is reported once.
        let is_new = |(image, node, error): &&Stop| {
            known.get(image).is_none_or(|(before, causes)| before != node || !causes.contains(error))
        };
        let new = stopped.iter().filter(is_new).cloned().collect();
        let moving = snapshot.waves.iter().filter(|wave| wave.stopped.is_none() && known.contains_key(&wave.image));
        let moving = moving.map(|wave| wave.image.clone()).collect();
        let mut before = std::mem::take(&mut *known);
        let remember = |(image, node, error): Stop| {
            let same = before.remove(&image).filter(|(before, causes)| *before == node && causes.len() < MOST_CAUSES);
            let mut causes = same.map(|(_, causes)| causes).unwrap_or_default();
            causes.insert(error);
            (image, (node, causes))
        };
        *known = stopped.into_iter().map(remember).collect();
        (new, moving)
    }
}

/// The node that stopped an image's rollout, and its causes that were reported.
type ReportedStop = (Arc<str>, HashSet<String>);

/// An image, the node that could not pull it, and why.
type Stop = (String, Arc<str>, String);

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The facts about a decision that are reported.
pub(super) struct Snapshot {
    standings: [usize; 3],
    troubles: Vec<(Arc<str>, NodeTrouble)>,
    waves: Vec<ReportedWave>,
}

struct ReportedWave {
    image: String,
    present: usize,
    eligible: usize,
    stopped: Option<(Arc<str>, String)>,
}

impl Snapshot {
    pub(super) fn of(cluster: &ClusterState) -> Self {
        let waves = cluster.waves().map(|(image, spread)| ReportedWave {
            image: image.reference.to_string(),
            present: spread.present,
            eligible: spread.eligible,
            stopped: match &spread.wave {
                Wave::Stopped { node, error, .. } => Some((node.clone(), error.clone())),
                _ => None,
            },
        });
        let troubles = cluster.troubles().map(|(node, trouble)| (node.clone(), trouble)).collect();
        Self { standings: cluster.standings(), troubles, waves: waves.collect() }
    }
}
