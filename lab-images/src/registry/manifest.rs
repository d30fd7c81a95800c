//! Manifests and indices: OCI image specification 1.1 and Docker image manifest version 2, schema 2.

use std::collections::HashSet;

use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};

use super::error::Problem;
use crate::reference::{Digest, Platform};
use crate::runtime::Layer;

/// `Accept` with all supported kinds.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const INDICES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// `config.mediaType` of images. Helm charts, signatures and other artifacts have other types.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The content of one platform's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The digest of the tag: that of the index if there is one, else the manifest's.
    pub digest: Digest,
    /// The digest of the platform's manifest.
    pub platform_digest: Digest,
    /// The platform that was requested.
    pub platform: Platform,
    /// All platforms of the image; empty if they are not known.
    pub platforms: Vec<Platform>,
    /// The layers, without duplicates.
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
    Image(Image),
    Index(Vec<Entry>),
}

/// The manifest of one platform's image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// The blob that contains the platform; not read if the configuration is of an older kind.
    pub(super) config: Option<Digest>,
    pub(super) layers: Vec<Layer>,
}

/// One manifest of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) platform: EntryPlatform,
}

/// The platform of an index's entry, which is optional.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryPlatform {
    Named(Platform),
    /// Missing: the manifest or its configuration contains it.
    Unnamed,
    /// Not for any machine: attestations have `unknown/unknown`.
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<ConfigJson>,
    #[serde(default)]
    layers: Option<Vec<LayerJson>>,
    #[serde(default)]
    manifests: Option<Vec<EntryJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigJson {
    #[serde(default)]
    media_type: Option<String>,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerJson {
    #[serde(default)]
    media_type: Option<String>,
    digest: Digest,
    size: u64,
}

impl LayerJson {
    /// Whether its media type is missing or that of a file system layer, in any compression.
    fn is_unpacked(&self) -> bool {
        self.media_type
            .as_deref()
            .is_none_or(|kind| kind.is_empty() || kind.contains("layer") || kind.contains("rootfs"))
    }
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
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
}

impl PlatformJson {
    fn is_empty(&self) -> bool {
        [&self.os, &self.architecture].into_iter().flatten().all(String::is_empty)
    }

    /// The platform; `None` if it is missing or `unknown`. A missing system is that of the machine, as for containerd.
    fn read(self) -> Option<Platform> {
        let os = self.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".to_owned());
        let architecture = self.architecture.filter(|architecture| !architecture.is_empty())?;
        let variant = self.variant.filter(|variant| !variant.is_empty());
        (os != "unknown" && architecture != "unknown").then_some(Platform { os, architecture, variant })
    }
}

/// Parses a manifest whose digest was checked; `content_type` is used if the body does not contain its media type.
pub(super) fn parse(body: &[u8], content_type: Option<&str>) -> Result<Parsed, Problem> {
    let json: Json = serde_json::from_slice(body).map_err(Problem::Malformed)?;
    let in_body = json.media_type.as_deref().filter(|media_type| !media_type.is_empty());
    let media_type = in_body.or(content_type).unwrap_or_default();
    let short = |text: &str| text.chars().take(200).collect::<String>();
    let unknown = || Problem::MediaType(short(media_type));
    if INDICES.contains(&media_type) {
        let entries = json.manifests.ok_or_else(unknown)?;
        return Ok(Parsed::Index(entries.into_iter().map(EntryJson::read).collect()));
    }
    if !IMAGES.contains(&media_type) {
        return Err(unknown());
    }
    let config_type = json.config.as_ref().and_then(|config| config.media_type.as_deref());
    if let Some(strange) = config_type.filter(|config_type| !CONFIGS.contains(config_type)) {
        // `artifactType` is more precise (OCI image specification 1.1, "Guidelines for Artifact Usage").
        let artifact = json.artifact_type.as_deref().filter(|artifact| !artifact.is_empty());
        return Err(Problem::NoImage(short(artifact.unwrap_or(strange))));
    }
    if let (None, Some(artifact)) = (&json.config, &json.artifact_type) {
        return Err(Problem::NoImage(short(artifact)));
    }
    let layers = json.layers.ok_or_else(unknown)?;
    // Signatures and attestations may have an image's configuration, but layers that runtimes do not unpack.
    if let Some(strange) = layers.first().filter(|_| !layers.iter().any(LayerJson::is_unpacked)) {
        return Err(Problem::NoImage(short(strange.media_type.as_deref().unwrap_or_default())));
    }
    Ok(Parsed::Image(Image {
        config: json.config.map(|config| config.digest),
        layers: layers.into_iter().map(|layer| Layer { digest: layer.digest, size: layer.size }).collect(),
    }))
}

/// The platform in an image's configuration; `None` if it contains none.
pub(super) fn platform_of_config(body: &[u8]) -> Result<Option<Platform>, Problem> {
    serde_json::from_slice::<PlatformJson>(body).map(PlatformJson::read).map_err(Problem::Json)
}

impl EntryJson {
    fn read(self) -> Entry {
        let platform = match self.platform {
            // A platform with only empty fields counts as missing.
            None => EntryPlatform::Unnamed,
            Some(json) if json.is_empty() => EntryPlatform::Unnamed,
            Some(json) => json.read().map_or(EntryPlatform::None, EntryPlatform::Named),
        };
        Entry { digest: self.digest, platform }
    }
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

    #[test]
    fn platforms_are_read_from_an_index() {
        let entry = |platform: &str| format!(r#"{{"digest":"{A}","size":1{platform}}}"#);
        let entries = [
            "",
            r#","platform":{}"#,
            r#","platform":{"os":"unknown","architecture":"unknown"}"#,
            r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#,
            r#","platform":{"os":null,"architecture":"amd64","variant":null}"#,
            r#","platform":{"architecture":"amd64"}"#,
            r#","platform":{"os":"linux"}"#,
        ];
        let entries: Vec<String> = entries.map(entry).to_vec();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Parsed::Index(entries) = parse(index.as_bytes(), Some(INDICES[0])).unwrap() else { panic!("no index") };
        let platforms: Vec<EntryPlatform> = entries.into_iter().map(|entry| entry.platform).collect();
        let named = EntryPlatform::Named("linux/arm/v7".parse().unwrap());
        assert_eq!(platforms[..4], [EntryPlatform::Unnamed, EntryPlatform::Unnamed, EntryPlatform::None, named]);
        let amd64 = || EntryPlatform::Named("linux/amd64".parse().unwrap());
        assert_eq!(platforms[4..], [amd64(), amd64(), EntryPlatform::None]);
    }

    #[test]
    fn the_media_type_counts_from_the_body_or_the_header() {
        let image =
            format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{A}","size":7}},{{"digest":"{A}","size":7}}]}}"#);
        let empty = image.replacen('{', r#"{"mediaType":"","#, 1);
        assert!(matches!(parse(empty.as_bytes(), Some(IMAGES[0])), Ok(Parsed::Image(_))));
        let parsed = parse(image.as_bytes(), Some(IMAGES[1])).unwrap();
        let Parsed::Image(image_manifest) = parsed else { panic!("no image") };
        let digest: Digest = A.parse().unwrap();
        let platform = "linux/amd64".parse().unwrap();
        let manifest = ImageManifest::new(digest.clone(), digest, &platform, Vec::new(), image_manifest.layers);
        assert_eq!((manifest.layers.len(), manifest.size), (1, 7));
        for media_type in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/html", ""] {
            let error = parse(image.as_bytes(), Some(media_type)).unwrap_err().to_string();
            assert!(error.contains(media_type) && error.contains("push it again"), "{error}");
        }
    }

    #[test]
    fn artifacts_other_than_images_are_named() {
        let manifest = |config: &str, more: &str| {
            let body = format!(r#"{{"config":{{"mediaType":"{config}","digest":"{A}","size":2}},"layers":[]{more}}}"#);
            parse(body.as_bytes(), Some(IMAGES[0]))
        };
        for config in CONFIGS {
            assert!(matches!(manifest(config, ""), Ok(Parsed::Image(Image { config: Some(_), .. }))));
            // An image may have an artifact type as well.
            assert!(manifest(config, r#","artifactType":"application/x.lab""#).is_ok());
        }
        for (config, more, named) in [
            ("application/vnd.cncf.helm.config.v1+json", "", "vnd.cncf.helm.config"),
            (
                "application/vnd.oci.empty.v1+json",
                r#","artifactType":"application/spdx+json""#,
                "application/spdx+json",
            ),
            ("application/vnd.dev.cosign.artifact.sig.v1+json", "", "cosign"),
            ("application/vnd.wasm.config.v0+json", "", "wasm"),
        ] {
            let error = manifest(config, more).unwrap_err();
            assert!(matches!(&error, Problem::NoImage(_)) && error.to_string().contains(named), "{error}");
        }
        // An attestation has an image's configuration.
        let attestation = format!(
            r#"{{"config":{{"mediaType":"{}","digest":"{A}","size":2}},"layers":[{{"mediaType":"application/vnd.in-toto+json","digest":"{A}","size":2}}]}}"#,
            CONFIGS[0]
        );
        let error = parse(attestation.as_bytes(), Some(IMAGES[0])).unwrap_err().to_string();
        assert!(error.contains("in-toto"), "{error}");
    }

    #[test]
    fn a_configuration_names_its_platform() {
        let read = |json: &str| platform_of_config(json.as_bytes()).unwrap().map(|platform| platform.to_string());
        assert_eq!(read(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#).unwrap(), "linux/arm/v7");
        assert_eq!(read("{}"), None);
        assert!(platform_of_config(b"not JSON").is_err());
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
            let _ = platform_of_config(body.as_bytes());
        }
    }
}
