//! One round: look, decide, remove one image, and look again, until nothing is left to remove.
//!
//! Each removal follows a separate look, taken just before it. So the round notices if a container began to use an
//! image, a tag moved, the catalogue changed or the disk has enough free space again. containerd removes images even
//! while they are in use, so there a last look follows the removal while it can still be undone, and an image that a
//! container or a pod began to use is restored. An image counts as removed when the next look no longer sees it,
//! whatever the runtime said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::{ContainerImages, FileSystem, Image, Runtime, RuntimeError};
use tokio_util::sync::CancellationToken;

use crate::catalogue::CatalogueSource;
use crate::clock::Clock;
use crate::files::FileError;
use crate::memory::Memory;
use crate::plan::{Plan, Pods, Rules, Seen, distrust, freeing, plan, pods_unsure, uses, wanted};
use crate::pods::NodePods;
use crate::verdict::{Hold, RemoveReason};

/// A look older than this is repeated before anything is removed: the process may have been stopped in between.
const LOOK_MAX_AGE: Duration = Duration::from_secs(5);

/// Where early removal starts and ends, in percent of the file system that holds images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// `DISK_HIGH`
    pub high: u8,
    /// `DISK_LOW`
    pub low: u8,
}

/// The limits of a round.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `PURGE_MAX_PER_ROUND`
    pub most: usize,
    /// Print what would be removed, and remove nothing.
    pub dry_run: bool,
}

/// The sources, the rules and the limits of a round.
pub struct Purger {
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The source of the catalogue.
    pub catalogue: CatalogueSource,
    /// The pods of this node; `None` outside of a cluster.
    pub pods: Option<NodePods>,
    /// The rules from the settings.
    pub rules: Rules,
    /// Where early removal starts and ends.
    pub watermarks: Watermarks,
    /// The limits of a round.
    pub limits: Limits,
    /// The history and its file.
    pub memory: Memory,
    /// The machine's clocks.
    pub clock: Clock,
    freeing: bool,
}

/// The result of one look.
pub struct Look {
    /// The input of the plan.
    pub seen: Seen,
    /// The file system that holds images, if it could be measured.
    pub disk: Option<FileSystem>,
    at: Instant,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Why nothing was removed, if that is so.
    pub hold: Option<Hold>,
    /// How many images are on the node at the end.
    pub images: usize,
    /// How many images are still to be removed at the end.
    pub to_go: usize,
    /// Images that the runtime refused to remove, in this round or before.
    pub refused: usize,
    /// The time until the next grace is over, among images that nothing else keeps.
    pub next: Option<SignedDuration>,
    /// How full the file system that holds images was at the end, in percent.
    pub used_percent: Option<u8>,
    /// Names of the images that were removed (or would be, in a dry run).
    pub removed: Vec<String>,
    /// Bytes that the removals freed on the file system.
    pub freed: u64,
    /// The images that could not be removed, and why.
    pub failed: Vec<Failed>,
    /// Images that were restored, because something began to use them during their removal.
    pub restored: Vec<String>,
    /// Images that a container began to use during their removal, and that could not be restored.
    pub lost: Vec<String>,
    /// Why the history could not be saved.
    pub unsaved: Option<FileError>,
    /// The runtime's error that ended the round early.
    pub broken: Option<RuntimeError>,
}

/// An image that could not be removed.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub image: String,
    /// The reason.
    pub error: RuntimeError,
    /// Whether its removal failed before, too.
    pub again: bool,
}

/// A removal that the runtime reported as done. It counts once the image is no longer listed.
struct PendingRemoval {
    image: Image,
    why: String,
    disk: Option<FileSystem>,
}

