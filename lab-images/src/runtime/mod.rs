//! Container runtimes: one trait, [`Runtime`], with two adapters, CRI v1 (containerd, k3s, CRI-O) and the Docker engine.
//!
//! [`connect`] opens a [`RuntimeEndpoint`]; [`discover`] tries the usual ones. An adapter only sees and acts; what to decide is
//! pure and apart: [`liveness`] (does a pull still move), [`disk`] (does it fit), [`rate`] (how fast, how long). [`pull()`]
//! drives one pull with all of it and tells its [`Progress`].

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

/// A runtime that listens answers its first call within this, or it is not usable.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A call other than a pull may take this long; removing a large image does take minutes on a slow disk.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// The list of a node with many images is larger than gRPC's usual 4 MiB.
const MOST_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How often progress is looked at: often enough for a bar, too seldom to cost anything.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a runtime says it is.
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
    /// In bytes; compressed on containerd, unpacked on Docker: never sum it to know what a removal frees.
    pub size: u64,
    /// The runtime asks never to remove it (CRI only).
    pub pinned: bool,
}

/// What one container uses. Every name counts: an image is in use when any of them is its id, a tag or a digest of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImages {
    /// The container's id, or `sandbox` for the image that the runtime starts pods with.
    pub container: String,
    /// Ids, tags and digests, as the runtime gives them, of its image and of its image volumes.
    pub images: BTreeSet<String>,
}

/// A layer of an image as its manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Of the compressed blob.
    pub digest: Digest,
    /// In compressed bytes.
    pub size: u64,
}

/// What a removal took, as far as the runtime can put it back.
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

/// What a runtime shows to the registry. Never printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullCredentials {
    /// A name and a password or token.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An identity token, exchanged by the runtime for one of the registry's.
    IdentityToken(Secret),
}

/// One image to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Pulled by its digest where it has one, else by its tag: CRI cannot give a tag later.
    pub reference: Reference,
    /// What the catalogue says the tag points at; the digest of the reference counts before it.
    pub expected: Option<Digest>,
    /// The layers for this platform; without them a CRI runtime shows no bytes.
    pub layers: Vec<Layer>,
    /// For a registry that asks for them.
    pub credentials: Option<PullCredentials>,
}

impl PullRequest {
    /// The name that the runtime is asked for, and keeps. A tag beside a digest only says what the digest is called, as for
    /// kubelet, containerd and Docker: it may have moved, or be gone.
    pub fn name(&self) -> String {
        self.reference.decisive().to_string()
    }

    /// The digest that has to arrive, where one is known.
    pub fn digest(&self) -> Option<&Digest> {
        self.reference.digest.as_ref().or(self.expected.as_ref())
    }
}

/// How far one missing layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    /// The layer's digest, or Docker's short form of it.
    pub layer: String,
    /// Compressed bytes that arrived.
    pub done: u64,
    /// Compressed bytes in all, once known.
    pub total: Option<u64>,
    /// Compressed bytes that were unpacked; always 0 where the runtime does not tell (CRI).
    pub unpacked: u64,
}

/// What a pull moves over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Nothing can be told (yet).
    #[default]
    Unseen,
    /// What the pull has to fetch.
    Layers {
        /// The layers that were missing when the pull began.
        layers: Vec<LayerProgress>,
        /// Whether the registry has something to send now. Where it has not, what is outstanding may be there in another form:
        /// a snapshot, or what a lazy snapshotter fetches when it is used.
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

/// A container runtime on this machine. Calls are bounded in time, except `pull`, whose end [`pull()`] judges; a runtime that
/// was restarted in between is connected to again. Dropping a call's future cancels it.
pub trait Runtime: Debug + Send + Sync {
    /// Which runtime it is.
    fn version(&self) -> BoxFuture<'_, Result<RuntimeVersion, RuntimeError>>;

    /// All images.
    fn images(&self) -> BoxFuture<'_, Result<Vec<Image>, RuntimeError>>;

    /// The image that a name (tag, digest or id) stands for now, if it is here.
    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, RuntimeError>>;

    /// What all containers use, in every state (created, running, paused, exited).
    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerImages>, RuntimeError>>;

    /// The file system of images, measured now.
    fn file_system(&self) -> BoxFuture<'_, Result<FileSystem, RuntimeError>>;

    /// Which of these layers, in the order of their manifest, need no download: the runtime has them as they come, or unpacked; `None` when the runtime cannot tell beforehand (Docker, CRI-O).
    fn present_layers<'a>(
        &'a self,
        layers: &'a [Layer],
    ) -> BoxFuture<'a, Result<Option<HashSet<Digest>>, RuntimeError>>;

    /// Pulls and unpacks, telling what moves. [`pull()`] adds what a caller wants: limits, phases, the digest check.
    fn pull<'a>(
        &'a self,
        request: &'a PullRequest,
        transfer: &'a watch::Sender<Transfer>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Removes an image with all its names: CRI in one call, Docker name by name and never by force. An image that is not
    /// here (any more) is fine. On containerd its bytes are held until [`Runtime::release`].
    ///
    /// # Errors
    /// [`RuntimeError::InUse`] where the runtime knows (Docker, CRI-O). **containerd removes an image that a container uses**:
    /// look at [`Runtime::containers`] first, and once more before letting go.
    fn remove<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Removed, RuntimeError>>;

    /// Undoes a removal, for an image that something began to use in its instant; `false` where the runtime cannot.
    fn restore<'a>(&'a self, _image: &'a Image, _removed: &'a Removed) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        Box::pin(async { Ok(false) })
    }

    /// Makes a removal final; answers when the bytes are gone. One that is never made final becomes so after ten minutes.
    fn release<'a>(&'a self, _removed: &'a Removed) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A runtime that answers, and where.
pub type Opened = (RuntimeEndpoint, Arc<dyn Runtime>);

/// Opens the runtime that is set, or the only usual one that answers.
///
/// # Errors
/// As [`connect`] and [`discover`] have them.
pub async fn open(endpoint: Option<&RuntimeEndpoint>) -> Result<Opened, RuntimeError> {
    match endpoint {
        Some(endpoint) => Ok((endpoint.clone(), connect(endpoint).await?)),
        None => discover(&RuntimeEndpoint::usual()).await,
    }
}

/// Opens a runtime and asks for its version, within ten seconds.
///
/// # Errors
/// A socket that is absent, a folder, not a socket, not permitted or not speaking the endpoint's protocol, each with what to do.
pub async fn connect(endpoint: &RuntimeEndpoint) -> Result<Arc<dyn Runtime>, RuntimeError> {
    Ok(match endpoint {
        RuntimeEndpoint::Cri(path) => Arc::new(cri::Cri::connect(path).await?),
        RuntimeEndpoint::Docker(path) => Arc::new(docker::DockerEngine::connect(path).await?),
    })
}

/// Opens the one runtime that answers; give it [`RuntimeEndpoint::usual`] when none is set.
///
/// # Errors
/// When none answers: each that was tried, with the reason. When several answer, those: which of them runs the labs is not to be
/// guessed. When one answers and another takes the call and says nothing, that one.
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
        // The one that says nothing now may be the one that is meant.
        (Some((one, _)), Some((endpoint, error))) if !one.shares_images_with(endpoint) => Err(error),
        (Some(found), _) => Ok(found),
        (None, _) => Err(RuntimeError::NoneFound { tried }),
    }
}
