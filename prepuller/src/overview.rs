//! What the planner knows at one moment, for those who show it: the page, the JSON documents, `prepuller status` and
//! `prepuller wait`.
//!
//! An [`Overview`] is made when somebody asks ([`OverviewSource::now`]), never on every change: with thousands of nodes the
//! planner would do little else. [`OverviewSource::changed`] waits for the next change.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lab_images::catalogue::Catalogue;
use lab_images::reference::{Digest, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::node_images::{Disk, PullState};

/// What the planner knows at one moment.
#[derive(Clone, Debug)]
pub struct Overview {
    /// When that was.
    pub now: Timestamp,
    /// Who pulls.
    pub mode: Mode,
    /// The last good catalogue, if there was ever one.
    pub catalogue: Option<Arc<Catalogue>>,
    /// How the scans go.
    pub scan: ScanState,
    /// Whether it was decided over the cluster: before that, images and nodes are missing here.
    pub decided: bool,
    /// What is wrong with the planner's way to the cluster, one sentence each.
    pub cluster: Vec<String>,
    /// The wanted images, the most urgent first.
    pub images: Vec<ImageOverview>,
    /// All nodes that are seen, by name.
    pub nodes: Vec<NodeOverview>,
    /// The labs that began to run; unset where pods are not watched, or not read yet.
    pub spawns: Option<SpawnsOverview>,
}

/// The labs that began to run within the last 24 hours, by whether they found their image on the node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SpawnsOverview {
    /// From when on they were counted: 24 hours ago, or when the planner began.
    pub since: Timestamp,
    /// The node had reported the image.
    pub present: Tally,
    /// The node had not.
    pub absent: Tally,
    /// Nobody reports on the image there.
    pub unknown: Tally,
}

/// Some labs, and how long they took from scheduled to running.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How many of them told how long they took.
    pub timed: u64,
    /// What these took together, in seconds.
    pub seconds: u64,
    /// What the slowest took, in seconds.
    pub longest_seconds: u64,
}

impl Tally {
    /// Counts one.
    pub(super) fn count(&mut self, took: Option<Duration>) {
        let seconds = took.map_or(0, |took| took.as_secs());
        self.add(&Self { count: 1, timed: took.is_some().into(), seconds, longest_seconds: seconds });
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.timed += other.timed;
        self.seconds = self.seconds.saturating_add(other.seconds);
        self.longest_seconds = self.longest_seconds.max(other.longest_seconds);
    }

    /// What one took on average, in seconds.
    pub fn average_seconds(&self) -> Option<u64> {
        (self.seconds + self.timed / 2).checked_div(self.timed)
    }
}

/// Who pulls (`PREPULLER_MODE`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// An agent on each node: with progress, stall limit and disk guard.
    #[default]
    Agents,
    /// A short-lived pod for each image and node: no progress, no stall limit, no disk guard.
    Pods,
}

/// How the scans go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScanState {
    /// When the last scan ended, good or not.
    pub last: Option<Timestamp>,
    /// When the last scan ended that brought something.
    pub last_good: Option<Timestamp>,
    /// When the last good scan began.
    pub last_good_began: Option<Timestamp>,
    /// What was wrong with the last one; unset when it saw everything.
    pub problem: Option<String>,
}

impl ScanState {
    /// Whether the last scan brought nothing.
    pub fn has_failed(&self) -> bool {
        self.last.is_some() && self.last != self.last_good
    }
}

/// One wanted image.
#[derive(Clone, Debug)]
pub struct ImageOverview {
    /// Its whole name.
    pub reference: Reference,
    /// The digest that nodes should hold, where it is known.
    pub digest: Option<Digest>,
    /// What a menu calls it.
    pub name: String,
    /// Compressed size in bytes, where it is known.
    pub size: Option<u64>,
    /// Why it is wanted.
    pub why: String,
    /// Eligible nodes that hold it.
    pub present: usize,
    /// Eligible nodes that should hold it.
    pub eligible: usize,
    /// How far its wave is.
    pub wave: Wave,
}

