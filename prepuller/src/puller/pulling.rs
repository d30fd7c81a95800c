//! One pull in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab_images::registry::Credentials;
use lab_images::runtime::disk::{DiskGuard, Reservation};
use lab_images::runtime::{
    ArrivedDigest, FileSystem, Layer, Progress, PullLimits, PullRequest, Runtime, RuntimeError, pull,
};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::node_images::Order;

/// How a pull ended: what is odd about the image, or why there is none.
pub(super) type Ended = Result<Option<String>, String>;

/// A pull in flight.
pub(super) struct Pulling {
    order: Order,
    task: AbortHandle,
    progress: watch::Receiver<Progress>,
    /// The bytes last seen to arrive, and when.
    moved: (u64, Instant),
    reservation: Reservation,
}

impl Pulling {
    pub(super) fn start(
        pulls: &mut JoinSet<Ended>,
        runtime: Arc<dyn Runtime>,
        credentials: Arc<Credentials>,
        order: Order,
        limits: PullLimits,
        reservation: Reservation,
    ) -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        let mut request = PullRequest {
            credentials: None,
            reference: order.image.clone(),
            expected: order.digest.clone(),
            layers: layers(&order),
        };
        let task = pulls.spawn(async move {
            // A helper program may have to be asked.
            request.credentials = credentials.for_pull(&request.reference.repository).await;
            let pulled = pull(&*runtime, &request, limits, &sender).await.map_err(|error| error.to_string())?;
            Ok(match pulled.digest {
                ArrivedDigest::Expected | ArrivedDigest::NotAsked => None,
                ArrivedDigest::Other { expected, arrived } => Some(format!(
                    "the catalogue names {expected}, but {} arrived: the tag moved since the last scan",
                    arrived.join(" and ")
                )),
            })
        });
        Self { order, task, progress, moved: (0, Instant::now()), reservation }
    }

    pub(super) fn id(&self) -> Id {
        self.task.id()
    }

    /// Whether it pulls what is ordered here.
    pub(super) fn is_for(&self, order: &Order) -> bool {
        self.order.image == order.image && self.order.digest == order.digest
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Since when no byte came.
    pub(super) fn idle(&mut self, progress: &Progress) -> Duration {
        if progress.done != self.moved.0 {
            self.moved = (progress.done, Instant::now());
        }
        self.moved.1.elapsed()
    }

    /// Cancels it, and gives back its order: the runtime keeps what arrived.
    pub(super) fn cancel(self, guard: &mut DiskGuard) -> Order {
        self.task.abort();
        guard.finish(self.reservation, 0, None);
        self.order
    }

    /// It ended; the guard learns from it where it ended well. `disk` is what was measured afterwards.
    pub(super) fn end(self, guard: &mut DiskGuard, well: bool, disk: Option<&FileSystem>) -> (Order, Progress) {
        let progress = self.progress();
        guard.finish(self.reservation, progress.done, disk.filter(|_| well));
        (self.order, progress)
    }
}

fn layers(order: &Order) -> Vec<Layer> {
    order.layers.iter().map(|layer| Layer { digest: layer.digest.clone(), size: layer.size }).collect()
}

/// Compressed bytes that a pull of this order has to fetch: layers that the runtime lacks, or all of the image where that
/// can't be told.
pub(super) async fn missing_bytes(runtime: &dyn Runtime, order: &Order) -> Result<u64, RuntimeError> {
    if order.layers.is_empty() {
        return Ok(order.size.unwrap_or(0));
    }
    let layers = layers(order);
    let present = runtime.present_layers(&layers).await?.unwrap_or_default();
    let mut missing: Vec<&Layer> = layers.iter().filter(|layer| !present.contains(&layer.digest)).collect();
    // A layer that an image lists twice is fetched once.
    missing.sort_by_key(|layer| layer.digest.to_string());
    missing.dedup_by_key(|layer| &layer.digest);
    Ok(missing.iter().map(|layer| layer.size).fold(0, u64::saturating_add))
}
