//! Images of JupyterHub and JupyterLab, made from Debian, PyPI and npm without a base image, once for each version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::{Image, Layer};
use crate::packages::{self, Part};
use crate::{Error, Result, command, folder};

/// The Hub's version, where the environment variable [`VERSION`] names no other one.
pub const DEFAULT_VERSION: &str = "5.5.4";
/// Names another version of the Hub.
pub const VERSION: &str = "TESTBED_JUPYTERHUB";

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/jupyter/build");
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// What both are made of.
#[derive(Clone, Debug)]
pub struct Jupyter {
    /// JupyterHub with KubeSpawner and oauthenticator, and its proxy.
    pub hub: Image,
    /// JupyterLab, and git. Another layer on top makes another version of it.
    pub lab: Image,
}

impl Jupyter {
    /// Finds them, or makes them (about four minutes, once).
    ///
    /// # Errors
    /// When a package cannot be fetched; the error has what was said.
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
}

/// The folder of a layer, made now if need be. Another script is another layer.
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
    use crate::registry::Registry;

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
