//! The adapter for CRI v1 over gRPC on a unix socket.

mod convert;
mod pull;

use std::collections::HashSet;
use std::error::Error as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use self::convert::{names_in_spec, sandbox_image_in, spec};
use super::content::Content;
use super::endpoint::check_socket;
use super::error::{innermost, means_in_use};
use super::leases::Leases;
use super::removal::Records;
use super::{
    CALL_LIMIT, ContainerImages, FIRST_ANSWER, FileSystem, Image, LOOK_INTERVAL, Layer, MOST_MESSAGE_BYTES,
    PullRequest, Removed, Runtime, RuntimeError, RuntimeVersion, Transfer,
};
use crate::reference::Digest;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod api {
    tonic::include_proto!("runtime.v1");
}

use api::image_service_client::ImageServiceClient;
use api::runtime_service_client::RuntimeServiceClient;

/// The most concurrent calls when each container is asked for its mounts.
const CONCURRENT_CALLS: usize = 8;

/// A runtime that speaks CRI v1.
#[derive(Clone, Debug)]
pub(super) struct Cri {
    path: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    content: Content,
    leases: Leases,
    records: Records,
}

impl Cri {
    /// Connects and asks for the version.
    pub(super) async fn connect(path: &Path) -> Result<Self, RuntimeError> {
        check_socket(path).await?;
        // The channel opens the path again for each connection, because a restarted runtime has another socket.
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).map_err(|error| {
            RuntimeError::Call { path: path.to_owned(), operation: "connect", message: innermost(&error) }
        })?;
        let channel = endpoint.connect_lazy();
        let leases = Leases::new(channel.clone());
        let cri = Self {
            path: path.to_owned(),
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MOST_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MOST_MESSAGE_BYTES),
            content: Content::new(channel.clone()),
            records: Records::new(channel, leases.clone()),
            leases,
        };
        cri.ask_version(FIRST_ANSWER).await?;
        Ok(cri)
    }

    async fn ask_version(&self, limit: Duration) -> Result<RuntimeVersion, RuntimeError> {
        let mut client = self.runtime.clone();
        let request = api::VersionRequest { version: "v1".into() };
        let answer = self.call("Version", limit, client.version(request)).await?;
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// Makes one call with a time limit, and explains its error.
    async fn call<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RuntimeError> {
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(operation, &status).await),
            Err(_) => Err(RuntimeError::NoAnswer { path: self.path.clone(), operation, limit }),
        }
    }

    async fn explain(&self, operation: &'static str, status: &Status) -> RuntimeError {
        let path = self.path.clone();
        let protocol = |reason, hint| RuntimeError::Protocol { path: path.clone(), protocol: "CRI v1", reason, hint };
        if status.code() == Code::Unimplemented {
            let reason = format!("it does not implement {operation}");
            return protocol(
                reason,
                "enable its CRI plugin (containerd: disabled_plugins in config.toml) or upgrade it",
            );
        }
        // Only an error from this side of the socket has a source.
        if let Some(reason) = status.source().map(innermost) {
            if let Err(error) = check_socket(&self.path).await {
                return error;
            }
            if operation == "Version" {
                return protocol(reason, "for the Docker engine, write docker:// instead of unix://");
            }
            return RuntimeError::Call { path, operation, message: format!("the connection broke: {reason}") };
        }
        RuntimeError::Call { path, operation, message: status.message().to_owned() }
    }

    /// What a container uses besides its image. A container that is gone uses nothing.
    async fn image_volumes(&self, container: &str) -> Result<Vec<String>, RuntimeError> {
        let mut client = self.runtime.clone();
        let request = api::ContainerStatusRequest { container_id: container.to_owned() };
        let answer = self.call("ContainerStatus", CALL_LIMIT, async {
            match client.container_status(request).await {
                Err(status) if status.code() == Code::NotFound => Ok(Response::new(Default::default())),
                other => other,
            }
        });
        let mounts = answer.await?.status.map(|status| status.mounts).unwrap_or_default();
        Ok(mounts.into_iter().filter_map(|mount| mount.image).flat_map(names_in_spec).collect())
    }

    /// The sandbox image, which is not listed as used, and which containerd 1.6 does not pin.
    async fn sandbox_image(&self) -> Result<Option<ContainerImages>, RuntimeError> {
        let mut client = self.runtime.clone();
        let answer = self.call("Status", CALL_LIMIT, client.status(api::StatusRequest { verbose: true })).await?;
        Ok(answer.info.get("config").and_then(|config| sandbox_image_in(config)))
    }

    /// A call to containerd's own services on the same socket.
    async fn containerd<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, RuntimeError> {
        self.call(operation, CALL_LIMIT, async { call.await.map(Response::new) }).await
    }

    async fn remove_image(&self, image: &Image) -> Result<(), RuntimeError> {
        let mut client = self.images.clone();
        let request = api::RemoveImageRequest { image: Some(spec(&image.id)) };
        let answer = self.call("RemoveImage", CALL_LIMIT, async {
            match client.remove_image(request).await {
                Err(status) if status.code() == Code::NotFound => Ok(Response::new(Default::default())),
                other => other,
            }
        });
        match answer.await {
            // There is no status code for this.
            Err(RuntimeError::Call { message, .. }) if means_in_use(&message) => {
                Err(RuntimeError::InUse { image: image.id.clone(), message })
            }
            other => other.map(drop),
        }
    }

    /// Waits until CRI lists an image that was restored in containerd's records.
    async fn until_seen(&self, image: &Image) -> Result<(), RuntimeError> {
        let seen = async {
            while self.image(&image.id).await?.is_none() {
                sleep(LOOK_INTERVAL / 5).await;
            }
            Ok(())
        };
        let (path, operation, limit) = (self.path.clone(), "Images.Create", FIRST_ANSWER);
        timeout(limit, seen).await.map_err(|_| RuntimeError::NoAnswer { path, operation, limit })?
    }
}

