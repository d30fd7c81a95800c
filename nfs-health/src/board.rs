//! What is looked at, and what is thought of it now: where rounds write, and readiness and reports read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::server::Server;
use crate::targets::Target;
use crate::verdict::Verdict;

/// The exports under watch.
#[derive(Debug, Default)]
pub struct Board {
    exports: Mutex<BTreeMap<Server, Entry>>,
    changed: Notify,
}

/// One export.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What there is to look at.
    pub target: Target,
    /// What is thought of it; `None` before its first round has ended.
    pub verdict: Option<Verdict>,
}

impl Board {
    /// Takes over the targets; gives back those that are new.
    pub fn update(&self, targets: BTreeMap<Server, Target>) -> Vec<Server> {
        let mut exports = self.exports();
        let before = exports.len();
        exports.retain(|server, _| targets.contains_key(server));
        let mut changed = exports.len() != before;
        let mut new = Vec::new();
        for (server, target) in targets {
            if !exports.contains_key(&server) {
                new.push(server.clone());
            }
            let entry = exports.entry(server).or_default();
            changed |= entry.target != target;
            entry.target = target;
        }
        if changed || !new.is_empty() {
            self.changed.notify_one();
        }
        new
    }

    /// What there is to look at, if the export is still a target.
    pub fn target(&self, server: &Server) -> Option<Target> {
        self.exports().get(server).map(|entry| entry.target.clone())
    }

    /// Takes over the verdict that holds for an export now.
    pub fn show(&self, server: &Server, verdict: &Verdict) {
        if let Some(entry) = self.exports().get_mut(server) {
            entry.verdict = Some(verdict.clone());
        }
        self.changed.notify_one();
    }

    /// All exports.
    pub fn exports(&self) -> MutexGuard<'_, BTreeMap<Server, Entry>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something may have changed since the last call. For one who waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What keeps this process from being ready, if anything does: an export without a verdict, and one that is not well.
    pub fn not_ready(&self) -> Option<String> {
        let exports = self.exports();
        let said = exports.iter().filter_map(|(server, entry)| match &entry.verdict {
            None => Some(format!("{server}: no verdict yet")),
            Some(verdict) if !verdict.kind.is_healthy() => Some(format!("{server}: {verdict}")),
            Some(_) => None,
        });
        let said: Vec<String> = said.collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Whether an export has no verdict yet.
    pub fn is_pending(&self) -> bool {
        self.exports().values().any(|entry| entry.verdict.is_none())
    }
}
