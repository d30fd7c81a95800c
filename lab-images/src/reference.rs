//! Names of images: repository, tag, digest, reference, platform.
//!
//! The grammar is that of the OCI distribution specification 1.1 ("Pulling manifests") and of the Docker reference
//! format:
//! `registry/owner/name:tag@digest`, where a first part without a dot or colon that is not `localhost` is not a
//! registry but the beginning of a Docker Hub name.

mod digest;
mod platform;
mod repository;
mod tag;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub use self::digest::Digest;
pub use self::platform::Platform;
pub use self::repository::Repository;
pub(crate) use self::repository::is_host;
pub use self::tag::TagName;

/// Why a text is not the name of an image.
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

/// An image in a repository, by tag, by digest, or both. Without either, the tag is set to `latest`.
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

    /// The part that identifies the image: the digest if there is one, without the tag beside it.
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
            (None, None) => Some(TagName::latest()),
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

/// In JSON these are strings.
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
    fn errors_name_what_is_wrong() {
        let long = format!("registry.example.org/{}", "a".repeat(250));
        for (text, expected) in [
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
            assert!(error.contains(expected) && error.contains("an example is"), "{text:?}: {error}");
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
        fn displayed_references_parse_again(
            text in "([a-z]{1,5}\\.[a-z]{1,5}(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?"
        ) {
            // A name with a dot and without a slash is parsed as a registry without a repository.
            prop_assume!(text.contains('/') || !text.split(':').next().unwrap().contains('.'));
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }
    }
}
