//! A snapshot of what the planner knows, for the page, the JSON documents, `prepuller status` and `prepuller wait`.
//!
//! An [`Overview`] is built on request ([`OverviewSource::now`]), not on every change: with thousands of nodes the
//! planner would do little else. [`OverviewSource::changed`] waits for the next change.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lab_images::catalogue::Catalogue;
use lab_images::reference::{Digest, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::node_images::{Disk, PullState};

/// A snapshot of what the planner knows.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The time of the snapshot.
    pub now: Timestamp,
    /// Agents or pull pods.
    pub mode: Mode,
    /// The last good catalogue, if there has been one.
    pub catalogue: Option<Arc<Catalogue>>,
    /// The state of the scans.
    pub scan: ScanState,
    /// Whether the planner has decided yet. Before that, images and nodes are missing here.
    pub decided: bool,
    /// Problems of the planner with the cluster, one sentence each.
    pub cluster: Vec<String>,
    /// The wanted images, the most urgent first.
    pub images: Vec<ImageOverview>,
    /// All known nodes, by name.
    pub nodes: Vec<NodeOverview>,
    /// The labs that started; unset if pods are not watched, or not listed yet.
    pub spawns: Option<SpawnsOverview>,
}

/// The labs that started within the last 24 hours, by whether their image was on the node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SpawnsOverview {
    /// The beginning of the count: 24 hours ago, or the planner's start.
    pub since: Timestamp,
    /// The node had reported the image.
    pub present: Tally,
    /// The node had not reported the image.
    pub absent: Tally,
    /// No agent reports on the image there.
    pub unknown: Tally,
}

/// A number of labs, and the time that they took from scheduled to running.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// How many labs.
    pub count: u64,
    /// For how many of them the time is known.
    pub timed: u64,
    /// The sum of these times, in seconds.
    pub seconds: u64,
    /// The longest of these times, in seconds.
    pub longest_seconds: u64,
}

impl Tally {
    /// Counts one lab.
    pub(super) fn count(&mut self, took: Option<Duration>) {
        let seconds = took.map_or(0, |took| took.as_secs());
        self.add(&Self { count: 1, timed: took.is_some().into(), seconds, longest_seconds: seconds });
    }

    /// Adds another tally.
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.timed += other.timed;
        self.seconds = self.seconds.saturating_add(other.seconds);
        self.longest_seconds = self.longest_seconds.max(other.longest_seconds);
    }

    /// The average time, in seconds.
    pub fn average_seconds(&self) -> Option<u64> {
        (self.seconds + self.timed / 2).checked_div(self.timed)
    }
}

/// What pulls images (`PREPULLER_MODE`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// An agent on each node: with progress, a stall limit and a disk guard.
    #[default]
    Agents,
    /// A short-lived pod for each image and node: without progress, stall limit and disk guard.
    Pods,
}

/// The state of the scans.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScanState {
    /// When the last scan ended, good or not.
    pub last: Option<Timestamp>,
    /// When the last good scan ended.
    pub last_good: Option<Timestamp>,
    /// When the last good scan began.
    pub last_good_began: Option<Timestamp>,
    /// What was wrong with the last scan; unset if it was complete.
    pub problem: Option<String>,
}

impl ScanState {
    /// Whether the last scan failed.
    pub fn has_failed(&self) -> bool {
        self.last.is_some() && self.last != self.last_good
    }
}

/// One wanted image.
#[derive(Clone, Debug)]
pub struct ImageOverview {
    /// Its full name.
    pub reference: Reference,
    /// The digest that nodes should have, if it is known.
    pub digest: Option<Digest>,
    /// Its name in a menu.
    pub name: String,
    /// Compressed size in bytes, if it is known.
    pub size: Option<u64>,
    /// Why it is wanted.
    pub why: String,
    /// How many eligible nodes have it.
    pub present: usize,
    /// How many eligible nodes should have it.
    pub eligible: usize,
    /// The state of its rollout.
    pub wave: Wave,
}

