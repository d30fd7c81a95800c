//! `PREPULLER_MODE=pods`: if no socket of the host may be mounted, a short-lived pod for each image and node makes
//! kubelet pull it.
//!
//! The planner then does the agents' part as well: it writes the reports, and an image counts as present once its pod
//! has run. There is no byte progress, no stall limit and no disk guard. [`turn`] decides which pods are created and
//! removed and what is reported; it is pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Object;
use kube::{Api, Client};
use lab_images::catalogue::CatalogueImage;
use lab_images::reference::Digest;
use serde::Deserialize;
use serde_json::json;
use sidecar::retry;

use super::outcome::Failed;
use super::seen::Key;
use crate::node_images::{AGENT, ImageReport, NodeImagesStatus, PullState};
use crate::overview::Reported;

/// The label of pull pods.
pub(super) const LABEL: &str = "labhands.dev/pull";

const IMAGE: &str = "labhands.dev/image";
const DIGEST: &str = "labhands.dev/digest";

/// kubelet's reasons for an image that it cannot pull.
const CANNOT_PULL: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"];

/// The first pause after a failure; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The longest pause.
const LONGEST_RETRY: Duration = Duration::from_secs(1800);

/// How pull pods are created.
#[derive(Clone, Debug)]
pub struct PullPodSettings {
    /// Our own image, which contains the program that they run; unset means the image of the planner's Deployment.
    pub image: Option<String>,
    /// The longest time that one may take.
    pub deadline: Duration,
}

/// A pull pod as it is watched.
pub(super) type PullPodObject = Object<PullPodSpec, PullPodStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PullPodSpec {
    #[serde(default)]
    node_name: Option<Box<str>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PullPodStatus {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ContainerState {
    #[serde(default)]
    waiting: Option<Stopped>,
    #[serde(default)]
    terminated: Option<Stopped>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Stopped {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// The facts about a pull pod that are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SeenPull {
    /// Its node.
    node: Box<str>,
    /// The image that it pulls.
    key: Key,
    /// When it was created.
    made: Option<Timestamp>,
    /// How it ended, if it ended or can never succeed.
    ended: Option<Result<(), String>>,
}

impl SeenPull {
    /// Its node.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn new(object: PullPodObject) -> Option<Self> {
        let annotations = object.metadata.annotations.unwrap_or_default();
        let key = Key::new(annotations.get(IMAGE)?, annotations.get(DIGEST).map(String::as_str));
        let status = object.status.unwrap_or_default();
        let containers = || status.init_container_statuses.iter().chain(&status.container_statuses);
        let message = |stopped: &Stopped| stopped.message.clone().or(stopped.reason.clone()).unwrap_or_default();
        let waiting = containers()
            .filter_map(|container| container.state.waiting.as_ref())
            .find(|waiting| waiting.reason.as_deref().is_some_and(|reason| CANNOT_PULL.contains(&reason)));
        let ended = match (status.phase.as_str(), waiting) {
            ("Succeeded", _) => Some(Ok(())),
            ("Failed", _) => {
                let of_pod = status.message.clone().or(status.reason.clone());
                let of_container = || {
                    containers().filter_map(|container| container.state.terminated.as_ref()).map(message).next_back()
                };
                Some(Err(of_pod.or_else(of_container).unwrap_or_else(|| "its pull pod failed".to_owned())))
            }
            (_, Some(waiting)) => Some(Err(message(waiting))),
            _ => None,
        };
        let made = object.metadata.creation_timestamp.map(|time| time.0);
        Some(Self { node: object.spec.node_name?, key, made, ended })
    }
}

/// One node with its orders.
pub(super) struct Ordered<'a> {
    /// Its name.
    pub(super) node: &'a Arc<str>,
    /// The generation of its orders.
    pub(super) generation: i64,
    /// The UID of its `NodeImages`.
    pub(super) uid: &'a str,
    /// Whether pods may be created there now.
    pub(super) eligible: bool,
    /// The ordered images, the most urgent first, with their last report.
    pub(super) images: Vec<(&'a CatalogueImage, Key, Option<&'a Reported>)>,
}

/// The actions for one node.
#[derive(Clone, Debug, Default)]
pub(super) struct PodActions {
    /// The pod to create.
    pub(super) make: Option<PullPod>,
    /// The report to write.
    pub(super) write: Option<NodeImagesStatus>,
    /// The pods to remove, once the report is written.
    pub(super) remove: Vec<Arc<str>>,
}

/// A pod to create.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PullPod {
    name: String,
    node: Arc<str>,
    owner_uid: String,
    image: String,
    digest: Option<Digest>,
}

