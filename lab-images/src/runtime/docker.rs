//! The adapter for the Docker engine's API on its unix socket (Moby Engine API, version negotiated).

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, ImageInspect, ImageSummary};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, pin_mut};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::docker_transfer::DockerTransfer;
use super::endpoint::check_socket;
use super::error::{innermost, means_in_use};
use super::{
    CALL_LIMIT, ContainerImages, FIRST_ANSWER, FileSystem, Image, LOOK_INTERVAL, Layer, PullCredentials, PullRequest,
    Removed, Runtime, RuntimeError, RuntimeVersion, Transfer,
};
use crate::reference::Digest;

/// The client requires a time limit for the first byte of every answer. Pulls are limited by their progress instead.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The Docker engine.
#[derive(Clone, Debug)]
pub(super) struct DockerEngine {
    path: PathBuf,
    client: Docker,
}

impl DockerEngine {
    /// Connects and negotiates the version of the API. Every call opens the socket again, so a restart of the engine
    /// does no harm.
    pub(super) async fn connect(path: &Path) -> Result<Self, RuntimeError> {
        check_socket(path).await?;
        let protocol = |error: &Error| RuntimeError::Protocol {
            path: path.to_owned(),
            protocol: "the Docker engine's API",
            reason: innermost(error),
            hint: "for containerd or CRI-O, write unix:// instead of docker://",
        };
        let address = path.to_string_lossy();
        let client = Docker::connect_with_unix(&address, CALL_LIMIT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| protocol(&error))?;
        let client = timeout(FIRST_ANSWER, client.negotiate_version()).await.map_err(|_| RuntimeError::NoAnswer {
            path: path.to_owned(),
            operation: "version",
            limit: FIRST_ANSWER,
        })?;
        Ok(Self { path: path.to_owned(), client: client.map_err(|error| protocol(&error))? })
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RuntimeError> {
        match timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(operation, error).await),
            Err(_) => Err(RuntimeError::NoAnswer { path: self.path.clone(), operation, limit: CALL_LIMIT }),
        }
    }

    async fn explain(&self, operation: &'static str, error: Error) -> RuntimeError {
        let path = self.path.clone();
        match error {
            Error::DockerResponseServerError { message, .. } => RuntimeError::Call { path, operation, message },
            other => match check_socket(&self.path).await {
                Err(error) => error,
                Ok(()) => RuntimeError::Call { path, operation, message: innermost(&other) },
            },
        }
    }

    /// Removes one name. The image is removed with its last name. A name that is gone is fine.
    async fn untag(&self, name: &str) -> Result<(), RuntimeError> {
        let options = RemoveImageOptionsBuilder::default().force(false).build();
        let removed = self.call("image removal", async {
            match self.client.remove_image(name, Some(options), None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(Error::DockerResponseServerError { status_code, message })
                    if status_code == 409 || means_in_use(&message) =>
                {
                    Ok(Some(message))
                }
                other => other.map(|_| None),
            }
        });
        match removed.await? {
            Some(message) => Err(RuntimeError::InUse { image: name.to_owned(), message }),
            None => Ok(()),
        }
    }

    async fn tag_again(&self, id: &str, tags: impl Iterator<Item = &String>) -> Result<(), RuntimeError> {
        for (repository, tag) in tags.filter_map(|name| name.rsplit_once(':')) {
            let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
            self.call("image tag", self.client.tag_image(id, Some(options))).await?;
        }
        Ok(())
    }
}

impl Runtime for DockerEngine {
    fn version(&self) -> BoxFuture<'_, Result<RuntimeVersion, RuntimeError>> {
        Box::pin(async {
            let version = self.call("version", self.client.version()).await?;
            Ok(RuntimeVersion { name: "docker".into(), version: version.version.unwrap_or_default() })
        })
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<Image>, RuntimeError>> {
        Box::pin(async {
            let options = ListImagesOptionsBuilder::default().all(false).build();
            let images = self.call("image list", self.client.list_images(Some(options))).await?;
            Ok(images.into_iter().map(Image::from).collect())
        })
    }

    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, RuntimeError>> {
        Box::pin(async move {
            let inspected = self.call("image inspection", async {
                match self.client.inspect_image(name).await {
                    Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                    other => other.map(Some),
                }
            });
            Ok(inspected.await?.map(Image::from))
        })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerImages>, RuntimeError>> {
        Box::pin(async {
            let options = ListContainersOptionsBuilder::default().all(true).build();
            let containers = self.call("container list", self.client.list_containers(Some(options))).await?;
            Ok(containers.into_iter().map(ContainerImages::from).collect())
        })
    }

    fn file_system(&self) -> BoxFuture<'_, Result<FileSystem, RuntimeError>> {
        Box::pin(async {
            let info = self.call("info", self.client.info()).await?;
            let root = info.docker_root_dir.ok_or_else(|| {
                let message = "it does not report its root folder".to_owned();
                RuntimeError::Call { path: self.path.clone(), operation: "info", message }
            })?;
            FileSystem::measure(Path::new(&root)).await
        })
    }

