//! Manifests and indices: OCI image specification 1.1 and Docker image manifest version 2, schema 2.

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};

use super::error::Problem;
use crate::reference::{Digest, Platform};
use crate::runtime::Layer;

/// `Accept` for every kind that can be read.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const INDICES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// What a pull of one image brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// What a tag stands for: the index where there is one, else the manifest.
    pub digest: Digest,
    /// The platform's manifest.
    pub platform_digest: Digest,
    /// The platform that was asked for.
    pub platform: Platform,
    /// All platforms of the index; empty where there is no index.
    pub platforms: Vec<Platform>,
    /// The layers, each once.
    pub layers: Vec<Layer>,
    /// Compressed bytes of all layers.
    pub size: u64,
}

impl ImageManifest {
    pub(super) fn new(
        digest: Digest,
        platform_digest: Digest,
        platform: &Platform,
        platforms: Vec<Platform>,
        layers: Vec<Layer>,
    ) -> Self {
        let mut seen = HashSet::new();
        let layers: Vec<Layer> = layers.into_iter().filter(|layer| seen.insert(layer.digest.clone())).collect();
        let size = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        Self { digest, platform_digest, platform: platform.clone(), platforms, layers, size }
    }
}

/// A manifest of either kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Image(Vec<Layer>),
    Index(Vec<Entry>),
}

/// One manifest of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// `None` for what is no image (attestations have the platform `unknown/unknown`).
    pub(super) platform: Option<Platform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    layers: Option<Vec<LayerJson>>,
    #[serde(default)]
    manifests: Option<Vec<EntryJson>>,
}

#[derive(Deserialize)]
struct LayerJson {
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
struct EntryJson {
    digest: Digest,
    #[serde(default)]
    platform: Option<PlatformJson>,
}

#[derive(Deserialize)]
struct PlatformJson {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Reads a manifest; `content_type` counts where the body does not name its own media type.
pub(super) fn parse(body: &[u8], content_type: Option<&str>) -> Result<Parsed, Problem> {
    let json: Json = serde_json::from_slice(body).map_err(Problem::Json)?;
    let media_type = json.media_type.as_deref().or(content_type).unwrap_or_default();
    let unknown = || Problem::MediaType(media_type.chars().take(200).collect());
    if INDICES.contains(&media_type) {
        let entries = json.manifests.ok_or_else(unknown)?;
        return Ok(Parsed::Index(entries.into_iter().map(EntryJson::read).collect()));
    }
    if IMAGES.contains(&media_type) {
        let layers = json.layers.ok_or_else(unknown)?;
        return Ok(Parsed::Image(
            layers.into_iter().map(|layer| Layer { digest: layer.digest, size: layer.size }).collect(),
        ));
    }
    Err(unknown())
}

impl EntryJson {
    fn read(self) -> Entry {
        let named = self.platform.filter(|platform| !platform.os.is_empty() && platform.os != "unknown");
        let platform = named.map(|platform| Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant.filter(|variant| !variant.is_empty()),
        });
        Entry { digest: self.digest, platform }
    }
}

/// The manifest for a platform: the same variant if there is one, else any of the architecture.
pub(super) fn choose(entries: &[Entry], wanted: &Platform) -> Result<Digest, Problem> {
    let suits = |platform: &Platform| platform.os == wanted.os && platform.architecture == wanted.architecture;
    let suited = || entries.iter().filter(|entry| entry.platform.as_ref().is_some_and(suits));
    let exact =
        suited().find(|entry| entry.platform.as_ref().is_some_and(|platform| platform.variant == wanted.variant));
    if let Some(entry) = exact.or_else(|| suited().next()) {
        return Ok(entry.digest.clone());
    }
    let found: Vec<String> =
        entries.iter().filter_map(|entry| entry.platform.as_ref()).map(ToString::to_string).take(20).collect();
    let found = if found.is_empty() { "nothing that is named".to_owned() } else { found.join(", ") };
    Err(Problem::NoPlatform { wanted: wanted.to_string(), found })
}

/// The digest of a body.
pub(super) fn digest_of(body: &[u8], algorithm: &str) -> Digest {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digest = match algorithm {
        "sha512" => format!("sha512:{}", hex(&Sha512::digest(body))),
        _ => format!("sha256:{}", hex(&Sha256::digest(body))),
    };
    digest.parse().expect("an algorithm's own output is a digest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn index(media_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[
            {{"digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}},
            {{"digest":"{B}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}},
            {{"digest":"{B}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#
        )
    }

    fn chosen(platform: &str) -> Result<String, Problem> {
        let Parsed::Index(entries) = parse(index(INDICES[0]).as_bytes(), None).unwrap() else { panic!("no index") };
        choose(&entries, &platform.parse().unwrap()).map(|digest| digest.to_string())
    }

    #[test]
    fn the_platform_decides() {
        assert_eq!(chosen("linux/arm/v6").unwrap(), B);
        assert_eq!(chosen("linux/arm/v8").unwrap(), A);
        let error = chosen("linux/amd64").unwrap_err().to_string();
        assert!(error.contains("linux/amd64") && error.contains("linux/arm/v7, linux/arm/v6;"), "{error}");
    }

    #[test]
    fn the_media_type_counts_from_the_body_or_the_header() {
        let image =
            format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{A}","size":7}},{{"digest":"{A}","size":7}}]}}"#);
        let parsed = parse(image.as_bytes(), Some(IMAGES[1])).unwrap();
        let Parsed::Image(layers) = parsed else { panic!("no image") };
        let manifest = ImageManifest::new(
            A.parse().unwrap(),
            A.parse().unwrap(),
            &"linux/amd64".parse().unwrap(),
            Vec::new(),
            layers,
        );
        assert_eq!((manifest.layers.len(), manifest.size), (1, 7));
        for media_type in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/html", ""] {
            let error = parse(image.as_bytes(), Some(media_type)).unwrap_err().to_string();
            assert!(error.contains(media_type) && error.contains("push it again"), "{error}");
        }
    }

    #[test]
    fn digests_by_both_algorithms() {
        assert_eq!(
            digest_of(b"", "sha256").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest_of(b"", "sha512").to_string().len(), "sha512:".len() + 128);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in ".{0,200}") {
            let _ = parse(body.as_bytes(), Some(INDICES[0]));
        }
    }
}
