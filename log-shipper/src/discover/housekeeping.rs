//! Housekeeping for all logs between two scans of the folders.

use std::sync::Arc;

use super::Discovery;
use super::problem::{Kind, Problem};
use crate::follow::ContainerLog;

impl Discovery {
    /// Enforces the limit for deleted files that are kept open, and drops logs that are finished.
    pub(super) fn maintain(&mut self) {
        let mut pinned: Vec<(u64, Arc<ContainerLog>)> = Vec::new();
        let mut open_files = 0;
        let (mut unplaced, mut unreadable) = (Vec::new(), Vec::new());
        for (path, folder) in &mut self.folders {
            folder.logs.retain(|log| {
                let housekeeping = log.maintain(&self.reading);
                if housekeeping.unread {
                    self.pool.wake(log);
                }
                unplaced.extend(housekeeping.unplaced);
                unreadable.extend(housekeeping.unreadable);
                pinned.push((housekeeping.pinned, log.clone()));
                open_files += log.open_files();
                let over = log.is_over();
                if over {
                    tracing::debug!(folder = %path.display(), "the log is finished");
                    self.pool.remove(log.id());
                    self.logs.remove(log.id());
                }
                !over
            });
        }
        self.problems.extend(unreadable.into_iter().map(|(path, why)| Problem::new(Kind::Content, &path, why)));
        self.problems.extend(unplaced.into_iter().map(|path| Problem::unplaced(&path)));
        self.folders.retain(|_, folder| !folder.known.is_empty() || !folder.logs.is_empty());
        let mut total: u64 = pinned.iter().map(|(bytes, _)| bytes).sum();
        while total > self.pinned_bytes_max {
            pinned.sort_by_key(|(bytes, _)| *bytes);
            let Some((bytes, log)) = pinned.last_mut() else { break };
            let freed = log.unpin_oldest(&self.reading);
            if freed == 0 {
                *bytes = 0;
                if pinned.iter().all(|(bytes, _)| *bytes == 0) {
                    break;
                }
                continue;
            }
            *bytes = bytes.saturating_sub(freed);
            total = total.saturating_sub(freed);
        }
        let metrics = &self.reading.metrics;
        metrics.pinned_bytes.set(total as i64);
        metrics.open_files.set(open_files as i64);
        metrics.containers.set(self.folders.values().map(|folder| folder.logs.len() as i64).sum());
        metrics.pending_bytes.set(self.reading.budget.used() as i64);
    }
}
