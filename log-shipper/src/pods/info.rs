//! The metadata of a pod that events contain.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::labels::LabelChoice;

/// `"off"` excludes a pod's logs, with `LOG_OPT_OUT`.
const OPT_OUT: &str = "labhands.dev/logs";

/// A static pod's log folder has this hash instead of its UID.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Longer annotations are for programs.
const MOST_ANNOTATION_BYTES: usize = 256;

/// The metadata of a pod beyond what its path contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodInfo {
    /// The labels. Dots in keys are replaced by `_`, because Elasticsearch would treat them as objects.
    pub labels: BTreeMap<String, String>,
    /// Short annotations, with keys as for labels.
    pub annotations: BTreeMap<String, String>,
    /// Its address.
    pub ip: Option<String>,
    /// Lower-case kinds and names of its owners: `deployment`, `replicaset`, `statefulset`, `daemonset`, `job`.
    pub owners: BTreeMap<&'static str, String>,
    /// Its containers, by name.
    pub containers: BTreeMap<String, ContainerInfo>,
    /// Whether the pod's own annotation excludes its logs.
    pub opted_out: bool,
    /// Whether `LOG_LABELS` or `LOG_LABELS_EXCLUDED` excludes its logs.
    pub left_out: bool,
}

/// The metadata of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its image.
    pub image: String,
    /// `containerd`, `cri-o` or `docker`, once it is running.
    pub runtime: String,
    /// Ids by restart: the current and the previous one.
    pub ids: BTreeMap<String, String>,
}

/// The UID in the name of the pod's log folder.
pub(super) fn folder_uid(pod: &Pod) -> Option<String> {
    pod.annotations().get(CONFIG_HASH).cloned().or_else(|| pod.uid())
}

impl PodInfo {
    /// The metadata of this pod; `choice` is the selection by labels.
    pub fn of(pod: &Pod, choice: &LabelChoice) -> Self {
        let key = |key: &String| key.replace('.', "_");
        let short = |(name, value): &(&String, &String)| value.len() <= MOST_ANNOTATION_BYTES && *name != OPT_OUT;
        let status = pod.status.as_ref();
        let statuses = status.into_iter().flat_map(|status| {
            let lists =
                [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
            lists.into_iter().flatten().flatten()
        });
        Self {
            labels: pod.labels().iter().map(|(name, value)| (key(name), value.clone())).collect(),
            annotations: pod
                .annotations()
                .iter()
                .filter(short)
                .map(|(name, value)| (key(name), value.clone()))
                .collect(),
            ip: status.and_then(|status| status.pod_ip.clone()),
            owners: owners(pod),
            containers: statuses.map(|status| (status.name.clone(), container(status))).collect(),
            opted_out: pod.annotations().get(OPT_OUT).is_some_and(|value| value == "off"),
            left_out: !choice.takes(pod.labels()),
        }
    }
}

fn container(status: &k8s_openapi::api::core::v1::ContainerStatus) -> ContainerInfo {
    let (mut runtime, mut ids) = (String::new(), BTreeMap::new());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.container_id.as_ref());
    for (restart, id) in [(status.restart_count, status.container_id.as_ref()), (status.restart_count - 1, last)] {
        if let Some((name, id)) = id.and_then(|id| id.split_once("://")) {
            name.clone_into(&mut runtime);
            ids.insert(restart.to_string(), id.to_owned());
        }
    }
    ContainerInfo { image: status.image.clone(), runtime, ids }
}

fn owners(pod: &Pod) -> BTreeMap<&'static str, String> {
    let mut owners = BTreeMap::new();
    for owner in pod.owner_references() {
        let kind = match owner.kind.as_str() {
            "ReplicaSet" => "replicaset",
            "StatefulSet" => "statefulset",
            "DaemonSet" => "daemonset",
            "Job" => "job",
            _ => continue,
        };
        owners.insert(kind, owner.name.clone());
        // A Deployment's ReplicaSet is named after it and the hash of its pod template.
        let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
        if let Some(name) = hash.and_then(|hash| owner.name.strip_suffix(&hash).map(str::to_owned)) {
            owners.insert("deployment", name);
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_metadata_that_users_search_for() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "hub-5d9c-x", "uid": "u", "labels": {"app.kubernetes.io/name": "hub", "pod-template-hash": "5d9c"},
                "annotations": {"hub.jupyter.org/username": "ann", "long": "x".repeat(300), "labhands.dev/logs": "off"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "hub-5d9c", "uid": "r"}],
            },
            "status": {"podIP": "10.1.2.3", "containerStatuses": [{
                "name": "hub", "image": "hub:1", "imageID": "", "ready": true, "restartCount": 2, "containerID": "containerd://new",
                "lastState": {"terminated": {"exitCode": 1, "containerID": "containerd://old"}},
            }]},
        })).unwrap();
        let info = PodInfo::of(&pod, &LabelChoice::default());
        assert_eq!(info.labels["app_kubernetes_io/name"], "hub");
        assert_eq!(info.annotations.keys().collect::<Vec<_>>(), ["hub_jupyter_org/username"]);
        assert_eq!((info.owners["deployment"].as_str(), info.owners["replicaset"].as_str()), ("hub", "hub-5d9c"));
        let container = &info.containers["hub"];
        assert_eq!(
            (container.runtime.as_str(), container.ids["2"].as_str(), container.ids["1"].as_str()),
            ("containerd", "new", "old")
        );
        assert!(info.opted_out && info.ip.as_deref() == Some("10.1.2.3"));
        assert_eq!(folder_uid(&pod).unwrap(), "u");
        let choice = |text: &str| LabelChoice { wanted: crate::labels::selector(text).ok(), excluded: None };
        // The selection uses the labels as they are in Kubernetes.
        assert!(!PodInfo::of(&pod, &choice("app.kubernetes.io/name=hub")).left_out);
        assert!(PodInfo::of(&pod, &choice("app.kubernetes.io/name=other")).left_out);
    }
}
