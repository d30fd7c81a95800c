//! Writes what was decided: orders by server-side apply, and taints away. Each write may be repeated without harm.

use futures_util::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::world::Write;
use crate::node_images::{NodeImages, NodeImagesSpec, PLANNER};

/// Writes under way at a time.
const PARALLEL: usize = 16;

/// Writes to the cluster.
#[derive(Clone)]
pub(super) struct Writer {
    orders: Api<NodeImages>,
    nodes: Api<Node>,
}

/// A write that was done, with the object's generation and uid after it.
pub(super) struct Written {
    pub(super) write: Write,
    pub(super) generation: i64,
    pub(super) uid: String,
}

impl Writer {
    pub(super) fn new(client: &Client, agents: &str) -> Self {
        Self { orders: Api::namespaced(client.clone(), agents), nodes: Api::all(client.clone()) }
    }

    /// Writes orders; `done` hears of each. The first failure is given back once those under way have ended, and no further
    /// ones are begun: where the API server refuses one it most likely refuses all.
    ///
    /// # Errors
    ///
    /// A sentence that names the object.
    pub(super) async fn write(&self, writes: Vec<Write>, mut done: impl FnMut(Written)) -> Result<(), String> {
        let mut writing = stream::iter(writes).map(|write| self.write_one(write)).buffer_unordered(PARALLEL);
        while let Some(written) = writing.next().await {
            done(written?);
        }
        Ok(())
    }

    async fn write_one(&self, write: Write) -> Result<Written, String> {
        let mut object = NodeImages::new(&write.node, NodeImagesSpec { orders: write.orders() });
        // The object goes with its node.
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
        let metadata = patched.map_err(|error| format!("cannot write the orders of {name}: {error}"))?.metadata;
        let (generation, uid) = (metadata.generation.unwrap_or_default(), metadata.uid.unwrap_or_default());
        Ok(Written { write, generation, uid })
    }

    /// Takes a taint from a node; whether it was there.
    ///
    /// # Errors
    ///
    /// What the API server said, also when the taints were changed in between.
    pub(super) async fn remove_taint(&self, node: &str, key: &str) -> Result<bool, kube::Error> {
        let seen = self.nodes.get(node).await?;
        let mut taints = seen.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let before = taints.len();
        taints.retain(|taint| taint.key != key);
        if taints.len() == before {
            return Ok(false);
        }
        // With the version seen, so that a taint that came in between is not lost.
        let patch =
            json!({"metadata": {"resourceVersion": seen.metadata.resource_version}, "spec": {"taints": taints}});
        self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(true)
    }
}
