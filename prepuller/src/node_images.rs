//! The custom resource `NodeImages` (`nodeimages.labhands.dev`), one object per node, named like the node.
//!
//! Its spec holds the node's orders and is written by the planner only; its status is the node agent's report and written
//! by that agent only. Both use server-side apply with separate field managers.

use std::time::Duration;

use jiff::Timestamp;
use kube::CustomResource;
use lab_images::reference::{Digest, Reference};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The field manager of the planner.
pub const PLANNER: &str = "prepuller-plan";

/// The field manager of a node agent.
pub const AGENT: &str = "prepuller-node";

/// The images that a node should have.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "labhands.dev",
    version = "v1alpha1",
    kind = "NodeImages",
    plural = "nodeimages",
    singular = "nodeimages",
    namespaced,
    status = "NodeImagesStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "The lab images that a node should have, and its agent's report",
    printcolumn = r#"{"name":"Wanted","type":"integer","jsonPath":".spec.wanted"}"#,
    printcolumn = r#"{"name":"Present","type":"integer","jsonPath":".status.present"}"#,
    printcolumn = r#"{"name":"Pulling","type":"string","jsonPath":".status.pulling"}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress"}"#,
    printcolumn = r#"{"name":"ETA","type":"string","jsonPath":".status.eta"}"#,
    printcolumn = r#"{"name":"Reported","type":"date","jsonPath":".status.reported"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","jsonPath":".status.problem","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeImagesSpec {
    /// How many images the node should have in the end. A new image is not ordered on all nodes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// The images that the node should have now, the most urgent first.
    #[serde(default)]
    pub orders: Vec<Order>,
}

/// One image that a node should have.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The reference to pull, by tag.
    #[schemars(with = "String")]
    pub image: Reference,
    /// The digest of the tag, of the index or of the platform's manifest; unset if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub digest: Option<Digest>,
    /// Compressed size in bytes; unset if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_is_unknown")]
    pub size: Option<u64>,
    /// The image's layers, for the disk limit; empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<OrderLayer>,
    /// Priority of the pull; lower values come first.
    pub priority: u32,
    /// Whether the gate of a new node waits for this image.
    #[serde(default)]
    pub gate: bool,
}

/// Planners up to 0.1 wrote 0 for an unknown size.
fn zero_is_unknown<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.filter(|size| *size > 0))
}

/// One layer of an ordered image.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OrderLayer {
    /// Digest of the compressed layer.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// Compressed size in bytes.
    pub size: u64,
}

/// The report of the node's agent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImagesStatus {
    /// The generation of the spec that the report is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Time of the agent's last report; it reports at least every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Timestamp>,
    /// Number of ordered images.
    #[serde(default)]
    pub wanted: u32,
    /// How many ordered images are present.
    #[serde(default)]
    pub present: u32,
    /// The tags that are being pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulling: Option<String>,
    /// Downloaded share of the running pulls, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Estimated time left for the running pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// The first problem, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The runtime's name and version.
    #[serde(default)]
    pub runtime: String,
    /// The file system that holds the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Current problems of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One entry for each order.
    #[serde(default)]
    pub images: Vec<ImageReport>,
}

/// The file system that holds the images.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Capacity in bytes, without the part that is reserved for root.
    pub total: u64,
    /// Bytes in use.
    pub used: u64,
    /// The limit for pulls, in percent.
    pub high: u8,
}

/// A problem of the node, as a Kubernetes condition.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type: `DiskTooSmall` or `RuntimeUnavailable`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always `True`; conditions that do not apply are omitted.
    pub status: String,
    /// Reason, in one word.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// When the condition became true.
    pub last_transition_time: Timestamp,
}

/// The condition of a node whose disk has no room for the ordered images.
pub const DISK_TOO_SMALL: &str = "DiskTooSmall";

/// The longest time between two reports of an agent.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(300);

/// An agent that has not reported for this long counts as silent: it missed two reports in a row.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(660);

/// The condition of a node whose container runtime is unavailable.
pub const RUNTIME_UNAVAILABLE: &str = "RuntimeUnavailable";

/// State of one order.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// The reference as ordered.
    #[schemars(with = "String")]
    pub image: Reference,
    /// The digest as ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub digest: Option<Digest>,
    /// State of the pull.
    pub state: PullState,
    /// Bytes downloaded so far.
    #[serde(default)]
    pub done: u64,
    /// Bytes to download: the layers that were missing.
    #[serde(default)]
    pub total: u64,
    /// Bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Estimated seconds until the download is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Number of failed attempts.
    #[serde(default)]
    pub failures: u32,
    /// Why the last attempt failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the agent first saw this state; a restart of the agent resets it.
    pub since: Timestamp,
}

/// How far an ordered image is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PullState {
    /// It waits for its turn.
    Waiting,
    /// Its layers are being downloaded.
    Downloading,
    /// All bytes are there; layers are unpacked.
    Unpacking,
    /// It is present.
    Present,
    /// The last attempt failed; it is retried after a while.
    Failed,
    /// The disk would become too full; it is retried when there is room.
    Refused,
}
