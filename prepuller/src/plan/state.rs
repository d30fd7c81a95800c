//! The planner's state: the catalogue, the nodes with their orders and reports, and waiting pods. Watch events change
//! it one at a time; decisions use the whole.

mod agents;
mod besides;
mod changes;
mod show;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab_images::catalogue::{Catalogue, CatalogueImage, Kind as ImageKind};
use lab_images::reference::{Digest, Platform, Reference};
use lab_images::registry::ImageManifest;

pub(super) use self::agents::Trouble;
pub(super) use self::changes::Occurrence;
pub(super) use self::write::Write;
use super::decide::{Decision, Node, Spread, Wanted, decide};
use super::eligible::{Eligibility, NodeRules};
use super::gate::GateRules;
use super::pull_pods::SeenPull;
use super::seen::{Key, LastReport, SeenNode, SeenOrders, SeenPod};
use super::spawns::Spawns;
use super::watch::Kind;
use crate::overview::{AgentState, Mode, ScanState, Wave};

/// The rules of decisions, from the settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules that choose nodes.
    pub nodes: NodeRules,
    /// The maximum number of nodes that pull at a time.
    pub parallel: usize,
    /// How long a node counts as new.
    pub new_for: Duration,
    /// A node whose report does not change for this long counts as stalled.
    pub stalled_after: Duration,
    /// How long a node may have orders before its agent's first report.
    pub agent_missing_after: Duration,
    /// The rules for opening new nodes.
    pub gate: GateRules,
    /// Agents or pull pods.
    pub mode: Mode,
}

/// The planner's state.
#[derive(Debug)]
pub(super) struct ClusterState {
    pub(super) rules: Rules,
    pub(super) scan: ScanState,
    catalogue: Option<Arc<Catalogue>>,
    wanted: Vec<Wanted>,
    manifests: HashMap<Digest, Arc<ImageManifest>>,
    platform: Platform,
    nodes: BTreeMap<Arc<str>, NodeState>,
    /// Pods that wait on a node.
    pods: HashMap<Arc<str>, SeenPod>,
    /// The lab images of the catalogue by name, each with the key under which it is ordered, if it is wanted.
    labs: HashMap<Key, Option<Key>>,
    spawns: Spawns,
    pulls: HashMap<Arc<str>, SeenPull>,
    decision: Decision,
    /// Whether there was a decision about the completely listed cluster.
    has_decided: bool,
    /// When the watch of reports was last interrupted. Agents that seem silent until then may have reported.
    interrupted: Option<Instant>,
    /// The kinds of objects that were listed completely.
    listed: HashSet<Kind>,
    /// The kinds that could not be listed yet, and why.
    unlisted: BTreeMap<Kind, String>,
    /// Why the API server accepts no orders, while it does not answer.
    pub(super) unanswered: Option<String>,
}

/// The state of one node.
#[derive(Debug, Default)]
struct NodeState {
    node: Option<SeenNode>,
    eligibility: Option<Eligibility>,
    object: Option<SeenOrders>,
    waits_for: Vec<Key>,
    waiting_pods: usize,
    /// When its report last changed.
    moved: Option<Instant>,
    /// When it was last ordered to pull something, as far as this process knows.
    last_ordered: Option<Instant>,
    /// When its agent last reported. Before the first report: when it could first have reported.
    heard: Option<Instant>,
    agent: AgentState,
    /// Why its orders cannot be written, while that is so.
    unwritten: Option<String>,
}

static NOTHING: SeenOrders = SeenOrders {
    generation: 0,
    uid: String::new(),
    created: None,
    orders: Vec::new(),
    wanted: None,
    reported: LastReport::Never,
    runtime_problem: None,
    reports: Vec::new(),
    disk: None,
};

