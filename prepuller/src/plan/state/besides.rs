//! Actions other than writing orders: pull pods, and the gates of new nodes.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use lab_images::catalogue::CatalogueImage;

use super::{ClusterState, NodeState};
use crate::node_images::PullState;
use crate::overview::Wave;
use crate::plan::decide::Wanted;
use crate::plan::eligible::Eligibility;
use crate::plan::pull_pods::{Ordered, PodActions, SeenPull, turn};
use crate::plan::seen::Key;

impl ClusterState {
    /// The pull pods to create, report on and remove, node by node.
    pub(in crate::plan) fn pull_turns(&self, now: Timestamp) -> Vec<(Arc<str>, PodActions)> {
        let mut pulls: HashMap<&str, Vec<(&Arc<str>, &SeenPull)>> = HashMap::new();
        for (name, pull) in &self.pulls {
            pulls.entry(pull.node()).or_default().push((name, pull));
        }
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let images: Vec<&CatalogueImage> = catalogue.wanted().collect();
        let turn = |(name, record): (&Arc<str>, &NodeState)| {
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
                eligible: record.eligibility == Some(Eligibility::Eligible),
                images: ordered.into_iter().map(|(_, image)| image).collect(),
            };
            let turn = turn(&ordered, pulls.get(&**name).map_or(&[], Vec::as_slice), now);
            let idle = turn.make.is_none() && turn.write.is_none() && turn.remove.is_empty();
            (!idle).then(|| (name.clone(), turn))
        };
        self.nodes.iter().filter_map(turn).collect()
    }

    /// Nodes whose gate is to be opened, each with the images that it still lacks: none, or the gate timed out.
    pub(in crate::plan) fn gates_to_open(&self, now: Timestamp) -> Vec<(Arc<str>, Vec<String>)> {
        if self.decision.images.len() != self.wanted.len() {
            return Vec::new();
        }
        let gated = self.nodes.iter().filter_map(|(name, record)| {
            let node = record.node.as_ref().filter(|node| self.rules.nodes.is_gated(node))?;
            let eligibility = record.eligibility.as_ref()?;
            let lacks: Option<Vec<String>> = self.catalogue.as_ref().map(|catalogue| {
                let images = catalogue.wanted().zip(&self.wanted).zip(&self.decision.images);
                let holds = |key: Key| {
                    let report = record.object.as_ref().and_then(|object| object.report(key));
                    report.is_some_and(|report| report.state == PullState::Present)
                };
                let waits = images.filter(|((_, wanted), spread)| {
                    // A stopped rollout does not hold the gate.
                    wanted.gate
                        && wanted.is_for(node.architecture.as_deref())
                        && !matches!(spread.wave, Wave::Stopped { .. })
                        && !holds(wanted.key)
                });
                waits.map(|((image, _), _)| image.reference.to_string()).collect()
            });
            self.rules.gate.opens(eligibility, node.created, lacks, now).map(|lacks| (name.clone(), lacks))
        });
        gated.collect()
    }
}
