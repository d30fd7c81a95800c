//! The socket of a runtime: parses the setting, lists the usual places, and explains what is wrong with a socket.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::UnixStream;

use super::RuntimeError;

/// cri-dockerd, which serves Docker's images over CRI.
const CRI_DOCKERD: &str = "/run/cri-dockerd.sock";

/// Podman's service, which speaks the Docker engine's API.
const PODMAN: &str = "/run/podman/podman.sock";

/// The socket of a container runtime and its protocol (`RUNTIME_ENDPOINT`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEndpoint {
    /// CRI v1 (containerd, k3s, CRI-O): `unix:///run/containerd/containerd.sock`.
    Cri(PathBuf),
    /// The Docker engine's API: `docker:///var/run/docker.sock`.
    Docker(PathBuf),
}

impl RuntimeEndpoint {
    /// The usual sockets. If two serve the same images, the one that sees more of them comes first.
    pub fn usual() -> Vec<Self> {
        let cri = |path: &str| Self::Cri(path.into());
        let docker = |path: &str| Self::Docker(path.into());
        vec![
            cri("/run/containerd/containerd.sock"),
            cri("/run/k3s/containerd/containerd.sock"),
            cri("/run/k0s/containerd.sock"),
            cri("/var/snap/microk8s/common/run/containerd.sock"),
            cri("/run/crio/crio.sock"),
            docker("/var/run/docker.sock"),
            cri(CRI_DOCKERD),
            docker(PODMAN),
        ]
    }

    /// Whether both serve the images of one store: cri-dockerd serves Docker's images, and CRI-O and Podman share
    /// theirs.
    pub(super) fn shares_images_with(&self, other: &Self) -> bool {
        let pair = |one: &Self, another: &Self| {
            (matches!(one, Self::Docker(path) if path != Path::new(PODMAN)) && another.path() == Path::new(CRI_DOCKERD))
                || (one.path() == Path::new("/run/crio/crio.sock") && another.path() == Path::new(PODMAN))
        };
        pair(self, other) || pair(other, self)
    }

    /// Identifies the socket, because the same one may have two paths, by a link or a mount.
    pub(super) fn socket(&self) -> Option<(u64, u64)> {
        std::fs::metadata(self.path()).ok().map(|found| (found.dev(), found.ino()))
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Cri(path) | Self::Docker(path) => path,
        }
    }
}

impl FromStr for RuntimeEndpoint {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let wrong = |problem| RuntimeError::Endpoint { given: text.to_owned(), problem };
        let (scheme, path) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !path.starts_with('/') || path.contains('\0') {
            return Err(wrong("it has no absolute path"));
        }
        match scheme {
            "unix" => Ok(Self::Cri(path.into())),
            "docker" => Ok(Self::Docker(path.into())),
            _ => Err(wrong("its scheme is neither unix nor docker")),
        }
    }
}

impl fmt::Display for RuntimeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cri(path) => write!(f, "unix://{}", path.display()),
            Self::Docker(path) => write!(f, "docker://{}", path.display()),
        }
    }
}

/// Checks a socket: examines the file, and connects once.
///
/// # Errors
///
/// What is wrong, and what to do.
pub(super) async fn check_socket(path: &Path) -> Result<(), RuntimeError> {
    let wrong = |problem| RuntimeError::Socket { path: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(wrong(
                "it is a folder (a volume mount of a missing socket creates one); remove it or correct RUNTIME_ENDPOINT",
            ));
        }
        Ok(found) if found.is_file() => {
            return Err(wrong("it is a plain file and not a socket; correct RUNTIME_ENDPOINT"));
        }
        _ => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(match error.kind() {
            ErrorKind::NotFound => "it does not exist; is the runtime running, and its folder mounted here?",
            ErrorKind::PermissionDenied => "permission denied; run as root or in the socket's group",
            ErrorKind::ConnectionRefused => "no process listens on it; is the runtime running?",
            _ => "cannot connect to it; correct RUNTIME_ENDPOINT",
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_parse_and_print() {
        let table = [
            ("unix:///run/containerd/containerd.sock", RuntimeEndpoint::Cri("/run/containerd/containerd.sock".into())),
            ("docker:///var/run/docker.sock", RuntimeEndpoint::Docker("/var/run/docker.sock".into())),
        ];
        for (text, endpoint) in table {
            assert_eq!(text.parse::<RuntimeEndpoint>().unwrap(), endpoint);
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn errors_of_bad_endpoints_suggest_what_to_write() {
        for text in ["", "/run/containerd.sock", "unix://run/x.sock", "tcp://1.2.3.4:2375", "unix://", "unix:///a\0b"] {
            let error = text.parse::<RuntimeEndpoint>().unwrap_err().to_string();
            assert!(error.contains("RUNTIME_ENDPOINT") && error.contains("docker:///var/run/docker.sock"), "{error}");
        }
    }

    #[test]
    fn only_two_paths_to_the_same_images_are_a_pair() {
        let usual = RuntimeEndpoint::usual();
        let mut pairs = Vec::new();
        for (number, one) in usual.iter().enumerate() {
            for other in &usual[number + 1..] {
                assert_eq!(one.shares_images_with(other), other.shares_images_with(one));
                if one.shares_images_with(other) {
                    pairs.push(format!("{one} {other}"));
                }
            }
        }
        assert_eq!(
            pairs,
            [
                "unix:///run/crio/crio.sock docker:///run/podman/podman.sock",
                "docker:///var/run/docker.sock unix:///run/cri-dockerd.sock"
            ]
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_prints_the_same(text in "\\PC*|(unix|docker)://\\PC*") {
            if let Ok(endpoint) = text.parse::<RuntimeEndpoint>() {
                prop_assert_eq!(endpoint.to_string(), text);
            }
        }
    }
}
