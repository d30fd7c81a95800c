//! All that the planner knows: the catalogue, the nodes with their orders and reports, who waits. Changed by what is seen, one
//! event at a time; decided over as a whole.

mod show;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab_images::catalogue::{Catalogue, CatalogueImage};
use lab_images::reference::{Digest, Platform};
use lab_images::registry::ImageManifest;

pub(super) use self::write::Write;
use super::decide::{Decision, Node, Spread, Wanted, decide};
use super::eligible::{NodeRules, Standing};
use super::gate::GateRules;
use super::overview::{Mode, ScanState, Wave};
use super::pull_pods::{Ordered, SeenPull, Turn, turn};
use super::seen::{Key, Report, SeenNode, SeenOrders, SeenPod};
use crate::node_images::PullState;

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
    /// When a new node is opened.
    pub gate: GateRules,
    /// Who pulls.
    pub mode: Mode,
}

/// All that the planner knows.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) scan: ScanState,
    catalogue: Option<Arc<Catalogue>>,
    wanted: Vec<Wanted>,
    manifests: HashMap<Digest, Arc<ImageManifest>>,
    platform: Platform,
    nodes: BTreeMap<Arc<str>, Record>,
    pods: HashMap<Arc<str>, SeenPod>,
    pulls: HashMap<Arc<str>, SeenPull>,
    decision: Decision,
    /// Whether the cluster was seen whole, and decided over.
    has_decided: bool,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Record {
    node: Option<SeenNode>,
    standing: Option<Standing>,
    object: Option<SeenOrders>,
    waits_for: Vec<Key>,
    waiting_pods: usize,
    /// When its report last said something new.
    moved: Option<Instant>,
    /// When it was last told to pull something, as far as this process knows.
    told: Option<Instant>,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// A node could not pull an image.
    Failed { node: Arc<str>, image: String, error: String },
    /// A node has no room for an image.
    NoRoom { node: Arc<str>, image: String, error: String },
}

static NOTHING: SeenOrders = SeenOrders {
    generation: 0,
    uid: String::new(),
    orders: Vec::new(),
    reported: false,
    reports: Vec::new(),
    disk: None,
};

