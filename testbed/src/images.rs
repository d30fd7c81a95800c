//! Builds test images without a base image and pushes them through the registry's HTTP API.
//!
//! An [`Image`] is a list of [`Layer`]s; layers are built once and cached by their content. [`Image::push`] gives
//! a [`Pushed`], which [`tag`] gives further names and [`push_index`] puts into an image index of several platforms.

mod layer;
mod program;
mod rubin;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use layer::{Blob, Layer};
pub use rubin::{RubinSet, publish_rubin};

use crate::http::Client;
use crate::registry::Registry;
use crate::{Error, Result};

/// An image to build.
#[derive(Clone, Debug)]
pub struct Image {
    layers: Vec<Layer>,
    architecture: String,
    entrypoint: Option<String>,
    command: Vec<String>,
    environment: Vec<String>,
    labels: BTreeMap<String, String>,
    oci: bool,
}

/// An image or an index in a registry.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `127.0.0.1:PORT/repository:tag`.
    pub reference: String,
    /// The repository alone.
    pub repository: String,
    /// The tag alone.
    pub tag: String,
    /// The digest of the manifest or index, `sha256:…`.
    pub digest: String,
    /// Its media type.
    pub media_type: &'static str,
    /// The manifest's own bytes.
    pub manifest: Vec<u8>,
    /// The compressed sizes of its layers, in bytes; empty for an index.
    pub layer_sizes: Vec<u64>,
    architecture: String,
}

impl Image {
    /// An image with these layers, for the machine's architecture, with a Docker schema 2 manifest.
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Image {
        Image {
            layers: layers.into_iter().collect(),
            architecture: machine_architecture().into(),
            entrypoint: None,
            command: vec!["/bin/sh".into()],
            environment: vec!["PATH=/bin:/usr/bin:/sbin:/usr/sbin".into()],
            labels: BTreeMap::new(),
            oci: false,
        }
    }

    /// An image that can be run: busybox with its usual commands (`sh`, `sleep`, `cat`, `wget`, `httpd`, …).
    pub fn busybox() -> Result<Image> {
        Ok(Image::new([Layer::busybox()?]))
    }

