//! Layers that need no download although their compressed bytes are gone, because an image on this machine has them
//! unpacked.
//!
//! A containerd with `discard_unpacked_layers` (the default on Amazon's nodes), or with a lazy snapshotter, keeps an
//! image's manifest and configuration, but not its layers. It does not download a layer whose snapshot it has. A
//! snapshot is identified by the layer and all layers below it, so a new image shares the layers that both begin with.

use std::collections::{BTreeSet, HashSet};

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tonic::Status;

use super::Layer;
use super::content::Content;
use super::removal::Records;
use crate::reference::Digest;

/// The most images that are examined concurrently.
const CONCURRENT_IMAGES: usize = 8;

/// How deeply nested indices are followed.
const MOST_DEPTH: usize = 3;

/// The most manifests of an index. A larger index does not belong to an image.
const MOST_CHILDREN: usize = 256;

/// containerd labels a configuration with the snapshot to which its image was unpacked: this prefix, and the
/// snapshotter's name.
const SNAPSHOT_LABEL: &str = "containerd.io/gc.ref.snapshot.";

/// Which of `wanted`, in the order of their manifest, an image in the store has unpacked.
///
/// # Errors
/// containerd's error. Images that cannot be read are skipped.
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

/// How many of the first layers are shared with an unpacked image, or with the images of an index.
async fn shared_with(content: &Content, target: String, snapshotter: Option<&str>, wanted: &[Layer]) -> usize {
    let (mut most, mut open) = (0, vec![(target, 0)]);
    while let Some((digest, depth)) = open.pop() {
        // Manifests of other platforms do not exist here.
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

/// Parses the digests of a manifest or index (OCI image specification, Docker schema 2).
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
            // Without duplicates, as the registry client lists them.
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
