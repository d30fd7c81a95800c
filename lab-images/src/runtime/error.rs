//! Errors of container runtimes, and what to do about them.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::RuntimeEndpoint;

/// Why a call to a runtime failed.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The setting does not name an endpoint.
    #[error(
        "RUNTIME_ENDPOINT {given:?}: {problem}; write unix:///run/containerd/containerd.sock (CRI) or docker:///var/run/docker.sock"
    )]
    Endpoint { given: String, problem: &'static str },
    /// No endpoint is set, and none of the usual ones answers.
    #[error("no container runtime found; set RUNTIME_ENDPOINT; tried:\n  {}", tried.join("\n  "))]
    NoneFound { tried: Vec<String> },
    /// The socket cannot be used.
    #[error("runtime socket {path}: {problem}")]
    Socket { path: PathBuf, problem: &'static str },
    /// The socket belongs to something other than the runtime that the endpoint names.
    #[error("runtime socket {path} does not speak {protocol} ({reason}); {hint}")]
    Protocol { path: PathBuf, protocol: &'static str, reason: String, hint: &'static str },
    /// The runtime accepted the call and did not answer in time.
    #[error("runtime at {path} gave no answer to {operation} within {} s; is it overloaded or stopped?", limit.as_secs())]
    NoAnswer { path: PathBuf, operation: &'static str, limit: Duration },
    /// The runtime refused a call, or the connection was lost.
    #[error("runtime at {path}: {operation} failed: {message}")]
    Call { path: PathBuf, operation: &'static str, message: String },
    /// A pull failed: the registry, the network, the disk or the image.
    #[error("cannot pull {reference}: {message}")]
    Pull { reference: String, message: String },
    /// A pull succeeded, but the runtime does not list the image: it was removed at once, or the disk is full.
    #[error("{reference} was pulled, but the runtime does not list it; was it removed at once?")]
    Vanished { reference: String },
    /// An image is used by a container. It is never removed by force.
    #[error("image {image} is in use: {message}")]
    InUse { image: String, message: String },
    /// The runtime reported a removal as done, but still lists the image.
    #[error("the runtime reported that it removed {image}, but still lists it")]
    StillListed { image: String },
    /// More than one runtime answers, and none is configured.
    #[error(
        "more than one container runtime answers: {}; set RUNTIME_ENDPOINT to the one that runs the labs",
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    )]
    SeveralFound { found: Vec<RuntimeEndpoint> },
    /// The file system of images cannot be measured.
    #[error(
        "cannot measure the file system of images at {path}: {source}; in a container, mount the folder of the host at the same path"
    )]
    FileSystem { path: PathBuf, source: io::Error },
}

/// Whether a runtime's message says that something uses an image: those of CRI-O, Podman, and Docker (by cri-dockerd).
pub(super) fn means_in_use(message: &str) -> bool {
    ["in use", "is using", "being used", "used by"].iter().any(|words| message.contains(words))
}

/// The innermost cause, because libraries wrap the system's error in texts without information.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_use_are_told_from_others() {
        for (message, in_use) in [
            ("image used by 4f2a: image is in use by a container", true),
            ("image is in use by a container: consider listing external containers", true),
            (
                "conflict: unable to remove repository reference \"lab:1\" (must force) - container 5b1d is using its referenced image 4f2a",
                true,
            ),
            (
                "conflict: unable to delete 4f2a (cannot be forced) - image is being used by running container 5b1d",
                true,
            ),
            ("unlinkat /var/lib/containers: device or resource busy", false),
            ("no such image", false),
        ] {
            assert_eq!(means_in_use(message), in_use, "{message}");
        }
    }
}
