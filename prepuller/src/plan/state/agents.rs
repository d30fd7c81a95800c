//! Tracks nodes that cannot do their part: no agent, a silent agent, no container runtime, or orders that cannot be
//! written.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{ClusterState, NodeState};
use crate::node_images::LONGEST_SILENCE;
use crate::overview::{AgentState, Mode};
use crate::page::text;
use crate::plan::decide::Unfit;
use crate::plan::eligible::Eligibility;
use crate::plan::seen::{LastReport, SeenOrders};
use crate::plan::watch::Kind;

/// What is wrong with an eligible node, apart from its images.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::plan) enum Trouble {
    /// No agent has ever reported.
    NoAgent,
    /// Its agent has stopped reporting.
    Silent(Duration),
    /// Its container runtime is unavailable.
    NoRuntime(String),
    /// Its orders cannot be written.
    Unwritten(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent => {
                f.write_str("No agent has reported: does one run on this node, and may it write its report?")
            }
            Self::Silent(silence) => {
                let silence = text::duration(silence.as_secs());
                write!(f, "The agent has not reported for {silence}: does it run, and may it write its report?")
            }
            Self::NoRuntime(problem) => write!(f, "The container runtime can't be used: {problem}"),
            Self::Unwritten(error) => write!(f, "Its orders can't be written: {error}"),
        }
    }
}

impl AgentState {
    /// The state of an agent whose last report, or first chance to report, was this long ago.
    fn of(object: Option<&SeenOrders>, silence: Duration, missing_after: Duration) -> Self {
        let Some(object) = object else { return Self::Awaited };
        match (object.reported, &object.runtime_problem) {
            (LastReport::Never, _) if silence >= missing_after => Self::Missing,
            (LastReport::Never, _) => Self::Awaited,
            (LastReport::At(_), _) if silence >= LONGEST_SILENCE => Self::Silent(silence),
            (_, Some(problem)) => Self::NoRuntime(problem.to_string()),
            // Older agents report only changes.
            (LastReport::Undated | LastReport::At(_), None) => Self::Fine,
        }
    }

    /// Why nothing can be pulled on the node.
    pub(super) fn unfit(&self) -> Option<Unfit> {
        match self {
            Self::Missing | Self::Silent(_) => Some(Unfit::Silent),
            Self::NoRuntime(_) => Some(Unfit::Runtime),
            Self::Awaited | Self::Fine => None,
        }
    }

    /// Whether an operator should look into it.
    pub(super) fn is_trouble(&self) -> bool {
        self.unfit().is_some()
    }
}

/// When an agent last reported, or could first have reported, for an object that is seen for the first time. It uses
/// the clocks' times, of which the node's may be wrong.
pub(super) fn heard(object: &SeenOrders, (time, instant): (Timestamp, Instant)) -> Instant {
    let at = match object.reported {
        LastReport::At(reported) => Some(reported),
        LastReport::Never => object.created,
        LastReport::Undated => None,
    };
    let age = at.and_then(|at| Duration::try_from(time.duration_since(at)).ok());
    age.and_then(|age| instant.checked_sub(age)).unwrap_or(instant)
}

impl ClusterState {
    /// Checks again which agents are silent. Returns whether anything changed.
    pub(in crate::plan) fn listen(&mut self, now: Instant) -> bool {
        let (by_agents, interrupted) = (self.rules.mode == Mode::Agents, self.interrupted);
        let missing_after = self.rules.agent_missing_after;
        let mut changed = false;
        for record in self.nodes.values_mut() {
            let heard = record.heard.max(interrupted);
            let silence = heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
            let agent = match by_agents {
                true => AgentState::of(record.object.as_ref(), silence, missing_after),
                false => AgentState::Fine,
            };
            changed |= agent.unfit() != record.agent.unfit();
            record.agent = agent;
        }
        changed
    }

    /// A watch was interrupted, for this reason.
    pub(in crate::plan) fn watch_broken(&mut self, kind: Kind, error: &str, now: Instant) {
        if kind == Kind::NodeImages {
            self.interrupted = Some(now);
        }
        if !self.listed.contains(&kind) {
            self.unlisted.insert(kind, error.to_owned());
        }
    }

    /// A kind of objects was listed completely.
    pub(in crate::plan) fn is_listed(&mut self, kind: Kind) {
        self.unlisted.remove(&kind);
        self.listed.insert(kind);
    }

    /// The API server refused a node's orders, with this message.
    pub(in crate::plan) fn orders_refused(&mut self, node: &str, words: String) {
        if let Some(record) = self.nodes.get_mut(node) {
            record.unwritten = Some(words);
        }
    }

    /// What is wrong with eligible nodes, by name.
    pub(in crate::plan) fn troubles(&self) -> impl Iterator<Item = (&Arc<str>, Trouble)> {
        let eligible = |record: &NodeState| record.eligibility == Some(Eligibility::Eligible);
        self.nodes.iter().filter(move |(_, record)| eligible(record)).flat_map(|(name, record)| {
            let agent = match &record.agent {
                AgentState::Missing => Some(Trouble::NoAgent),
                AgentState::Silent(silence) => Some(Trouble::Silent(*silence)),
                AgentState::NoRuntime(problem) => Some(Trouble::NoRuntime(problem.clone())),
                AgentState::Awaited | AgentState::Fine => None,
            };
            let unwritten = record.unwritten.clone().map(Trouble::Unwritten);
            [agent, unwritten].into_iter().flatten().map(move |trouble| (name, trouble))
        })
    }
}

#[cfg(test)]
mod tests;