/// How far a new image's way over the nodes is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wave {
    /// Present on all eligible nodes (vacuously true if there are none).
    Done,
    /// No node holds it and none was told to pull it yet.
    Waiting,
    /// The first node pulls it; no other does before it is there.
    Canary {
        /// The node.
        node: Arc<str>,
    },
    /// It goes to the other nodes.
    Rolling,
    /// The first node could not pull it: no other one starts before its time.
    Stopped {
        /// The node.
        node: Arc<str>,
        /// What it said.
        error: String,
        /// Who tries it next.
        next: NextTry,
    },
    /// The first node does not get on with it, for a reason that says nothing of the image.
    Held {
        /// The node.
        node: Arc<str>,
        /// What is the matter with it, as `it is not ready`.
        why: String,
        /// Who tries the image next.
        next: NextTry,
    },
}

/// Who tries an image next whose first node did not get on with it. That node itself tries again all the while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NextTry {
    /// Another node does already.
    Now {
        /// The node.
        node: Arc<str>,
    },
    /// Another node does after this time.
    In(Duration),
    /// There is no other node that could.
    NoOther,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeOverview {
    /// Its name.
    pub name: Arc<str>,
    /// Why it is not to hold lab images now; unset for an eligible node.
    pub not_eligible: Option<String>,
    /// It carries the gate's taint still.
    pub gated: bool,
    /// It is new in the cluster.
    pub new: bool,
    /// How many user pods wait on it.
    pub waiting_pods: usize,
    /// What its agent lets hear.
    pub agent: AgentState,
    /// Why its orders could not be written, while they can't.
    pub unwritten: Option<String>,
    /// The file system of its images, as its agent reported.
    pub disk: Option<Disk>,
    /// One entry for each of [`Overview::images`], in the same order.
    pub images: Vec<ImageOnNode>,
}

/// What a node's agent lets hear.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AgentState {
    /// It never reported, and may still begin to.
    #[default]
    Awaited,
    /// It never reported, although it had time to.
    Missing,
    /// It has not reported for this long.
    Silent(Duration),
    /// It reports that the container runtime can't be used, for this reason.
    NoRuntime(String),
    /// It reports.
    Fine,
}

/// How far an image is on a node.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageOnNode {
    /// The node should not hold it: it is not eligible, or the image is not for its platform.
    NotWanted,
    /// The node should hold it and was not told to pull it yet.
    NotOrdered,
    /// The node was told to pull it, and has not reported on it yet.
    Ordered,
    /// What the node reports.
    Reported(Reported),
}

/// What a node reports of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// How far it is.
    pub state: PullState,
    /// Bytes that arrived.
    pub done: u64,
    /// Bytes to arrive.
    pub total: u64,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Seconds until the last byte should be there.
    pub eta_seconds: Option<u64>,
    /// Tries that failed.
    pub failures: u32,
    /// Why the last try failed or was refused.
    pub error: Option<Box<str>>,
    /// Since when it has been in this state.
    pub since: Timestamp,
}

impl Overview {
    /// Whether the planner knows what is wanted, and every eligible node holds all of it. Where nothing is wanted, something is
    /// wrong.
    pub fn is_complete(&self) -> bool {
        !self.images.is_empty() && self.images.iter().all(|image| image.present == image.eligible)
    }
}

impl ImageOnNode {
    /// Whether the node holds it.
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Reported(Reported { state: PullState::Present, .. }))
    }

    /// Whether an eligible node should hold it and does not.
    pub fn is_missing(&self) -> bool {
        !self.is_present() && !matches!(self, Self::NotWanted)
    }
}

/// Where overviews come from; clones share it.
#[derive(Clone)]
pub struct OverviewSource {
    look: Arc<dyn Fn() -> Overview + Send + Sync>,
    changes: watch::Receiver<u64>,
}

impl OverviewSource {
    /// A source that looks with `look`; `changes` tells when that is worth while.
    pub fn new(look: impl Fn() -> Overview + Send + Sync + 'static, changes: watch::Receiver<u64>) -> Self {
        Self { look: Arc::new(look), changes }
    }

    /// What the planner knows now.
    pub fn now(&self) -> Overview {
        (self.look)()
    }

    /// Waits until something has changed since this was last called; at most a few times a second. `false` once the planner
    /// has ended.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}
