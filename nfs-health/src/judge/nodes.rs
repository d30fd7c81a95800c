//! Writes the nodes' conditions and taints.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sidecar::kubernetes::{EventRecorder, EventType, explain, node_reference};
use tokio::time::Instant;

use crate::judge::state::{CONDITIONS, NodeState};
use crate::report::NfsReport;

/// A node whose state has not changed is checked again after this time: another writer may have changed it, and its
/// conditions' heartbeat is renewed, as often as kubelet's own.
const AGAIN: Duration = Duration::from_secs(300);

/// How many nodes are written concurrently: a failing server concerns all nodes of a cluster at once.
const MOST_AT_ONCE: usize = 16;

/// The nodes that have reports.
pub struct Nodes {
    nodes: Api<Node>,
    reports: Api<NfsReport>,
    events: EventRecorder,
    taint: bool,
    written: LastWritten,
}

/// The last written state of each node, and when.
#[derive(Default)]
struct LastWritten(BTreeMap<String, (NodeState, Instant)>);

impl LastWritten {
    fn is_due(&self, name: &str, state: &NodeState, now: Instant) -> bool {
        let known = self.0.get(name);
        !known.is_some_and(|(known, at)| known == state && now.duration_since(*at) < AGAIN)
    }
}

impl Nodes {
    /// Nodes with reports in `namespace`; with `taint` they get taints, too.
    pub fn new(client: Client, events: EventRecorder, namespace: &str, taint: bool) -> Self {
        let (nodes, reports) = (Api::all(client.clone()), Api::namespaced(client, namespace));
        Self { nodes, reports, events, taint, written: LastWritten::default() }
    }

    /// Forgets nodes that no longer have a report.
    pub fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.written.0.retain(|name, _| is_known(name));
    }

    /// Writes these states to the nodes, several at a time. Returns the nodes for which that failed, and why; the next
    /// call tries again. The report of a deleted node is deleted. `beat` is called after each node.
    ///
    /// If the API server does not answer, the rest is left to the next call. A refusal for one node concerns only that
    /// node.
    pub async fn write_all<'a>(
        &mut self,
        wanted: impl Iterator<Item = (&'a String, &'a NodeState)>,
        beat: impl Fn(),
    ) -> Vec<(String, String)> {
        let now = Instant::now();
        let due: Vec<_> = wanted.filter(|(name, state)| self.written.is_due(name, state, now)).collect();
        let (mut failed, mut written) = (Vec::new(), Vec::new());
        {
            let this = &*self;
            let mut writes = stream::iter(due)
                .map(|(name, state)| async move { (name, state, this.write(name, state).await) })
                .buffer_unordered(MOST_AT_ONCE);
            while let Some((name, state, result)) = writes.next().await {
                beat();
                match result {
                    Ok(WriteResult::Written) => written.push((name.clone(), (state.clone(), now))),
                    Ok(WriteResult::NodeIsGone) => (),
                    Err(error) => {
                        failed.push((name.clone(), explain(&error)));
                        if !matches!(error, kube::Error::Api(_)) {
                            break;
                        }
                    }
                }
            }
        }
        for (name, _) in &failed {
            self.written.0.remove(name);
        }
        self.written.0.extend(written);
        failed
    }

    async fn write(&self, name: &str, state: &NodeState) -> Result<WriteResult, kube::Error> {
        let Some(mut node) = self.nodes.get_opt(name).await? else {
            tracing::info!(node = name, "the node was deleted, and its report with it");
            return match self.reports.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(WriteResult::NodeIsGone),
                deleted => deleted.map(|_| WriteResult::NodeIsGone),
            };
        };
        let conditions = state.conditions(&node, Time(jiff::Timestamp::now()));
        if !conditions.is_empty() {
            // The API server merges conditions by their type.
            let patch = Patch::Strategic(json!({"status": {"conditions": &conditions}}));
            let before = node;
            node = self.nodes.patch_status(name, &PatchParams::default(), &patch).await?;
            for condition in &conditions {
                self.record_change(name, &before, condition);
            }
        }
        // Decided from the current node, whatever others have changed since it was first read.
        if self.taint
            && let Some(taints) = state.taints(&node)
        {
            tracing::warn!(node = name, "changed the taints of the node");
            self.nodes.patch(name, &PatchParams::default(), &Patch::Merge(taints.patch())).await?;
        }
        Ok(WriteResult::Written)
    }

    /// Logs a condition and records an Event, if it is new.
    fn record_change(&self, name: &str, before: &Node, condition: &NodeCondition) {
        let known = before.status.as_ref().and_then(|status| status.conditions.as_ref());
        let before = known.and_then(|all| all.iter().find(|before| before.type_ == condition.type_));
        let was = |status: &str| before.is_some_and(|before| before.status == status);
        let same_reason = before.is_some_and(|before| before.reason == condition.reason);
        let message = condition.message.as_deref().unwrap_or_default();
        let (type_, reason) = match condition.status.as_str() {
            "True" if !was("True") || !same_reason => (EventType::Warning, condition.type_.as_str()),
            "False" if was("True") => match CONDITIONS.into_iter().find(|known| known.name() == condition.type_) {
                Some(known) => (EventType::Normal, known.healthy_reason()),
                None => return,
            },
            "Unknown" if !was("Unknown") => (EventType::Warning, "NFSReportOverdue"),
            _ => return,
        };
        tracing::info!(
            node = name,
            condition = condition.type_,
            status = condition.status,
            reason = condition.reason,
            "{message}"
        );
        self.events.raise(&node_reference(name), type_, reason, "Judge", message);
    }
}

/// The result of a node's write.
enum WriteResult {
    /// The node has the right state.
    Written,
    /// The node no longer exists, and neither does its report.
    NodeIsGone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_written_when_its_state_changes_and_again_after_a_while() {
        let (healthy, now) = (NodeState::Known(BTreeMap::new()), Instant::now());
        let written = LastWritten(BTreeMap::from([("a".to_owned(), (healthy.clone(), now))]));
        let due = |name, state: &NodeState, seconds| written.is_due(name, state, now + Duration::from_secs(seconds));
        assert!(due("b", &healthy, 0), "never written");
        assert!(!due("a", &healthy, 299));
        assert!(due("a", &NodeState::Silent, 0), "it changed");
        assert!(due("a", &healthy, 300), "its heartbeat is due");
    }
}
