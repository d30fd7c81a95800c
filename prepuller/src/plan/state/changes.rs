//! Handles watch events of nodes, `NodeImages` and pods, one at a time, and complete lists by name.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::{ClusterState, NodeState, agents};
use crate::node_images::PullState;
use crate::plan::pull_pods::SeenPull;
use crate::plan::seen::{Key, LastReport, PodState, SeenNode, SeenOrders, SeenPod, SeenReport};
use crate::plan::spawns::{Found, Reports, Spawn, found};

/// Something to report in logs, Events and metrics.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) enum Occurrence {
    /// A node could not pull an image.
    Failed { node: Arc<str>, image: String, error: String },
    /// A node has no room for an image.
    NoRoom { node: Arc<str>, image: String, error: String },
    /// A lab is running.
    Spawned(Spawn),
}

impl ClusterState {
    /// Handles the current state of a node. Returns whether any input of decisions changed.
    pub(in crate::plan) fn apply_node(&mut self, name: &str, mut node: SeenNode) -> bool {
        node.labels.retain(|key, _| self.rules.nodes.looks_at(key)); // nodes in clouds have dozens
        let record = self.record(name);
        if record.node.as_ref() == Some(&node) {
            return false;
        }
        record.node = Some(node);
        true
    }

    /// A node is gone.
    pub(in crate::plan) fn delete_node(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.node = None;
        }
        self.forget(name);
    }

    /// Handles the current state of a `NodeImages`. Returns whether any input of decisions changed, and what to
    /// report. Orders that this process wrote and has not seen in the watch yet are kept.
    pub(in crate::plan) fn apply_orders(
        &mut self,
        name: &str,
        mut orders: SeenOrders,
        now: (Timestamp, Instant),
    ) -> (bool, Vec<Occurrence>) {
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
            for SeenReport { key, reported } in &orders.reports {
                let before = known.report(*key);
                let tried = reported.failures > before.map_or(0, |before| before.failures);
                let refused = reported.state == PullState::Refused;
                if tried || (refused && before.is_none_or(|before| before.state != PullState::Refused)) {
                    failed.push((*key, tried, reported.error.as_deref().unwrap_or_default().to_owned()));
                }
            }
        } else {
            record.heard = Some(agents::heard(&orders, now));
            if !orders.orders.is_empty() {
                // An earlier process gave the order; count from now.
                record.last_ordered = Some(now.1);
            }
        }
        (record.moved, record.object) = (Some(now.1), Some(orders));
        let occurrences = failed.into_iter().filter_map(|(key, tried, error)| {
            let (node, image) = (Arc::from(name), self.name_of(key)?);
            Some(if tried {
                Occurrence::Failed { node, image, error }
            } else {
                Occurrence::NoRoom { node, image, error }
            })
        });
        (true, occurrences.collect())
    }

    /// A `NodeImages` is gone.
    pub(in crate::plan) fn delete_orders(&mut self, name: &str) {
        if let Some(record) = self.nodes.get_mut(name) {
            record.object = None;
        }
        self.forget(name);
    }

    /// Handles the current state of a pod, or its end. Returns whether any input of decisions changed, and a new spawn.
    pub(in crate::plan) fn apply_pod(
        &mut self,
        id: &Arc<str>,
        pod: Option<SeenPod>,
        now: Timestamp,
    ) -> (bool, Option<Occurrence>) {
        let spawned = match &pod {
            Some(pod) => self.spawns.update(id, pod, self.found(pod), now),
            None => {
                self.spawns.remove(id);
                None
            }
        };
        let waits = pod.filter(|pod| pod.state == PodState::Waits);
        (self.apply_waiting(id, waits), spawned.map(Occurrence::Spawned))
    }

    /// Whether a scheduled pod finds its image on its node; `None` if it is not a lab of the catalogue.
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

    /// Checks waiting pods again: one may have been seen before the catalogue, or before its node's report.
    pub(super) fn look_at_waiting(&mut self) {
        let open = self.pods.iter().filter(|(id, _)| self.spawns.is_open(id));
        let found: Vec<_> = open.filter_map(|(id, pod)| Some((id.clone(), self.found(pod)?))).collect();
        for (id, found) in found {
            self.spawns.resolve(&id, found);
        }
    }

    /// Handles a pod that waits, or no longer does.
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
    pub(in crate::plan) fn apply_pull(&mut self, name: &Arc<str>, pull: Option<SeenPull>) {
        match pull {
            Some(pull) => self.pulls.insert(name.clone(), pull),
            None => self.pulls.remove(name),
        };
    }

    /// Forgets nodes that are missing in a complete list.
    pub(in crate::plan) fn reset_nodes(&mut self, listed: &HashSet<Arc<str>>) {
        let gone: Vec<Arc<str>> = self.missing(listed, |record| record.node.is_some());
        gone.iter().for_each(|name| self.delete_node(name));
    }

    /// As [`ClusterState::reset_nodes`], for `NodeImages`.
    pub(in crate::plan) fn reset_orders(&mut self, listed: &HashSet<Arc<str>>) {
        let gone = self.missing(listed, |record| record.object.is_some());
        gone.iter().for_each(|name| self.delete_orders(name));
    }

    /// As [`ClusterState::reset_nodes`], for pods.
    pub(in crate::plan) fn reset_pods(&mut self, listed: &HashSet<Arc<str>>, now: Timestamp) {
        let gone: Vec<Arc<str>> = self.pods.keys().filter(|id| !listed.contains(*id)).cloned().collect();
        for id in gone {
            self.apply_waiting(&id, None);
        }
        self.spawns.listed(listed, now);
    }

    /// As [`ClusterState::reset_nodes`], for pull pods.
    pub(in crate::plan) fn reset_pulls(&mut self, listed: &HashSet<Arc<str>>) {
        self.pulls.retain(|name, _| listed.contains(name));
    }

    fn missing(&self, listed: &HashSet<Arc<str>>, has: impl Fn(&NodeState) -> bool) -> Vec<Arc<str>> {
        let missing = self.nodes.iter().filter(|(name, record)| has(record) && !listed.contains(*name));
        missing.map(|(name, _)| name.clone()).collect()
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
}
