//! Kubernetes' own programs: from the environment, from an earlier build, or built now from their Go modules.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::go::{Programs, are_in};
use crate::{Error, Result};

/// The folder of `go.mod`, `go.sum` and `build`.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");

const PROGRAMS: [&str; 7] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "coredns"];

/// The folder with all of Kubernetes' programs: `KUBEBUILDER_ASSETS` if it has them, else the cache folder, filled now
/// if needed (about ten minutes, once; other processes wait).
pub(super) fn find_or_build() -> Result<PathBuf> {
    if let Some(given) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
        && are_in(&given, &PROGRAMS)
    {
        return Ok(given);
    }
    let kubernetes =
        Programs { name: "kubernetes", version: &version()?, programs: &PROGRAMS, duration: "about 10 minutes" };
    kubernetes.find_or_build(|folder| {
        let mut build = Command::new(Path::new(SOURCE).join("build"));
        build.arg(folder);
        build
    })
}

/// The version in `go.mod`, `v1.34.4`.
fn version() -> Result<String> {
    let path = Path::new(SOURCE).join("go.mod");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")?.split(' ').next());
    version.map(str::to_owned).ok_or_else(|| Error::Missing(format!("{} names no k8s.io/kubernetes", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_module_file() {
        assert!(version().unwrap().starts_with("v1."), "{:?}", version());
    }
}
