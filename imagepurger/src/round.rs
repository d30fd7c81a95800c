//! One round: look, decide, remove one image, and look again, until nothing is left to go.
//!
//! Every removal rests on a look of its own, taken just before it: what began to use an image meanwhile, a tag that moved, a
//! catalogue that changed or a disk that is free enough again is then known. On containerd, which removes even what is in use, a
//! last look follows the removal while it can still be undone: what a container or a pod began to use in that instant is put
//! back. An image counts as removed when the next look does not see it any more, whatever the runtime said.

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

/// A look older than this is taken again before anything is removed: the process may have been stopped in between.
const LOOK_MAX_AGE: Duration = Duration::from_secs(5);

/// Where removal of more than the ordinary begins and ends, in percent of the file system of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// `DISK_HIGH`
    pub high: u8,
    /// `DISK_LOW`
    pub low: u8,
}

/// What a round may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `PURGE_MAX_PER_ROUND`
    pub most: usize,
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
}

/// Everything that a round sees with, decides by and acts on.
pub struct Purger {
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Where the catalogue comes from.
    pub catalogue: CatalogueSource,
    /// The pods of this node; `None` outside of a cluster.
    pub pods: Option<NodePods>,
    /// What the settings say.
    pub rules: Rules,
    /// Where early removal begins and ends.
    pub watermarks: Watermarks,
    /// What a round may do.
    pub limits: Limits,
    /// What is remembered, and where.
    pub memory: Memory,
    /// The machine's clocks.
    pub clock: Clock,
    freeing: bool,
}

/// What one look saw, and when.
pub struct Look {
    /// What the plan rests on.
    pub seen: Seen,
    /// The file system of images, if it could be measured.
    pub disk: Option<FileSystem>,
    at: Instant,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Why nothing was removed, if so.
    pub hold: Option<Hold>,
    /// Images here at the end.
    pub images: usize,
    /// Images that are to go still, at the end.
    pub to_go: usize,
    /// Images that the runtime refused to remove, in this round or before.
    pub refused: usize,
    /// When the next grace is over, of images that nothing else keeps.
    pub next: Option<SignedDuration>,
    /// How full the file system of images was at the end, in percent.
    pub used_percent: Option<u8>,
    /// Names of what was removed (or would be, in a dry run).
    pub removed: Vec<String>,
    /// Bytes that the file system gained by the removals.
    pub freed: u64,
    /// What could not be removed, and why.
    pub failed: Vec<Failed>,
    /// Images that were put back, because something began to use them in the instant of their removal.
    pub restored: Vec<String>,
    /// Images that a container began to use in the instant of their removal, and that could not be put back.
    pub lost: Vec<String>,
    /// The history could not be saved.
    pub unsaved: Option<FileError>,
    /// The runtime failed in the middle, which ended the round.
    pub broken: Option<RuntimeError>,
}

/// An image that could not be removed.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub image: String,
    /// Why.
    pub error: RuntimeError,
    /// It failed before, too.
    pub again: bool,
}

/// A removal that the runtime called done; it is when the image is gone.
struct Asked {
    image: Image,
    why: String,
    disk: Option<FileSystem>,
}

impl Purger {
    /// A purger that remembers what the file tells, once it was read.
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

    /// Whether a disk this full asks for a round now.
    pub fn is_pressed_by(&self, used_percent: u8) -> bool {
        freeing(self.freeing, used_percent, self.watermarks.low, self.watermarks.high)
    }

    /// Sees everything; what uses images comes last, to be the newest. The history takes note of it.
    ///
    /// # Errors
    ///
    /// When the runtime does not tell its images or containers.
    pub async fn look(&mut self) -> Result<Look, RuntimeError> {
        let catalogue = self.catalogue.read().await;
        // A disk that can't be measured is not taken for full: the ordinary rules hold.
        let disk = self.runtime.file_system().await;
        let disk = disk.inspect_err(|error| tracing::warn!("{error}")).ok();
        self.freeing = disk.as_ref().is_some_and(|disk| self.is_pressed_by(disk.used_percent()));
        let images = self.runtime.images().await?;
        let at = Instant::now();
        let (pods, containers) = self.users().await?;
        let clock = self.clock.read();
        let now = clock.wall;
        let history = &mut self.memory.history;
        let step = history.follow(clock);
        if !step.is_zero() {
            tracing::info!(seconds = step.as_secs(), "the clock was set, or the machine was off: no image ages by it");
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

    /// The pods and the containers of this node, as they are now.
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

    /// The verdicts on what a look saw.
    pub fn plan<'a>(&self, look: &'a Look) -> Plan<'a> {
        plan(&look.seen, &self.memory.history, &self.rules)
    }

