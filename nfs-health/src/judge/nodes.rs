//! Brings the nodes' conditions and taints to what they should be.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sidecar::kubernetes::{Events, Gravity, node_reference};
use tokio::time::Instant;

use crate::judge::state::{CONDITIONS, NodeState};
use crate::report::NfsReport;

/// A node whose state has not changed is looked at again after this: somebody else may have changed it.
const AGAIN: Duration = Duration::from_secs(600);

/// The nodes that have reports.
pub struct Nodes {
    nodes: Api<Node>,
    reports: Api<NfsReport>,
    events: Events,
    taint: bool,
    brought: BTreeMap<String, (NodeState, Instant)>,
}

impl Nodes {
    /// Nodes whose reports are in `namespace`; with `taint` they are tainted too.
    pub fn new(client: Client, events: Events, namespace: &str, taint: bool) -> Self {
        let (nodes, reports) = (Api::all(client.clone()), Api::namespaced(client, namespace));
        Self { nodes, reports, events, taint, brought: BTreeMap::new() }
    }

    /// Forgets nodes that have no report any more.
    pub fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.brought.retain(|name, _| is_known(name));
    }

    /// Brings one node to `state`. The report of a node that is gone is deleted.
    ///
    /// # Errors
    ///
    /// What the API server said; the next call tries again.
    pub async fn bring(&mut self, name: &str, state: &NodeState) -> Result<(), kube::Error> {
        let now = Instant::now();
        if self.brought.get(name).is_some_and(|(known, at)| known == state && now.duration_since(*at) < AGAIN) {
            return Ok(());
        }
        self.brought.remove(name);
        let Some(node) = self.nodes.get_opt(name).await? else {
            tracing::info!(node = name, "the node is gone, and its report with it");
            return match self.reports.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            };
        };
        let conditions = state.conditions(&node, Time(jiff::Timestamp::now()));
        if !conditions.is_empty() {
            // The API server merges conditions by their type.
            let patch = Patch::Strategic(json!({"status": {"conditions": &conditions}}));
            self.nodes.patch_status(name, &PatchParams::default(), &patch).await?;
            for condition in &conditions {
                self.tell(name, &node, condition);
            }
        }
        if self.taint
            && let Some(taints) = state.taints(&node)
        {
            // The version makes the API server refuse what would undo another's change.
            let version = &node.metadata.resource_version;
            let fresh = if conditions.is_empty() { version.clone() } else { None };
            let version = match fresh {
                Some(version) => Some(version),
                None => self.nodes.get(name).await?.metadata.resource_version,
            };
            tracing::warn!(node = name, taints = taints.len(), "the node's taints are changed");
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            self.nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        self.brought.insert(name.to_owned(), (state.clone(), now));
        Ok(())
    }

    /// Logs a condition and raises an Event, where it is news.
    fn tell(&self, name: &str, before: &Node, condition: &NodeCondition) {
        let known = before.status.as_ref().and_then(|status| status.conditions.as_ref());
        let before = known.and_then(|all| all.iter().find(|before| before.type_ == condition.type_));
        let was = |status: &str| before.is_some_and(|before| before.status == status);
        let same_reason = before.is_some_and(|before| before.reason == condition.reason);
        let message = condition.message.as_deref().unwrap_or_default();
        let (gravity, reason) = match condition.status.as_str() {
            "True" if !was("True") || !same_reason => (Gravity::Warning, condition.type_.as_str()),
            "False" if was("True") => match CONDITIONS.into_iter().find(|known| known.name() == condition.type_) {
                Some(known) => (Gravity::Normal, known.well()),
                None => return,
            },
            "Unknown" if !was("Unknown") => (Gravity::Warning, "NFSReportOverdue"),
            _ => return,
        };
        tracing::info!(
            node = name,
            condition = condition.type_,
            status = condition.status,
            reason = condition.reason,
            "{message}"
        );
        self.events.raise(&node_reference(name), gravity, reason, "Judge", message);
    }
}
