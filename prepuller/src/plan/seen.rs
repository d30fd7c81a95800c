//! Nodes, their `NodeImages` and waiting pods as the API server sends them, trimmed as they arrive: of thousands of
//! nodes, only the fields that the planner uses are parsed and kept.

mod pods;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use lab_images::reference::Reference;
use serde::{Deserialize, Deserializer};

use self::pods::{PodSpec, PodStatus};
pub(super) use self::pods::{PodState, SeenPod};
use crate::node_images::{Disk, PullState, RUNTIME_UNAVAILABLE};
use crate::overview::Reported;

/// A node as it is watched.
pub(super) type NodeObject = Trimmed<NodeSpec, NodeStatus>;
/// A `NodeImages` as it is watched.
pub(super) type OrdersObject = Trimmed<OrdersSpec, OrdersStatus>;
/// A pod as it is watched.
pub(super) type PodObject = Trimmed<PodSpec, PodStatus>;

/// A watched object. Its metadata is trimmed too: `managedFields` alone is larger than all fields that are used.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Trimmed<P, U> {
    #[serde(deserialize_with = "trimmed_metadata")]
    metadata: ObjectMeta,
    spec: P,
    status: Option<U>,
}

fn trimmed_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Used {
        name: Option<String>,
        uid: Option<String>,
        generation: Option<i64>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
    }
    let Used { name, uid, generation, resource_version, creation_timestamp, labels } = Used::deserialize(deserializer)?;
    Ok(ObjectMeta { name, uid, generation, resource_version, creation_timestamp, labels, ..ObjectMeta::default() })
}

impl<P, U> Resource for Trimmed<P, U> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

pub(super) fn nodes() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&())
}

pub(super) fn node_images() -> ApiResource {
    ApiResource::erase::<crate::node_images::NodeImages>(&())
}

pub(super) fn pods() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct NodeSpec {
    #[serde(default)]
    taints: Vec<Taint>,
    #[serde(default)]
    unschedulable: bool,
}

/// A node's taint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = self.value.as_ref().filter(|value| !value.is_empty()) {
            write!(f, "={value}")?;
        }
        write!(f, ":{}", self.effect)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    node_info: NodeInfo,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeInfo {
    #[serde(default)]
    architecture: Option<Box<str>>,
    #[serde(default)]
    operating_system: Option<Box<str>>,
}

/// The facts about a node that the planner keeps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeenNode {
    /// The object's UID.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its labels; only those that the rules use are kept in the state.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether kubelet says that it is ready.
    pub ready: bool,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// `amd64`, `arm64`, …
    pub architecture: Option<Box<str>>,
    /// `linux`
    pub os: Option<Box<str>>,
}

impl SeenNode {
    pub(super) fn new(object: NodeObject) -> Self {
        let status = object.status.unwrap_or_default();
        let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        Self {
            uid: object.metadata.uid.unwrap_or_default(),
            created: object.metadata.creation_timestamp.map(|time| time.0),
            labels: object.metadata.labels.unwrap_or_default(),
            taints: object.spec.taints,
            ready: status.conditions.iter().any(is_ready),
            unschedulable: object.spec.unschedulable,
            architecture: status.node_info.architecture,
            os: status.node_info.operating_system,
        }
    }
}

/// An image with its digest, hashed to 64 bits: all that is kept of it for each node. Collisions are negligible.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(u64);

