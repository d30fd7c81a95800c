//! The checked exports and their current verdicts: rounds write them, and the page and reports read them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use sidecar::sync::lock;
use tokio::sync::Notify;

use crate::probe::verdict::Verdict;
use crate::report::ExportReport;
use crate::server::Server;
use crate::targets::Target;

/// The exports that are checked.
#[derive(Debug, Default)]
pub struct ExportTable {
    exports: Mutex<BTreeMap<Server, Entry>>,
    /// Whether the exports were listed once.
    known: AtomicBool,
    changed: Notify,
}

/// One export.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What to check.
    pub target: Target,
    /// Its verdict; `None` before its first round has ended.
    pub verdict: Option<Verdict>,
    /// Its actual location, if that is different: through symbolic links, or on another server.
    pub location: Option<Server>,
}

impl ExportTable {
    /// Replaces the targets. Returns all of them.
    pub fn update(&self, targets: BTreeMap<Server, Target>) -> Vec<Server> {
        self.known.store(true, Ordering::Relaxed);
        let mut exports = self.exports();
        let before = exports.len();
        exports.retain(|server, _| targets.contains_key(server));
        let mut changed = exports.len() != before;
        for (server, target) in targets {
            changed |= !exports.contains_key(&server);
            let entry = exports.entry(server).or_default();
            changed |= entry.target != target;
            entry.target = target;
        }
        if changed {
            self.changed.notify_one();
        }
        exports.keys().cloned().collect()
    }

    /// What to check, if the export is still a target.
    pub fn target(&self, server: &Server) -> Option<Target> {
        self.exports().get(server).map(|entry| entry.target.clone())
    }

    /// Sets the current verdict of an export, and its actual location, if that is different.
    pub fn set_verdict(&self, server: &Server, verdict: &Verdict, location: Option<Server>) {
        if let Some(entry) = self.exports().get_mut(server) {
            entry.verdict = Some(verdict.clone());
            // A round that failed earlier does not show the location.
            entry.location = location.or(entry.location.take());
        }
        self.changed.notify_one();
    }

    /// All exports.
    pub fn exports(&self) -> MutexGuard<'_, BTreeMap<Server, Entry>> {
        lock(&self.exports)
    }

    /// Waits for a change. Supports a single waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All exports with their verdicts, as JSON: `{"exports": [{"export", "verdict", "healthy", …}]}`; `exports` is null
    /// before they are listed, and `verdict` before the first round has ended.
    pub fn json(&self) -> serde_json::Value {
        let exports = self.exports();
        let export = |(server, entry): (&Server, &Entry)| {
            let Entry { target, verdict, .. } = entry;
            serde_json::json!({
                "export": server.to_string(),
                "verdict": verdict.as_ref().map(|verdict| verdict.kind.name()),
                "healthy": verdict.as_ref().map(|verdict| verdict.kind.is_healthy()),
                "phase": verdict.as_ref().map(|verdict| verdict.phase),
                "sentence": verdict.as_ref().map(|verdict| verdict.sentence.as_str()),
                "mounts": target.mounts.len(),
                "automounts": target.automounts.len(),
            })
        };
        let known = self.known.load(Ordering::Relaxed);
        serde_json::json!({ "exports": known.then(|| exports.iter().map(export).collect::<Vec<_>>()) })
    }

    /// The node's report: all exports that have a verdict.
    pub fn reports(&self) -> Vec<ExportReport> {
        let exports = self.exports();
        let report = |(server, Entry { target, verdict, .. }): (&Server, &Entry)| {
            let alias = target.alias.as_deref();
            Some(ExportReport::new(server, alias, target.mounts.len(), verdict.as_ref()?))
        };
        exports.iter().filter_map(report).collect()
    }

    /// Whether an export has no verdict yet.
    pub fn is_pending(&self) -> bool {
        self.exports().values().any(|entry| entry.verdict.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::verdict::Kind;

    #[test]
    fn exports_that_were_never_listed_are_not_none() {
        let table = ExportTable::default();
        assert_eq!(table.json(), serde_json::json!({"exports": null}));
        table.update(BTreeMap::new());
        assert_eq!(table.json(), serde_json::json!({"exports": []}));
    }

    #[test]
    fn an_export_without_a_verdict_is_in_no_report() {
        let table = ExportTable::default();
        let [new, known] = ["10.0.0.9/new", "10.0.0.9/judged"].map(|server| server.parse::<Server>().unwrap());
        table.update([new, known.clone()].map(|server| (server, Target::default())).into());
        assert_eq!(table.reports(), []);
        table.set_verdict(&known, &Verdict { kind: Kind::Ok, phase: "stat", sentence: String::new() }, None);
        assert_eq!(
            table.reports().iter().map(|report| report.export.as_str()).collect::<Vec<_>>(),
            ["10.0.0.9/judged"]
        );
    }
}