/// The state of a new image's rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wave {
    /// Present on all eligible nodes (vacuously true if there are none).
    Done,
    /// No node has it, and no node was ordered to pull it yet.
    Waiting,
    /// The canary node is pulling it. Other nodes wait until it is present there.
    Canary {
        /// The node.
        node: Arc<str>,
    },
    /// The other nodes are pulling it.
    Rolling,
    /// The canary node could not pull it. Other nodes start only when the next try says so.
    Stopped {
        /// The node.
        node: Arc<str>,
        /// The node's error.
        error: String,
        /// Which node tries next.
        next: NextTry,
    },
    /// The canary node makes no progress, for a reason that does not depend on the image.
    Held {
        /// The node.
        node: Arc<str>,
        /// The reason, such as `it is not ready`.
        why: String,
        /// Which node tries next.
        next: NextTry,
    },
}

/// Which node tries an image next if the canary node makes no progress. The canary keeps trying, too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NextTry {
    /// Another node is trying already.
    Now {
        /// The node.
        node: Arc<str>,
    },
    /// Another node tries after this time.
    In(Duration),
    /// There is no other node that could try.
    NoOther,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeOverview {
    /// Its name.
    pub name: Arc<str>,
    /// Why it should not have lab images now; unset for an eligible node.
    pub not_eligible: Option<String>,
    /// Whether it still has the gate's taint.
    pub gated: bool,
    /// Whether it is new in the cluster.
    pub new: bool,
    /// How many user pods wait on it.
    pub waiting_pods: usize,
    /// The state of its agent.
    pub agent: AgentState,
    /// Why its orders cannot be written, while that is so.
    pub unwritten: Option<String>,
    /// The file system of its images, as its agent reported it.
    pub disk: Option<Disk>,
    /// One entry for each of [`Overview::images`], in the same order.
    pub images: Vec<ImageOnNode>,
}

/// The state of a node's agent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AgentState {
    /// It has never reported, and there is still time.
    #[default]
    Awaited,
    /// It has never reported, although it had time to.
    Missing,
    /// It has not reported for this long.
    Silent(Duration),
    /// It reports that the container runtime is unavailable, for this reason.
    NoRuntime(String),
    /// It reports regularly.
    Fine,
}

/// The state of an image on a node.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageOnNode {
    /// The node should not have it: it is not eligible, or the image is not for its platform.
    NotWanted,
    /// The node should have it, but was not ordered to pull it yet.
    NotOrdered,
    /// The node was ordered to pull it, but has not reported on it yet.
    Ordered,
    /// The node reports on it.
    Reported(Reported),
}

/// A node's report on an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// Its state.
    pub state: PullState,
    /// Bytes downloaded.
    pub done: u64,
    /// Bytes to download.
    pub total: u64,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Estimated seconds until the download is complete.
    pub eta_seconds: Option<u64>,
    /// How many tries failed.
    pub failures: u32,
    /// Why the last try failed or was refused.
    pub error: Option<Box<str>>,
    /// Since when it has had this state.
    pub since: Timestamp,
}

impl Overview {
    /// Whether the planner knows what is wanted, and every eligible node has all of it. An empty list of wanted images
    /// is never complete: something is wrong then.
    pub fn is_complete(&self) -> bool {
        !self.images.is_empty() && self.images.iter().all(|image| image.present == image.eligible)
    }
}

impl ImageOnNode {
    /// Whether the node has it.
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Reported(Reported { state: PullState::Present, .. }))
    }

    /// Whether an eligible node should have it and does not.
    pub fn is_missing(&self) -> bool {
        !self.is_present() && !matches!(self, Self::NotWanted)
    }
}

/// Builds overviews; clones share it.
#[derive(Clone)]
pub struct OverviewSource {
    look: Arc<dyn Fn() -> Overview + Send + Sync>,
    changes: watch::Receiver<u64>,
}

impl OverviewSource {
    /// A source that builds overviews with `look`; `changes` signals when a new one is worthwhile.
    pub fn new(look: impl Fn() -> Overview + Send + Sync + 'static, changes: watch::Receiver<u64>) -> Self {
        Self { look: Arc::new(look), changes }
    }

    /// Builds an overview of the current state.
    pub fn now(&self) -> Overview {
        (self.look)()
    }

    /// Waits until something has changed since the last call, at most a few times a second. `false` once the planner
    /// has ended.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}
