//! Writes decisions to the cluster: orders by server-side apply, and removals of taints. Each write can be repeated
//! without harm.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sidecar::kubernetes::{explain_about, is_refused};

use super::outcome::{Failed, Outcome};
use super::state::Write;
use crate::node_images::{NodeImages, PLANNER};

/// The most writes at a time.
const PARALLEL: usize = 16;

/// The result of a write of orders.
pub(super) enum Tried {
    /// It is done.
    Written(Written),
    /// The API server refused it for this node, with this message.
    Refused(Arc<str>, String),
    /// The API server did not answer.
    Unanswered,
}

/// Writes to the cluster.
#[derive(Clone)]
pub(super) struct Writer {
    orders: Api<NodeImages>,
    nodes: Api<Node>,
}

/// A successful write, with the object's new generation and its UID.
pub(super) struct Written {
    pub(super) write: Write,
    pub(super) generation: i64,
    pub(super) uid: String,
}

impl Writer {
    pub(super) fn new(client: &Client, agents: &str) -> Self {
        Self { orders: Api::namespaced(client.clone(), agents), nodes: Api::all(client.clone()) }
    }

    /// Writes orders, and calls `done` for each result. A refused write does not delay the others. If the API server
    /// stops answering, the writes in progress are waited for and no further ones are started.
    pub(super) async fn write(&self, writes: Vec<Write>, mut done: impl FnMut(Tried)) -> Outcome {
        let (mut outcome, stopped) = (Outcome::default(), AtomicBool::new(false));
        let mut writing = stream::iter(writes)
            .take_while(|_| ready(!stopped.load(Ordering::Relaxed)))
            .map(|write| self.write_one(write))
            .buffer_unordered(PARALLEL);
        while let Some(written) = writing.next().await {
            match written {
                Ok(written) => done(Tried::Written(written)),
                Err((node, failed)) => {
                    done(if failed.refused { Tried::Refused(node, failed.words.clone()) } else { Tried::Unanswered });
                    outcome.note(failed);
                    stopped.store(outcome.stopped, Ordering::Relaxed);
                }
            }
        }
        outcome
    }

    async fn write_one(&self, write: Write) -> Result<Written, (Arc<str>, Failed)> {
        let mut object = NodeImages::new(&write.node, write.spec());
        // The object is deleted with its node.
        object.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: write.node.to_string(),
            uid: write.node_uid.clone(),
            ..OwnerReference::default()
        }]);
        let parameters = PatchParams::apply(PLANNER).force();
        let name = &write.node;
        let patched = self.orders.patch_metadata(name, &parameters, &Patch::Apply(&object)).await;
        let metadata = patched.map_err(|error| {
            let words = format!("cannot write the orders of {name}: {}", explain_about::<NodeImages>(&(), &error));
            (name.clone(), Failed { words, refused: is_refused(&error) })
        })?;
        let metadata = metadata.metadata;
        let (generation, uid) = (metadata.generation.unwrap_or_default(), metadata.uid.unwrap_or_default());
        Ok(Written { write, generation, uid })
    }

    /// Removes a taint from a node. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// The API server's error, also if the taints were changed in between.
    pub(super) async fn remove_taint(&self, node: &str, key: &str) -> Result<bool, Failed> {
        let failed = |error| Failed::new(&format!("cannot remove the taint {key} from {node}"), &error);
        let seen = self.nodes.get(node).await.map_err(failed)?;
        let mut taints = seen.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let before = taints.len();
        taints.retain(|taint| taint.key != key);
        if taints.len() == before {
            return Ok(false);
        }
        // With the resource version that was read, so that a taint that was added in between is not lost.
        let patch =
            json!({"metadata": {"resourceVersion": seen.metadata.resource_version}, "spec": {"taints": taints}});
        self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(failed)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