impl Key {
    /// The key of an image that should have this digest.
    pub fn new(image: &str, digest: Option<&str>) -> Self {
        let mut hasher = DefaultHasher::new();
        (image, digest).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The key of an image's name alone, as in pods: the parts of it that identify the image.
    pub fn of_name(image: &Reference) -> Self {
        Self::new(&image.decisive().to_string(), Some(""))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct OrdersSpec {
    #[serde(default)]
    wanted: Option<u32>,
    #[serde(default)]
    orders: Vec<TrimmedOrder>,
}

#[derive(Clone, Debug, Deserialize)]
struct TrimmedOrder {
    image: String,
    #[serde(default)]
    digest: Option<String>,
    priority: u32,
    #[serde(default)]
    gate: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct OrdersStatus {
    #[serde(default)]
    reported: Option<Timestamp>,
    #[serde(default)]
    disk: Option<Disk>,
    #[serde(default)]
    conditions: Vec<TrimmedCondition>,
    #[serde(default)]
    images: Vec<TrimmedReport>,
}

/// A [`Condition`](crate::node_images::Condition) of a report.
#[derive(Clone, Debug, Deserialize)]
struct TrimmedCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: Box<str>,
}

/// An [`ImageReport`](crate::node_images::ImageReport), names unparsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrimmedReport {
    image: String,
    #[serde(default)]
    digest: Option<String>,
    state: PullState,
    #[serde(default)]
    done: u64,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    rate: Option<u64>,
    #[serde(default)]
    eta_seconds: Option<u64>,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    error: Option<Box<str>>,
    since: Timestamp,
}

/// The facts about a `NodeImages` that the planner keeps.
#[derive(Clone, Debug, Default)]
pub struct SeenOrders {
    /// The generation of its spec.
    pub generation: i64,
    /// The UID, for pods that it owns.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its orders.
    pub orders: Vec<Given>,
    /// How many images it should have in the end; unset in an object of an older planner.
    pub wanted: Option<u32>,
    /// When its agent last reported.
    pub reported: LastReport,
    /// Why the container runtime is unavailable, as the agent reports it.
    pub runtime_problem: Option<Box<str>>,
    /// The reports.
    pub reports: Vec<SeenReport>,
    /// The file system that holds images.
    pub disk: Option<Disk>,
}

/// When a node's agent last reported.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LastReport {
    /// Never.
    #[default]
    Never,
    /// An older agent reported, which does not record the time.
    Undated,
    /// At this time, by the node's clock.
    At(Timestamp),
}

/// An order that a node has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Given {
    /// The image.
    pub key: Key,
    /// Whether a pod on this node waits for it.
    pub urgent: bool,
    /// Whether the gate waits for it.
    pub gate: bool,
}

/// A node's report on an image.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenReport {
    /// The image.
    pub key: Key,
    /// The reported state.
    pub reported: Reported,
}

/// The priority of an order that a pod waits for. All others are higher numbers.
pub(super) const URGENT: u32 = 0;

impl SeenOrders {
    pub(super) fn new(object: OrdersObject) -> Self {
        let given = |order: TrimmedOrder| Given {
            key: Key::new(&order.image, order.digest.as_deref()),
            urgent: order.priority == URGENT,
            gate: order.gate,
        };
        let report = |report: TrimmedReport| SeenReport {
            key: Key::new(&report.image, report.digest.as_deref()),
            reported: Reported {
                state: report.state,
                done: report.done,
                total: report.total,
                rate: report.rate,
                eta_seconds: report.eta_seconds,
                failures: report.failures,
                error: report.error,
                since: report.since,
            },
        };
        let reported = match &object.status {
            None => LastReport::Never,
            Some(status) => status.reported.map_or(LastReport::Undated, LastReport::At),
        };
        let status = object.status.unwrap_or_default();
        let runtime_problem = |condition: TrimmedCondition| {
            (condition.kind == RUNTIME_UNAVAILABLE && condition.status == "True").then_some(condition.message)
        };
        Self {
            generation: object.metadata.generation.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            created: object.metadata.creation_timestamp.map(|time| time.0),
            orders: object.spec.orders.into_iter().map(given).collect(),
            wanted: object.spec.wanted,
            reported,
            runtime_problem: status.conditions.into_iter().find_map(runtime_problem),
            reports: status.images.into_iter().map(report).collect(),
            disk: status.disk,
        }
    }

    /// Whether another version of the object is equal, apart from the time of the report.
    pub(super) fn is_as_before(&self, other: &Self) -> bool {
        let dated = |reported| matches!(reported, LastReport::At(_));
        (self.generation, &self.uid, &self.orders, self.wanted)
            == (other.generation, &other.uid, &other.orders, other.wanted)
            && dated(self.reported) == dated(other.reported)
            && (self.disk, &self.runtime_problem, &self.reports) == (other.disk, &other.runtime_problem, &other.reports)
    }

    /// The report on an image.
    pub fn report(&self, key: Key) -> Option<&Reported> {
        self.reports.iter().find(|report| report.key == key).map(|report| &report.reported)
    }
}
