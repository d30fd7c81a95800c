//! Names of images: repository, tag, digest, reference, platform.
//!
//! The grammar is that of the OCI distribution specification 1.1 ("Pulling manifests") and of the Docker reference format:
//! `registry/owner/name:tag@digest`, where a first part without a dot, colon or the word `localhost` is no registry but the
//! beginning of a Docker Hub name.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Docker Hub as references name it.
const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub answers.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// Registry and path together, as common clients limit them.
const MOST_NAME_BYTES: usize = 255;

/// A tag, by the specification.
const MOST_TAG_BYTES: usize = 128;

/// Why a text names no image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{given:?} is not {wanted}: {problem}; an example is {example}")]
pub struct ReferenceError {
    given: String,
    wanted: &'static str,
    problem: Cow<'static, str>,
    example: &'static str,
}

fn wrong(given: &str, wanted: &'static str, problem: impl Into<Cow<'static, str>>) -> ReferenceError {
    let example = match wanted {
        "a repository" => "registry.example.org/owner/lab",
        "a tag" => "w_2026_47",
        "a digest" => "sha256: and 64 hexadecimal digits",
        "a platform" => "linux/amd64",
        _ => "registry.example.org/owner/lab:w_2026_47",
    };
    let mut given = given.to_owned();
    if let Some((end, _)) = given.char_indices().nth(300) {
        given.truncate(end);
    }
    ReferenceError { given, wanted, problem: problem.into(), example }
}