impl Purger {
    /// A purger whose history is read from its file once that can be read.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        catalogue: CatalogueSource,
        pods: Option<NodePods>,
        rules: Rules,
        (watermarks, limits): (Watermarks, Limits),
        memory: Memory,
    ) -> Self {
        let clock = Clock::system();
        Self { runtime, catalogue, pods, rules, watermarks, limits, memory, clock, freeing: false }
    }

    /// Whether a disk this full requires a round now.
    pub fn is_too_full(&self, used_percent: u8) -> bool {
        freeing(self.freeing, used_percent, self.watermarks.low, self.watermarks.high)
    }

    /// Looks at everything. The uses of images come last, so that they are the most recent. Updates the history.
    ///
    /// # Errors
    ///
    /// If the runtime does not list its images or containers.
    pub async fn look(&mut self) -> Result<Look, RuntimeError> {
        let catalogue = self.catalogue.read().await;
        // A disk that cannot be measured does not count as full, so the normal rules apply.
        let disk = self.runtime.file_system().await;
        let disk = disk.inspect_err(|error| tracing::warn!("{error}")).ok();
        self.freeing = disk.as_ref().is_some_and(|disk| self.is_too_full(disk.used_percent()));
        let images = self.runtime.images().await?;
        let at = Instant::now();
        let (pods, containers) = self.users().await?;
        let clock = self.clock.read();
        let now = clock.wall;
        let history = &mut self.memory.history;
        let step = history.follow(clock);
        if !step.is_zero() {
            tracing::info!(
                seconds = step.as_secs(),
                "the clock was set, or the machine was off; this time does not count toward the age of images"
            );
        }

        let uses = uses(&containers, &pods);
        history.note(&images, |image| uses.of(image).is_some(), now);
        let trusted =
            catalogue.as_ref().ok().filter(|_| distrust(&catalogue, history.wanted, &self.rules, now).is_none());
        if let Some(trusted) = trusted {
            history.wanted = Some(trusted.catalogue.wanted().count());
        }
        history.note_wanted(&images, trusted.map(|trusted| wanted(&trusted.catalogue)).as_ref(), now);
        let seen = Seen { now, images, containers, pods, catalogue, freeing: self.freeing };
        Ok(Look { seen, disk, at })
    }

    /// The current pods and containers of this node.
    async fn users(&self) -> Result<(Pods, Vec<ContainerImages>), RuntimeError> {
        let pods = async {
            match &self.pods {
                Some(pods) => pods.list().await,
                None => Pods::NoCluster,
            }
        };
        let (pods, containers) = futures_util::join!(pods, self.runtime.containers());
        Ok((pods, containers?))
    }

    /// Decides on what a look saw.
    pub fn plan<'a>(&self, look: &'a Look) -> Plan<'a> {
        plan(&look.seen, &self.memory.history, &self.rules)
    }

    /// Looks, decides and removes until nothing is left to remove, the limit is reached or `shutdown` is cancelled.
    ///
    /// # Errors
    ///
    /// If the runtime does not list its images or containers at the first look.
    pub async fn round(&mut self, shutdown: &CancellationToken) -> Result<Round, RuntimeError> {
        let mut round = Round::default();
        // A shutdown does not wait for files that hang. It does wait for a removal that is in progress.
        let remembered = shutdown.run_until_cancelled(self.memory.load(&self.clock)).await;
        if remembered.is_none() {
            return Ok(round);
        }
        let result = self.remove_all(&mut round, shutdown).await;
        if let Some(Err(error)) = shutdown.run_until_cancelled(self.memory.save()).await {
            round.unsaved = Some(error);
        }
        match result {
            Err(error) if round.removed.is_empty() && round.failed.is_empty() => Err(error),
            ended => Ok(Round { broken: ended.err(), ..round }),
        }
    }

    async fn remove_all(&mut self, round: &mut Round, shutdown: &CancellationToken) -> Result<(), RuntimeError> {
        let mut tried = BTreeSet::new();
        let mut gone: Vec<Image> = Vec::new();
        let mut pending: Option<PendingRemoval> = None;
        loop {
            let Some(look) = shutdown.run_until_cancelled(self.look()).await else {
                if let Some(PendingRemoval { image, .. }) = pending {
                    tracing::info!(
                        image = name_of(&image),
                        "shutting down before it is known whether this image is gone"
                    );
                }
                return Ok(());
            };
            let look = look?;
            if let Some(pending) = pending.take() {
                self.settle(pending, &look, round);
            }
            // This is saved before anything is removed, so that an interrupted removal can be finished.
            if !self.memory.covers_a_cut()
                && let Some(Err(error)) = shutdown.run_until_cancelled(self.memory.save()).await
            {
                round.unsaved = Some(error);
            }
            round.lost = lost(&gone, &look.seen);
            let plan = self.plan(&look);
            let to_go: Vec<(&Image, &RemoveReason)> = plan.to_remove().collect();
            round.hold.clone_from(&plan.hold);
            (round.images, round.to_go) = (look.seen.images.len(), to_go.len());
            (round.refused, round.next) = (plan.refused(), plan.next());
            round.used_percent = look.disk.as_ref().map(FileSystem::used_percent);
            if self.limits.dry_run {
                round.removed = to_go.iter().take(self.limits.most).map(|(image, _)| name_of(image)).collect();
                return Ok(());
            }
            // Failed removals do not use up the limit.
            let done = round.removed.len() + round.restored.len();
            let next = to_go.into_iter().find(|(image, _)| !tried.contains(&image.id));
            let Some((image, why)) = next.filter(|_| done < self.limits.most && !shutdown.is_cancelled()) else {
                return Ok(());
            };
            if look.at.elapsed() > LOOK_MAX_AGE {
                continue;
            }
            let (image, why) = (image.clone(), why.to_string());
            tried.insert(image.id.clone());
            gone.push(image.clone());
            match self.remove(&image).await {
                Ok(None) => pending = Some(PendingRemoval { image, why, disk: look.disk }),
                Ok(Some(by)) => {
                    tracing::info!(
                        image = name_of(&image),
                        id = image.id,
                        by,
                        "image restored: something needs it again"
                    );
                    round.restored.push(name_of(&image));
                }
                Err(error) => {
                    // Other removals would wait as long, one after another.
                    let ends = matches!(error, RuntimeError::NoAnswer { .. });
                    self.fail(&image, error, look.seen.now, round);
                    if ends {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Settles a removal, now that the images are listed again.
    fn settle(&mut self, pending: PendingRemoval, look: &Look, round: &mut Round) {
        let PendingRemoval { image, why, disk } = pending;
        let name = name_of(&image);
        if look.seen.images.iter().any(|here| here.id == image.id) {
            return self.fail(&image, RuntimeError::StillListed { image: name }, look.seen.now, round);
        }
        // Other processes write to the disk, too, so the difference may be negative. Then it counts as zero.
        let freed = match (&disk, &look.disk) {
            (Some(before), Some(after)) => before.used.saturating_sub(after.used),
            _ => 0,
        };
        tracing::info!(image = name, id = image.id, why, freed_bytes = freed, "image removed");
        round.freed += freed;
        round.removed.push(name);
    }

    /// Records that an image was not removed, so that it is not tried again for a while.
    fn fail(&mut self, image: &Image, error: RuntimeError, now: Timestamp, round: &mut Round) {
        let in_use = matches!(error, RuntimeError::InUse { .. });
        let is_news = self.memory.history.note_refusal(&image.id, in_use, error.to_string(), now);
        let (name, id) = (name_of(image), &image.id);
        if is_news {
            tracing::warn!(image = name, id, %error, "image not removed");
        } else {
            tracing::debug!(image = name, id, %error, "image still not removed");
        }
        round.failed.push(Failed { image: name, error, again: !is_news });
    }

    /// Removes an image. Returns why it was restored, if it was.
    async fn remove(&self, image: &Image) -> Result<Option<String>, RuntimeError> {
        let removed = self.runtime.remove(image).await?;
        if removed.can_be_undone()
            && let Some(by) = self.needed_again(image).await
        {
            self.runtime.restore(image, &removed).await?;
            return Ok(Some(by));
        }
        // The names are gone, so the image is removed. If its space cannot be released now, its lease expires later.
        if let Err(error) = self.runtime.release(&removed).await {
            tracing::warn!(image = name_of(image), %error, "cannot release the space of this image now; containerd frees it later");
        }
        Ok(None)
    }

    /// What has begun to use an image since the plan was made. If that cannot be determined, it counts as a use.
    async fn needed_again(&self, image: &Image) -> Option<String> {
        match self.users().await {
            Err(error) => Some(error.to_string()),
            Ok((pods, containers)) => match pods_unsure(&pods, Timestamp::now()) {
                Some(hold) => Some(hold.to_string()),
                None => uses(&containers, &pods).of(image).map(ToString::to_string),
            },
        }
    }
}

/// The images that were removed while a container was being created from them, which shows only after that. The
/// container keeps running, and the loss is reported. This cannot happen to a container of a pod, because its pod is
/// bound to the node earlier.
fn lost(gone: &[Image], seen: &Seen) -> Vec<String> {
    let uses = uses(&seen.containers, &Pods::NoCluster);
    let here = |id: &str| seen.images.iter().any(|image| image.id == id);
    gone.iter().filter(|image| !here(&image.id) && uses.of(image).is_some()).map(name_of).collect()
}

/// The display name of an image: a tag, else a digest, else its id.
pub fn name_of(image: &Image) -> String {
    image.tags.first().or(image.digests.first()).unwrap_or(&image.id).clone()
}
