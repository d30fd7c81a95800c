//! The rounds on one volume.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nfs_mounts::Phase;
use nfs_mounts::helper::{Helper, Outcome};
use nfs_mounts::mountinfo::Mounts;
use sidecar::readiness::{Latch, Pulse};
use sidecar::schedule::with_jitter;
use tokio_util::sync::CancellationToken;

use crate::metrics::VolumeMetrics;
use crate::page::Page;
use crate::place::on_a_mount;
use crate::settings::Keepalive;
use crate::touch::{Done, Identity, Order, Removal};
use crate::trouble::{Failed, Trouble};

/// How often the folder is searched for files of writers that are gone.
const REMOVE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Every this many rounds the record allocates a new block, to detect an exhausted quota. While the volume is in trouble, every
/// round does: a round that does not would call it good.
const NEW_BLOCK_EVERY: u64 = 5;

/// The most phases of a round. With the time to kill a child, this bounds a round. Entries that are only skipped take
/// no time.
const MOST_PHASES: u32 = 16;

/// One volume.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    keepalive: Keepalive,
    helper: Helper,
    sequence: u64,
    identity: Option<Identity>,
    /// When the last search of the folder ended, successfully or not.
    removed_at: Option<tokio::time::Instant>,
    /// Where that search continues.
    remove_from: usize,
    removal_failed: bool,
    /// The last trouble's name: repeated troubles are logged at debug level only.
    trouble: Option<&'static str>,
    metrics: VolumeMetrics,
    page: Page,
    latch: Latch,
}

/// The longest time between the starts of two rounds: the limit for liveness.
pub fn longest_round(keepalive: &Keepalive) -> Duration {
    keepalive.interval.mul_f64(1.2) + keepalive.timeout * (MOST_PHASES + 1) + Duration::from_secs(10)
}

impl Volume {
    /// A volume before its first round.
    pub fn new(path: PathBuf, keepalive: Keepalive, metrics: VolumeMetrics, page: Page, latch: Latch) -> Self {
        let helper = Helper::new(keepalive.timeout);
        page.expect(&path);
        Self {
            path,
            keepalive,
            helper,
            sequence: 0,
            identity: None,
            removed_at: None,
            remove_from: 0,
            removal_failed: false,
            trouble: None,
            metrics,
            page,
            latch,
        }
    }

    /// Does rounds until `shutdown`. A round that has begun is finished.
    pub async fn run(mut self, pulse: Pulse, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let next = tokio::time::Instant::now() + with_jitter(self.keepalive.interval);
            pulse.beat();
            self.round().await;
            tokio::select! { () = tokio::time::sleep_until(next) => (), () = shutdown.cancelled() => () }
        }
    }

    async fn round(&mut self) {
        let mut phases = Vec::new();
        let result = self.try_round(&mut phases).await;
        let name = result.as_ref().err().map_or("ok", |failed| failed.trouble.name());
        self.metrics.round(&self.path, name, &phases);
        self.page.round(&self.path, Timestamp::now(), result.as_ref().err().cloned());
        match own_fault(&result) {
            None => self.latch.ready(),
            Some(why) => self.latch.not_ready(why),
        }
        self.log_result(&result);
        match result {
            Ok(done) => {
                self.identity = Some(done.identity);
                self.metrics.good(&self.path, Timestamp::now(), removed(&done), done.clock_offset);
            }
            Err(failed) if failed.trouble == Trouble::ChangedMount => self.identity = None,
            Err(_) => (),
        }
    }

    async fn try_round(&mut self, phases: &mut Vec<(Phase, Duration)>) -> Result<Done, Failed> {
        let cannot_see = |error| Trouble::Helper(format!("cannot read /proc/self/mountinfo: {error}"));
        let mounts = Mounts::read(Path::new("/proc/self/mountinfo")).map_err(cannot_see)?;
        on_a_mount(&mounts, &self.path)?;
        let now = tokio::time::Instant::now();
        let remove = self.removed_at.is_none_or(|at| now.duration_since(at) >= REMOVE_EVERY);
        self.sequence += 1;
        let order = Order {
            path: self.path.clone(),
            node: self.keepalive.node.clone(),
            pod: self.keepalive.pod.clone(),
            sequence: self.sequence,
            interval: self.keepalive.interval,
            expected: self.identity,
            plain_file: self.keepalive.plain_file.clone(),
            new_block: self.trouble.is_some() || self.sequence % NEW_BLOCK_EVERY == 1,
            remove_from: remove.then_some(self.remove_from),
        };
        // If this search hangs or fails, do not repeat it in the next round.
        if remove {
            (self.removed_at, self.remove_from) = (Some(now), 0);
        }
        let outcome: Outcome<Result<Done, Failed>> =
            self.helper.run(&order).await.map_err(|error| Trouble::Helper(error.to_string()))?;
        match outcome {
            Outcome::Answered { answer, phases: ended } => {
                *phases = ended;
                if let Ok(Done { removal: Some(removal), .. }) = &answer {
                    self.searched(removal);
                }
                answer
            }
            Outcome::Hung { phase, phases: ended, after } => {
                *phases = ended;
                Err(Failed { phase, trouble: Trouble::Hung(after.as_secs()) })
            }
            Outcome::Stuck { phase, phases: ended, after, pid, waits_in } => {
                *phases = ended;
                Err(Failed { phase, trouble: Trouble::Stuck { seconds: after.as_secs(), pid, waits_in } })
            }
        }
    }

    /// An unfinished search continues in the next round.
    fn searched(&mut self, removal: &Removal) {
        if let Some(from) = removal.go_on_from {
            (self.removed_at, self.remove_from) = (None, from);
        }
        if let Some(why) = removal.failed.as_ref().filter(|_| !self.removal_failed) {
            tracing::warn!(path = %self.path.display(), "cannot search for records of writers that have been gone for a day: {why}");
        }
        self.removal_failed = removal.failed.is_some();
    }

    fn log_result(&mut self, result: &Result<Done, Failed>) {
        let path = self.path.display();
        match result {
            Ok(done) if self.trouble.take().is_some() => {
                tracing::info!(%path, removed = removed(done), "the volume has recovered");
            }
            Ok(done) if self.identity.is_none() => {
                tracing::info!(%path, removed = removed(done), "the first record was written");
            }
            Ok(done) => tracing::debug!(%path, sequence = self.sequence, removed = removed(done), "record written"),
            Err(failed) => {
                let name = failed.trouble.name();
                if self.trouble.replace(name) == Some(name) {
                    tracing::debug!(%path, trouble = name, "{failed}");
                } else {
                    tracing::warn!(%path, trouble = name, "{failed}");
                }
            }
        }
    }
}

/// Why the daemon itself could not run a round. A round that finds the volume in trouble is not a fault of the daemon.
fn own_fault(result: &Result<Done, Failed>) -> Option<String> {
    match result {
        Err(failed @ Failed { trouble: Trouble::Helper(_), .. }) => Some(failed.to_string()),
        Ok(_) | Err(_) => None,
    }
}

fn removed(done: &Done) -> u32 {
    done.removal.as_ref().map_or(0, |removal| removal.removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_round_that_could_not_be_run_is_our_own_fault() {
        for trouble in [Trouble::Hung(3), Trouble::MissingMount, Trouble::ReadBack] {
            assert_eq!(own_fault(&Err(trouble.into())), None);
        }
        let helper = Trouble::Helper("no more processes".into());
        assert_eq!(own_fault(&Err(helper.into())).as_deref(), Some("no more processes"));
    }
}