/// A repository: where tags are listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The registry as references name it, with its port if it has one: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where the registry's API answers: the host, but for Docker Hub.
    pub fn api_host(&self) -> &str {
        if self.host == DOCKER_HUB { DOCKER_HUB_API } else { &self.host }
    }

    /// The path below the registry, without slashes at its ends.
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
            return Err(wrong("it begins with a scheme, which does not belong there"));
        }
        if text.ends_with('/') {
            return Err(wrong("it has a slash at its end; leave it out"));
        }
        if !text.contains('/') && text.contains(['.', ':']) {
            return Err(wrong("it has a registry and no repository, or a tag, which belongs into LAB_CONTAINER_NAMES"));
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
        let host = match host.as_str() {
            "hub.docker.com" | "index.docker.io" | DOCKER_HUB_API => DOCKER_HUB.to_owned(),
            _ => host,
        };
        let path = if host == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path };
        if path.contains([':', '@']) {
            return Err(wrong("it names one image; an image with a tag or digest belongs into LAB_CONTAINER_NAMES"));
        }
        let lower = text.to_lowercase();
        if path.to_lowercase() != path && path.to_lowercase().split('/').all(is_path_component) {
            return Err(self::wrong(
                text,
                "a repository",
                format!("registries know no upper case; its lower-case form is {lower}"),
            ));
        }
        if !path.split('/').all(is_path_component) {
            return Err(wrong(
                "each part of its path must be lower-case letters and digits, with single . _ - or __ between",
            ));
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

/// A tag that a registry can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagName(String);

impl TagName {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem: &'static str| wrong(text, "a tag", problem);
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > MOST_TAG_BYTES {
            return Err(wrong("it has more than 128 bytes"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !text.chars().all(fits) || text.starts_with(['.', '-']) {
            return Err(wrong("it may have letters, digits, _ . and -, and must not begin with . or -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TagName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A digest of content: `sha256:…` or `sha512:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// The digest with its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The algorithm: `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem: &'static str| wrong(text, "a digest", problem);
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| wrong("it has no algorithm"))?;
        let digits = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(wrong("its algorithm is neither sha256 nor sha512")),
        };
        if hex.len() != digits || !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
            return Err(wrong("it has not as many lower-case hexadecimal digits as its algorithm gives"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image in a repository, by tag, by digest, or both. Without either it means the tag `latest`, which is then filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Option<TagName>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// An image by its tag.
    pub fn by_tag(repository: Repository, tag: TagName) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// The part that decides which image it is: the digest where there is one, without the tag beside it.
    pub fn decisive(&self) -> Self {
        let tag = self.tag.clone().filter(|_| self.digest.is_none());
        Self { tag, ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let tag_at = name.rfind(':').filter(|colon| name.rfind('/').is_none_or(|slash| slash < *colon));
        let (repository, tag) = match tag_at {
            Some(colon) => (&name[..colon], Some(name[colon + 1..].parse()?)),
            None => (name, None),
        };
        let repository = repository.parse()?;
        let tag = match (tag, &digest) {
            (None, None) => Some(TagName("latest".to_owned())),
            (tag, _) => tag,
        };
        Ok(Self { repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// What an image runs on, in the words of the OCI image index (`platform`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, … where the architecture has variants.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this machine, in OCI terms.
    pub fn of_this_machine() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }
}

impl FromStr for Platform {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(wrong(text, "a platform", "its parts are words with a slash between"));
        }
        match parts[..] {
            [os, architecture] => Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None }),
            [os, architecture, variant] => {
                Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: Some(variant.to_owned()) })
            }
            _ => Err(wrong(text, "a platform", "it has two or three parts")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// These are texts in JSON.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Repository, TagName, Digest, Reference, Platform);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn short_forms_are_filled_in() {
        for (text, full) in [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("lsstsqre/jld-lab", "docker.io/lsstsqre/jld-lab:latest"),
            ("hub.docker.com/lsstsqre/jld-lab:w_2017_47", "docker.io/lsstsqre/jld-lab:w_2017_47"),
            ("index.docker.io/ubuntu:1", "docker.io/library/ubuntu:1"),
            ("localhost/lab", "localhost/lab:latest"),
            ("127.0.0.1:5000/lab:d_2026_11_22", "127.0.0.1:5000/lab:d_2026_11_22"),
            ("[::1]:5000/owner/lab:1", "[::1]:5000/owner/lab:1"),
            ("Registry.Example.org/a/b/c__d-e.f:X_1.2-3", "registry.example.org/a/b/c__d-e.f:X_1.2-3"),
        ] {
            assert_eq!(read(text), full);
        }
        let by_digest = format!("registry.example.org/lab@{DIGEST}");
        assert_eq!(read(&by_digest), by_digest);
        let both = format!("registry.example.org/lab:w_1@{DIGEST}");
        assert_eq!(read(&both), both);
    }

    #[test]
    fn docker_hub_answers_elsewhere() {
        let repository: Repository = "docker.io/owner/lab".parse().unwrap();
        assert_eq!((repository.host(), repository.api_host()), ("docker.io", "registry-1.docker.io"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = format!("registry.example.org/{}", "a".repeat(250));
        for (text, said) in [
            ("", "empty"),
            ("https://registry.example.org/lab", "scheme"),
            ("registry.example.org/Lab", "lower-case"),
            ("registry.example.org/a//b", "lower-case"),
            ("registry.example.org/a___b", "lower-case"),
            ("registry.example.org/-a", "lower-case"),
            ("registry.example.org:0/a", "port"),
            ("registry.example.org:99999/a", "port"),
            ("[::x]:5000/a", "registry"),
            ("-x.example.org/a", "registry"),
            ("registry.example.org/a:", "empty"),
            ("registry.example.org/a:-x", "begin"),
            ("registry.example.org/a:w\n1", "letters"),
            ("registry.example.org/a@sha256:00", "digits"),
            ("registry.example.org/a@md5:00", "sha512"),
            ("registry.example.org/a@x", "algorithm"),
            (&long, "255"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("an example is"), "{text:?}: {error}");
        }
        assert!("a".repeat(129).parse::<TagName>().unwrap_err().to_string().contains("128"));
    }

    #[test]
    fn platforms() {
        let arm: Platform = "linux/arm64/v8".parse().unwrap();
        assert_eq!((arm.architecture.as_str(), arm.variant.as_deref()), ("arm64", Some("v8")));
        assert_eq!(arm.to_string(), "linux/arm64/v8");
        for text in ["linux", "linux/", "a/b/c/d", "linux/am d"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = (text.parse::<Reference>(), text.parse::<Platform>());
        }

        #[test]
        fn what_is_shown_is_read_again(
            text in "([a-z]{1,5}\\.[a-z]{1,5}(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?"
        ) {
            // A name with a dot and no slash is taken for a registry without a repository.
            prop_assume!(text.contains('/') || !text.split(':').next().unwrap().contains('.'));
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }
    }
}
