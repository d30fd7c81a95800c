//! containerd's content store: which layers are complete, and the progress of those that are being downloaded.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Layer, LayerProgress, Transfer};
use crate::reference::Digest;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod api {
    tonic::include_proto!("containerd.services.content.v1");
}

use api::content_client::ContentClient;

/// The most concurrent calls, because each layer is looked up separately.
const CONCURRENT_CALLS: usize = 16;

/// The OCI image specification recommends accepting manifests of up to 4 MiB.
const MOST_BLOB_BYTES: usize = 4 * 1024 * 1024;

/// The content store of a containerd, in CRI's namespace.
#[derive(Clone, Debug)]
pub(super) struct Content(ContentClient<Channel>);

impl Content {
    pub(super) fn new(channel: Channel) -> Self {
        Self(ContentClient::new(channel))
    }

    /// Which of these layers are complete.
    pub(super) async fn present(&self, layers: &[Layer]) -> Result<HashSet<Digest>, Status> {
        let digests: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
        stream::iter(digests)
            .map(|digest| async move { Ok(self.has(&digest.to_string()).await?.then_some(digest)) })
            .buffer_unordered(CONCURRENT_CALLS)
            .try_filter_map(|present| async { Ok(present) })
            .try_collect()
            .await
    }

    /// Watches a pull's layers, except those that need no download. `manifest` is the digest to be pulled, if it is
    /// known.
    pub(super) fn watch(
        &self,
        layers: &[Layer],
        mut needless: HashSet<Digest>,
        manifest: Option<&Digest>,
    ) -> ContentWatch {
        // A layer may be listed twice but is downloaded once.
        let missing = layers.iter().filter(|layer| needless.insert(layer.digest.clone()));
        let layers = missing.map(|layer| LayerProgress {
            layer: layer.digest.to_string(),
            done: 0,
            total: Some(layer.size),
            unpacked: 0,
        });
        ContentWatch {
            content: self.clone(),
            layers: layers.collect(),
            arriving: BTreeSet::new(),
            unresolved: manifest.map(Digest::to_string),
            fetching: true,
        }
    }

    /// A small blob: a manifest or a configuration. `None` if it does not exist or is larger than these are.
    pub(super) async fn read(&self, digest: &str) -> Result<Option<Vec<u8>>, Status> {
        let request = api::ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let mut parts = match self.0.clone().read(in_namespace(request)).await {
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            other => other?.into_inner(),
        };
        let mut blob = Vec::new();
        while let Some(part) = parts.message().await? {
            if blob.len().saturating_add(part.data.len()) > MOST_BLOB_BYTES {
                return Ok(None);
            }
            blob.extend_from_slice(&part.data);
        }
        Ok(Some(blob))
    }

    /// The names of a blob's labels; none if the blob does not exist.
    pub(super) async fn labels(&self, digest: &str) -> Result<Vec<String>, Status> {
        let labels = self.info(digest).await?.map(|info| info.labels).unwrap_or_default();
        Ok(labels.into_keys().collect())
    }

    async fn has(&self, digest: &str) -> Result<bool, Status> {
        Ok(self.info(digest).await?.is_some())
    }

    async fn info(&self, digest: &str) -> Result<Option<api::Info>, Status> {
        let request = api::InfoRequest { digest: digest.to_owned() };
        match self.0.clone().info(in_namespace(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner().info.unwrap_or_default())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// Layers that are being downloaded into a content store.
#[derive(Debug)]
pub(super) struct ContentWatch {
    content: Content,
    layers: Vec<LayerProgress>,
    arriving: BTreeSet<String>,
    /// The digest of the pull, until the store has it.
    unresolved: Option<String>,
    fetching: bool,
}

impl ContentWatch {
    /// The progress at the last look.
    pub(super) fn transfer(&self) -> Transfer {
        Transfer::Layers { layers: self.layers.clone(), fetching: self.fetching }
    }

    /// Looks for the last time, after a successful pull: layers that are not in the store now were never needed.
    pub(super) async fn settle(&mut self) -> Result<(), Status> {
        let mut came = HashMap::new();
        for layer in &self.layers {
            came.insert(layer.layer.clone(), self.content.has(&layer.layer).await?);
        }
        self.layers.retain(|layer| came.get(&layer.layer).is_some_and(|came| *came));
        for layer in &mut self.layers {
            layer.done = layer.total.unwrap_or(layer.done);
        }
        Ok(())
    }

    /// Looks once. A layer is complete when it is no longer being written and the store has it. The store is asked only
    /// if the set of layers being written has changed, so a look during the download of a large layer is one call.
    pub(super) async fn look(&mut self) -> Result<(), Status> {
        let request = api::ListStatusesRequest { filters: Vec::new() };
        let statuses = self.content.0.clone().list_statuses(in_namespace(request)).await?.into_inner().statuses;
        let arriving = note_arriving(&mut self.layers, &statuses);
        if let Some(manifest) = &self.unresolved
            && self.content.has(manifest).await?
        {
            self.unresolved = None;
        }
        self.fetching = self.unresolved.is_some() || !arriving.is_empty() || statuses.iter().any(leads_to_layers);
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

/// Whether this blob is needed before any layer is requested.
fn leads_to_layers(status: &api::Status) -> bool {
    ["index-", "manifest-", "config-"].iter().any(|kind| status.r#ref.starts_with(kind))
}

/// Records the bytes of each layer that is being written. Returns which ones are. Another client's write of the same
/// layer counts, because our pull waits for it.
fn note_arriving(layers: &mut [LayerProgress], statuses: &[api::Status]) -> BTreeSet<String> {
    let mut arriving = BTreeSet::new();
    for layer in layers.iter_mut() {
        let total = layer.total.unwrap_or(u64::MAX);
        // A reference is `layer-<digest>`; the expected digest may be missing.
        let writes = |status: &&api::Status| status.expected == layer.layer || status.r#ref.ends_with(&layer.layer);
        if let Some(status) = statuses.iter().find(writes) {
            layer.done = u64::try_from(status.offset).unwrap_or(0).min(total);
            arriving.insert(layer.layer.clone());
        }
    }
    arriving
}

/// A request in CRI's namespace.
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