/// Decides about one node and its pull pods: one pull at a time, and failed ones again after a while.
pub(super) fn turn(ordered: &Ordered<'_>, pulls: &[(&Arc<str>, &SeenPull)], now: Timestamp) -> PodActions {
    let mut actions = PodActions::default();
    let mut reports = Vec::new();
    let mut changed = false;
    let mut next = None;
    let is_ordered = |key: Key| ordered.images.iter().any(|(_, ordered, _)| *ordered == key);
    let runs = pulls.iter().any(|(_, pull)| pull.ended.is_none() && is_ordered(pull.key));
    actions.remove.extend(pulls.iter().filter(|(_, pull)| !is_ordered(pull.key)).map(|(name, _)| (*name).clone()));
    for (image, key, reported) in &ordered.images {
        let pull = pulls.iter().find(|(_, pull)| pull.key == *key);
        if pull.is_none() && next.is_none() && is_due(*reported, now) {
            next = Some((*image, *key));
        }
        let report = report(image, *reported, pull.map(|(_, pull)| *pull), now);
        actions.remove.extend(pull.filter(|(_, pull)| pull.ended.is_some()).map(|(name, _)| (*name).clone()));
        changed |=
            reported.map(|reported| (reported.state, reported.failures)) != Some((report.state, report.failures));
        reports.push(report);
    }
    actions.make = next.filter(|_| ordered.eligible && !runs).map(|(image, key)| PullPod {
        name: pod_name(ordered.node, key),
        node: ordered.node.clone(),
        owner_uid: ordered.uid.to_owned(),
        image: image.reference.to_string(),
        digest: image.digest.clone(),
    });
    actions.write = changed.then(|| status(ordered.generation, reports));
    actions
}

/// Whether it is time to pull an image that has no pod.
fn is_due(reported: Option<&Reported>, now: Timestamp) -> bool {
    let Some(Reported { state, failures, since, .. }) = reported else { return true };
    match state {
        PullState::Present => false,
        PullState::Failed | PullState::Refused => {
            let rest = Duration::try_from(now.duration_since(*since)).unwrap_or_default();
            rest >= retry::pause(FIRST_RETRY, *failures, LONGEST_RETRY)
        }
        PullState::Waiting | PullState::Downloading | PullState::Unpacking => true,
    }
}

/// The report on an image, from its last report and its pod.
fn report(image: &CatalogueImage, reported: Option<&Reported>, pull: Option<&SeenPull>, now: Timestamp) -> ImageReport {
    let (state, failures) = reported.map_or((PullState::Waiting, 0), |reported| (reported.state, reported.failures));
    let since = reported.map(|reported| reported.since);
    let last_error = || reported.and_then(|reported| reported.error.as_deref().map(str::to_owned));
    let (state, failures, error, since) = match pull {
        // The report of this pod was written already, and the pod is not gone yet.
        Some(pull)
            if pull.ended.is_some() && since > pull.made && matches!(state, PullState::Present | PullState::Failed) =>
        {
            (state, failures, last_error(), since)
        }
        Some(SeenPull { ended: Some(Ok(())), .. }) => (PullState::Present, failures, None, None),
        Some(SeenPull { ended: Some(Err(error)), .. }) => {
            (PullState::Failed, failures.saturating_add(1), Some(error.clone()), None)
        }
        Some(SeenPull { ended: None, made, .. }) => (PullState::Downloading, failures, None, *made),
        // Nothing is known of a pod that was removed by others.
        None if state == PullState::Downloading => (PullState::Waiting, failures, last_error(), since),
        None => (state, failures, last_error(), since),
    };
    ImageReport {
        image: image.reference.clone(),
        digest: image.digest.clone(),
        state,
        done: 0,
        total: 0,
        rate: None,
        eta_seconds: None,
        failures,
        error,
        since: since.unwrap_or(now),
    }
}

fn status(generation: i64, images: Vec<ImageReport>) -> NodeImagesStatus {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let pulling = images.iter().find(|image| image.state == PullState::Downloading).map(tag);
    let problem = images.iter().find_map(|image| Some(format!("{}: {}", tag(image), image.error.as_ref()?)));
    NodeImagesStatus {
        observed_generation: generation,
        wanted: count(images.len()),
        present: count(images.iter().filter(|image| image.state == PullState::Present).count()),
        pulling,
        problem,
        runtime: "pull pods: no progress, no disk guard".to_owned(),
        images,
        ..NodeImagesStatus::default()
    }
}

