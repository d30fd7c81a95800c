//! One pull from start to end: reports its progress, aborts it if it stalls, and checks the result.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::liveness::{Liveness, Observation, PullLimits, Verdict};
use super::rate::Rate;
use super::{FileSystem, Image, LOOK_INTERVAL, PullRequest, Runtime, RuntimeError, Transfer};
use crate::reference::Digest;

/// The phase of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No byte has arrived.
    #[default]
    Waiting,
    /// Bytes are arriving.
    Downloading,
    /// All bytes have arrived.
    Unpacking,
    /// The image can be used.
    Done,
}

/// The progress of a pull, in compressed bytes of layers that were missing at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Bytes downloaded.
    pub done: u64,
    /// Bytes in total; `None` while, or if, it is unknown.
    pub total: Option<u64>,
    /// Bytes per second over the last 15 seconds.
    pub rate: Option<u64>,
    /// The time until the download is complete, without unpacking.
    pub time_left: Option<Duration>,
    /// The time since the start.
    pub elapsed: Duration,
}

/// Whether the image that arrived is the catalogue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArrivedDigest {
    /// It is the expected one.
    Expected,
    /// No digest was expected.
    NotAsked,
    /// The tag has moved since the scan, or a mirror of the runtime serves another image under it. The other image now
    /// has the tag.
    Other {
        /// The catalogue's digest.
        expected: Digest,
        /// The image's names with a digest, from the runtime.
        arrived: Vec<String>,
    },
}

/// A successful pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image, as the runtime lists it.
    pub image: Image,
    /// Whether it is the expected image.
    pub digest: ArrivedDigest,
    /// Compressed bytes of the layers that were missing; `None` if the runtime does not show it.
    pub downloaded: Option<u64>,
    /// The duration of the pull.
    pub elapsed: Duration,
}

/// A failed pull. The next one may reuse what was downloaded (containerd), or not (Docker).
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum PullError {
    /// The runtime returned an error.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Bytes were outstanding, and none arrived.
    #[error(
        "pull of {reference} stalled: no data for {} s at {done} of {} bytes; look at the registry and the network, or raise PULL_STALL_TIMEOUT",
        idle.as_secs(), total.map_or("unknown".to_owned(), |total| total.to_string())
    )]
    Stalled { reference: String, done: u64, total: Option<u64>, idle: Duration },
    /// All bytes had arrived, and nothing was unpacked.
    #[error("{reference} was downloaded but not unpacked: no growth on disk for {} s; look at the disk and the runtime's log, or raise UNPACK_TIMEOUT", idle.as_secs())]
    UnpackStuck { reference: String, idle: Duration },
}

/// Pulls one image and reports its progress. It may take any time as long as there is progress. Dropping the future
/// cancels the pull in the runtime.
///
/// # Errors
/// If the runtime refuses, if no byte arrives for `limits.stall`, or if nothing is unpacked for `limits.unpack`.
pub async fn pull(
    runtime: &dyn Runtime,
    request: &PullRequest,
    limits: PullLimits,
    progress: &watch::Sender<Progress>,
) -> Result<Pulled, PullError> {
    let started = Instant::now();
    // Without the folder, growth of the disk cannot count as progress, but the pull can be tried nevertheless.
    let images_folder = runtime.file_system().await.ok().map(|disk| disk.path);
    let (transfer, _) = watch::channel(Transfer::default());
    let mut reporter = ProgressReporter { progress, rate: Rate::default(), started };
    progress.send_replace(Progress::default());
    tokio::select! {
        result = runtime.pull(request, &transfer) => result?,
        error = watch_over(&transfer, images_folder, limits, request, &mut reporter) => return Err(error),
    }
    let downloaded = transfer.borrow().moved().map(|moved| moved.total);
    let reference = request.name();
    let image = runtime.image(&reference).await?.ok_or(RuntimeError::Vanished { reference })?;
    reporter.done(downloaded);
    Ok(Pulled { digest: check_digest(request.digest(), &image), image, downloaded, elapsed: started.elapsed() })
}

/// Checks the progress repeatedly. Ends with an error once there is none.
async fn watch_over(
    transfer: &watch::Sender<Transfer>,
    images_folder: Option<PathBuf>,
    limits: PullLimits,
    request: &PullRequest,
    reporter: &mut ProgressReporter<'_>,
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
        let seen = Observation { at: reporter.started.elapsed(), transfer: transfer.borrow().moved(), used };
        let now = reporter.report(&seen);
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

/// The progress that is reported.
struct ProgressReporter<'a> {
    progress: &'a watch::Sender<Progress>,
    rate: Rate,
    started: Instant,
}

impl ProgressReporter<'_> {
    fn report(&mut self, seen: &Observation) -> Progress {
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
