//! Patterns over names of images, for `PURGE_ALLOW` and `PURGE_DENY`.

use std::fmt;
use std::str::FromStr;

use lab_images::reference::{Digest, Reference, ReferenceError, Repository};
use thiserror::Error;

/// Either a whole name, or a repository with all its names, or a name, qualified or short
/// (`docker.io/library/busybox:1`, `busybox:1`), in which `*` matches any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All names of a repository.
    Repository(Repository),
    /// One name.
    Reference(Reference),
    /// A text with `*`.
    Wildcard(String),
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// The name cannot be parsed.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// The pattern matches every image.
    #[error("{0:?} matches every image")]
    Everything(String),
    /// Names contain no white space.
    #[error("{0:?} contains white space")]
    WhiteSpace(String),
    /// An id or a digest alone is not a name.
    #[error("{0:?} is an id or a digest without a repository; write registry.example.org/owner/lab@sha256:…")]
    Digest(String),
}

/// Whether a text is an id of an image or a digest. As a name it would be that of a repository on Docker Hub.
pub fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    format!("sha256:{digits}").parse::<Digest>().is_ok()
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.chars().any(char::is_whitespace) {
            return Err(PatternError::WhiteSpace(text.to_owned()));
        }
        if text.contains('*') {
            let everything = text.chars().all(|c| c == '*');
            return if everything {
                Err(PatternError::Everything(text.into()))
            } else {
                Ok(Self::Wildcard(with_plain_host(text)))
            };
        }
        if is_digest(text) {
            return Err(PatternError::Digest(text.to_owned()));
        }
        // A repository with a port contains a colon too, so the text is parsed as a repository first, and then as a
        // name with a tag.
        match text.parse() {
            Ok(repository) => Ok(Self::Repository(repository)),
            Err(_) => Ok(Self::Reference(text.parse()?)),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => repository.fmt(f),
            Self::Reference(reference) => reference.fmt(f),
            Self::Wildcard(text) => text.fmt(f),
        }
    }
}

impl Pattern {
    /// Whether it matches a name as the runtime writes it.
    pub fn fits(&self, name: &str) -> bool {
        let reference = name.parse::<Reference>().ok();
        match self {
            Self::Repository(repository) => reference.is_some_and(|reference| reference.repository == *repository),
            Self::Reference(wanted) => reference.is_some_and(|reference| reference.decisive() == wanted.decisive()),
            Self::Wildcard(text) => {
                let full = reference.map(|reference| reference.to_string());
                let spellings = full.iter().flat_map(|full| spellings(full));
                wildcard(text, name) || spellings.into_iter().any(|name| wildcard(text, &name))
            }
        }
    }
}

/// A full name, and the short names of Docker Hub, as operators write them: `docker.io/busybox:1`, `library/busybox:1`, `busybox:1`,
/// `owner/lab:1`.
fn spellings(full: &str) -> Vec<String> {
    let mut all = vec![full.to_owned()];
    if let Some(name) = full.strip_prefix("docker.io/") {
        all.push(name.to_owned());
        let library = name.strip_prefix("library/");
        all.extend(library.into_iter().flat_map(|name| [format!("docker.io/{name}"), name.to_owned()]));
    }
    all
}

/// A pattern whose registry, if it has one, is written as in full names: in lower case, and Docker Hub by its usual name.
fn with_plain_host(pattern: &str) -> String {
    match pattern.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) => format!("{}/{rest}", Repository::usual_host(host)),
        _ => pattern.to_owned(),
    }
}

fn wildcard(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let (by_digest, both) = (format!("a.org/x/lab@{digest}"), format!("a.org/x/lab:w_1@{digest}"));
        let table = [
            ("a.org/x/lab:w_1", "a.org/x/lab:w_1", true),
            ("a.org/x/lab:w_1", "a.org/x/lab:w_10", false),
            ("a.org/x/lab", "a.org/x/lab:w_1", true),
            ("a.org/x/lab", &by_digest, true),
            ("lab", "docker.io/library/lab:w_1", true),
            ("lab:w_1", "docker.io/library/lab:w_1", true),
            ("a.org:5000/lab", "a.org:5000/lab:w_1", true),
            ("a.org/x/lab", "a.org/x/laboratory:w_1", false),
            ("a.org/x/lab:w_*", "a.org/x/lab:w_1", true),
            ("a.org/x/lab:w_*", "a.org/x/lab:d_1", false),
            ("*:exp_*", "a.org/x/lab:exp_1", true),
            ("*lab*1", "a.org/x/lab:w_1", true),
            ("*lab*1", "a.org/x/lab:w_2", false),
            ("a*a", "a", false),
            ("lab:w_*", "docker.io/library/lab:w_1", true),
            ("lab:w_*", "lab:w_1", true),
            ("library/lab:w_*", "docker.io/library/lab:w_1", true),
            ("owner/*", "docker.io/owner/lab:w_1", true),
            ("docker.io/library/lab:w_*", "lab:w_1", true),
            ("lab:w_*", "docker.io/owner/lab:w_1", false),
            ("lab:w_*", "a.org/lab:w_1", false),
            ("*/lab:w_*", "a.org/lab:w_1", true),
            ("docker.io/lab:w_*", "docker.io/library/lab:w_1", true),
            ("docker.io/lab:w_*", "docker.io/owner/lab:w_1", false),
            ("index.docker.io/library/lab:w_*", "docker.io/library/lab:w_1", true),
            ("hub.docker.com/owner/*", "docker.io/owner/lab:w_1", true),
            ("Docker.io/owner/lab:W_*", "docker.io/owner/lab:W_1", true),
            ("Registry.Example.org:5000/x/lab:w_*", "registry.example.org:5000/x/lab:w_1", true),
            ("registry.example.org:5000/x/*", "Registry.Example.org:5000/x/lab:w_1", true),
            ("Registry.Example.org/x/lab", "registry.example.org/x/lab:w_1", true),
            ("a.org/lab:W_*", "a.org/lab:w_1", false),
            ("*.example.org/lab:w_*", "registry.example.org/lab:w_1", true),
            ("localhost/lab:*", "localhost/lab:w_1", true),
            ("a.org/x/lab@sha256:*", &by_digest, true),
            (&by_digest, &by_digest, true),
            // A tag beside a digest is a comment.
            (&both, &by_digest, true),
            (&both, "a.org/x/lab:w_1", false),
        ];
        for (pattern, name, fits) in table {
            assert_eq!(pattern.parse::<Pattern>().unwrap().fits(name), fits, "{pattern} {name}");
        }
        for text in ["a b", "*", "**", "", "UPPER", &digest, &digest[7..]] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_any_part_replaced_by_a_star(text in "[a-c:/]{0,12}", from in 0usize..12, to in 0usize..12) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(wildcard(&pattern, &text));
        }
    }
}
