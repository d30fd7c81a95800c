//! Images of JupyterHub and JupyterLab, built from Debian, PyPI and npm without a base image, once for each version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::{Image, Layer, Pushed};
use crate::packages::{self, Part};
use crate::registry::Registry;
use crate::{Error, Result, command, folder};

/// The Hub's version, unless the environment variable [`VERSION`] sets another one.
pub const DEFAULT_VERSION: &str = "5.5.4";
/// The environment variable for another version of the Hub.
pub const VERSION: &str = "TESTBED_JUPYTERHUB";

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/jupyter/build");
const NGINX: &str = "/usr/sbin/nginx";
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// The path of the CA in images that [trust](Jupyter::trusting) one.
pub const AUTHORITY: &str = "/usr/local/share/testbed.pem";

/// The images.
#[derive(Clone, Debug)]
pub struct Jupyter {
    /// JupyterHub with KubeSpawner and oauthenticator, and its proxy.
    pub hub: Image,
    /// JupyterLab and git. Another layer on top gives another version of it.
    pub lab: Image,
}

impl Jupyter {
    /// Finds them, or builds them (about four minutes, once).
    pub fn find_or_build() -> Result<Jupyter> {
        let version = std::env::var_os(VERSION).and_then(|version| version.into_string().ok());
        let version = version.as_deref().filter(|version| !version.is_empty()).unwrap_or(DEFAULT_VERSION);
        let cache = folder::cache()?;
        let lock = cache.join("jupyter.lock");
        let held = File::create(&lock).map_err(Error::io(format!("create {}", lock.display())))?;
        held.lock().map_err(Error::io(format!("wait for another build, which holds {}", lock.display())))?;
        let base = layer(&cache, "base", "", None)?;
        let image = |name: &str, version: &str| {
            let top = layer(&cache, name, version, Some(&base))?;
            let layers = [&base, &top].map(|folder| Layer::archive(&folder.join("layer.tar.gz")));
            let image = Image::new(layers).environment("PATH", &format!("/opt/{name}/bin:{SYSTEM_PATH}"));
            Ok(image.environment("LANG", "C.UTF-8"))
        };
        let lab = image("lab", "")?.command(&["jupyterhub-singleuser"]).environment("SHELL", "/bin/bash");
        Ok(Jupyter { hub: image("hub", version)?, lab })
    }

    /// Both with the certificate of an authority: git trusts it by default, and the Hub where its settings name the file.
    pub fn trusting(self, authority: &str) -> Jupyter {
        let with = |image: Image| image.layer(Layer::files(&[(AUTHORITY, 0o644, authority.as_bytes())]));
        Jupyter { hub: with(self.hub), lab: with(self.lab).environment("GIT_SSL_CAINFO", AUTHORITY) }
    }

    /// Pushes the Hub's image as `hub:1`, and the same with nginx as `nginx:1`.
    pub fn push_hub(&self, registry: &Registry) -> Result<()> {
        packages::require(Part::Nginx)?;
        self.hub.push(registry, "hub", "1")?;
        self.hub.clone().with_program(Path::new(NGINX))?.push(registry, "nginx", "1").map(drop)
    }

    /// Pushes a lab image with this text in `/version`.
    pub fn push_lab(&self, registry: &Registry, tag: &str, version: &str) -> Result<Pushed> {
        let lab = self.lab.clone().layer(Layer::files(&[("/version", 0o644, version.as_bytes())]));
        lab.push(registry, "lab", tag)
    }
}

/// The folder of a layer, built now if needed. Another script gives another layer.
fn layer(cache: &Path, name: &str, version: &str, base: Option<&Path>) -> Result<PathBuf> {
    let script = fs::read(BUILD).map_err(Error::io(format!("read {BUILD}")))?;
    let folder = cache.join(format!("jupyter-{name}{version}-{}", &crate::images::digest(&script)[7..19]));
    if !folder.join("layer.tar.gz").exists() {
        packages::require(Part::Jupyter)?;
        let what = format!("making {} (a minute or two, once)", folder.display());
        let mut build = Command::new(BUILD);
        build.arg(name).arg(&folder);
        if let Some(base) = base {
            build.arg(base).arg(version);
        }
        command::run_long(&mut build, &what)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_and_lab_share_their_base() {
        let jupyter = Jupyter::find_or_build().unwrap();
        let registry = Registry::start().unwrap();
        let hub = jupyter.hub.push(&registry, "hub", "1").unwrap();
        let lab = jupyter.lab.push(&registry, "lab", "1").unwrap();
        assert_eq!(hub.layer_sizes[0], lab.layer_sizes[0]);
        for image in [hub, lab] {
            assert!(image.size() < 250_000_000, "{} has {} bytes", image.reference, image.size());
        }
    }
}
