//! Pods on nodes: those that wait for an image, and those that are running.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Key, PodObject};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::plan) struct PodSpec {
    #[serde(default)]
    node_name: Option<Box<str>>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    #[serde(default)]
    image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::plan) struct PodStatus {
    #[serde(default)]
    phase: Option<Box<str>>,
    #[serde(default)]
    conditions: Vec<PodCondition>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodCondition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    #[serde(default)]
    last_transition_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ContainerState {
    #[serde(default)]
    running: Option<Started>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    #[serde(default)]
    started_at: Option<Timestamp>,
}

/// A pod on a node that has not ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::plan) struct SeenPod {
    /// The object's UID.
    pub uid: Box<str>,
    /// The node.
    pub node: Box<str>,
    /// The names of its images, without digests.
    pub images: Vec<Key>,
    /// When it was assigned to the node.
    pub scheduled: Option<Timestamp>,
    /// Whether it is running.
    pub state: PodState,
}

/// Whether a pod is running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::plan) enum PodState {
    /// Some of its containers are not created yet.
    Waits,
    /// All containers are created, but none is running: one cannot start, or has ended.
    Starts,
    /// Its containers are running, since the last of them started.
    Runs(Option<Timestamp>),
}

impl SeenPod {
    /// `None` for a pod that has ended, or is on no node.
    pub(in crate::plan) fn new(object: PodObject) -> Option<Self> {
        let status = object.status.unwrap_or_default();
        let running = || status.container_statuses.iter().filter_map(|container| container.state.running.as_ref());
        let state = match status.phase.as_deref() {
            None | Some("Pending") => PodState::Waits,
            Some("Running") if running().next().is_none() => PodState::Starts,
            Some("Running") => PodState::Runs(running().filter_map(|running| running.started_at).max()),
            Some(_) => return None,
        };
        let is_scheduled =
            |condition: &&PodCondition| &*condition.kind == "PodScheduled" && &*condition.status == "True";
        let scheduled =
            status.conditions.iter().find(is_scheduled).and_then(|condition| condition.last_transition_time);
        let node = object.spec.node_name.filter(|node| !node.is_empty())?;
        let containers = object.spec.containers.into_iter().chain(object.spec.init_containers);
        let images = containers.filter_map(|container| Some(Key::of_name(&container.image.parse().ok()?)));
        let uid = object.metadata.uid.unwrap_or_default().into();
        Some(Self { uid, node, images: images.collect(), scheduled, state })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(node: &str, status: Value) -> Option<SeenPod> {
        let object = json!({"metadata": {"name": "jupyter-a", "uid": "u"}, "status": status,
            "spec": {"nodeName": node, "containers": [{"image": "registry.example.org/lab:w_1"}, {"image": "?"}]}});
        SeenPod::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_shows_when_it_was_scheduled_and_when_it_began_to_run() {
        let conditions = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:09Z"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]);
        let running = |at: &str| json!({"state": {"running": {"startedAt": at}}});
        let ended = json!({"state": {"terminated": {"startedAt": "2026-01-01T00:00:02Z"}}});
        let statuses = json!([running("2026-01-01T00:00:03Z"), running("2026-01-01T00:00:05Z"), ended]);
        let status = json!({"phase": "Running", "conditions": conditions, "containerStatuses": statuses});
        let pod = seen("node1", status).unwrap();
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(
            (pod.scheduled, pod.state),
            (at("2026-01-01T00:00:01Z"), PodState::Runs(at("2026-01-01T00:00:05Z")))
        );
        assert_eq!((pod.images.len(), &*pod.uid), (1, "u"));
    }

    #[test]
    fn only_pods_on_nodes_that_have_not_ended_are_seen() {
        for (node, status, expected) in [
            ("node1", json!({"phase": "Pending"}), Some(PodState::Waits)),
            ("node1", json!({}), Some(PodState::Waits)),
            ("node1", Value::Null, Some(PodState::Waits)),
            ("node1", json!({"phase": "Running"}), Some(PodState::Starts)),
            (
                "node1",
                json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}),
                Some(PodState::Runs(None)),
            ),
            (
                "node1",
                json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"startedAt": "1970-01-01T00:00:00Z"}}}]}),
                Some(PodState::Starts),
            ),
            (
                "node1",
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {}}}]}),
                Some(PodState::Starts),
            ),
            ("node1", json!({"phase": "Succeeded"}), None),
            ("node1", json!({"phase": "Failed"}), None),
            ("", json!({"phase": "Pending"}), None),
        ] {
            assert_eq!(seen(node, status.clone()).map(|pod| pod.state), expected, "{status}");
        }
    }
}
