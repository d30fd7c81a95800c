//! What one reader sees of an overview: sums over all nodes and images, and one page of nodes.
//!
//! The page, its live updates, `/status.json` and `prepuller status` all show this.

mod build;
mod fold;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::query::Query;
use crate::node_images::Disk;
use crate::overview::{SpawnsOverview, Wave};

/// Nodes on one page.
pub const PER_PAGE: usize = 50;

/// What one reader sees.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct View {
    /// When it was so.
    pub now: Timestamp,
    /// Whether every eligible node holds all that is wanted.
    pub complete: bool,
    /// Whether the planner has looked at the whole cluster.
    #[serde(default = "yes")]
    pub decided: bool,
    /// Pulls are made by pods, which have no progress.
    pub by_pods: bool,
    /// How the scans go.
    pub scan: ScanTimes,
    /// What is wrong as a whole, one sentence each.
    pub problems: Vec<String>,
    /// The repositories that are scanned.
    #[serde(default)]
    pub repositories: Vec<RepositoryRow>,
    /// The wanted images, each once; what fails or moves comes first.
    pub images: Vec<ImageRow>,
    /// How many nodes each choice would show, of all.
    pub counts: Counts,
    /// Sums over all eligible nodes and wanted images.
    pub totals: Totals,
    /// What was asked for.
    pub query: Query,
    /// How many nodes match that.
    pub matching: usize,
    /// On how many pages.
    pub pages: usize,
    /// The nodes of this page.
    pub nodes: Vec<NodeRow>,
    /// The labs that began to run within the last day, where they are watched.
    #[serde(default)]
    pub spawns: Option<SpawnsOverview>,
}

/// How the scans go.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ScanTimes {
    /// When the scan began that the catalogue is of.
    pub generated: Option<Timestamp>,
    /// When the last scan ended, good or not.
    pub last: Option<Timestamp>,
    /// When the last good scan ended.
    pub last_good: Option<Timestamp>,
    /// When the last good scan of this planner began.
    #[serde(default)]
    pub last_good_began: Option<Timestamp>,
    /// What was wrong with the last one.
    pub problem: Option<String>,
}

/// One repository.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RepositoryRow {
    /// Its name.
    pub name: String,
    /// Whether the last scan saw all of it; its images are those of an earlier one otherwise.
    pub complete: bool,
    /// When its images were scanned, if they ever were.
    pub scanned: Option<Timestamp>,
    /// How many tags it has, where it was listed.
    pub tags: Option<u64>,
    /// How many of them `LAB_TAG_SCHEME` could not read.
    pub unread: Option<u64>,
    /// What was wrong, or what to look at.
    pub problem: Option<String>,
}

/// One wanted image.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageRow {
    /// Its whole name.
    pub reference: String,
    /// What a menu calls it.
    pub name: String,
    /// Its other tags: aliases that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Why it is wanted.
    pub why: String,
    /// Compressed size in bytes, where it is known.
    pub size: Option<u64>,
    /// Eligible nodes that hold it.
    pub present: usize,
    /// Eligible nodes that should hold it.
    pub eligible: usize,
    /// Nodes that pull it now.
    pub pulling: usize,
    /// Nodes where the last try failed or was refused.
    pub failed: usize,
    /// How far its wave is.
    pub standing: Standing,
    /// The same in words.
    pub wave: String,
}

/// How things stand with a node or an image.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Something failed.
    Problem,
    /// Bytes arrive.
    Pulling,
    /// It waits for its turn.
    Waiting,
    /// All is there.
    Complete,
    /// Nothing should be there.
    NotEligible,
}

impl Standing {
    /// How things stand with an image.
    fn of(wave: &Wave) -> Self {
        match wave {
            Wave::Done => Self::Complete,
            Wave::Waiting | Wave::Held { .. } => Self::Waiting,
            Wave::Canary { .. } | Wave::Rolling => Self::Pulling,
            Wave::Stopped { .. } => Self::Problem,
        }
    }
}

/// How many nodes each choice shows.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All nodes.
    pub all: usize,
    /// With a failed or refused image.
    pub problems: usize,
    /// Pulling.
    pub pulling: usize,
    /// Waiting for their turn.
    pub waiting: usize,
    /// Complete.
    pub complete: usize,
    /// Not eligible.
    pub not_eligible: usize,
}

/// Sums over all eligible nodes and wanted images.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Copies of images that are where they should be.
    pub present: usize,
    /// Copies that should be.
    pub wanted: usize,
    /// Nodes that lack an image.
    #[serde(default)]
    pub behind: usize,
    /// Bytes that must still arrive, at most: layers that are there already count as well. Without [`Totals::unknown`].
    pub bytes_left: u64,
    /// Copies that must still arrive and of which nobody knows how large they are.
    #[serde(default)]
    pub unknown: usize,
    /// Bytes a second, of all nodes together.
    pub rate: u64,
    /// Seconds until all is there, if it goes on as now.
    pub eta_seconds: Option<u64>,
}

/// One node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// How things stand.
    pub standing: Standing,
    /// How many images that it should hold it holds.
    pub present: usize,
    /// How many it should hold.
    pub wanted: usize,
    /// What else there is to know of it, one phrase each.
    pub remarks: Vec<String>,
    /// The file system of its images.
    pub disk: Option<Disk>,
    /// One for each of [`View::images`], in the same order.
    pub images: Vec<Cell>,
}

/// How far an image is on a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    /// In one word.
    pub state: CellState,
    /// Bytes that arrived.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u64,
    /// Bytes to arrive.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total: u64,
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Seconds until the last byte should be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Tries that failed.
    #[serde(default, skip_serializing_if = "no_failures")]
    pub failures: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far an image is on a node, in one word.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// The node should not hold it.
    NotWanted,
    /// Its wave has not come here.
    NotOrdered,
    /// It waits for its turn on this node.
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// Layers are unpacked.
    Unpacking,
    /// It is there.
    Present,
    /// The last try failed.
    Failed,
    /// The disk would become too full.
    Refused,
}

impl CellState {
    /// All of them, the best first.
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
    /// Whether an image is in this state on it.
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
