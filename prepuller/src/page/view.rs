//! What the page shows of an overview for one request: totals over all nodes and images, and one page of nodes.
//!
//! The page, its live updates, `/status.json` and `prepuller status` all show this.

mod build;
mod fold;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::query::Query;
use crate::node_images::Disk;
use crate::overview::{SpawnsOverview, Wave};

/// The number of nodes on one page.
pub const PER_PAGE: usize = 50;

/// What the page shows for one request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct View {
    /// The time of the overview.
    pub now: Timestamp,
    /// Whether every eligible node has all wanted images.
    pub complete: bool,
    /// Whether the planner has decided about the whole cluster.
    #[serde(default = "yes")]
    pub decided: bool,
    /// Whether pods pull the images, without progress.
    pub by_pods: bool,
    /// The times of the scans.
    pub scan: ScanTimes,
    /// General problems, one sentence each.
    pub problems: Vec<String>,
    /// The repositories that are scanned.
    #[serde(default)]
    pub repositories: Vec<RepositoryRow>,
    /// The wanted images, each once; failing and moving ones come first.
    pub images: Vec<ImageRow>,
    /// How many of all nodes each filter would show.
    pub counts: Counts,
    /// Totals over all eligible nodes and wanted images.
    pub totals: Totals,
    /// The request.
    pub query: Query,
    /// How many nodes match the request.
    pub matching: usize,
    /// The number of pages for them.
    pub pages: usize,
    /// The nodes of this page.
    pub nodes: Vec<NodeRow>,
    /// The labs that started within the last day, if pods are watched.
    #[serde(default)]
    pub spawns: Option<SpawnsOverview>,
}

/// The times of the scans.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ScanTimes {
    /// When the scan of the current catalogue began.
    pub generated: Option<Timestamp>,
    /// When the last scan ended, good or not.
    pub last: Option<Timestamp>,
    /// When the last good scan ended.
    pub last_good: Option<Timestamp>,
    /// When the last good scan of this planner began.
    #[serde(default)]
    pub last_good_began: Option<Timestamp>,
    /// What was wrong with the last scan.
    pub problem: Option<String>,
}

/// One repository.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RepositoryRow {
    /// Its name.
    pub name: String,
    /// Whether the last scan of it was complete. If not, its images are those of an earlier scan.
    pub complete: bool,
    /// When its images were scanned, if ever.
    pub scanned: Option<Timestamp>,
    /// How many tags it has, if they were listed.
    pub tags: Option<u64>,
    /// How many of its tags `LAB_TAG_SCHEME` could not read.
    pub unread: Option<u64>,
    /// What is wrong, or needs attention.
    pub problem: Option<String>,
}

/// One wanted image.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageRow {
    /// Its full name.
    pub reference: String,
    /// Its name in a menu.
    pub name: String,
    /// Its other tags: aliases of the same image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Why it is wanted.
    pub why: String,
    /// Compressed size in bytes, if it is known.
    pub size: Option<u64>,
    /// How many eligible nodes have it.
    pub present: usize,
    /// How many eligible nodes should have it.
    pub eligible: usize,
    /// How many nodes are pulling it now.
    pub pulling: usize,
    /// On how many nodes the last try failed or was refused.
    pub failed: usize,
    /// The state of its rollout.
    pub standing: Standing,
    /// The same as text.
    pub wave: String,
}

/// The state of a node or an image.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Something failed.
    Problem,
    /// It is being downloaded or unpacked.
    Pulling,
    /// It waits for its turn.
    Waiting,
    /// Everything is present.
    Complete,
    /// It should have no images.
    NotEligible,
}

impl Standing {
    /// The state for a rollout.
    fn of(wave: &Wave) -> Self {
        match wave {
            Wave::Done => Self::Complete,
            Wave::Waiting | Wave::Held { .. } => Self::Waiting,
            Wave::Canary { .. } | Wave::Rolling => Self::Pulling,
            Wave::Stopped { .. } => Self::Problem,
        }
    }
}

/// How many nodes each filter shows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All nodes.
    pub all: usize,
    /// Nodes with a failed or refused image.
    pub problems: usize,
    /// Nodes that are pulling.
    pub pulling: usize,
    /// Nodes that wait for their turn.
    pub waiting: usize,
    /// Complete nodes.
    pub complete: usize,
    /// Nodes that are not eligible.
    pub not_eligible: usize,
}

/// Totals over all eligible nodes and wanted images.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many copies of images are present.
    pub present: usize,
    /// How many copies should be present.
    pub wanted: usize,
    /// How many nodes lack an image.
    #[serde(default)]
    pub behind: usize,
    /// Upper limit for the bytes that are still missing: layers that a node already has count as well. Without
    /// [`Totals::unknown`].
    pub bytes_left: u64,
    /// How many missing copies have an unknown size.
    #[serde(default)]
    pub unknown: usize,
    /// Bytes per second, of all nodes together.
    pub rate: u64,
    /// Estimated seconds until everything is present.
    pub eta_seconds: Option<u64>,
}

/// One node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its state.
    pub standing: Standing,
    /// How many of its wanted images it has.
    pub present: usize,
    /// How many images it should have.
    pub wanted: usize,
    /// Other remarks, one phrase each.
    pub remarks: Vec<String>,
    /// The file system of its images.
    pub disk: Option<Disk>,
    /// One cell for each of [`View::images`], in the same order.
    pub images: Vec<Cell>,
}

/// The state of an image on a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    /// The state in one word.
    pub state: CellState,
    /// Bytes downloaded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u64,
    /// Bytes to download.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: u64,
    /// Bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Estimated seconds until the download is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// How many tries failed.
    #[serde(default, skip_serializing_if = "no_failures")]
    pub failures: u32,
    /// Why the last try failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of an image on a node, in one word.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// The node should not have it.
    NotWanted,
    /// The node was not ordered to pull it yet.
    NotOrdered,
    /// It waits for its turn on this node.
    Waiting,
    /// Its layers are being downloaded.
    Downloading,
    /// Its layers are being unpacked.
    Unpacking,
    /// It is present.
    Present,
    /// The last try failed.
    Failed,
    /// The disk would become too full.
    Refused,
}

impl CellState {
    /// All states, the best first.
    pub const ALL: [Self; 8] = [
        Self::Present,
        Self::Downloading,
        Self::Unpacking,
        Self::Waiting,
        Self::NotOrdered,
        Self::Failed,
        Self::Refused,
        Self::NotWanted,
    ];
}

impl NodeRow {
    /// Whether an image on the node has this state.
    pub fn has(&self, state: CellState) -> bool {
        self.images.iter().any(|cell| cell.state == state)
    }
}

fn yes() -> bool {
    true
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

fn no_failures(failures: &u32) -> bool {
    *failures == 0
}

#[cfg(test)]
mod tests;
