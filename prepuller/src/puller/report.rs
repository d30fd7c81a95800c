//! A machine's orders, and its report on them.

use lab_images::runtime::{FileSystem, Progress, RuntimeVersion};
use serde::{Deserialize, Serialize};

use super::schedule::State;
use crate::node_images::Order;

/// The orders of a machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Orders {
    /// The generation of the orders, for the report; 0 if there is only one.
    pub generation: i64,
    /// The ordered images.
    pub orders: Vec<Order>,
}

/// The state of one order.
#[derive(Clone, Debug)]
pub struct Job {
    /// The order.
    pub order: Order,
    /// Its state.
    pub state: State,
    /// How many tries failed.
    pub failures: u32,
    /// The bytes, during the pull and after it.
    pub progress: Progress,
    /// Since when it has had this state.
    pub since: jiff::Timestamp,
}

/// The puller's report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One job for each order, by priority.
    pub jobs: Vec<Job>,
    /// The generation of the orders for which the runtime was last asked; `None` before the first time.
    pub looked: Option<i64>,
    /// The runtime's name and version, once known.
    pub runtime: Option<RuntimeVersion>,
    /// The file system that holds images, as last measured.
    pub disk: Option<FileSystem>,
    /// The totals of finished pulls.
    pub done: Done,
    /// Why the runtime is unavailable, while it is.
    pub runtime_problem: Option<RuntimeProblem>,
}

/// Why the runtime is unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeProblem {
    /// A sentence.
    pub message: String,
    /// Since when.
    pub since: jiff::Timestamp,
}

/// Totals since the puller started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Successful pulls.
    pub pulled: u64,
    /// Pulls that failed.
    pub failed: u64,
    /// Pulls that the disk guard refused or stopped.
    pub refused: u64,
    /// Pulls that ended because the runtime became unavailable.
    pub interrupted: u64,
    /// Compressed bytes that the finished pulls downloaded.
    pub bytes: u64,
}

impl Report {
    /// Takes new orders: orders that remain keep their state.
    pub(crate) fn take(&mut self, orders: Vec<Order>) {
        let known = std::mem::take(&mut self.jobs);
        let job = |order: Order| match known.iter().find(|job| job.is_for(&order)) {
            Some(job) => Job { order, ..job.clone() },
            None => Job::new(order),
        };
        self.jobs = orders.into_iter().map(job).collect();
        self.jobs.sort_by_key(|job| job.order.priority);
    }

    /// The runtime is unavailable. Returns whether that, or the reason, is new.
    pub(crate) fn runtime_is_away(&mut self, message: String) -> bool {
        match &mut self.runtime_problem {
            Some(known) if known.message == message => false,
            Some(known) => {
                known.message = message;
                true
            }
            None => {
                self.runtime_problem = Some(RuntimeProblem { message, since: jiff::Timestamp::now() });
                true
            }
        }
    }

    /// Whether every order is present.
    pub fn all_present(&self) -> bool {
        self.jobs.iter().all(|job| matches!(job.state, State::Present))
    }
}

impl Job {
    pub(super) fn new(order: Order) -> Self {
        Self { order, state: State::Waiting, failures: 0, progress: Progress::default(), since: jiff::Timestamp::now() }
    }

    pub(super) fn is_for(&self, order: &Order) -> bool {
        self.order.image == order.image && self.order.digest == order.digest
    }

    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.since = jiff::Timestamp::now();
    }
}
