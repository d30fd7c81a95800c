//! Keeps the checkpoint up to date: reads it at the start, and writes it again as lines are confirmed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::checkpoint::{self, CheckpointError, Saved};
use crate::metrics::Metrics;
use crate::outgoing::Budget;
use crate::registry::Registry;
use crate::settings::Output;
use crate::state_dir::{Complaint, StateDir};

/// Keeps the checkpoint up to date.
#[derive(Debug)]
pub struct Keeper {
    /// The file and its folder; `None` for an output that keeps none.
    pub place: Option<(PathBuf, Arc<StateDir>)>,
    /// What it holds.
    pub registry: Arc<Registry>,
    /// What is counted.
    pub metrics: Metrics,
    /// That it can't be written.
    pub complaint: Complaint,
}

impl Keeper {
    /// Returns at `at`, or as soon as much was confirmed: what was and is not written comes again after a kill.
    pub async fn is_due(&self, budget: &Budget, not_before: tokio::time::Instant, at: tokio::time::Instant) {
        if self.place.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(not_before).await;
        tokio::select! {
            () = tokio::time::sleep_until(at) => (),
            () = budget.much_given() => (),
        }
    }

    /// Writes it, if anything changed.
    pub async fn write(&self) {
        let Some((path, state)) = self.place.clone() else { return };
        if self.metrics.checkpoints.get() > 0 && !path.exists() {
            // Somebody deleted it.
            self.registry.mark_changed();
        }
        let Some(saved) = self.registry.take_changes() else { return };
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || state.replace(&path, &checkpoint::render(&saved))).await;
        let error = match written {
            Ok(Ok(())) => {
                self.metrics.checkpoints.inc();
                if self.complaint.is_over() {
                    tracing::info!(file = shown, "the checkpoint is written again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.metrics.checkpoint_errors.inc();
        self.registry.mark_changed();
        if self.complaint.is_due() {
            tracing::error!(
                file = shown,
                error,
                "the checkpoint can't be written; lines may be shipped twice after a restart"
            );
        }
    }
}

/// Where it is kept how far logs were read: each kind of output has its own, so that lines that went elsewhere are shipped, too.
pub fn checkpoint_path(output: &Output, state_dir: &Path) -> Option<PathBuf> {
    let name = match output {
        Output::Amqp(_) => checkpoint::FILE_NAME,
        Output::Stdout => checkpoint::STDOUT_FILE_NAME,
        Output::Null => return None,
    };
    Some(state_dir.join(name))
}

/// What an earlier run left, and whether that was nothing.
///
/// # Errors
///
/// When it can't be read, or is broken and can't be moved aside.
pub fn load(path: &Path) -> anyhow::Result<(Saved, bool)> {
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
