//! A pull through CRI, watched in containerd's content store while it runs.

use std::collections::HashSet;
use std::error::Error as _;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Status;

use super::convert::{auth, spec};
use super::{Cri, api};
use crate::reference::Digest;
use crate::runtime::content::{ContentWatch, in_namespace};
use crate::runtime::{CALL_LIMIT, FIRST_ANSWER, LOOK_INTERVAL, Layer, PullRequest, RuntimeError, Transfer, unpacked};

impl Cri {
    /// Pulls, and reports the progress through `transfer`.
    pub(super) async fn pull_watched(
        &self,
        request: &PullRequest,
        transfer: &watch::Sender<Transfer>,
    ) -> Result<(), RuntimeError> {
        let mut watched = self.watch(request).await;
        let pulled = self.pull_image(request);
        tokio::pin!(pulled);
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut pulled => break result?,
                _ = looks.tick() => {}
            }
            if let Some(watched) = &mut watched {
                tokio::select! {
                    result = &mut pulled => break result?,
                    // A failed look is ignored; the pull itself fails if the runtime is gone.
                    _ = timeout(CALL_LIMIT, watched.look()) => {}
                }
                transfer.send_replace(watched.transfer());
            }
        }
        if let Some(watched) = &mut watched {
            let _ = timeout(FIRST_ANSWER, watched.settle()).await;
            transfer.send_replace(watched.transfer());
        }
        // Not earlier, because some runtimes then drop unpacked layers. A remaining lease does no harm: it refers to
        // the same content as the image, and expires.
        let _ = timeout(CALL_LIMIT, self.leases.end(&request.name())).await;
        Ok(())
    }

    async fn pull_image(&self, request: &PullRequest) -> Result<(), RuntimeError> {
        let reference = request.name();
        let auth = request.credentials.as_ref().map(auth);
        let mut call = in_namespace(api::PullImageRequest { image: Some(spec(&reference)), auth });
        // A runtime without leases (CRI-O) has its own rules.
        let lease = timeout(CALL_LIMIT, self.leases.take(&reference)).await;
        if let Some(lease) = lease.ok().and_then(Result::ok).and_then(|lease| lease.parse().ok()) {
            call.metadata_mut().insert("containerd-lease", lease);
        }
        match self.images.clone().pull_image(call).await {
            Ok(_) => Ok(()),
            Err(status) if status.source().is_some() => Err(self.explain("PullImage", &status).await),
            Err(status) => Err(RuntimeError::Pull { reference, message: status.message().to_owned() }),
        }
    }

    /// A watch of what the pull downloads from here on; `None` if the runtime cannot show it.
    async fn watch(&self, request: &PullRequest) -> Option<ContentWatch> {
        if request.layers.is_empty() {
            return None;
        }
        let needless = timeout(FIRST_ANSWER, self.needless(&request.layers)).await.ok()?.ok()?;
        Some(self.content.watch(&request.layers, needless, request.digest()))
    }

    /// The layers that need no download.
    pub(super) async fn needless(&self, layers: &[Layer]) -> Result<HashSet<Digest>, Status> {
        let mut present = self.content.present(layers).await?;
        if layers.iter().any(|layer| !present.contains(&layer.digest)) {
            let snapshotter = self.snapshotter().await;
            present.extend(unpacked::layers(&self.content, &self.records, snapshotter.as_deref(), layers).await?);
        }
        Ok(present)
    }

    /// The name of the snapshotter that unpacks images, from the name of its folder.
    async fn snapshotter(&self) -> Option<String> {
        let info = self.images.clone().image_fs_info(api::ImageFsInfoRequest {}).await.ok()?.into_inner();
        let folder = info.image_filesystems.into_iter().find_map(|usage| usage.fs_id)?.mountpoint;
        let name = folder.trim_end_matches('/').rsplit('/').next()?.strip_prefix("io.containerd.snapshotter.v1.")?;
        Some(name.to_owned())
    }
}