    /// An image of a program that `cargo test` built, with the libraries that it is linked to. The program is the
    /// image's entry point, at the path that `images/bld` gives it.
    pub fn program(path: &Path) -> Result<Image> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = format!("/{name}");
        let image = Image::new([Layer::libraries(path)?, Layer::program(path, &target)?]).command(&[]);
        Ok(Image { entrypoint: Some(target), ..image })
    }

    /// This image with a program of this machine and the libraries that it is linked to, at the same paths.
    pub fn with_program(self, path: &Path) -> Result<Image> {
        Ok(self.layer(Layer::libraries(path)?).layer(Layer::program(path, &path.to_string_lossy())?))
    }

    /// A pause image in Kubernetes' terms: waits forever, reaps, ends at SIGTERM.
    pub fn pause() -> Result<Image> {
        let script = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
        Ok(Image::busybox()?.command(&["/bin/busybox", "sh", "-c", script]))
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Image {
        self.layers.push(layer);
        self
    }

    /// Sets the architecture (`amd64`, `arm64`).
    pub fn architecture(mut self, architecture: &str) -> Image {
        self.architecture = architecture.into();
        self
    }

    /// Sets the command.
    pub fn command(mut self, command: &[&str]) -> Image {
        self.command = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Image {
        let variable = format!("{name}=");
        self.environment.retain(|set| !set.starts_with(&variable));
        self.environment.push(variable + value);
        self
    }

    /// Adds a label. A different label gives a different digest.
    pub fn label(mut self, name: &str, value: &str) -> Image {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Uses OCI media types instead of Docker's.
    pub fn oci(mut self) -> Image {
        self.oci = true;
        self
    }

    /// Pushes it. Blobs that the repository already has are not sent again.
    pub fn push(&self, registry: &Registry, repository: &str, tag: &str) -> Result<Pushed> {
        self.push_with(&registry.client(repository)?, &registry.url(), repository, tag)
    }

    /// As [`Image::push`], to any open registry on plain HTTP: `host` is `127.0.0.1:PORT`.
    pub fn push_plain(&self, host: &str, repository: &str, tag: &str) -> Result<Pushed> {
        self.push_with(&Client::new(None, None)?, &format!("http://{host}"), repository, tag)
    }

    fn push_with(&self, client: &Client, registry_url: &str, repository: &str, tag: &str) -> Result<Pushed> {
        let repository_url = format!("{registry_url}/v2/{repository}");
        let host = registry_url.rsplit('/').next().unwrap_or_default();
        let blobs = self.layers.iter().map(Layer::blob).collect::<Result<Vec<Blob>>>()?;
        for blob in &blobs {
            push_layer(client, &repository_url, blob)?;
        }
        let config = self.config(&blobs);
        let config_digest = digest(&config);
        if !has_blob(client, &repository_url, &config_digest)? {
            let target = upload(client, &repository_url, &config_digest)?;
            client.send("PUT", &target, &[OCTETS], &config)?.expect(201, &target)?;
        }
        let types = if self.oci { &OCI } else { &DOCKER };
        let layers: Vec<Value> = blobs
            .iter()
            .map(|blob| json!({"mediaType": types.layer, "size": blob.size, "digest": blob.digest}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": types.manifest,
            "config": {"mediaType": types.config, "size": config.len(), "digest": config_digest},
            "layers": layers,
        });
        let pushed = Pushed {
            reference: format!("{host}/{repository}:{tag}"),
            repository: repository.into(),
            tag: tag.into(),
            media_type: types.manifest,
            manifest: manifest.to_string().into_bytes(),
            digest: digest(manifest.to_string().as_bytes()),
            layer_sizes: blobs.iter().map(|blob| blob.size).collect(),
            architecture: self.architecture.clone(),
        };
        put_manifest(client, &repository_url, &pushed, tag)?;
        Ok(pushed)
    }

    fn config(&self, blobs: &[Blob]) -> Vec<u8> {
        let history: Vec<Value> = blobs.iter().map(|_| json!({"created": CREATED, "created_by": "testbed"})).collect();
        let diff_ids: Vec<&str> = blobs.iter().map(|blob| blob.diff_id.as_str()).collect();
        json!({
            "created": CREATED, "architecture": self.architecture, "os": "linux",
            "config": {"Entrypoint": self.entrypoint.as_slice(), "Cmd": self.command, "Env": self.environment, "Labels": self.labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        })
        .to_string()
        .into_bytes()
    }
}

impl Pushed {
    /// `127.0.0.1:PORT/repository@sha256:…`.
    pub fn by_digest(&self) -> String {
        let host = self.reference.split('/').next().unwrap_or_default();
        format!("{host}/{}@{}", self.repository, self.digest)
    }

    /// The download size: the sum of its compressed layers, in bytes.
    pub fn size(&self) -> u64 {
        self.layer_sizes.iter().sum()
    }
}

/// Pushes an index (a manifest list, if its images are Docker's) of images or indices that are already in this
/// repository.
pub fn push_index(registry: &Registry, repository: &str, tag: &str, images: &[Pushed]) -> Result<Pushed> {
    let oci = images.iter().any(|image| [OCI.manifest, OCI.index].contains(&image.media_type));
    let types = if oci { &OCI } else { &DOCKER };
    let manifests: Vec<Value> = images
        .iter()
        .map(|image| {
            let mut entry =
                json!({"mediaType": image.media_type, "size": image.manifest.len(), "digest": image.digest});
            // An index inside the index has no platform.
            if !image.architecture.is_empty() {
                entry["platform"] = json!({"architecture": image.architecture, "os": "linux"});
            }
            entry
        })
        .collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": types.index, "manifests": manifests}).to_string().into_bytes();
    let pushed = Pushed {
        reference: format!("{}/{repository}:{tag}", registry.host()),
        repository: repository.into(),
        tag: tag.into(),
        digest: digest(&manifest),
        media_type: types.index,
        manifest,
        layer_sizes: Vec::new(),
        architecture: String::new(),
    };
    put_manifest(&registry.client(repository)?, &format!("{}/v2/{repository}", registry.url()), &pushed, tag)?;
    Ok(pushed)
}

/// Gives an image more tags, in the registry's files: ten thousand take a second, a tenth of the time through its API.
pub fn tag<T: AsRef<str>>(registry: &Registry, image: &Pushed, tags: &[T]) -> Result<()> {
    let folder =
        registry.storage().join("docker/registry/v2/repositories").join(&image.repository).join("_manifests/tags");
    for tag in tags {
        let folder = folder.join(tag.as_ref());
        for entry in ["current".into(), format!("index/{}", image.digest.replace(':', "/"))] {
            let entry = folder.join(entry);
            let write = fs::create_dir_all(&entry).and_then(|()| fs::write(entry.join("link"), &image.digest));
            write.map_err(Error::io(format!("write the tag {}", folder.display())))?;
        }
    }
    Ok(())
}

/// Removes a tag's manifest by its digest, with all other tags of that digest.
pub fn delete(registry: &Registry, image: &Pushed) -> Result<()> {
    let url = format!("{}/v2/{}/manifests/{}", registry.url(), image.repository, image.digest);
    registry.client(&image.repository)?.send("DELETE", &url, &[], b"")?.expect(202, &url).map(drop)
}

struct MediaTypes {
    manifest: &'static str,
    index: &'static str,
    config: &'static str,
    layer: &'static str,
}

/// <https://distribution.github.io/distribution/spec/manifest-v2-2/>
const DOCKER: MediaTypes = MediaTypes {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

/// <https://github.com/opencontainers/image-spec/blob/main/media-types.md>
const OCI: MediaTypes = MediaTypes {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    index: "application/vnd.oci.image.index.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};

/// A constant, so that the same image has the same digest.
const CREATED: &str = "2026-01-01T00:00:00Z";

const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

fn push_layer(client: &Client, repository_url: &str, blob: &Blob) -> Result<()> {
    if has_blob(client, repository_url, &blob.digest)? {
        return Ok(());
    }
    let file = File::open(&blob.path).map_err(Error::io(format!("open {}", blob.path.display())))?;
    let target = upload(client, repository_url, &blob.digest)?;
    client.send_file("PUT", &target, &[OCTETS], &file)?.expect(201, &target).map(drop)
}

fn has_blob(client: &Client, repository_url: &str, digest: &str) -> Result<bool> {
    Ok(client.send("HEAD", &format!("{repository_url}/blobs/{digest}"), &[], b"")?.status == 200)
}

/// Begins an upload and returns the URL to PUT the whole blob to.
fn upload(client: &Client, repository_url: &str, digest: &str) -> Result<String> {
    let url = format!("{repository_url}/blobs/uploads/");
    let answer = client.send("POST", &url, &[], b"")?.expect(202, &url)?;
    let location = answer.header("location");
    let separator = if location.contains('?') { '&' } else { '?' };
    Ok(format!("{location}{separator}digest={digest}"))
}

fn put_manifest(client: &Client, repository_url: &str, image: &Pushed, tag: &str) -> Result<()> {
    let url = format!("{repository_url}/manifests/{tag}");
    client.send("PUT", &url, &[("Content-Type", image.media_type)], &image.manifest)?.expect(201, &url).map(drop)
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", layer::hex(&Sha256::digest(bytes)))
}

/// This machine's architecture in the terms of images.
fn machine_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
