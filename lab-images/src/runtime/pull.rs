//! One pull from start to end: told while it runs, ended when it no longer moves, checked when it is done.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::liveness::{Liveness, Observation, PullLimits, Verdict};
use super::rate::Rate;
use super::{FileSystem, Image, LOOK_INTERVAL, PullRequest, Runtime, RuntimeError, Transfer};
use crate::reference::Digest;

/// What a pull does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No byte has arrived.
    #[default]
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// All bytes are there.
    Unpacking,
    /// The image can be used.
    Done,
}

/// How far a pull is. Bytes are compressed ones of layers that were missing when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Bytes that arrived.
    pub done: u64,
    /// Bytes in all; `None` while, or where, it cannot be told.
    pub total: Option<u64>,
    /// Bytes a second over the last 15 seconds.
    pub rate: Option<u64>,
    /// Until the last byte, not until the end of unpacking.
    pub time_left: Option<Duration>,
    /// Since the pull began.
    pub elapsed: Duration,
}

/// Whether the image that arrived is the one that the catalogue names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArrivedDigest {
    /// It is.
    Expected,
    /// Nothing was expected.
    NotAsked,
    /// The tag has moved since the scan, or a mirror of the runtime serves another image under it. That one is there under the
    /// tag.
    Other {
        /// The catalogue's digest.
        expected: Digest,
        /// The names with a digest that the runtime gives the image.
        arrived: Vec<String>,
    },
}

/// A pull that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// As the runtime lists it.
    pub image: Image,
    /// Whether it is the one that was meant.
    pub digest: ArrivedDigest,
    /// Compressed bytes of the layers that were missing; `None` where the runtime does not tell.
    pub downloaded: Option<u64>,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// A pull that did not end well. What arrived may be used by the next one (containerd), or not (Docker).
#[derive(Debug, Error)]
pub enum PullError {
    /// The runtime said no.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Bytes were outstanding and none came.
    #[error(
        "pull of {reference} stalled: no byte for {} s at {done} of {} bytes; look at the registry and the network, or raise PULL_STALL_TIMEOUT",
        idle.as_secs(), total.map_or("unknown".to_owned(), |total| total.to_string())
    )]
    Stalled {
        /// The image.
        reference: String,
        /// Bytes that had arrived.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
        /// How long none came.
        idle: Duration,
    },
    /// All bytes were there and nothing grew.
    #[error("{reference} was downloaded and did not unpack: no growth on disk for {} s; look at the disk and the runtime's log, or raise UNPACK_TIMEOUT", idle.as_secs())]
    UnpackStuck {
        /// The image.
        reference: String,
        /// How long nothing grew.
        idle: Duration,
    },
}

/// Pulls one image, tells how it goes, and judges how long it may take by whether it moves, never by its length. Dropping the
/// future cancels the pull in the runtime.
///
/// # Errors
/// When the runtime refuses, when no byte comes for `limits.stall`, or when nothing is unpacked for `limits.unpack`.
pub async fn pull(
    runtime: &dyn Runtime,
    request: &PullRequest,
    limits: PullLimits,
    progress: &watch::Sender<Progress>,
) -> Result<Pulled, PullError> {
    let started = Instant::now();
    // Without it the growth of the disk is no sign of life; that alone does not keep a pull from being tried.
    let images_folder = runtime.file_system().await.ok().map(|disk| disk.path);
    let (transfer, _) = watch::channel(Transfer::default());
    let mut told = Told { progress, rate: Rate::default(), started };
    progress.send_replace(Progress::default());
    tokio::select! {
        result = runtime.pull(request, &transfer) => result?,
        error = watch_over(&transfer, images_folder, limits, request, &mut told) => return Err(error),
    }
    let downloaded = transfer.borrow().moved().map(|moved| moved.total);
    let reference = request.name();
    let image = runtime.image(&reference).await?.ok_or(RuntimeError::Vanished { reference })?;
    told.done(downloaded);
    Ok(Pulled { digest: check_digest(request.digest(), &image), image, downloaded, elapsed: started.elapsed() })
}

/// Looks again and again; ends with an error once the pull no longer moves.
async fn watch_over(
    transfer: &watch::Sender<Transfer>,
    images_folder: Option<PathBuf>,
    limits: PullLimits,
    request: &PullRequest,
    told: &mut Told<'_>,
) -> PullError {
    let mut liveness = Liveness::new(limits);
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let used = match images_folder.as_deref() {
            Some(path) => FileSystem::measure(path).await.ok().map(|disk| disk.used),
            None => None,
        };
        let seen = Observation { at: told.started.elapsed(), transfer: transfer.borrow().moved(), used };
        let now = told.tell(&seen);
        let reference = || request.name();
        match liveness.observe(seen) {
            Verdict::Alive => {}
            Verdict::Stalled(idle) => {
                return PullError::Stalled { reference: reference(), done: now.done, total: now.total, idle };
            }
            Verdict::UnpackStuck(idle) => return PullError::UnpackStuck { reference: reference(), idle },
        }
    }
}

/// The progress as it is told.
struct Told<'a> {
    progress: &'a watch::Sender<Progress>,
    rate: Rate,
    started: Instant,
}

impl Told<'_> {
    fn tell(&mut self, seen: &Observation) -> Progress {
        let mut now = Progress { elapsed: seen.at, ..Progress::default() };
        if let Some(moved) = seen.transfer {
            self.rate.add(seen.at, moved.done);
            now.done = moved.done;
            now.total = (!moved.open).then_some(moved.total);
            now.phase = match (moved.outstanding(), moved.done) {
                (false, _) => Phase::Unpacking,
                (true, 0) => Phase::Waiting,
                (true, _) => Phase::Downloading,
            };
        }
        if now.phase == Phase::Downloading {
            now.rate = self.rate.bytes_per_second();
            now.time_left = now.total.and_then(|total| self.rate.time_left(total.saturating_sub(now.done)));
        }
        self.progress.send_replace(now.clone());
        now
    }

    fn done(&self, downloaded: Option<u64>) {
        let (done, elapsed) = (downloaded.unwrap_or(0), self.started.elapsed());
        self.progress.send_replace(Progress {
            phase: Phase::Done,
            done,
            total: downloaded,
            elapsed,
            ..Progress::default()
        });
    }
}

fn check_digest(expected: Option<&Digest>, image: &Image) -> ArrivedDigest {
    let Some(expected) = expected else { return ArrivedDigest::NotAsked };
    let text = expected.to_string();
    if image.digests.iter().any(|name| name.rsplit('@').next() == Some(&text)) {
        return ArrivedDigest::Expected;
    }
    ArrivedDigest::Other { expected: expected.clone(), arrived: image.digests.clone() }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
