//! One running pull.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab_images::reference::Platform;
use lab_images::registry::{Credentials, Registry};
use lab_images::runtime::disk::{DiskGuard, Reservation};
use lab_images::runtime::{
    ArrivedDigest, FileSystem, Layer, Progress, PullError, PullLimits, PullRequest, Pulled, Runtime, RuntimeError, pull,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::timeout;

use crate::node_images::{Order, OrderLayer};

/// How long a pull waits for the size of its image.
const SIZE_LIMIT: Duration = Duration::from_secs(30);

/// The result of a pull.
#[derive(Debug)]
pub(super) enum Ended {
    /// The image is present.
    Present,
    /// A different image than the wanted one has its name: the message, and the image's names with a digest.
    OtherDigest(String, Vec<String>),
    /// It failed.
    Failed(String),
    /// It failed because the container runtime became unavailable.
    WithTheRuntime,
}

/// A running pull.
pub(super) struct Pulling {
    order: Order,
    task: AbortHandle,
    progress: watch::Receiver<Progress>,
    /// The last change of the downloaded bytes, and when it was seen.
    moved: (u64, Instant),
    reservation: Reservation,
    /// Whether the guard knew the size.
    size_is_known: bool,
}

impl Pulling {
    pub(super) fn start(
        pulls: &mut JoinSet<Ended>,
        runtime: Arc<dyn Runtime>,
        credentials: Arc<Credentials>,
        order: Order,
        limits: PullLimits,
        reservation: Reservation,
        size_is_known: bool,
    ) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        let mut request = PullRequest {
            credentials: None,
            reference: order.image.clone(),
            expected: order.digest.clone(),
            layers: layers(&order),
        };
        let task = pulls.spawn(async move {
            match pull_with(&credentials, &*runtime, &mut request, limits, &sender).await {
                Err(error) => Ended::Failed(error.to_string()),
                Ok(Pulled { digest: ArrivedDigest::Expected | ArrivedDigest::NotAsked, .. }) => Ended::Present,
                Ok(Pulled { digest: ArrivedDigest::Other { expected, arrived }, .. }) => {
                    let names = arrived.join(" and ");
                    let error = format!(
                        "{expected} is wanted, but {names} arrived: the tag moved since the last scan, or a mirror of the container runtime serves another image under it"
                    );
                    Ended::OtherDigest(error, arrived)
                }
            }
        });
        Self { order, task, progress, moved: (0, Instant::now()), reservation, size_is_known }
    }

    pub(super) fn id(&self) -> Id {
        self.task.id()
    }

    /// Whether it is the pull of this order.
    pub(super) fn is_for(&self, order: &Order) -> bool {
        self.order.image == order.image && self.order.digest == order.digest
    }

    pub(super) fn size_is_known(&self) -> bool {
        self.size_is_known
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// How long no byte has arrived.
    pub(super) fn idle(&mut self, progress: &Progress) -> Duration {
        if progress.done != self.moved.0 {
            self.moved = (progress.done, Instant::now());
        }
        self.moved.1.elapsed()
    }

    /// Cancels it, and returns its order. The runtime keeps what was downloaded.
    pub(super) fn cancel(self, guard: &mut DiskGuard) -> Order {
        self.task.abort();
        guard.finish(self.reservation, 0, None);
        self.order
    }

    /// It ended. The guard learns from a success. `disk` was measured after that.
    pub(super) fn end(self, guard: &mut DiskGuard, well: bool, disk: Option<&FileSystem>) -> (Order, Progress) {
        let progress = self.progress();
        guard.finish(self.reservation, progress.done, disk.filter(|_| well));
        (self.order, progress)
    }
}

/// Tries to pull with each matching credential until the registry accepts one.
async fn pull_with(
    credentials: &Credentials,
    runtime: &dyn Runtime,
    request: &mut PullRequest,
    limits: PullLimits,
    progress: &watch::Sender<Progress>,
) -> Result<Pulled, PullError> {
    let repository = request.reference.repository.clone();
    // This may run a credential helper program.
    let mut untried = credentials.for_pulls(&repository).await.into_iter();
    loop {
        request.credentials = untried.next();
        let pulled = pull(runtime, request, limits, progress).await;
        match (&pulled, &request.credentials) {
            (Ok(_), Some(taken)) => credentials.pulled_with(&repository, taken),
            // If bytes arrived, the registry had accepted the credentials, and the failure came later.
            (Err(error @ PullError::Runtime(RuntimeError::Pull { .. })), Some(_))
                if untried.len() > 0 && progress.borrow().done == 0 =>
            {
                tracing::info!(image = %request.reference, %error, "retrying the pull with other credentials");
                continue;
            }
            _ => {}
        }
        return pulled;
    }
}

fn layers(order: &Order) -> Vec<Layer> {
    order.layers.iter().map(|layer| Layer { digest: layer.digest.clone(), size: layer.size }).collect()
}

/// Asks the registry for the layers of an order that has no size, because the registry did not answer the scan.
pub(super) async fn ask_size(registry: &Registry, order: &mut Order) {
    let (repository, platform) = (&order.image.repository, Platform::of_this_machine());
    let asked = async {
        let digest = match (order.image.digest.as_ref().or(order.digest.as_ref()), &order.image.tag) {
            (Some(digest), _) => digest.clone(),
            (None, Some(tag)) => registry.digest(repository, tag).await?,
            (None, None) => return Ok(None),
        };
        registry.manifest(repository, &digest, &[platform]).await.map(Some)
    };
    match timeout(SIZE_LIMIT, asked).await {
        Ok(Ok(Some(manifest))) => {
            let layer = |layer: &Layer| OrderLayer { digest: layer.digest.clone(), size: layer.size };
            (order.size, order.layers) = (Some(manifest.size), manifest.layers.iter().map(layer).collect());
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::warn!(image = %order.image, %error, "cannot get the image's size"),
        Err(_) => tracing::warn!(image = %order.image, "cannot get the image's size: the registry takes too long"),
    }
}

/// The compressed bytes that a pull of this order has to download: the layers that the runtime lacks, or all of the
/// image if that cannot be determined. `None` if the size is unknown.
pub(super) async fn missing_bytes(runtime: &dyn Runtime, order: &Order) -> Result<Option<u64>, RuntimeError> {
    if order.layers.is_empty() {
        return Ok(order.size);
    }
    let layers = layers(order);
    let present = runtime.present_layers(&layers).await?.unwrap_or_default();
    let mut missing: Vec<&Layer> = layers.iter().filter(|layer| !present.contains(&layer.digest)).collect();
    // A layer that an image lists twice is downloaded once.
    missing.sort_by_key(|layer| layer.digest.to_string());
    missing.dedup_by_key(|layer| &layer.digest);
    Ok(Some(missing.iter().map(|layer| layer.size).fold(0, u64::saturating_add)))
}
