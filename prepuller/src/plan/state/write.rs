//! Builds the orders that must be written because a node has other ones.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Instant;

use lab_images::catalogue::{Catalogue, CatalogueImage};

use super::{ClusterState, NodeState};
use crate::node_images::{NodeImagesSpec, Order, OrderLayer};
use crate::plan::decide::{Decision, Node, NodeOrder, Wanted};
use crate::plan::eligible::Eligibility;
use crate::plan::seen::{Given, SeenOrders, URGENT};

/// Orders that a node should have and does not have.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Write {
    pub(in crate::plan) node: Arc<str>,
    pub(in crate::plan) node_uid: String,
    /// One order for each wanted image, shared by all nodes, because copies of the layers for thousands of nodes would
    /// fill the memory.
    wanted: Arc<[Order]>,
    /// Whether the layers are those that this node would pull.
    has_layers: bool,
    ordered: Vec<NodeOrder>,
    given: Vec<Given>,
    /// How many images the node should have in the end.
    in_all: u32,
}

impl Write {
    /// The spec to write.
    pub(in crate::plan) fn spec(&self) -> NodeImagesSpec {
        NodeImagesSpec { wanted: Some(self.in_all), orders: self.orders() }
    }

    fn orders(&self) -> Vec<Order> {
        let order = |ordered: &NodeOrder| {
            let wanted = &self.wanted[ordered.image];
            // The layers show how much is missing. A node that has the image does not need them.
            let layers = if self.has_layers && !ordered.present { wanted.layers.clone() } else { Vec::new() };
            let priority = if ordered.urgent { URGENT } else { wanted.priority };
            let (image, digest, size, gate) = (wanted.image.clone(), wanted.digest.clone(), wanted.size, wanted.gate);
            Order { image, digest, size, layers, priority, gate }
        };
        self.ordered.iter().map(order).collect()
    }
}

#[cfg(test)]
impl Write {
    /// Empty orders for a node.
    pub(in crate::plan) fn of_nothing(node: &str) -> Self {
        let (wanted, node_uid) = (Arc::new([]), String::new());
        Self {
            node: node.into(),
            node_uid,
            wanted,
            has_layers: false,
            ordered: Vec::new(),
            given: Vec::new(),
            in_all: 0,
        }
    }
}

impl ClusterState {
    pub(super) fn writes(
        &self,
        catalogue: &Catalogue,
        seen: &[(&NodeState, Node<'_>)],
        decision: &Decision,
    ) -> Vec<Write> {
        let order = |(index, (image, wanted)): (usize, (&CatalogueImage, &Wanted))| {
            let manifest = image.digest.as_ref().and_then(|digest| self.manifests.get(digest));
            let layers = manifest.iter().flat_map(|manifest| &manifest.layers);
            let layers = layers.map(|layer| OrderLayer { digest: layer.digest.clone(), size: layer.size });
            Order {
                image: image.reference.clone(),
                digest: image.digest.clone(),
                size: image.size,
                layers: layers.collect(),
                priority: u32::try_from(index + 1).unwrap_or(u32::MAX),
                gate: wanted.gate,
            }
        };
        // Usually there is nothing to write.
        let wanted: LazyCell<Arc<[Order]>, _> =
            LazyCell::new(|| catalogue.wanted().zip(&self.wanted).enumerate().map(order).collect());
        let write = |((record, node), ordered): (&(&NodeState, Node<'_>), &Vec<NodeOrder>)| {
            let given = |order: &NodeOrder| Given {
                key: self.wanted[order.image].key,
                urgent: order.urgent,
                gate: self.wanted[order.image].gate,
            };
            let given: Vec<Given> = ordered.iter().map(given).collect();
            let in_all = match node.eligibility {
                Eligibility::Excluded(_) => 0,
                _ => self.wanted.iter().filter(|wanted| wanted.is_for(node.architecture)).count(),
            };
            let in_all = u32::try_from(in_all).unwrap_or(u32::MAX);
            let is_as_given = node.object.wanted == Some(in_all) && is_as_given(&node.object.orders, &given);
            (!is_as_given).then(|| Write {
                node: node.name.clone(),
                node_uid: record.node.as_ref().map(|node| node.uid.clone()).unwrap_or_default(),
                wanted: Arc::clone(&wanted),
                has_layers: node.architecture == Some(self.platform.architecture.as_str()),
                ordered: ordered.clone(),
                given,
                in_all,
            })
        };
        seen.iter().zip(&decision.orders).filter_map(write).collect()
    }

    /// A node's orders were written, and now have this generation and UID.
    pub(in crate::plan) fn written(&mut self, write: Write, generation: i64, uid: String, now: Instant) {
        let record = self.record(&write.node);
        let object = record.object.get_or_insert_with(SeenOrders::default);
        let is_more = write.given.iter().any(|given| object.orders.iter().all(|before| before.key != given.key));
        if is_more {
            record.last_ordered = Some(now);
        }
        // The watch may have been faster.
        if object.generation <= generation {
            (object.generation, object.orders, object.uid) = (generation, write.given, uid);
            object.wanted = Some(write.in_all);
        }
        record.unwritten = None;
        record.heard.get_or_insert(now);
    }

    /// Forgets refusals of nodes for which nothing is left to write.
    pub(super) fn forget_refusals(&mut self, writes: &[Write]) {
        for (name, record) in &mut self.nodes {
            // Both are sorted by name.
            if record.unwritten.is_some() && writes.binary_search_by(|write| write.node.cmp(name)).is_err() {
                record.unwritten = None;
            }
        }
    }
}

/// Whether a node has the right orders. An order that is no longer urgent need not be written again.
fn is_as_given(has: &[Given], should: &[Given]) -> bool {
    has.len() == should.len()
        && should.iter().all(|should| {
            let same = has.iter().find(|has| has.key == should.key);
            same.is_some_and(|has| has.gate == should.gate && (has.urgent || !should.urgent))
        })
}
