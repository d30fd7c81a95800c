//! Repositories: a registry with its port, and a path below it.

use std::fmt;
use std::str::FromStr;

use super::{ReferenceError, wrong};

/// Docker Hub's name in references.
const DOCKER_HUB: &str = "docker.io";

/// The host of Docker Hub's API.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The length limit of registry and path together, as in common clients.
const MOST_NAME_BYTES: usize = 255;

/// A repository, which has tags.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// A registry's host as names have it: in lower case, and Docker Hub's by its usual one.
    pub fn usual_host(host: &str) -> String {
        match host.to_ascii_lowercase().as_str() {
            "hub.docker.com" | "index.docker.io" | DOCKER_HUB_API => DOCKER_HUB.to_owned(),
            host => host.to_owned(),
        }
    }

    /// The registry's name in references, with its port if it has one: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host of the registry's API. It differs from the registry's name only for Docker Hub.
    pub fn api_host(&self) -> &str {
        if self.host == DOCKER_HUB { DOCKER_HUB_API } else { &self.host }
    }

    /// The path below the registry, without leading or trailing slashes.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem: &'static str| wrong(text, "a repository", problem);
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > MOST_NAME_BYTES {
            return Err(wrong("it has more than 255 bytes"));
        }
        if text.contains("://") {
            return Err(wrong("it begins with a scheme; leave it out"));
        }
        if text.ends_with('/') {
            return Err(wrong("it has a slash at its end; leave it out"));
        }
        if !text.contains('/') && text.contains(['.', ':']) {
            return Err(wrong(
                "it has a registry but no repository, or it has a tag; images with tags belong in LAB_CONTAINER_NAMES",
            ));
        }
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first.starts_with('[') => {
                (first.to_ascii_lowercase(), rest.to_owned())
            }
            _ => (DOCKER_HUB.to_owned(), text.to_owned()),
        };
        if !is_host(&host) {
            return Err(wrong("its registry is not a host name or address with an optional port"));
        }
        let host = Self::usual_host(&host);
        let path = if host == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path };
        if path.contains([':', '@']) {
            return Err(wrong("it names one image; images with a tag or digest belong in LAB_CONTAINER_NAMES"));
        }
        let lower = text.to_lowercase();
        if path.to_lowercase() != path && path.to_lowercase().split('/').all(is_path_component) {
            return Err(super::wrong(text, "a repository", format!("it must be lower-case: {lower}")));
        }
        if !path.split('/').all(is_path_component) {
            return Err(wrong("each part of its path must be lower-case letters and digits, separated by . _ - or __"));
        }
        Ok(Self { host, path })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// Whether this is a host name or address with an optional port, in lower case.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if after.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_in_words = text.starts_with(word) && text.ends_with(word);
    let separators = text.split(word).filter(|between| !between.is_empty());
    let fits = |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
    ends_in_words && separators.into_iter().all(fits)
}
