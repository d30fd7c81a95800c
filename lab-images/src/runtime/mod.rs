//! Container runtimes: one trait, [`Runtime`], with two adapters, CRI v1 (containerd, k3s, CRI-O) and the Docker
//! engine.
//!
//! [`connect`] opens a [`RuntimeEndpoint`]; [`discover`] tries the usual ones. An adapter only observes and acts.
//! Decisions are separate and pure: [`liveness`] (does a pull make progress), [`disk`] (does it fit), [`rate`] (how
//! fast, how long). [`pull()`] runs one pull with all of them and reports its [`Progress`].

mod content;
mod cri;
pub mod disk;
mod docker;
mod docker_transfer;
mod endpoint;
mod error;
mod file_system;
mod leases;
pub mod liveness;
mod pull;
pub mod rate;
mod removal;
mod unpacked;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use sidecar::secret::Secret;
use tokio::sync::watch;

pub use endpoint::RuntimeEndpoint;
pub use error::RuntimeError;
pub use file_system::FileSystem;
pub use liveness::{Moved, PullLimits};
pub use pull::{ArrivedDigest, Phase, Progress, PullError, Pulled, pull};

use crate::reference::{Digest, Reference};

/// The time limit for the first answer of a runtime.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The time limit of a call other than a pull. Removing a large image takes minutes on a slow disk.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// The list of a node with many images exceeds gRPC's usual limit of 4 MiB.
const MOST_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How often the progress is checked: often enough for a progress bar, and seldom enough to cost little.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The version that a runtime reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// `containerd`, `cri-o`, `docker`.
    pub name: String,
    /// As the runtime writes it.
    pub version: String,
}

/// One image on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of the image's configuration (`sha256:…`).
    pub id: String,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// Names with a digest (`repository@sha256:…`).
    pub digests: Vec<String>,
    /// In bytes: compressed on containerd, unpacked on Docker. The sum is not what a removal frees.
    pub size: u64,
    /// Whether the runtime asks never to remove it (CRI only).
    pub pinned: bool,
}

/// The images of one container. Every name counts: an image is in use if any of them is its id, a tag or a digest of
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImages {
    /// The container's id, or `sandbox` for the sandbox image.
    pub container: String,
    /// Ids, tags and digests of its image and of its image volumes, as the runtime shows them.
    pub images: BTreeSet<String>,
}

/// A layer of an image as its manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the compressed blob.
    pub digest: Digest,
    /// In compressed bytes.
    pub size: u64,
}

/// What a removal took, as far as the runtime can restore it.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    held: Option<removal::Held>,
}

impl Removed {
    /// Whether it can be undone.
    pub fn can_be_undone(&self) -> bool {
        self.held.is_some()
    }
}

/// The credentials that a runtime sends to the registry. Never printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullCredentials {
    /// A name and a password or token.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An identity token, which the runtime exchanges for a registry token.
    IdentityToken(Secret),
}

/// One image to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Pulled by its digest if it has one, else by its tag, because CRI cannot add a tag later.
    pub reference: Reference,
    /// The tag's digest according to the catalogue. A digest in the reference takes precedence.
    pub expected: Option<Digest>,
    /// The layers for this platform. Without them a CRI runtime shows no bytes.
    pub layers: Vec<Layer>,
    /// The credentials, for a registry that asks for them.
    pub credentials: Option<PullCredentials>,
}

impl PullRequest {
    /// The name that the runtime is asked for, and keeps. A tag beside a digest is only a comment, as in kubelet,
    /// containerd and Docker: it may have moved, or be gone.
    pub fn name(&self) -> String {
        self.reference.decisive().to_string()
    }

    /// The digest that has to arrive, if it is known.
    pub fn digest(&self) -> Option<&Digest> {
        self.reference.digest.as_ref().or(self.expected.as_ref())
    }
}

/// The progress of one missing layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// The layer's digest, or Docker's short form of it.
    pub layer: String,
    /// Compressed bytes downloaded.
    pub done: u64,
    /// Compressed bytes in total, once known.
    pub total: Option<u64>,
    /// Compressed bytes unpacked; always 0 if the runtime does not show it (CRI).
    pub unpacked: u64,
}

/// The download of a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Nothing is known (yet).
    #[default]
    Unseen,
    /// The layers to download.
    Layers {
        /// The layers that were missing at the start of the pull.
        layers: Vec<LayerProgress>,
        /// Whether the registry has something to send now. If not, the outstanding content may exist in another form: a
        /// snapshot, or something that a lazy snapshotter loads on use.
        fetching: bool,
    },
}

impl Transfer {
    /// The sums over all layers.
    pub fn moved(&self) -> Option<Moved> {
        let Self::Layers { layers, fetching } = self else { return None };
        let sum = |bytes: fn(&LayerProgress) -> u64| layers.iter().map(bytes).fold(0, u64::saturating_add);
        Some(Moved {
            done: sum(|layer| layer.done),
            total: sum(|layer| layer.total.unwrap_or(layer.done)),
            open: layers.iter().any(|layer| layer.total.is_none()),
            unpacked: sum(|layer| layer.unpacked),
            fetching: *fetching,
        })
    }
}