    fn present_layers<'a>(
        &'a self,
        _layers: &'a [Layer],
    ) -> BoxFuture<'a, Result<Option<HashSet<Digest>>, RuntimeError>> {
        // The engine keeps no compressed layers, and reports "Already exists" only during a pull.
        Box::pin(async { Ok(None) })
    }

    fn pull<'a>(
        &'a self,
        request: &'a PullRequest,
        transfer: &'a watch::Sender<Transfer>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            let reference = request.name();
            let options = CreateImageOptionsBuilder::default().from_image(&reference).build();
            let credentials = request.credentials.as_ref().map(credentials);
            let client = self.client.clone().with_timeout(NO_LIMIT);
            let messages = client.create_image(Some(options), None, credentials);
            pin_mut!(messages);
            let mut moved = DockerTransfer::new(&request.layers);
            let mut last_sent: Option<Instant> = None;
            while let Some(message) = messages.next().await {
                let message = match message {
                    Ok(message) => message,
                    Err(
                        Error::DockerStreamError { error } | Error::DockerResponseServerError { message: error, .. },
                    ) => {
                        return Err(RuntimeError::Pull { reference, message: error });
                    }
                    Err(error) => return Err(self.explain("pull", error).await),
                };
                // The engine sends a message for every half percent of every layer.
                if moved.take(&message) && last_sent.is_none_or(|sent| sent.elapsed() >= LOOK_INTERVAL / 5) {
                    transfer.send_replace(moved.transfer());
                    last_sent = Some(Instant::now());
                }
            }
            transfer.send_replace(moved.transfer());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Removed, RuntimeError>> {
        Box::pin(async move {
            if image.tags.is_empty() && image.digests.is_empty() {
                self.untag(&image.id).await?;
                return Ok(Removed::default());
            }
            // A repository's digest names are removed with its last tag, so most of these are gone when it is their
            // turn. The image is never removed by id, because that would remove a name that was added meanwhile.
            for (taken, name) in image.tags.iter().chain(&image.digests).enumerate() {
                if let Err(error) = self.untag(name).await {
                    // The engine checks containers only before it removes the last name.
                    if let RuntimeError::InUse { .. } = error {
                        self.tag_again(&image.id, image.tags.iter().take(taken)).await?;
                    }
                    return Err(error);
                }
            }
            Ok(Removed::default())
        })
    }
}

/// The engine uses a placeholder for "no name".
fn named(names: impl IntoIterator<Item = String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.starts_with("<none>")).collect()
}

impl From<ImageSummary> for Image {
    fn from(image: ImageSummary) -> Self {
        Self {
            id: image.id,
            tags: named(image.repo_tags),
            digests: named(image.repo_digests),
            size: u64::try_from(image.size).unwrap_or(0),
            pinned: false,
        }
    }
}

impl From<ImageInspect> for Image {
    fn from(image: ImageInspect) -> Self {
        Self {
            id: image.id.unwrap_or_default(),
            tags: named(image.repo_tags.unwrap_or_default()),
            digests: named(image.repo_digests.unwrap_or_default()),
            size: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            pinned: false,
        }
    }
}

impl From<ContainerSummary> for ContainerImages {
    fn from(container: ContainerSummary) -> Self {
        let mounts = container.mounts.unwrap_or_default().into_iter();
        let volumes =
            mounts.filter(|mount| mount.typ.as_deref() == Some("image")).flat_map(|mount| [mount.name, mount.source]);
        let names = volumes.chain([container.image, container.image_id]).flatten();
        Self {
            container: container.id.unwrap_or_default(),
            images: names.filter(|name| !name.is_empty()).collect::<BTreeSet<_>>(),
        }
    }
}

fn credentials(credentials: &PullCredentials) -> DockerCredentials {
    match credentials {
        PullCredentials::Basic { username, password } => DockerCredentials {
            username: Some(username.clone()),
            password: Some(password.expose().to_owned()),
            ..Default::default()
        },
        PullCredentials::IdentityToken(token) => {
            DockerCredentials { identitytoken: Some(token.expose().to_owned()), ..Default::default() }
        }
    }
}
