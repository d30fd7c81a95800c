//! Metadata of this node's pods, for events and for `LOG_OPT_OUT`. Logs never wait for it otherwise: a path alone
//! contains namespace, pod, UID and container.

mod info;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sidecar::sync::lock;

use crate::labels::LabelChoice;

pub use info::{ContainerInfo, PodInfo};
pub use watch::watch;

/// The last lines of a pod may be found after it was deleted.
const KEEP_DELETED: Duration = Duration::from_secs(60);

/// All pods of this node, by the UID in the names of their log folders.
#[derive(Debug, Default)]
pub struct Pods {
    state: Mutex<State>,
    /// Increases with each change.
    generation: AtomicU64,
    labels: LabelChoice,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Arc<PodInfo>>,
    deleted: Vec<(Instant, String)>,
}

impl Pods {
    /// Without pods; `labels` is the selection.
    pub fn new(labels: LabelChoice) -> Self {
        Self { labels, ..Self::default() }
    }

    /// The selection by labels.
    pub fn labels(&self) -> &LabelChoice {
        &self.labels
    }

    /// A number that changes with each change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The metadata of the pod with this UID.
    pub fn get(&self, uid: &str) -> Option<Arc<PodInfo>> {
        self.state().known.get(uid).cloned()
    }

    /// A pod was added or changed.
    pub fn apply(&self, uid: String, info: PodInfo) {
        let mut state = self.state();
        state.deleted.retain(|(_, deleted)| *deleted != uid);
        if state.known.get(&uid).is_none_or(|known| **known != info) {
            state.known.insert(uid, Arc::new(info));
            self.generation.fetch_add(1, Ordering::Release);
        }
        state.forget(Instant::now());
    }

    /// A pod was deleted.
    pub fn delete(&self, uid: String) {
        let mut state = self.state();
        let now = Instant::now();
        state.deleted.push((now, uid));
        state.forget(now);
    }

    /// Only these pods exist.
    pub fn keep_only(&self, uids: &[String]) {
        let mut state = self.state();
        let now = Instant::now();
        let gone =
            state.known.keys().filter(|uid| !uids.contains(*uid)).map(|uid| (now, uid.clone())).collect::<Vec<_>>();
        state.deleted.extend(gone);
        state.forget(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        let Self { known, deleted } = self;
        deleted.retain(|(since, uid)| {
            let keep = now.saturating_duration_since(*since) < KEEP_DELETED;
            if !keep {
                known.remove(uid);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_pod_is_known_for_a_while() {
        let pods = Pods::default();
        pods.apply("a".into(), PodInfo::default());
        let first = pods.generation();
        pods.apply("a".into(), PodInfo::default());
        assert_eq!(pods.generation(), first);
        pods.delete("a".into());
        assert!(pods.get("a").is_some());
        pods.state().forget(Instant::now() + KEEP_DELETED);
        assert!(pods.get("a").is_none());
        pods.apply("b".into(), PodInfo::default());
        pods.keep_only(&[]);
        pods.apply("b".into(), PodInfo::default());
        pods.state().forget(Instant::now() + KEEP_DELETED);
        assert!(pods.get("b").is_some());
    }
}
