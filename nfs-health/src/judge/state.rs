//! Decides the conditions and the taint of a node. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::agent::debounce::Debounce;
use crate::judge::rule::{Blame, Condition, NodeTrouble, Ruling};
use crate::probe::verdict::Kind;

/// The taint of a node that is at fault itself.
pub const TAINT: &str = "labhands.dev/nfs";

/// A condition whose heartbeat is older than this is written again although nothing has changed, to show that it is
/// still checked.
const HEARTBEAT: Duration = Duration::from_secs(240);

/// The longest message of a condition, in characters.
const MOST_CHARACTERS: usize = 900;

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Its report is overdue, so nothing is known.
    Silent,
    /// The troubles in its report and the rulings.
    Known(BTreeMap<Condition, ActiveCondition>),
}

/// The trouble of a node for one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveCondition {
    /// The reason, in one word.
    pub reason: &'static str,
    /// The human-readable message.
    pub message: String,
    /// Whether the node itself is at fault.
    pub own_fault: bool,
}

impl Debounce for NodeState {
    fn is_same_as(&self, other: &Self) -> bool {
        let gist = |state: &Self| match state {
            Self::Silent => None,
            Self::Known(active) => {
                let active = active.iter().map(|(condition, active)| (*condition, active.reason, active.own_fault));
                Some(active.collect::<Vec<_>>())
            }
        };
        gist(self) == gist(other)
    }

    /// A taint needs its own rounds: one in which the server is at fault, or without a report, does not count for it.
    fn is_like(&self, other: &Self) -> bool {
        let gist = |state: &Self| match state {
            Self::Silent => None,
            Self::Known(active) => Some((active.is_empty(), state.is_own_fault())),
        };
        gist(self) == gist(other)
    }
}

impl NodeState {
    /// The state of a node from the rulings on all exports, by name.
    pub fn new(node: &str, rulings: &BTreeMap<String, Ruling>) -> Self {
        let mut known: BTreeMap<Condition, ActiveCondition> = BTreeMap::new();
        for (export, ruling) in rulings {
            let Some(trouble) = ruling.nodes.get(node) else { continue };
            let message = format!("{export}: {}: {}", trouble.kind.name(), trouble.sentence);
            let own_fault = trouble.blame == Blame::Node;
            known
                .entry(trouble.condition)
                .and_modify(|active| {
                    active.message = format!("{}; {message}", active.message);
                    if own_fault && !active.own_fault {
                        (active.reason, active.own_fault) = (reason(trouble), true);
                    }
                })
                .or_insert_with(|| ActiveCondition { reason: reason(trouble), message, own_fault });
        }
        for active in known.values_mut() {
            active.message = active.message.chars().take(MOST_CHARACTERS).collect();
        }
        Self::Known(known)
    }

    fn is_own_fault(&self) -> bool {
        matches!(self, Self::Known(active) if active.values().any(|active| active.own_fault))
    }

    /// The conditions to write: those that differ from the node's, or whose heartbeat is old.
    pub fn conditions(&self, node: &Node, now: Time) -> Vec<NodeCondition> {
        let has = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let wanted = CONDITIONS.into_iter().filter_map(|condition| {
            let name = condition.name();
            let has = has.and_then(|all| all.iter().find(|has| has.type_ == name));
            let (status, reason, message) = match self {
                // A condition that the node never had stays absent.
                Self::Silent if has.is_none() => return None,
                Self::Silent => ("Unknown", "NoReport", "the report of nfs-health on this node is overdue"),
                Self::Known(known) => match known.get(&condition) {
                    Some(active) => ("True", active.reason, active.message.as_str()),
                    None => ("False", condition.healthy_reason(), condition.healthy_message()),
                },
            };
            let same = has.is_some_and(|has| {
                (has.status.as_str(), has.reason.as_deref(), has.message.as_deref())
                    == (status, Some(reason), Some(message))
            });
            let since = has.filter(|has| has.status == status).and_then(|has| has.last_transition_time.clone());
            let renewed = has.and_then(|has| has.last_heartbeat_time.as_ref());
            // A heartbeat in the future comes from a clock that was wrong.
            let fresh = renewed.is_some_and(|at| now.0.duration_since(at.0).unsigned_abs() < HEARTBEAT);
            (!same || !fresh).then(|| NodeCondition {
                type_: name.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
            })
        });
        wanted.collect()
    }