/// A container runtime on this machine. Calls have time limits, except `pull`, whose end [`pull()`] decides. After a
/// restart of the runtime, calls connect again. Dropping a call's future cancels it.
pub trait Runtime: Debug + Send + Sync {
    /// The runtime's name and version.
    fn version(&self) -> BoxFuture<'_, Result<RuntimeVersion, RuntimeError>>;

    /// All images.
    fn images(&self) -> BoxFuture<'_, Result<Vec<Image>, RuntimeError>>;

    /// The image that a name (tag, digest or id) refers to now, if it exists.
    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, RuntimeError>>;

    /// The images of all containers, in every state (created, running, paused, exited).
    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerImages>, RuntimeError>>;

    /// Measures the file system of images.
    fn file_system(&self) -> BoxFuture<'_, Result<FileSystem, RuntimeError>>;

    /// Which of these layers, in the order of their manifest, need no download, because the runtime has them compressed
    /// or unpacked; `None` if the runtime cannot show it beforehand (Docker, CRI-O).
    fn present_layers<'a>(
        &'a self,
        layers: &'a [Layer],
    ) -> BoxFuture<'a, Result<Option<HashSet<Digest>>, RuntimeError>>;

    /// Pulls and unpacks, and reports the progress. [`pull()`] adds limits, phases and the digest check.
    fn pull<'a>(
        &'a self,
        request: &'a PullRequest,
        transfer: &'a watch::Sender<Transfer>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Removes an image with all its names: CRI in one call, Docker name by name and never by force. A missing image
    /// is not an error. On containerd its content is kept until [`Runtime::release`].
    ///
    /// # Errors
    /// [`RuntimeError::InUse`] if the runtime detects it (Docker, CRI-O). **containerd removes an image that a
    /// container uses**: check [`Runtime::containers`] before, and again before the release.
    fn remove<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Removed, RuntimeError>>;

    /// Undoes a removal, for an image that something began to use during it; `false` if the runtime cannot.
    fn restore<'a>(&'a self, _image: &'a Image, _removed: &'a Removed) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        Box::pin(async { Ok(false) })
    }

    /// Makes a removal final. Returns when the content is gone. Without this call, it becomes final after ten minutes.
    fn release<'a>(&'a self, _removed: &'a Removed) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A runtime that answers, and its endpoint.
pub type Opened = (RuntimeEndpoint, Arc<dyn Runtime>);

/// Opens the configured runtime, or the only usual one that answers.
///
/// # Errors
/// As [`connect`] and [`discover`].
pub async fn open(endpoint: Option<&RuntimeEndpoint>) -> Result<Opened, RuntimeError> {
    match endpoint {
        Some(endpoint) => Ok((endpoint.clone(), connect(endpoint).await?)),
        None => discover(&RuntimeEndpoint::usual()).await,
    }
}

/// Opens a runtime and asks for its version, within ten seconds.
///
/// # Errors
/// A socket that is missing, a folder, not a socket, not permitted or of another protocol, each with what to do.
pub async fn connect(endpoint: &RuntimeEndpoint) -> Result<Arc<dyn Runtime>, RuntimeError> {
    Ok(match endpoint {
        RuntimeEndpoint::Cri(path) => Arc::new(cri::Cri::connect(path).await?),
        RuntimeEndpoint::Docker(path) => Arc::new(docker::DockerEngine::connect(path).await?),
    })
}

/// Opens the only runtime that answers; pass [`RuntimeEndpoint::usual`] if none is configured.
///
/// # Errors
/// If none answers: each that was tried, with the reason. If several answer: all of them, because it cannot be guessed
/// which one runs the labs. If one answers and another accepts the call but stays silent: the silent one.
pub async fn discover(candidates: &[RuntimeEndpoint]) -> Result<Opened, RuntimeError> {
    let mut sockets = HashSet::new();
    let each_once = candidates.iter().filter(|endpoint| endpoint.socket().is_none_or(|socket| sockets.insert(socket)));
    let asked: Vec<&RuntimeEndpoint> = each_once.collect();
    let answers = join_all(asked.iter().map(|endpoint| connect(endpoint))).await;
    let mut found: Vec<Opened> = Vec::new();
    let (mut silent, mut tried) = (None, Vec::new());
    for (&endpoint, answer) in asked.iter().zip(answers) {
        match answer {
            Ok(_) if found.iter().any(|(other, _)| other.shares_images_with(endpoint)) => {}
            Ok(runtime) => found.push((endpoint.clone(), runtime)),
            Err(error) => {
                tried.push(format!("{endpoint}: {error}"));
                if let RuntimeError::NoAnswer { .. } = error {
                    silent = Some((endpoint, error));
                }
            }
        }
    }
    if found.len() > 1 {
        return Err(RuntimeError::SeveralFound { found: found.into_iter().map(|(endpoint, _)| endpoint).collect() });
    }
    match (found.pop(), silent) {
        // The silent one may be the right one.
        (Some((one, _)), Some((endpoint, error))) if !one.shares_images_with(endpoint) => Err(error),
        (Some(found), _) => Ok(found),
        (None, _) => Err(RuntimeError::NoneFound { tried }),
    }
}
