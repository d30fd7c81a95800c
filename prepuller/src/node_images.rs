//! The custom resource `NodeImages` (`nodeimages.labhands.dev`), one object per node, named like the node.
//!
//! Its spec holds the node's orders and is written by the planner only; its status is the node agent's report and written
//! by that agent only. Both use server-side apply with a field manager of their own.

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

/// What a node should hold.
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
    doc = "The lab images that a node should hold, and what its agent reports of them",
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
    /// How many images the node should hold in the end. Orders may be fewer: a new image goes to one node first, then to some at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// The images that the node should hold now, the most urgent first.
    #[serde(default)]
    pub orders: Vec<Order>,
}

/// One image that a node should hold.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The reference to pull, by tag.
    #[schemars(with = "String")]
    pub image: Reference,
    /// The digest that the tag should have, of the index or of the platform's manifest; unset where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub digest: Option<Digest>,
    /// Compressed size in bytes; unset where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_is_unknown")]
    pub size: Option<u64>,
    /// Its layers, for the disk guard; empty where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<OrderLayer>,
    /// Lower is sooner.
    pub priority: u32,
    /// Whether a new node's gate waits for it.
    #[serde(default)]
    pub gate: bool,
}

/// Planners up to 0.1 wrote 0 for a size that they did not know.
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

/// What a node's agent reports.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImagesStatus {
    /// The generation of the spec that the report is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// When the agent reported, at least every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Timestamp>,
    /// How many images are ordered.
    #[serde(default)]
    pub wanted: u32,
    /// How many of them are there.
    #[serde(default)]
    pub present: u32,
    /// The tags that are pulled now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulling: Option<String>,
    /// Share of the bytes of the running pulls that arrived, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// When the running pulls should end, as a duration.
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
    /// What is wrong with the node, for as long as it is.
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
    /// What it can hold in bytes, without what is reserved for root.
    pub total: u64,
    /// Bytes in use.
    pub used: u64,
    /// The limit for pulls, in percent.
    pub high: u8,
}

/// Something that is wrong with the node, as Kubernetes words it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What: `DiskTooSmall`, `RuntimeUnavailable`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`: what is not so is left out.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Since when.
    pub last_transition_time: Timestamp,
}

/// The condition of a node whose disk has no room for what is ordered.
pub const DISK_TOO_SMALL: &str = "DiskTooSmall";

/// How often an agent reports at least.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(300);

/// An agent that has not reported for this long is silent: two reports in a row are missing.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(660);

/// The condition of a node whose container runtime can't be used.
pub const RUNTIME_UNAVAILABLE: &str = "RuntimeUnavailable";

/// What became of one order.
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
    /// How far it is.
    pub state: PullState,
    /// Bytes that arrived.
    #[serde(default)]
    pub done: u64,
    /// Bytes to arrive: the layers that were not there yet.
    #[serde(default)]
    pub total: u64,
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Seconds until the last byte should be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Tries that failed.
    #[serde(default)]
    pub failures: u32,
    /// Why the last try failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when the agent, which may have been restarted, has seen it in this state.
    pub since: Timestamp,
}

/// How far an ordered image is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PullState {
    /// It waits for its turn.
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// All bytes are there; layers are unpacked.
    Unpacking,
    /// It is there.
    Present,
    /// The last try failed; it is tried again after a while.
    Failed,
    /// The disk would become too full; it is tried again when there is room.
    Refused,
}