    /// The node's taints, if they must change. A silent node keeps its taints.
    pub fn taints(&self, node: &Node) -> Option<Taints> {
        if *self == Self::Silent {
            return None;
        }
        let wanted = self.is_own_fault();
        let has = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        if has.iter().any(|taint| taint.key == TAINT) == wanted {
            return None;
        }
        let mut taints: Vec<Taint> = has.into_iter().filter(|taint| taint.key != TAINT).collect();
        if wanted {
            let effect = "NoSchedule".to_owned();
            taints.push(Taint { key: TAINT.to_owned(), effect, value: Some("trouble".to_owned()), time_added: None });
        }
        Some(Taints { version: node.metadata.resource_version.clone(), taints })
    }
}

/// A node's new taints, and the version of the node that they were decided from. With it, the API server refuses a
/// write that would undo another change.
#[derive(Clone, Debug, PartialEq)]
pub struct Taints {
    version: Option<String>,
    taints: Vec<Taint>,
}

impl Taints {
    /// The merge patch for the write.
    pub fn patch(&self) -> serde_json::Value {
        json!({"metadata": {"resourceVersion": self.version}, "spec": {"taints": self.taints}})
    }
}

/// All conditions.
pub const CONDITIONS: [Condition; 2] = [Condition::MountStuck, Condition::ServerUnreachable];

fn reason(trouble: &NodeTrouble) -> &'static str {
    match (trouble.condition, trouble.blame, trouble.kind) {
        (Condition::MountStuck, _, Kind::Stale) => "StaleHandle",
        (Condition::MountStuck, ..) => "MountHangs",
        (Condition::ServerUnreachable, Blame::Server, Kind::ProtocolError) => "ProtocolError",
        (Condition::ServerUnreachable, Blame::Server, _) => "ServerDown",
        (Condition::ServerUnreachable, Blame::ServicePath, _) => "ServicePathBroken",
        (Condition::ServerUnreachable, Blame::Node, _) => "NotReachedFromHere",
        (Condition::ServerUnreachable, Blame::Unclear, _) => "ServerOrPathDown",
    }
}