impl Runtime for Cri {
    fn version(&self) -> BoxFuture<'_, Result<RuntimeVersion, RuntimeError>> {
        Box::pin(self.ask_version(CALL_LIMIT))
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<Image>, RuntimeError>> {
        Box::pin(async {
            let mut client = self.images.clone();
            let answer = self.call("ListImages", CALL_LIMIT, client.list_images(api::ListImagesRequest {})).await?;
            Ok(answer.images.into_iter().map(Image::from).collect())
        })
    }

    fn image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Image>, RuntimeError>> {
        Box::pin(async move {
            let mut client = self.images.clone();
            let request = api::ImageStatusRequest { image: Some(spec(name)) };
            let answer = self.call("ImageStatus", CALL_LIMIT, client.image_status(request)).await?;
            Ok(answer.image.map(Image::from))
        })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerImages>, RuntimeError>> {
        Box::pin(async {
            let mut client = self.runtime.clone();
            let call = client.list_containers(api::ListContainersRequest {});
            let answer = self.call("ListContainers", CALL_LIMIT, call).await?;
            let mut containers: Vec<_> = stream::iter(answer.containers)
                .map(|container| async {
                    let volumes = self.image_volumes(&container.id).await?;
                    let mut uses = ContainerImages::from(container);
                    uses.images.extend(volumes);
                    Ok(uses)
                })
                .buffered(CONCURRENT_CALLS)
                .try_collect()
                .await?;
            containers.extend(self.sandbox_image().await?);
            Ok(containers)
        })
    }

    fn file_system(&self) -> BoxFuture<'_, Result<FileSystem, RuntimeError>> {
        Box::pin(async {
            let mut client = self.images.clone();
            let call = client.image_fs_info(api::ImageFsInfoRequest {});
            let answer = self.call("ImageFsInfo", CALL_LIMIT, call).await?;
            let folder = answer.image_filesystems.into_iter().find_map(|usage| usage.fs_id).ok_or_else(|| {
                let message = "it does not report the file system of images".to_owned();
                RuntimeError::Call { path: self.path.clone(), operation: "ImageFsInfo", message }
            })?;
            FileSystem::measure(Path::new(&folder.mountpoint)).await
        })
    }

    fn present_layers<'a>(
        &'a self,
        layers: &'a [Layer],
    ) -> BoxFuture<'a, Result<Option<HashSet<Digest>>, RuntimeError>> {
        Box::pin(async move {
            match timeout(CALL_LIMIT, self.needless(layers)).await {
                Ok(Ok(present)) => Ok(Some(present)),
                Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(None),
                Ok(Err(status)) => Err(self.explain("Content.Info", &status).await),
                Err(_) => Err(RuntimeError::NoAnswer {
                    path: self.path.clone(),
                    operation: "Content.Info",
                    limit: CALL_LIMIT,
                }),
            }
        })
    }

    fn pull<'a>(
        &'a self,
        request: &'a PullRequest,
        transfer: &'a watch::Sender<Transfer>,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(self.pull_watched(request, transfer))
    }

    fn remove<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<Removed, RuntimeError>> {
        Box::pin(async move {
            let held = self.containerd("Images.List", self.records.hold(image)).await?;
            match (self.remove_image(image).await, held) {
                (Ok(()), held) => Ok(Removed { held }),
                (Err(error), Some(held)) => {
                    // If this call was interrupted, the bare record that it leaves is found later. A remaining lease
                    // expires.
                    let _ = self.containerd("Leases.Delete", self.records.release(&held)).await;
                    Err(error)
                }
                (Err(error), None) => Err(error),
            }
        })
    }

    fn restore<'a>(&'a self, image: &'a Image, removed: &'a Removed) -> BoxFuture<'a, Result<bool, RuntimeError>> {
        Box::pin(async move {
            let Some(held) = &removed.held else { return Ok(false) };
            self.containerd("Images.Create", self.records.restore(held)).await?;
            self.until_seen(image).await?;
            self.containerd("Leases.Delete", self.records.release(held)).await?;
            Ok(true)
        })
    }

    fn release<'a>(&'a self, removed: &'a Removed) -> BoxFuture<'a, Result<(), RuntimeError>> {
        Box::pin(async move {
            match &removed.held {
                Some(held) => self.containerd("Leases.Delete", self.records.release(held)).await,
                None => Ok(()),
            }
        })
    }
}
