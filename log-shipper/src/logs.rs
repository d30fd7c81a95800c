//! All followed logs, and the unused records of the checkpoint.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use sidecar::sync::lock;

use crate::checkpoint::{LogKey, Saved};
use crate::follow::ContainerLog;
use crate::ledger::FileRecord;

/// Shared by the discovery and the checkpoint writer.
#[derive(Debug, Default)]
pub struct FollowedLogs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logs: Vec<Arc<ContainerLog>>,
    /// Records of the checkpoint for logs that were not found yet.
    unclaimed: Saved,
    changed: bool,
}

impl FollowedLogs {
    /// Starts with the checkpoint of an earlier run.
    pub fn new(saved: Saved) -> Self {
        Self(Mutex::new(State { unclaimed: saved, ..State::default() }))
    }

    /// Takes the checkpoint's records of a log that is about to be followed.
    pub fn claim(&self, key: &LogKey) -> Vec<FileRecord> {
        self.state().unclaimed.remove(key).unwrap_or_default()
    }

    /// The log to which the file with this inode belonged according to the checkpoint, if its record was not taken yet.
    pub fn base_of(&self, folder: &Arc<Path>, inode: u64) -> Option<Arc<str>> {
        let state = self.state();
        let first = LogKey { folder: folder.clone(), base: "".into() };
        let mut logs = state.unclaimed.range(first..).take_while(|(key, _)| key.folder == *folder);
        logs.find(|(_, records)| records.iter().any(|record| record.key.inode == inode))
            .map(|(key, _)| key.base.clone())
    }

    /// Takes the remaining records below these roots, to be given up.
    pub fn take_unclaimed(&self, roots: &[Arc<Path>]) -> Saved {
        let mut state = self.state();
        let below = |key: &LogKey| roots.iter().any(|root| key.folder.starts_with(root));
        let (gone, kept) = std::mem::take(&mut state.unclaimed).into_iter().partition(|(key, _)| below(key));
        state.unclaimed = kept;
        state.changed |= !Saved::is_empty(&gone);
        gone
    }

    /// Follows a log.
    pub fn insert(&self, log: Arc<ContainerLog>) {
        self.state().logs.push(log);
    }

    /// Stops following it.
    pub fn remove(&self, id: u64) {
        let mut state = self.state();
        state.logs.retain(|log| log.id() != id);
        state.changed = true;
    }

    /// The content of a checkpoint, if it changed since the last call.
    pub fn take_changes(&self) -> Option<Saved> {
        let mut state = self.state();
        let mut changed = std::mem::take(&mut state.changed);
        for log in &state.logs {
            changed |= log.ledger().take_changed();
        }
        if !changed {
            return None;
        }
        let mut saved = state.unclaimed.clone();
        for log in &state.logs {
            saved.insert(log.key.clone(), log.ledger().records().cloned().collect());
        }
        Some(saved)
    }

    /// Makes the next [`FollowedLogs::take_changes`] return everything.
    pub fn mark_changed(&self) {
        self.state().changed = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}
