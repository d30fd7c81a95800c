//! Lists the pods that are bound to this node, running or not, again for each look.
//!
//! A list at the time of the decision needs no watch that may lag behind, and it fails visibly if the API server is
//! down.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use sidecar::kubernetes::explain;

use crate::plan::{PodImages, Pods};

/// The pods of one node.
#[derive(Clone)]
pub struct NodePods {
    pods: Api<Pod>,
    node: String,
}

impl NodePods {
    /// The pods of the node with this name, in all namespaces.
    pub fn new(client: &Client, node: &str) -> Self {
        Self { pods: Api::all(client.clone()), node: node.to_owned() }
    }

    /// Lists them.
    pub async fn list(&self) -> Pods {
        // The list is as old as the start of the request, not its end.
        let at = Timestamp::now();
        match self.all().await {
            Ok(pods) => Pods::Seen { at, pods },
            Err(why) => Pods::Unknown(why),
        }
    }

    /// The request sets no limit. Without one the API server answers from its cache, indexed by node; with one it reads
    /// all pods from etcd. A node has a few hundred pods at most.
    async fn all(&self) -> Result<Vec<PodImages>, String> {
        let asked = ListParams::default().fields(&format!("spec.nodeName={}", self.node));
        let pods = self.pods.list(&asked).await;
        let pods = pods.map_err(|error| format!("cannot list the pods: {}", explain(&error)))?;
        Ok(pods.items.into_iter().filter_map(images_of).collect())
    }
}

/// Every image that a pod names; `None` for a pod that has ended and is never restarted. Its containers protect their
/// images as long as they exist.
fn images_of(pod: Pod) -> Option<PodImages> {
    let name = format!("{}/{}", pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
    let status = pod.status.unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let mut images: Vec<String> = Vec::new();
    if let Some(spec) = pod.spec {
        let containers = spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default());
        images.extend(containers.filter_map(|container| container.image));
        let ephemeral = spec.ephemeral_containers.unwrap_or_default();
        images.extend(ephemeral.into_iter().filter_map(|container| container.image));
        let volumes = spec.volumes.unwrap_or_default();
        images.extend(volumes.into_iter().filter_map(|volume| volume.image?.reference));
    }
    let statuses = [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
    images.extend(statuses.into_iter().flatten().flatten().flat_map(names_in));
    images.retain(|name| !name.is_empty());
    Some(PodImages { pod: name, images })
}

/// The image and its id in a status. Some runtimes prefix the id with a scheme (`docker-pullable://`).
fn names_in(status: ContainerStatus) -> [String; 2] {
    let id = status.image_id.split_once("://").map_or(status.image_id.as_str(), |(_, id)| id).to_owned();
    [status.image, id]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Option<PodImages> {
        images_of(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn every_image_of_a_pod_counts() {
        let images = pod(serde_json::json!({
            "metadata": {"namespace": "hub", "name": "jupyter-a"},
            "spec": {
                "containers": [{"name": "a", "image": "lab:1"}, {"name": "b"}],
                "initContainers": [{"name": "c", "image": "init:1"}],
                "ephemeralContainers": [{"name": "d", "image": "debug:1"}],
                "volumes": [{"name": "e", "image": {"reference": "data:1"}}, {"name": "f", "emptyDir": {}}],
            },
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "a", "image": "docker.io/library/lab:1", "imageID": "docker-pullable://lab@sha256:aa",
                "ready": false, "restartCount": 0,
            }, {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0}]},
        }))
        .unwrap();
        assert_eq!(images.pod, "hub/jupyter-a");
        assert_eq!(images.images, ["lab:1", "init:1", "debug:1", "data:1", "docker.io/library/lab:1", "lab@sha256:aa"]);
    }

    #[test]
    fn only_a_pod_that_has_ended_does_not_count() {
        for (phase, counts) in
            [("Pending", true), ("Running", true), ("Unknown", true), ("Succeeded", false), ("Failed", false)]
        {
            let spec = serde_json::json!({"containers": [{"name": "a", "image": "lab:1"}]});
            let json = serde_json::json!({"metadata": {"name": "a"}, "spec": spec, "status": {"phase": phase}});
            assert_eq!(pod(json).is_some(), counts, "{phase}");
        }
        let json =
            serde_json::json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "lab:1"}]}});
        assert!(pod(json).is_some());
    }
}
