//! Builds the overview of the planner's state.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use lab_images::catalogue::CatalogueImage;
use lab_images::reference::Platform;

use super::{ClusterState, NodeState, is_new};
use crate::node_images::PullState;
use crate::overview::{ImageOnNode, ImageOverview, NodeOverview, Overview, Reported};
use crate::plan::decide::{Spread, Wanted};
use crate::plan::eligible::Eligibility;

impl ClusterState {
    /// The number of nodes that are eligible, paused and excluded.
    pub(in crate::plan) fn standings(&self) -> [usize; 3] {
        let count = |wanted: fn(&Eligibility) -> bool| {
            self.nodes
                .values()
                .filter_map(|record| record.eligibility.as_ref())
                .filter(|eligibility| wanted(eligibility))
                .count()
        };
        [
            count(|eligibility| *eligibility == Eligibility::Eligible),
            count(|eligibility| matches!(eligibility, Eligibility::Paused(_))),
            count(|eligibility| matches!(eligibility, Eligibility::Excluded(_))),
        ]
    }

    /// The platforms of the nodes that may have images, with this machine's first if it is among them. Before any node
    /// is known: this machine's.
    pub(in crate::plan) fn platforms(&self) -> Vec<Platform> {
        let may = |record: &&NodeState| !matches!(record.eligibility, Some(Eligibility::Excluded(_)));
        let nodes = self.nodes.values().filter(may).filter_map(|record| record.node.as_ref()?.architecture.as_deref());
        let architectures: BTreeSet<&str> = nodes.collect();
        let own = &self.platform;
        let is_own = |architecture: &&str| *architecture == own.architecture;
        let others = architectures.iter().filter(|architecture| !is_own(architecture));
        let others = others.map(|architecture| Platform {
            os: own.os.clone(),
            architecture: (*architecture).to_owned(),
            variant: None,
        });
        let with_own = architectures.is_empty() || architectures.contains(own.architecture.as_str());
        with_own.then(|| own.clone()).into_iter().chain(others).collect()
    }

    /// An overview of the state.
    pub(in crate::plan) fn overview(&self, now: Timestamp) -> Overview {
        let image = |(image, spread): (&CatalogueImage, &Spread)| ImageOverview {
            reference: image.reference.clone(),
            digest: image.digest.clone(),
            name: image.name.clone(),
            size: image.size,
            why: image.why.clone(),
            present: spread.present,
            eligible: spread.eligible,
            wave: spread.wave.clone(),
        };
        let nodes = self.nodes.iter().filter_map(|(name, record)| self.node_overview(name, record, now));
        Overview {
            now,
            mode: self.rules.mode,
            catalogue: self.catalogue.clone(),
            scan: self.scan.clone(),
            decided: self.has_decided,
            cluster: self.cluster_problems(),
            images: self.waves().map(image).collect(),
            nodes: nodes.collect(),
            spawns: self.spawns.overview(now),
        }
    }

    /// Problems with the API server.
    fn cluster_problems(&self) -> Vec<String> {
        let unlisted =
            self.unlisted.iter().map(|(kind, error)| format!("{kind} can't be read, so nothing is planned: {error}"));
        let unanswered =
            self.unanswered.iter().map(|error| format!("The Kubernetes API does not accept orders for nodes: {error}"));
        unlisted.chain(unanswered).collect()
    }

    fn node_overview(&self, name: &Arc<str>, record: &NodeState, now: Timestamp) -> Option<NodeOverview> {
        let node = record.node.as_ref()?;
        let eligibility = record.eligibility.as_ref()?;
        let object = record.object.as_ref();
        let image = |wanted: &Wanted| {
            let reported: Option<&Reported> = object.and_then(|object| object.report(wanted.key));
            let ordered = object.is_some_and(|object| object.orders.iter().any(|given| given.key == wanted.key));
            match reported {
                Some(reported) if ordered || reported.state == PullState::Present => {
                    ImageOnNode::Reported(reported.clone())
                }
                _ if ordered => ImageOnNode::Ordered,
                _ if *eligibility == Eligibility::Eligible && wanted.is_for(node.architecture.as_deref()) => {
                    ImageOnNode::NotOrdered
                }
                _ => ImageOnNode::NotWanted,
            }
        };
        Some(NodeOverview {
            name: name.clone(),
            not_eligible: eligibility.reason().map(str::to_owned),
            gated: self.rules.nodes.is_gated(node),
            new: is_new(node, now, self.rules.new_for),
            waiting_pods: record.waiting_pods,
            agent: record.agent.clone(),
            unwritten: record.unwritten.clone(),
            disk: object.and_then(|object| object.disk),
            // As many as the decision has images: none before the first decision about a catalogue.
            images: self.wanted.iter().take(self.decision.images.len()).map(image).collect(),
        })
    }
}
