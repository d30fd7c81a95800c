//! All that the planner knows: the catalogue, the nodes with their orders and reports, who waits. Changed by what is seen, one
//! event at a time; decided over as a whole.

mod agents;
mod besides;
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
pub(super) use self::write::Write;
use super::decide::{Decision, Node, Spread, Wanted, decide};
use super::eligible::{NodeRules, Standing};
use super::gate::GateRules;
use super::pull_pods::SeenPull;
use super::seen::{Key, LastReport, PodState, Report, SeenNode, SeenOrders, SeenPod};
use super::spawns::{Found, Reports, Spawn, Spawns, found};
use super::watch::Kind;
use crate::node_images::PullState;
use crate::overview::{AgentState, Mode, ScanState, Wave};

/// What decisions go by, from the settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which nodes.
    pub nodes: NodeRules,
    /// How many nodes pull at a time.
    pub parallel: usize,
    /// How long a node counts as new.
    pub new_for: Duration,
    /// After how long without anything new in its report a node's slot is given on.
    pub stalled_after: Duration,
    /// How long a node may have orders before its agent's first report.
    pub agent_missing_after: Duration,
    /// When a new node is opened.
    pub gate: GateRules,
    /// Who pulls.
    pub mode: Mode,
}

/// All that the planner knows.
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
    /// The lab images of the catalogue by name, each with what nodes are ordered where it is wanted.
    labs: HashMap<Key, Option<Key>>,
    spawns: Spawns,
    pulls: HashMap<Arc<str>, SeenPull>,
    decision: Decision,
    /// Whether the cluster was seen whole, and decided over.
    has_decided: bool,
    /// When the watch of reports was last interrupted: who was not heard until then may have spoken.
    interrupted: Option<Instant>,
    /// What was read whole of the cluster.
    listed: HashSet<Kind>,
    /// What could not yet be, and why.
    unlisted: BTreeMap<Kind, String>,
    /// Why the API server takes no orders, while it does not answer.
    pub(super) unanswered: Option<String>,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct NodeState {
    node: Option<SeenNode>,
    standing: Option<Standing>,
    object: Option<SeenOrders>,
    waits_for: Vec<Key>,
    waiting_pods: usize,
    /// When its report last said something new.
    moved: Option<Instant>,
    /// When it was last told to pull something, as far as this process knows.
    told: Option<Instant>,
    /// When its agent last reported; before the first report, when it could have begun to.
    heard: Option<Instant>,
    agent: AgentState,
    /// Why its orders could not be written, while they can't.
    unwritten: Option<String>,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// A node could not pull an image.
    Failed { node: Arc<str>, image: String, error: String },
    /// A node has no room for an image.
    NoRoom { node: Arc<str>, image: String, error: String },
    /// A lab runs.
    Spawned(Spawn),
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
    /// Nothing known yet.
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

    /// Takes over a good catalogue of now, with what is known of its images' layers. Where something was decided before, it is at once
    /// decided over these images: who looks in between sees no image as wanted by nobody and present nowhere.
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
            // What is to be written is found again by the next decision.
            self.decide(now.0, now.1);
        }
    }

    /// A node as it is now; whether anything changed that decisions go by.
    pub(super) fn apply_node(&mut self, name: &str, mut node: SeenNode) -> bool {
        node.labels.retain(|key, _| self.rules.nodes.looks_at(key)); // nodes in clouds have dozens
        let record = self.record(name);
        if record.node.as_ref() == Some(&node) {
            return false;
        }
        record.node = Some(node);
        true
    }

    /// A node is gone.
    pub(super) fn delete_node(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.node = None;
        }
        self.forget(name);
    }

    /// A `NodeImages` as it is now; whether anything changed that decisions go by, and what people should hear of. What this process
    /// wrote itself and has not seen come back yet is not forgotten.
    pub(super) fn apply_orders(
        &mut self,
        name: &str,
        mut orders: SeenOrders,
        now: (Timestamp, Instant),
    ) -> (bool, Vec<News>) {
        let record = self.record(name);
        let mut failed = Vec::new();
        if let Some(known) = &record.object {
            if known.generation > orders.generation {
                (orders.generation, orders.orders, orders.wanted) =
                    (known.generation, known.orders.clone(), known.wanted);
            }
            if known.reported != orders.reported {
                record.heard = Some(now.1);
            }
            if known.reports == orders.reports {
                let changed = !known.is_as_before(&orders) || record.agent.is_trouble();
                record.object = Some(orders);
                return (changed, Vec::new());
            }
            for Report { key, told } in &orders.reports {
                let before = known.report(*key);
                let tried = told.failures > before.map_or(0, |before| before.failures);
                let refused = told.state == PullState::Refused;
                if tried || (refused && before.is_none_or(|before| before.state != PullState::Refused)) {
                    failed.push((*key, tried, told.error.as_deref().unwrap_or_default().to_owned()));
                }
            }
        } else {
            record.heard = Some(agents::heard(&orders, now));
            if !orders.orders.is_empty() {
                // Snapshot by an earlier process: as good as now.
                record.told = Some(now.1);
            }
        }
        (record.moved, record.object) = (Some(now.1), Some(orders));
        let news = failed.into_iter().filter_map(|(key, tried, error)| {
            let (node, image) = (Arc::from(name), self.name_of(key)?);
            Some(if tried { News::Failed { node, image, error } } else { News::NoRoom { node, image, error } })
        });
        (true, news.collect())
    }

    /// A `NodeImages` is gone.
    pub(super) fn delete_orders(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.object = None;
        }
        self.forget(name);
    }

    /// A pod as it is now, or its end; whether anything changed that decisions go by, and the spawn that it now is.
    pub(super) fn apply_pod(&mut self, id: &Arc<str>, pod: Option<SeenPod>, now: Timestamp) -> (bool, Option<News>) {
        let spawned = match &pod {
            Some(pod) => self.spawns.see(id, pod, self.found(pod), now),
            None => {
                self.spawns.lose(id);
                None
            }
        };
        let waits = pod.filter(|pod| pod.state == PodState::Waits);
        (self.apply_waiting(id, waits), spawned.map(News::Spawned))
    }

    /// Whether a pod that is scheduled finds its image on its node; nothing for one that is no lab of the catalogue.
    fn found(&self, pod: &SeenPod) -> Option<Found> {
        let record = self.nodes.get(&pod.node[..]).filter(|record| !record.agent.is_trouble());
        let object = record.and_then(|record| record.object.as_ref());
        let object = object.filter(|object| object.reported != LastReport::Never);
        let reports = |ordered: &Option<Key>| match (ordered, object) {
            (Some(key), Some(object)) => match object.report(*key) {
                Some(report) if report.state == PullState::Present => Reports::Holds(report.since),
                _ => Reports::Lacks,
            },
            _ => Reports::Nothing,
        };
        let images: Vec<Reports> = pod.images.iter().filter_map(|name| self.labs.get(name)).map(reports).collect();
        (!images.is_empty()).then(|| found(&images, pod.scheduled))
    }

    /// A pod that waits, or one that no longer does.
    fn apply_waiting(&mut self, id: &Arc<str>, pod: Option<SeenPod>) -> bool {
        let before = match &pod {
            Some(pod) => self.pods.insert(id.clone(), pod.clone()),
            None => self.pods.remove(id),
        };
        if before == pod {
            return false;
        }
        for node in [before, pod].into_iter().flatten().map(|pod| pod.node) {
            let waiting = || self.pods.values().filter(|pod| pod.node == node);
            let mut images: Vec<Key> = waiting().flat_map(|pod| pod.images.iter().copied()).collect();
            images.sort_unstable();
            images.dedup();
            let count = waiting().count();
            let record = self.record(&node);
            (record.waits_for, record.waiting_pods) = (images, count);
            self.forget(&node);
        }
        true
    }

    /// A pull pod as it is now, or its end.
    pub(super) fn apply_pull(&mut self, name: &Arc<str>, pull: Option<SeenPull>) {
        match pull {
            Some(pull) => self.pulls.insert(name.clone(), pull),
            None => self.pulls.remove(name),
        };
    }

    /// The names that a whole list has left out are gone.
    pub(super) fn reset_nodes(&mut self, listed: &HashSet<Arc<str>>) {
        let gone: Vec<Arc<str>> = self.missing(listed, |record| record.node.is_some());
        gone.iter().for_each(|name| self.delete_node(name));
    }

    /// As [`ClusterState::reset_nodes`], for `NodeImages`.
    pub(super) fn reset_orders(&mut self, listed: &HashSet<Arc<str>>) {
        let gone = self.missing(listed, |record| record.object.is_some());
        gone.iter().for_each(|name| self.delete_orders(name));
    }

    /// As [`ClusterState::reset_nodes`], for pods.
    pub(super) fn reset_pods(&mut self, listed: &HashSet<Arc<str>>, now: Timestamp) {
        let gone: Vec<Arc<str>> = self.pods.keys().filter(|id| !listed.contains(*id)).cloned().collect();
        for id in gone {
            self.apply_waiting(&id, None);
        }
        self.spawns.listed(listed, now);
    }

    /// As [`ClusterState::reset_nodes`], for pull pods.
    pub(super) fn reset_pulls(&mut self, listed: &HashSet<Arc<str>>) {
        self.pulls.retain(|name, _| listed.contains(name));
    }

    fn missing(&self, listed: &HashSet<Arc<str>>, has: impl Fn(&NodeState) -> bool) -> Vec<Arc<str>> {
        let missing = self.nodes.iter().filter(|(name, record)| has(record) && !listed.contains(*name));
        missing.map(|(name, _)| name.clone()).collect()
    }

    fn record(&mut self, name: &str) -> &mut NodeState {
        if !self.nodes.contains_key(name) {
            self.nodes.insert(name.into(), NodeState::default());
        }
        // It was just put there.
        self.nodes.entry(name.into()).or_default()
    }

    fn forget(&mut self, name: &str) {
        let empty = |record: &NodeState| record.node.is_none() && record.object.is_none() && record.waiting_pods == 0;
        if self.nodes.get(name).is_some_and(empty) {
            self.nodes.remove(name);
        }
    }

    fn name_of(&self, key: Key) -> Option<String> {
        let index = self.wanted.iter().position(|wanted| wanted.key == key)?;
        self.catalogue.as_ref()?.wanted().nth(index).map(|image| image.reference.to_string())
    }

    /// Decides anew; gives back what is to be written, nothing while there was never a catalogue.
    pub(super) fn decide(&mut self, now: Timestamp, instant: Instant) -> Vec<Write> {
        let user_nodes = self.nodes.values().filter_map(|record| record.node.as_ref()).any(NodeRules::is_user_node);
        for record in self.nodes.values_mut() {
            record.standing = record.node.as_ref().map(|node| self.rules.nodes.standing(node, user_nodes));
        }
        self.listen(instant);
        let seen: Vec<(&NodeState, Node<'_>)> = self
            .nodes
            .iter()
            .filter_map(|(name, record)| {
                let (node, standing) = (record.node.as_ref()?, record.standing.as_ref()?);
                let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| instant.saturating_duration_since(at));
                let seen = Node {
                    name,
                    standing,
                    architecture: node.architecture.as_deref(),
                    new: is_new(node, now, self.rules.new_for),
                    waits_for: &record.waits_for,
                    object: record.object.as_ref().unwrap_or(&NOTHING),
                    stalled: since(record.moved).min(since(record.told)) >= self.rules.stalled_after,
                    unfit: record.agent.unfit(),
                    told: since(record.told),
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

    /// Whether anything may change by time alone.
    pub(super) fn is_settled(&self) -> bool {
        self.decision.images.len() == self.wanted.len()
            && self.decision.images.iter().all(|spread| spread.wave == Wave::Done)
            && !self.any_gated()
    }

    fn any_gated(&self) -> bool {
        self.nodes.values().filter_map(|record| record.node.as_ref()).any(|node| self.rules.nodes.is_gated(node))
    }

    /// How the wave of each wanted image is.
    pub(super) fn waves(&self) -> impl Iterator<Item = (&CatalogueImage, &Spread)> {
        self.catalogue.iter().flat_map(|catalogue| catalogue.wanted()).zip(&self.decision.images)
    }
}

fn key(image: &CatalogueImage) -> Key {
    Key::new(&image.reference.to_string(), image.digest.as_ref().map(Digest::as_str))
}

/// Each by its tag, and by its digest alone: a spawner may name either.
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
