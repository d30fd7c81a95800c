//! Watches a run until it ends, and writes the checkpoint meanwhile.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant as Moment, sleep};
use tokio_util::sync::CancellationToken;

use super::readers::Readers;
use crate::checkpoint_writer::CheckpointWriter;
use crate::idle::{Patience, Progress};
use crate::metrics::Metrics;
use crate::threads::Ended;

/// How often the checkpoint is written, if it changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two checkpoints. An early one takes at most this many times its own duration.
const CHECKPOINT_GAP: Duration = Duration::from_millis(100);
const CHECKPOINT_SHARE: u32 = 20;

/// How often `--until-idle` checks whether everything is done.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// Why a run ends.
pub(super) enum RunEnd {
    /// A signal came, or everything was shipped.
    Wanted,
    /// A thread ended too early.
    Thread(Ended),
    /// With `--until-idle`: nothing was read or confirmed for too long.
    Stuck,
}

/// A run that is being watched.
pub(super) struct Watch<'a> {
    pub(super) readers: &'a Readers,
    pub(super) writer: &'a CheckpointWriter,
    pub(super) metrics: &'a Metrics,
    /// Whether events go to a program that reads them at its own pace.
    pub(super) to_reader: bool,
    /// The limit of `--until-idle`.
    pub(super) patience: Option<Patience>,
}

impl Watch<'_> {
    /// Returns when the run should end.
    pub(super) async fn until_end(&mut self, stop: &CancellationToken, ends: &mut UnboundedReceiver<Ended>) -> RunEnd {
        let now = Moment::now();
        let (mut not_before, mut next) = (now + CHECKPOINT_GAP, now + CHECKPOINT_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return RunEnd::Wanted,
                Some(end) = ends.recv() => return RunEnd::Thread(end),
                () = self.writer.is_due(self.readers.much_confirmed(), not_before, next) => {
                    let began = Moment::now();
                    self.writer.write().await;
                    next = began + CHECKPOINT_EVERY;
                    not_before = began + (CHECKPOINT_SHARE * began.elapsed()).clamp(CHECKPOINT_GAP, CHECKPOINT_EVERY);
                }
                () = sleep(IDLE_CHECK), if self.patience.is_some() => {
                    if let Some(end) = self.idle_end() {
                        return end;
                    }
                }
            }
        }
    }

    /// With `--until-idle`: whether everything was shipped, or there is no progress.
    fn idle_end(&mut self) -> Option<RunEnd> {
        if self.readers.is_idle() {
            return Some(RunEnd::Wanted);
        }
        let progress = Progress {
            read: self.metrics.bytes_read.get(),
            settled: self.metrics.messages_confirmed.get()
                + self.metrics.messages_given_up.get()
                + self.metrics.events_confirmed.get(),
            looked: self.readers.has_looked(),
        };
        let waits_for_reader = self.to_reader && self.readers.unconfirmed() > 0;
        let patience = self.patience.as_mut()?;
        patience.is_over(progress, waits_for_reader, Instant::now()).then_some(RunEnd::Stuck)
    }
}
