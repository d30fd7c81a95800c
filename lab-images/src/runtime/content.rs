//! containerd's content store: which layers are there, and how far those on their way are.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Layer, LayerProgress};
use crate::reference::Digest;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod api {
    tonic::include_proto!("containerd.services.content.v1");
}

use api::content_client::ContentClient;

/// Each layer is asked for by itself; so many questions are under way at once.
const CONCURRENT_CALLS: usize = 16;

/// The content store of a containerd, in the namespace that CRI uses.
#[derive(Clone, Debug)]
pub(super) struct Content(ContentClient<Channel>);

impl Content {
    pub(super) fn new(channel: Channel) -> Self {
        Self(ContentClient::new(channel))
    }

    /// Which of these layers are there, whole.
    pub(super) async fn present(&self, layers: &[Layer]) -> Result<HashSet<Digest>, Status> {
        let digests: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
        stream::iter(digests)
            .map(|digest| async move { Ok(self.has(&digest.to_string()).await?.then_some(digest)) })
            .buffer_unordered(CONCURRENT_CALLS)
            .try_filter_map(|present| async { Ok(present) })
            .try_collect()
            .await
    }

    /// Starts to watch the layers that are missing now; `None` when this runtime cannot tell.
    pub(super) async fn watch(&self, layers: &[Layer]) -> Option<ContentWatch> {
        // A layer may be listed twice and is fetched once.
        let mut seen = self.present(layers).await.ok()?;
        let missing = layers.iter().filter(|layer| seen.insert(layer.digest.clone()));
        let layers = missing.map(|layer| LayerProgress {
            layer: layer.digest.to_string(),
            done: 0,
            total: Some(layer.size),
            unpacked: 0,
        });
        Some(ContentWatch { content: self.clone(), layers: layers.collect(), arriving: BTreeSet::new() })
    }

    async fn has(&self, digest: &str) -> Result<bool, Status> {
        let request = api::InfoRequest { digest: digest.to_owned() };
        match self.0.clone().info(in_namespace(request)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }
}

/// Layers on their way into a content store.
#[derive(Debug)]
pub(super) struct ContentWatch {
    content: Content,
    layers: Vec<LayerProgress>,
    arriving: BTreeSet<String>,
}

impl ContentWatch {
    /// The layers as of the last look.
    pub(super) fn layers(&self) -> &[LayerProgress] {
        &self.layers
    }

    /// Looks once. A layer is whole when it is no longer written and the store has it; that is asked only when the set of
    /// layers being written has changed, so a look at a large layer on its way is one call.
    pub(super) async fn look(&mut self) -> Result<(), Status> {
        let request = api::ListStatusesRequest { filters: Vec::new() };
        let statuses = self.content.0.clone().list_statuses(in_namespace(request)).await?.into_inner().statuses;
        let arriving = note_arriving(&mut self.layers, &statuses);
        if arriving == self.arriving && !arriving.is_empty() {
            return Ok(());
        }
        for layer in self.layers.iter_mut().filter(|layer| !arriving.contains(&layer.layer)) {
            if layer.total.is_some_and(|total| layer.done < total) && self.content.has(&layer.layer).await? {
                layer.done = layer.total.unwrap_or(layer.done);
            }
        }
        self.arriving = arriving;
        Ok(())
    }
}

/// Notes the bytes of each layer that is being written, and says which are. Another client's write of the same layer counts:
/// our pull waits for it.
fn note_arriving(layers: &mut [LayerProgress], statuses: &[api::Status]) -> BTreeSet<String> {
    let mut arriving = BTreeSet::new();
    for layer in layers.iter_mut() {
        let total = layer.total.unwrap_or(u64::MAX);
        // A reference is `layer-<digest>`; the expected digest may be left out.
        let writes = |status: &&api::Status| status.expected == layer.layer || status.r#ref.ends_with(&layer.layer);
        if let Some(status) = statuses.iter().find(writes) {
            layer.done = u64::try_from(status.offset).unwrap_or(0).min(total);
            arriving.insert(layer.layer.clone());
        }
    }
    arriving
}

/// A request in the namespace that CRI uses.
pub(super) fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static("k8s.io"));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(layer: &str, done: u64) -> LayerProgress {
        LayerProgress { layer: layer.into(), done, total: Some(100), unpacked: 0 }
    }

    fn status(name: &str, expected: &str, offset: i64) -> api::Status {
        api::Status { r#ref: name.into(), offset, total: 100, expected: expected.into() }
    }

    #[test]
    fn bytes_are_noted_by_reference_or_digest_and_never_beyond_the_layer() {
        let mut layers = ["sha256:a", "sha256:b", "sha256:c", "sha256:d"].map(|name| layer(name, 7));
        let statuses = [
            status("layer-sha256:a", "", 40),
            status("something", "sha256:b", 400),
            status("layer-sha256:c", "", -1),
            status("layer-sha256:other", "sha256:other", 50),
        ];
        let arriving = note_arriving(&mut layers, &statuses);
        assert_eq!(layers.map(|layer| layer.done), [40, 100, 0, 7]);
        assert_eq!(arriving, ["sha256:a", "sha256:b", "sha256:c"].map(String::from).into());
    }
}
