//! Layers that need no download though their bytes are gone: an image on this machine has them unpacked.
//!
//! A containerd with `discard_unpacked_layers` (Amazon's nodes have it by default), or with a snapshotter that fetches lazily,
//! keeps an image's manifest and configuration, not its layers. It does not fetch a layer whose snapshot it has, and a snapshot
//! is known by the layer and all below it: what a new image shares is the layers that it begins with.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tonic::Status;

use super::Layer;
use super::content::Content;
use super::removal::Records;
use crate::reference::Digest;

/// Images looked at, at once.
const CONCURRENT_IMAGES: usize = 8;

/// Indices inside indices are followed as deep as this.
const MOST_DEPTH: usize = 3;

/// An index of more manifests than this is not an image's.
const MOST_CHILDREN: usize = 256;

/// containerd labels a configuration with the snapshot that its image was unpacked to: this, and the snapshotter's name.
const SNAPSHOT_LABEL: &str = "containerd.io/gc.ref.snapshot.";

/// Which of `wanted`, in the order of their manifest, an image in the store has unpacked.
///
/// # Errors
/// What containerd said. Images that cannot be read are passed over.
pub(super) async fn layers(
    content: &Content,
    records: &Records,
    snapshotter: Option<&str>,
    wanted: &[Layer],
) -> Result<HashSet<Digest>, Status> {
    // An image has three names or more, and one target.
    let targets: BTreeSet<String> = records.targets().await?.collect();
    let shared = stream::iter(targets)
        .map(|target| async move { shared_with(content, target, snapshotter, wanted).await })
        .buffer_unordered(CONCURRENT_IMAGES)
        .fold(0, async |most, shared| usize::max(most, shared))
        .await;
    Ok(wanted.iter().take(shared).map(|layer| layer.digest.clone()).collect())
}

/// How many of the first layers are those of an image, or of the images of an index, that is unpacked.
async fn shared_with(content: &Content, target: String, snapshotter: Option<&str>, wanted: &[Layer]) -> usize {
    let (mut most, mut open) = (0, vec![(target, 0)]);
    while let Some((digest, depth)) = open.pop() {
        // Manifests of other platforms are not there.
        let Some(manifest) = content.read(&digest).await.ok().flatten().and_then(|bytes| read(&bytes)) else {
            continue;
        };
        match manifest {
            Manifest::Index(children) if depth < MOST_DEPTH => {
                open.extend(children.into_iter().take(MOST_CHILDREN).map(|child| (child, depth + 1)));
            }
            Manifest::Index(_) => {}
            Manifest::Image { config, layers } => {
                let shared = common(wanted, &layers);
                if shared > most && is_unpacked(content, &config, snapshotter).await {
                    most = shared;
                }
            }
        }
    }
    most
}

async fn is_unpacked(content: &Content, config: &str, snapshotter: Option<&str>) -> bool {
    let labels = content.labels(config).await.unwrap_or_default();
    labels.iter().any(|label| {
        let of = label.strip_prefix(SNAPSHOT_LABEL);
        of.is_some_and(|of| snapshotter.is_none_or(|snapshotter| of == snapshotter))
    })
}

/// How many layers both begin with.
fn common(wanted: &[Layer], layers: &[String]) -> usize {
    wanted.iter().zip(layers).take_while(|(wanted, layer)| wanted.digest.to_string() == **layer).count()
}

#[derive(Debug, PartialEq, Eq)]
enum Manifest {
    Image { config: String, layers: Vec<String> },
    Index(Vec<String>),
}

/// Reads what the digests need of a manifest or index (OCI image specification, Docker schema 2).
fn read(bytes: &[u8]) -> Option<Manifest> {
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
    }
    #[derive(Deserialize)]
    struct Json {
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
    }
    let digests = |descriptors: Vec<Descriptor>| descriptors.into_iter().map(|descriptor| descriptor.digest);
    match serde_json::from_slice(bytes).ok()? {
        Json { config: Some(config), layers: Some(layers), .. } => {
            // As the registry's client lists them: each once.
            let mut seen = HashSet::new();
            let layers = digests(layers).filter(|layer| seen.insert(layer.clone())).collect();
            Some(Manifest::Image { config: config.digest, layers })
        }
        Json { manifests: Some(manifests), .. } => Some(Manifest::Index(digests(manifests).collect())),
        Json { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digit: char) -> Layer {
        Layer { digest: digest(digit).parse().unwrap(), size: 1 }
    }

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    #[test]
    fn only_what_both_begin_with_is_shared() {
        let wanted: Vec<Layer> = ['1', '2', '3'].map(layer).into();
        for (layers, shared) in [("123", 3), ("1234", 3), ("12", 2), ("132", 1), ("23", 0), ("", 0)] {
            let layers: Vec<String> = layers.chars().map(digest).collect();
            assert_eq!(common(&wanted, &layers), shared, "{layers:?}");
        }
    }

    #[test]
    fn manifests_and_indices_are_read_and_nothing_else_is() {
        let image = br#"{"config":{"digest":"c"},"layers":[{"digest":"a"},{"digest":"b"},{"digest":"a"}]}"#;
        let layers = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read(image), Some(Manifest::Image { config: "c".into(), layers }));
        let index = br#"{"manifests":[{"digest":"a","platform":{"os":"linux"}}]}"#;
        assert_eq!(read(index), Some(Manifest::Index(vec!["a".into()])));
        for other in
            ["", "{}", "[]", r#"{"layers":[]}"#, r#"{"architecture":"amd64","config":{}}"#, r#"{"manifests":3}"#]
        {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