impl ClusterState {
    /// An empty state.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            scan: ScanState::default(),
            catalogue: None,
            wanted: Vec::new(),
            manifests: HashMap::new(),
            platform: Platform::of_this_machine(),
            nodes: BTreeMap::new(),
            pods: HashMap::new(),
            labs: HashMap::new(),
            spawns: Spawns::default(),
            pulls: HashMap::new(),
            decision: Decision::default(),
            has_decided: false,
            interrupted: None,
            listed: HashSet::new(),
            unlisted: BTreeMap::new(),
            unanswered: None,
        }
    }

    /// The last good catalogue.
    pub(super) fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.catalogue.as_ref()
    }

    /// Stores a good catalogue and the known layers of its images. If there was a decision before, there is at once a
    /// new one about these images, so that no reader in between sees an image as unwanted or present nowhere.
    pub(super) fn take_catalogue(
        &mut self,
        catalogue: Catalogue,
        manifests: HashMap<Digest, Arc<ImageManifest>>,
        now: (Timestamp, Instant),
    ) {
        let gate = &self.rules.gate;
        let wanted = |image: &CatalogueImage| Wanted {
            key: key(image),
            name: Key::of_name(&image.reference),
            architectures: image.architectures().map(|all| all.into_iter().map(Into::into).collect()),
            gate: gate.waits_for(image),
        };
        let wanted: Vec<Wanted> = catalogue.wanted().map(wanted).collect();
        self.wanted = wanted;
        self.labs = labs(&catalogue);
        self.manifests = manifests;
        self.catalogue = Some(Arc::new(catalogue));
        self.decision = Decision::default();
        if self.has_decided {
            // The next decision finds the pending writes again.
            self.decide(now.0, now.1);
        }
    }

    /// Decides again. Returns the orders to write; none while there has been no catalogue.
    pub(super) fn decide(&mut self, now: Timestamp, instant: Instant) -> Vec<Write> {
        let user_nodes = self.nodes.values().filter_map(|record| record.node.as_ref()).any(NodeRules::is_user_node);
        for record in self.nodes.values_mut() {
            record.eligibility = record.node.as_ref().map(|node| self.rules.nodes.eligibility(node, user_nodes));
        }
        self.listen(instant);
        self.look_at_waiting();
        let seen: Vec<(&NodeState, Node<'_>)> = self
            .nodes
            .iter()
            .filter_map(|(name, record)| {
                let (node, eligibility) = (record.node.as_ref()?, record.eligibility.as_ref()?);
                let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| instant.saturating_duration_since(at));
                let seen = Node {
                    name,
                    eligibility,
                    architecture: node.architecture.as_deref(),
                    new: is_new(node, now, self.rules.new_for),
                    waits_for: &record.waits_for,
                    object: record.object.as_ref().unwrap_or(&NOTHING),
                    stalled: since(record.moved).min(since(record.last_ordered)) >= self.rules.stalled_after,
                    unfit: record.agent.unfit(),
                    last_ordered: since(record.last_ordered),
                };
                Some((record, seen))
            })
            .collect();
        let views: Vec<Node<'_>> = seen.iter().map(|(_, node)| node.clone()).collect();
        let decision = decide(&self.wanted, &views, self.rules.parallel);
        let writes = match &self.catalogue {
            Some(catalogue) => self.writes(catalogue, &seen, &decision),
            None => Vec::new(),
        };
        self.decision = decision;
        self.has_decided = true;
        self.forget_refusals(&writes);
        writes
    }

    /// Whether time alone changes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.decision.images.len() == self.wanted.len()
            && self.decision.images.iter().all(|spread| spread.wave == Wave::Done)
            && !self.any_gated()
    }

    fn any_gated(&self) -> bool {
        self.nodes.values().filter_map(|record| record.node.as_ref()).any(|node| self.rules.nodes.is_gated(node))
    }

    /// The state of each wanted image's rollout.
    pub(super) fn waves(&self) -> impl Iterator<Item = (&CatalogueImage, &Spread)> {
        self.catalogue.iter().flat_map(|catalogue| catalogue.wanted()).zip(&self.decision.images)
    }

    fn record(&mut self, name: &str) -> &mut NodeState {
        if !self.nodes.contains_key(name) {
            self.nodes.insert(name.into(), NodeState::default());
        }
        // It was just inserted.
        self.nodes.entry(name.into()).or_default()
    }
}

fn key(image: &CatalogueImage) -> Key {
    Key::new(&image.reference.to_string(), image.digest.as_ref().map(Digest::as_str))
}

/// Each image by its tag and by its digest alone, because a spawner may use either.
fn labs(catalogue: &Catalogue) -> HashMap<Key, Option<Key>> {
    let mut labs: HashMap<Key, Option<Key>> = HashMap::new();
    for image in catalogue.images.iter().filter(|image| image.kind == ImageKind::Lab) {
        let by_digest = image.digest.clone().map(|digest| Reference {
            repository: image.reference.repository.clone(),
            tag: None,
            digest: Some(digest),
        });
        for name in [Some(image.reference.clone()), by_digest].into_iter().flatten() {
            let ordered = labs.entry(Key::of_name(&name)).or_default();
            if image.wanted {
                *ordered = Some(key(image));
            }
        }
    }
    labs
}

fn is_new(node: &SeenNode, now: Timestamp, new_for: Duration) -> bool {
    let age = node.created.map(|created| now.duration_since(created));
    age.is_some_and(|age| Duration::try_from(age).unwrap_or_default() < new_for)
}

#[cfg(test)]
mod tests;