impl Condition {
    /// The condition's type.
    pub fn name(self) -> &'static str {
        match self {
            Self::MountStuck => "NFSMountStuck",
            Self::ServerUnreachable => "NFSServerUnreachable",
        }
    }

    /// The reason when it is false.
    pub fn healthy_reason(self) -> &'static str {
        match self {
            Self::MountStuck => "NFSMountsAnswer",
            Self::ServerUnreachable => "NFSServersServe",
        }
    }

    fn healthy_message(self) -> &'static str {
        match self {
            Self::MountStuck => "no NFS mount of this node hangs while its server works",
            Self::ServerUnreachable => "the NFS servers that this node uses are serving it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::debounce::Debounced;
    use serde_json::from_value;

    fn ruling(node: &str, condition: Condition, kind: Kind, blame: Blame) -> Ruling {
        let trouble = NodeTrouble { condition, kind, blame, sentence: "what was seen".into() };
        Ruling { trouble: None, nodes: BTreeMap::from([(node.to_owned(), trouble)]) }
    }

    fn state(rulings: &[(&str, Condition, Kind, Blame)]) -> NodeState {
        let rulings = rulings
            .iter()
            .map(|(export, condition, kind, blame)| ((*export).to_owned(), ruling("n1", *condition, *kind, *blame)));
        NodeState::new("n1", &rulings.collect())
    }

    fn node(value: serde_json::Value) -> Node {
        from_value(value).unwrap()
    }

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn only_rounds_of_the_nodes_own_fault_count_for_its_taint() {
        let healthy = state(&[]);
        let own = state(&[("a/home", Condition::MountStuck, Kind::Stale, Blame::Node)]);
        let another_own = state(&[("a/home", Condition::ServerUnreachable, Kind::Unreachable, Blame::Node)]);
        let of_server = state(&[("a/home", Condition::ServerUnreachable, Kind::ServerDown, Blame::Server)]);
        for (before, expected) in
            [(&NodeState::Silent, &healthy), (&of_server, &healthy), (&own, &own), (&another_own, &own)]
        {
            let mut debounced = Debounced::new(2);
            debounced.take(healthy.clone());
            debounced.take(before.clone());
            debounced.take(own.clone());
            assert_eq!(debounced.shown(), Some(expected), "{before:?}");
        }
    }

    #[test]
    fn conditions_are_written_where_they_differ_and_keep_their_age() {
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let bad = state(&[
            ("a/home", Condition::MountStuck, Kind::Stale, Blame::Server),
            ("b/home", Condition::MountStuck, Kind::ClientStuck, Blame::Node),
        ]);
        let written = bad.conditions(&node(json!({})), early.clone());
        let seen: Vec<_> = written.iter().map(|w| (w.type_.as_str(), w.status.as_str(), w.reason.as_deref())).collect();
        assert_eq!(
            seen,
            [("NFSMountStuck", "True", Some("MountHangs")), ("NFSServerUnreachable", "False", Some("NFSServersServe"))]
        );
        assert_eq!(
            written[0].message.as_deref(),
            Some("a/home: stale: what was seen; b/home: client_stuck: what was seen")
        );
        let has = node(json!({"status": {"conditions": written}}));
        let soon = at("2026-01-01T00:03:59Z");
        assert!(bad.conditions(&has, soon).is_empty());
        let other = state(&[("a/home", Condition::MountStuck, Kind::Stale, Blame::Server)]);
        let again = other.conditions(&has, late.clone());
        assert_eq!(&again[0].last_transition_time, &Some(early));
        let healthy = state(&[]).conditions(&has, late.clone());
        assert_eq!(healthy[0].status, "False");
        assert_eq!(healthy[0].last_transition_time, Some(late.clone()));
        let silent = NodeState::Silent.conditions(&has, late.clone());
        assert!(silent.len() == 2 && silent.iter().all(|condition| condition.status == "Unknown"));
        assert!(NodeState::Silent.conditions(&node(json!({})), late).is_empty());
    }

    #[test]
    fn a_condition_that_stays_renews_its_heartbeat_and_nothing_else() {
        let (early, late) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:04:00Z"));
        let healthy = state(&[]);
        let has = node(json!({"status": {"conditions": healthy.conditions(&node(json!({})), early.clone())}}));
        let renewed = healthy.conditions(&has, late.clone());
        assert_eq!(renewed.len(), 2);
        for condition in renewed {
            assert_eq!(
                (condition.status.as_str(), condition.last_heartbeat_time, condition.last_transition_time),
                ("False", Some(late.clone()), Some(early.clone()))
            );
        }
        let of_a_wrong_clock = at("2025-01-01T00:00:00Z");
        assert_eq!(healthy.conditions(&has, of_a_wrong_clock).len(), 2);
    }

    #[test]
    fn taints_are_written_for_the_version_that_they_were_decided_from() {
        let own = state(&[("a/home", Condition::MountStuck, Kind::ClientStuck, Blame::Node)]);
        let seen = node(
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
        );
        let patch = own.taints(&seen).unwrap().patch();
        assert_eq!(
            (&patch["metadata"]["resourceVersion"], &patch["spec"]["taints"][0]["key"]),
            (&json!("7"), &json!("a"))
        );
    }

    #[test]
    fn only_a_node_that_is_at_fault_is_tainted_and_other_taints_stay() {
        let own = state(&[("a/home", Condition::MountStuck, Kind::ClientStuck, Blame::Node)]);
        let server = state(&[("a/home", Condition::ServerUnreachable, Kind::ServerDown, Blame::Server)]);
        let plain = node(json!({"spec": {"taints": [{"key": "other", "effect": "NoExecute"}]}}));
        let taints = own.taints(&plain).unwrap().taints;
        assert_eq!(taints.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(), ["other", TAINT]);
        assert_eq!((server.taints(&plain), NodeState::Silent.taints(&plain)), (None, None));
        let tainted = node(json!({"spec": {"taints": taints}}));
        assert_eq!(own.taints(&tainted), None);
        assert_eq!(server.taints(&tainted).unwrap().taints.len(), 1);
    }
}
