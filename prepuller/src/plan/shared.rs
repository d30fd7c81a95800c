//! The cluster state, shared by the parts that observe, decide and show.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sidecar::sync::lock;
use tokio::sync::{Notify, watch};

use super::state::ClusterState;
use crate::overview::OverviewSource;

/// The state of the cluster with change notification; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    cluster: Arc<Mutex<ClusterState>>,
    /// Wakes the planner.
    changed: Arc<Notify>,
    /// Notifies readers after the planner has decided.
    decided: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(cluster: ClusterState) -> Self {
        Self {
            cluster: Arc::new(Mutex::new(cluster)),
            changed: Arc::new(Notify::new()),
            decided: watch::Sender::new(0),
        }
    }

    /// A source of overviews.
    pub(super) fn overviews(&self) -> OverviewSource {
        let shared = self.clone();
        OverviewSource::new(move || shared.look(|cluster| cluster.overview(Timestamp::now())), self.decided.subscribe())
    }

    /// Reads the state. The lock is never held over an await.
    pub(super) fn look<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&lock(&self.cluster))
    }

    /// Changes the state, and makes the planner decide again.
    pub(super) fn change(&self, change: impl FnOnce(&mut ClusterState)) {
        self.update(change);
        self.changed.notify_one();
    }

    /// Changes the state without waking the planner, for the planner itself.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut ClusterState) -> T) -> T {
        change(&mut lock(&self.cluster))
    }

    /// Waits for a [`Shared::change`].
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notifies readers that the planner has decided.
    pub(super) fn decided(&self) {
        self.decided.send_modify(|count| *count = count.wrapping_add(1));
    }
}