impl World {
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
            pulls: HashMap::new(),
            decision: Decision::default(),
            has_decided: false,
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
            architectures: image.platforms.iter().map(|platform| platform.architecture.as_str().into()).collect(),
            gate: gate.waits_for(image),
        };
        let wanted: Vec<Wanted> = catalogue.wanted().map(wanted).collect();
        self.wanted = wanted;
        self.manifests = manifests;
        self.catalogue = Some(Arc::new(catalogue));
        self.decision = Decision::default();
        if self.has_decided {
            // What is to be written is found again by the next decision.
            self.decide(now.0, now.1);
        }
    }

    /// A node as it is now; whether anything changed that decisions go by.
    pub(super) fn see_node(&mut self, name: &str, mut node: SeenNode) -> bool {
        node.labels.retain(|key, _| self.rules.nodes.looks_at(key)); // nodes in clouds have dozens
        let record = self.record(name);
        if record.node.as_ref() == Some(&node) {
            return false;
        }
        record.node = Some(node);
        true
    }

    /// A node is gone.
    pub(super) fn lose_node(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.node = None;
        }
        self.forget(name);
    }

    /// A `NodeImages` as it is now. What this process wrote itself and has not seen come back yet is not forgotten.
    pub(super) fn see_orders(&mut self, name: &str, mut orders: SeenOrders, now: Instant) -> Vec<News> {
        let record = self.record(name);
        let mut failed = Vec::new();
        if let Some(known) = &record.object {
            if known.generation > orders.generation {
                (orders.generation, orders.orders) = (known.generation, known.orders.clone());
            }
            if known.reports == orders.reports {
                record.object = Some(orders);
                return Vec::new();
            }
            for Report { key, told } in &orders.reports {
                let before = known.report(*key);
                let tried = told.failures > before.map_or(0, |before| before.failures);
                let refused = told.state == PullState::Refused;
                if tried || (refused && before.is_none_or(|before| before.state != PullState::Refused)) {
                    failed.push((*key, tried, told.error.as_deref().unwrap_or_default().to_owned()));
                }
            }
        } else if !orders.orders.is_empty() {
            // Told by an earlier process: as good as now.
            record.told = Some(now);
        }
        (record.moved, record.object) = (Some(now), Some(orders));
        let news = failed.into_iter().filter_map(|(key, tried, error)| {
            let (node, image) = (Arc::from(name), self.name_of(key)?);
            Some(if tried { News::Failed { node, image, error } } else { News::NoRoom { node, image, error } })
        });
        news.collect()
    }

    /// A `NodeImages` is gone.
    pub(super) fn lose_orders(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.object = None;
        }
        self.forget(name);
    }

    /// A pod that waits, or one that no longer does.
    pub(super) fn see_pod(&mut self, id: &str, pod: Option<SeenPod>) -> bool {
        let before = match &pod {
            Some(pod) => self.pods.insert(id.into(), pod.clone()),
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
    pub(super) fn see_pull(&mut self, name: &Arc<str>, pull: Option<SeenPull>) {
        match pull {
            Some(pull) => self.pulls.insert(name.clone(), pull),
            None => self.pulls.remove(name),
        };
    }

    /// What pull pods are to be made, told of and removed, node by node.
    pub(super) fn pull_turns(&self, now: Timestamp) -> Vec<(Arc<str>, Turn)> {
        let mut pulls: HashMap<&str, Vec<(&Arc<str>, &SeenPull)>> = HashMap::new();
        for (name, pull) in &self.pulls {
            pulls.entry(pull.node()).or_default().push((name, pull));
        }
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let images: Vec<&CatalogueImage> = catalogue.wanted().collect();
        let turn = |(name, record): (&Arc<str>, &Record)| {
            let object = record.object.as_ref()?;
            let ordered = |(index, wanted): (usize, &Wanted)| {
                let given = object.orders.iter().find(|given| given.key == wanted.key)?;
                Some((!given.urgent, (images[index], wanted.key, object.report(wanted.key))))
            };
            let mut ordered: Vec<_> = self.wanted.iter().enumerate().filter_map(ordered).collect();
            ordered.sort_by_key(|(calm, _)| *calm);
            let ordered = Ordered {
                node: name,
                generation: object.generation,
                uid: &object.uid,
                eligible: record.standing == Some(Standing::Eligible),
                images: ordered.into_iter().map(|(_, image)| image).collect(),
            };
            let turn = turn(&ordered, pulls.get(&**name).map_or(&[], Vec::as_slice), now);
            let idle = turn.make.is_none() && turn.tell.is_none() && turn.remove.is_empty();
            (!idle).then(|| (name.clone(), turn))
        };
        self.nodes.iter().filter_map(turn).collect()
    }

    /// The names that a whole list has left out are gone.
    pub(super) fn keep_nodes(&mut self, listed: &HashSet<Arc<str>>) {
        let gone: Vec<Arc<str>> = self.missing(listed, |record| record.node.is_some());
        gone.iter().for_each(|name| self.lose_node(name));
    }

    /// As [`World::keep_nodes`], for `NodeImages`.
    pub(super) fn keep_orders(&mut self, listed: &HashSet<Arc<str>>) {
        let gone = self.missing(listed, |record| record.object.is_some());
        gone.iter().for_each(|name| self.lose_orders(name));
    }

    /// As [`World::keep_nodes`], for pods.
    pub(super) fn keep_pods(&mut self, listed: &HashSet<Arc<str>>) {
        let gone: Vec<Arc<str>> = self.pods.keys().filter(|id| !listed.contains(*id)).cloned().collect();
        for id in gone {
            self.see_pod(&id, None);
        }
    }

    /// As [`World::keep_nodes`], for pull pods.
    pub(super) fn keep_pulls(&mut self, listed: &HashSet<Arc<str>>) {
        self.pulls.retain(|name, _| listed.contains(name));
    }

    fn missing(&self, listed: &HashSet<Arc<str>>, has: impl Fn(&Record) -> bool) -> Vec<Arc<str>> {
        let missing = self.nodes.iter().filter(|(name, record)| has(record) && !listed.contains(*name));
        missing.map(|(name, _)| name.clone()).collect()
    }

    fn record(&mut self, name: &str) -> &mut Record {
        if !self.nodes.contains_key(name) {
            self.nodes.insert(name.into(), Record::default());
        }
        // It was just put there.
        self.nodes.entry(name.into()).or_default()
    }

    fn forget(&mut self, name: &str) {
        let empty = |record: &Record| record.node.is_none() && record.object.is_none() && record.waiting_pods == 0;
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
        let seen: Vec<(&Record, Node<'_>)> = self
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

    /// Nodes whose gate is to be opened, each with the images that it still lacks: none, or time is over.
    pub(super) fn gates_to_open(&self, now: Timestamp) -> Vec<(Arc<str>, Vec<String>)> {
        if self.decision.images.len() != self.wanted.len() {
            return Vec::new();
        }
        let gated = self.nodes.iter().filter_map(|(name, record)| {
            let node = record.node.as_ref().filter(|node| self.rules.nodes.is_gated(node))?;
            let standing = record.standing.as_ref()?;
            let lacks: Option<Vec<String>> = self.catalogue.as_ref().map(|catalogue| {
                let images = catalogue.wanted().zip(&self.wanted).zip(&self.decision.images);
                let holds = |key: Key| {
                    let report = record.object.as_ref().and_then(|object| object.report(key));
                    report.is_some_and(|report| report.state == PullState::Present)
                };
                let waits = images.filter(|((_, wanted), spread)| {
                    // What nobody can pull keeps no node closed.
                    wanted.gate
                        && wanted.is_for(node.architecture.as_deref())
                        && !matches!(spread.wave, Wave::Stopped { .. })
                        && !holds(wanted.key)
                });
                waits.map(|((image, _), _)| image.reference.to_string()).collect()
            });
            self.rules.gate.opens(standing, node.created, lacks, now).map(|lacks| (name.clone(), lacks))
        });
        gated.collect()
    }

    /// How the wave of each wanted image is.
    pub(super) fn waves(&self) -> impl Iterator<Item = (&CatalogueImage, &Spread)> {
        self.catalogue.iter().flat_map(|catalogue| catalogue.wanted()).zip(&self.decision.images)
    }
}

fn key(image: &CatalogueImage) -> Key {
    Key::new(&image.reference.to_string(), image.digest.as_ref().map(Digest::as_str))
}

fn is_new(node: &SeenNode, now: Timestamp, new_for: Duration) -> bool {
    let age = node.created.map(|created| now.duration_since(created));
    age.is_some_and(|age| Duration::try_from(age).unwrap_or_default() < new_for)
}

#[cfg(test)]
mod tests;
