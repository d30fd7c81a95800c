//! What a machine should hold, and how far it is with it.

use lab_images::runtime::{FileSystem, Progress, RuntimeVersion};
use serde::{Deserialize, Serialize};

use super::schedule::State;
use crate::node_images::Order;

/// What a machine should hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Orders {
    /// Which version of the orders this is, for the report; 0 where there is only one.
    pub generation: i64,
    /// The images.
    pub orders: Vec<Order>,
}

/// How far one order is.
#[derive(Clone, Debug)]
pub struct Job {
    /// What was ordered.
    pub order: Order,
    /// How far it is.
    pub state: State,
    /// Tries that failed.
    pub failures: u32,
    /// Bytes, while it is pulled and after.
    pub progress: Progress,
    /// Since when it has been in this state.
    pub since: jiff::Timestamp,
}

/// What the puller tells.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One job for each order, by priority.
    pub jobs: Vec<Job>,
    /// The version of the orders that the runtime was last asked about; `None` before the first time.
    pub looked: Option<i64>,
    /// The runtime's name and version, once known.
    pub runtime: Option<RuntimeVersion>,
    /// The file system of images, as last measured.
    pub disk: Option<FileSystem>,
    /// What was done so far.
    pub done: Done,
    /// Why the runtime can't be used, while it can't.
    pub runtime_problem: Option<RuntimeProblem>,
}

/// Why the runtime can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeProblem {
    /// A sentence.
    pub message: String,
    /// Since when.
    pub since: jiff::Timestamp,
}

/// What a puller has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Pulls that ended well.
    pub pulled: u64,
    /// Pulls that failed.
    pub failed: u64,
    /// Pulls that the disk guard refused or stopped.
    pub refused: u64,
    /// Pulls that ended because the runtime went away.
    pub interrupted: u64,
    /// Compressed bytes that the ended pulls fetched.
    pub bytes: u64,
}

impl Report {
    /// Takes over changed orders: those that stay keep their state.
    pub(crate) fn take(&mut self, orders: Vec<Order>) {
        let known = std::mem::take(&mut self.jobs);
        let job = |order: Order| match known.iter().find(|job| job.is_for(&order)) {
            Some(job) => Job { order, ..job.clone() },
            None => Job::new(order),
        };
        self.jobs = orders.into_iter().map(job).collect();
        self.jobs.sort_by_key(|job| job.order.priority);
    }

    /// The runtime can't be used; whether that, or why, is new.
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

    /// Whether every order is there.
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
