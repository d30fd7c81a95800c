//! Reports nodes that cannot pull, whatever their images: an Event when each begins or ceases to be in trouble, and
//! their number.

use std::collections::HashMap;
use std::sync::Arc;

use sidecar::kubernetes::{EventType, node_reference};
use sidecar::sync::lock;

use super::{ORDERS, Telemetry, TroubleLabel, signed};
use crate::plan::state::Trouble;

/// If more nodes than this fall into trouble or recover at once, only this many get their own Events.
const MOST_NODES_REPORTED: usize = 50;

impl Telemetry {
    /// Records an Event for each node that begins or ceases to be in trouble.
    pub(super) fn troubles(&self, troubles: &[(Arc<str>, Trouble)]) {
        for words in ALL_WORDS {
            let count = troubles.iter().filter(|(_, trouble)| std::ptr::eq(Words::of(trouble), words)).count();
            self.troubled.get_or_create(&TroubleLabel { trouble: words.label }).set(signed(count));
        }
        let mut unwritten = troubles.iter().filter_map(|(_, trouble)| match trouble {
            Trouble::Unwritten(error) => Some(error),
            _ => None,
        });
        match unwritten.next() {
            Some(first) => {
                let others = match unwritten.count() {
                    0 => String::new(),
                    others => format!(" (and {others} more)"),
                };
                self.ordering.begins_or_changes(&format!("Nodes pull nothing new: {first}{others}"));
            }
            None => drop(self.ordering.ends("The orders of all nodes can be written again")),
        }
        let mut reported = lock(&self.reported_nodes);
        let now: HashMap<Arc<str>, (&'static Words, &Trouble)> = troubles
            .iter()
            .filter(|(_, trouble)| !matches!(trouble, Trouble::Unwritten(_)))
            .map(|(node, trouble)| (node.clone(), (Words::of(trouble), trouble)))
            .collect();
        let over =
            reported.extract_if(|node, before| now.get(node).is_none_or(|(words, _)| !std::ptr::eq(*words, *before)));
        let over: Vec<(Arc<str>, &'static Words)> = over.collect();
        for (node, words) in over.iter().take(MOST_NODES_REPORTED) {
            tracing::info!(%node, "{}", words.over);
            self.events.raise(&node_reference(node), EventType::Normal, words.reasons.1, words.action, words.over);
        }
        let new: Vec<_> = now.into_iter().filter(|(node, _)| !reported.contains_key(node)).collect();
        for (node, (words, trouble)) in new.iter().take(MOST_NODES_REPORTED) {
            let note = trouble.to_string();
            tracing::warn!(%node, "{note}");
            self.events.raise(&node_reference(node), EventType::Warning, words.reasons.0, words.action, &note);
        }
        for many in [over.len(), new.len()].into_iter().filter(|many| *many > MOST_NODES_REPORTED) {
            tracing::warn!(nodes = many, "too many nodes changed at once for one Event each");
        }
        reported.extend(new.into_iter().map(|(node, (words, _))| (node, words)));
    }
}

/// The texts that report a node's trouble.
pub(super) struct Words {
    label: &'static str,
    action: &'static str,
    /// The reason of the Warning, and of the Normal Event after it.
    reasons: (&'static str, &'static str),
    over: &'static str,
}

static NO_AGENT: Words = Words {
    label: "no_agent",
    action: "Report",
    reasons: ("AgentMissing", "AgentReports"),
    over: "The node's agent reports",
};
static SILENT: Words = Words {
    label: "silent_agent",
    action: "Report",
    reasons: ("AgentSilent", "AgentReports"),
    over: "The node's agent reports again",
};
static NO_RUNTIME: Words = Words {
    label: "no_runtime",
    action: "Pull",
    reasons: ("RuntimeUnavailable", "RuntimeAvailable"),
    over: "The node's container runtime can be used again",
};
static UNWRITTEN: Words = Words {
    label: "orders_not_written",
    action: "Plan",
    reasons: ORDERS,
    over: "The node's orders can be written again",
};
static ALL_WORDS: [&Words; 4] = [&NO_AGENT, &SILENT, &NO_RUNTIME, &UNWRITTEN];

impl Words {
    fn of(trouble: &Trouble) -> &'static Self {
        match trouble {
            Trouble::NoAgent => &NO_AGENT,
            Trouble::Silent(_) => &SILENT,
            Trouble::NoRuntime(_) => &NO_RUNTIME,
            Trouble::Unwritten(_) => &UNWRITTEN,
        }
    }
}