/// The image's human-readable name.
fn tag(report: &ImageReport) -> String {
    report.image.tag.as_ref().map_or_else(|| report.image.to_string(), ToString::to_string)
}

/// The same name for the same image on the same node, so that a pod is never created twice.
fn pod_name(node: &str, key: Key) -> String {
    let mut hasher = DefaultHasher::new();
    (node, key).hash(&mut hasher);
    format!("pull-{:016x}", hasher.finish())
}

/// Creates and removes pull pods, and writes the reports.
pub(super) struct PullPods {
    pods: Api<Pod>,
    reports: Api<crate::node_images::NodeImages>,
    image: String,
    deadline: Duration,
}

impl PullPods {
    /// Creates pods in `namespace`; `image` is our own image.
    pub(super) fn new(client: &Client, namespace: &str, image: String, deadline: Duration) -> Self {
        let (pods, reports) = (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
        Self { pods, reports, image, deadline }
    }

    /// Carries out the actions for one node.
    ///
    /// # Errors
    ///
    /// A sentence that names the node. Nothing is lost, because the next turn decides the same.
    pub(super) async fn carry_out(&self, node: &str, turn: PodActions) -> Result<(), Failed> {
        let failed = |what: &str, error: kube::Error| Failed::new(&format!("cannot {what} of {node}"), &error);
        if let Some(status) = turn.write {
            let report = json!({
                "apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "metadata": {"name": node}, "status": status,
            });
            let parameters = PatchParams::apply(AGENT).force();
            let patched = self.reports.patch_status(node, &parameters, &Patch::Apply(&report)).await;
            patched.map_err(|error| failed("write the report", error))?;
        }
        for name in turn.remove {
            match self.pods.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => drop(deleted.map_err(|error| failed("remove a pull pod", error))?),
            }
        }
        if let Some(pod) = turn.make {
            let pod = self.pod(&pod).map_err(|error| failed("create a pull pod", kube::Error::SerdeError(error)))?;
            match self.pods.create(&PostParams::default(), &pod).await {
                // The previous pod is not gone yet.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                made => drop(made.map_err(|error| failed("create a pull pod", error))?),
            }
        }
        Ok(())
    }

    /// The pod copies a static program from our own image into a volume that the lab image's container mounts, so the
    /// lab image needs no program, not even a shell.
    fn pod(&self, pod: &PullPod) -> serde_json::Result<Pod> {
        let restricted = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        });
        let resources = json!({"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}});
        let folder = json!([{"name": "labhands", "mountPath": "/labhands"}]);
        let mut annotations = json!({IMAGE: pod.image});
        if let Some(digest) = &pod.digest {
            annotations[DIGEST] = json!(digest);
        }
        serde_json::from_value(json!({
            "metadata": {
                "name": pod.name,
                "labels": {"app.kubernetes.io/name": "prepuller", "app.kubernetes.io/part-of": "labhands",
                    "app.kubernetes.io/component": "pull", LABEL: "true"},
                "annotations": annotations,
                "ownerReferences": [{"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "name": &*pod.node, "uid": pod.owner_uid}],
            },
            "spec": {
                // The scheduler would not place it, because a new node's gate is closed to it.
                "nodeName": &*pod.node,
                "tolerations": [{"operator": "Exists"}],
                "restartPolicy": "Never",
                "activeDeadlineSeconds": self.deadline.as_secs(),
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "imagePullSecrets": [{"name": "registry"}],
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"}},
                "initContainers": [{
                    "name": "bring", "image": self.image, "args": ["bring", "/labhands/prepuller"],
                    "securityContext": restricted, "resources": resources, "volumeMounts": folder,
                }],
                "containers": [{
                    "name": "image", "image": pod.image, "imagePullPolicy": "Always",
                    "command": ["/labhands/prepuller", "--version"],
                    "securityContext": restricted, "resources": resources, "volumeMounts": folder,
                }],
                "volumes": [{"name": "labhands", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        }))
    }
}

/// `prepuller bring`: copies this program to where a lab image's container can run it.
///
/// # Errors
///
/// The system's error.
pub fn bring(to: &std::path::Path) -> std::io::Result<ExitCode> {
    std::fs::copy("/proc/self/exe", to).map(|_| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
