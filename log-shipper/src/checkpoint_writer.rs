//! Reads the checkpoint at the start, and writes it as lines are confirmed.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::time::{Instant, sleep_until};

use crate::checkpoint::{self, CheckpointError, Saved};
use crate::logs::FollowedLogs;
use crate::metrics::Metrics;
use crate::settings::Output;
use crate::state_dir::{Complaint, StateDir};

/// Reads and writes the checkpoint.
#[derive(Debug)]
pub struct CheckpointWriter {
    /// The file and its folder; `None` for an output without a checkpoint.
    pub place: Option<(PathBuf, Arc<StateDir>)>,
    /// The logs whose progress it saves.
    pub logs: Arc<FollowedLogs>,
    /// The metrics.
    pub metrics: Metrics,
    /// Limits log messages about failed writes.
    pub complaint: Complaint,
}

impl CheckpointWriter {
    /// Opens the folder and reads what an earlier run left there. Also returns whether there was nothing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used, or the checkpoint cannot be read, or is broken and cannot be renamed.
    pub fn open(output: &Output, state_dir: &Path, metrics: &Metrics) -> anyhow::Result<(Self, bool)> {
        let (place, (saved, fresh)) = match checkpoint_path(output, state_dir) {
            Some(path) => {
                let folder = Arc::new(StateDir::take(state_dir)?);
                let saved = load(&path)?;
                (Some((path, folder)), saved)
            }
            None => (None, (Saved::default(), true)),
        };
        let logs = Arc::new(FollowedLogs::new(saved));
        Ok((Self { place, logs, metrics: metrics.clone(), complaint: Complaint::default() }, fresh))
    }

    /// Waits until `at`, or until much was confirmed: lines that were confirmed after the last write are shipped again
    /// after a crash.
    pub async fn is_due(&self, much_confirmed: impl Future<Output = ()>, not_before: Instant, at: Instant) {
        if self.place.is_none() {
            pending::<()>().await;
        }
        sleep_until(not_before).await;
        tokio::select! {
            () = sleep_until(at) => (),
            () = much_confirmed => (),
        }
    }

    /// Writes the checkpoint if anything changed.
    pub async fn write(&self) {
        let Some((path, state)) = self.place.clone() else { return };
        if self.metrics.checkpoints.get() > 0 && !path.exists() {
            // The file was deleted.
            self.logs.mark_changed();
        }
        let Some(saved) = self.logs.take_changes() else { return };
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || state.replace(&path, &checkpoint::render(&saved))).await;
        let error = match written {
            Ok(Ok(())) => {
                self.metrics.checkpoints.inc();
                if self.complaint.is_over() {
                    tracing::info!(file = shown, "the checkpoint can be written again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.checkpoint_errors.inc();
        self.logs.mark_changed();
        if self.complaint.is_due() {
            tracing::error!(
                file = shown,
                error,
                "the checkpoint can't be written; lines may be shipped twice after a restart"
            );
        }
    }
}

/// The path of the checkpoint. Each kind of output has its own, so that lines that went to another output are shipped,
/// too.
fn checkpoint_path(output: &Output, state_dir: &Path) -> Option<PathBuf> {
    let name = match output {
        Output::Amqp(_) => checkpoint::FILE_NAME,
        Output::Stdout => checkpoint::STDOUT_FILE_NAME,
        Output::Null => return None,
    };
    Some(state_dir.join(name))
}

/// What an earlier run left, and whether there was nothing.
fn load(path: &Path) -> anyhow::Result<(Saved, bool)> {
    match checkpoint::read(path) {
        Ok(Some(saved)) => Ok((saved, false)),
        Ok(None) => Ok((Saved::default(), true)),
        Err(error @ CheckpointError::Broken { .. }) => {
            let aside = checkpoint::set_aside(path).with_context(|| format!("{error}; it can't be moved aside"))?;
            tracing::error!(%error, kept_as = %aside.display(), "starting without a checkpoint, from READ_FROM");
            Ok((Saved::default(), true))
        }
        Err(error) => Err(error.into()),
    }
}