    /// Looks, decides and removes until nothing is left to go, the limit is reached or `shutdown` comes.
    ///
    /// # Errors
    ///
    /// When the runtime does not tell its images or containers at the first look.
    pub async fn round(&mut self, shutdown: &CancellationToken) -> Result<Round, RuntimeError> {
        let mut round = Round::default();
        // Files that hang are not waited for once the daemon is to end; a removal under way is.
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
        let mut asked: Option<Asked> = None;
        loop {
            let Some(look) = shutdown.run_until_cancelled(self.look()).await else {
                if let Some(Asked { image, .. }) = asked {
                    tracing::info!(image = name_of(&image), "ending before it was seen whether this image is gone");
                }
                return Ok(());
            };
            let look = look?;
            if let Some(asked) = asked.take() {
                self.settle(asked, &look, round);
            }
            // Before anything is removed: a removal cut half way is finished by what is remembered.
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
            // What fails takes no place of what would not.
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
                Ok(None) => asked = Some(Asked { image, why, disk: look.disk }),
                Ok(Some(by)) => {
                    tracing::info!(
                        image = name_of(&image),
                        id = image.id,
                        by,
                        "image put back: needed again meanwhile"
                    );
                    round.restored.push(name_of(&image));
                }
                Err(error) => {
                    // Others would wait as long, one after the other.
                    let ends = matches!(error, RuntimeError::NoAnswer { .. });
                    self.fail(&image, error, look.seen.now, round);
                    if ends {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// What came of a removal, now that the images are listed again.
    fn settle(&mut self, asked: Asked, look: &Look, round: &mut Round) {
        let Asked { image, why, disk } = asked;
        let name = name_of(&image);
        if look.seen.images.iter().any(|here| here.id == image.id) {
            return self.fail(&image, RuntimeError::StillListed { image: name }, look.seen.now, round);
        }
        // Other writers count too, so it is never taken for less than nothing.
        let freed = match (&disk, &look.disk) {
            (Some(before), Some(after)) => before.used.saturating_sub(after.used),
            _ => 0,
        };
        tracing::info!(image = name, id = image.id, why, freed_bytes = freed, "image removed");
        round.freed += freed;
        round.removed.push(name);
    }

    /// Remembers that an image was not removed, so that it is left alone for a while.
    fn fail(&mut self, image: &Image, error: RuntimeError, now: Timestamp, round: &mut Round) {
        let in_use = matches!(error, RuntimeError::InUse { .. });
        let is_news = self.memory.history.note_refusal(&image.id, in_use, error.to_string(), now);
        let (name, id) = (name_of(image), &image.id);
        if is_news {
            tracing::warn!(image = name, id, %error, "image not removed");
        } else {
            tracing::debug!(image = name, id, %error, "image not removed, as before");
        }
        round.failed.push(Failed { image: name, error, again: !is_news });
    }

    /// Removes an image; gives back why it was put back, if so.
    async fn remove(&self, image: &Image) -> Result<Option<String>, RuntimeError> {
        let removed = self.runtime.remove(image).await?;
        if removed.can_be_undone()
            && let Some(by) = self.needed_again(image).await
        {
            self.runtime.restore(image, &removed).await?;
            return Ok(Some(by));
        }
        // The names are gone, so it is removed; what cannot be let go now goes by itself later.
        if let Err(error) = self.runtime.release(&removed).await {
            tracing::warn!(image = name_of(image), %error, "the space of this image is given back later");
        }
        Ok(None)
    }

    /// What began to use an image since the plan was made. What cannot be seen counts as a use.
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

/// A container that was being created through the whole of a removal is seen only afterwards. It runs on, and it is told; a
/// container of a pod cannot be overlooked so, since its pod is bound to the node before.
fn lost(gone: &[Image], seen: &Seen) -> Vec<String> {
    let uses = uses(&seen.containers, &Pods::NoCluster);
    let here = |id: &str| seen.images.iter().any(|image| image.id == id);
    gone.iter().filter(|image| !here(&image.id) && uses.of(image).is_some()).map(name_of).collect()
}

/// What an image is called for people: a tag, else a digest, else its id.
pub fn name_of(image: &Image) -> String {
    image.tags.first().or(image.digests.first()).unwrap_or(&image.id).clone()
}
