//! Metrics of the judge.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sidecar::metrics::Metrics;

use crate::judge::rule::Ruling;
use crate::judge::state::{CONDITIONS, NodeState};
use crate::server::Server;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TroubleLabels {
    export: String,
    verdict: &'static str,
    blame: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodesLabel {
    state: &'static str,
}

/// The metrics of the judge; clones share them.
#[derive(Clone, Debug)]
pub struct JudgeMetrics {
    troubles: Family<TroubleLabels, Gauge>,
    nodes: Family<NodesLabel, Gauge>,
    /// How often a node's conditions could not be written.
    pub write_failures: Counter,
}

impl JudgeMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let (troubles, nodes, write_failures) = (Family::default(), Family::default(), Counter::default());
        let this = Self { troubles, nodes, write_failures };
        metrics.register(|registry| {
            registry.register("trouble", "1 for each trouble of an export, by blame", this.troubles.clone());
            registry.register("nodes", "Nodes that have reports, by their conditions", this.nodes.clone());
            let help = "Failed writes of a node's conditions";
            registry.register("node_write_failures", help, this.write_failures.clone());
        });
        this
    }

    /// Sets the result of a judgment.
    pub fn show<'a>(
        &self,
        rulings: impl Iterator<Item = (&'a Server, &'a Ruling)>,
        states: impl Iterator<Item = &'a NodeState>,
    ) {
        self.troubles.clear();
        for (server, trouble) in rulings.filter_map(|(server, ruling)| Some((server, ruling.trouble.as_ref()?))) {
            let (verdict, blame) = (trouble.kind.name(), trouble.blame.name());
            self.troubles.get_or_create(&TroubleLabels { export: server.to_string(), verdict, blame }).set(1);
        }
        let counts = CONDITIONS.map(|condition| (Some(condition), condition.name()));
        let counts = counts.into_iter().chain([(None, "NoReport")]);
        let states: Vec<&NodeState> = states.collect();
        for (condition, state) in counts {
            let holds = |known: &&&NodeState| match (known, condition) {
                (NodeState::Silent, condition) => condition.is_none(),
                (NodeState::Known(active), Some(condition)) => active.contains_key(&condition),
                (NodeState::Known(_), None) => false,
            };
            let count = states.iter().filter(holds).count();
            self.nodes.get_or_create(&NodesLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.nodes.get_or_create(&NodesLabel { state: "all" }).set(i64::try_from(states.len()).unwrap_or(i64::MAX));
    }
}
