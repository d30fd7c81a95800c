//! Decides to which repositories an entry of a file of credentials applies.

use crate::reference::Repository;

/// An entry's key, as Docker, containers and Kubernetes write it: `registry.example.org:5000/path`, with or without
/// scheme and version. In the host, `*`, `?` and `[…]` match within one label, as in kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    host: String,
    /// Without leading and trailing slashes; empty for the whole registry.
    path: String,
    /// Whether it is written like the registry's name, without scheme, version and slash.
    plain: bool,
    /// The original text.
    text: String,
}

/// How well a key matches. The greatest is tried first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    path_bytes: usize,
    exact_host: bool,
    plain: bool,
    /// Any fixed order is fine.
    text: std::cmp::Reverse<String>,
}

impl Key {
    /// `https://index.docker.io/v1/` is Docker Hub's key; others come with or without scheme, version and path.
    pub(super) fn new(text: &str) -> Self {
        let bare = text.trim();
        let bare = bare.split_once("://").map_or(bare, |(_scheme, bare)| bare).trim_end_matches('/');
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        // The version of the API, as kubelet leaves it out.
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let has_version = matches!(first, "v1" | "v2");
        let path = if has_version { rest } else { path };
        let host = host.to_ascii_lowercase();
        let host = match host.as_str() {
            "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io".to_owned(),
            _ => host,
        };
        Self {
            host,
            path: path.trim_matches('/').to_owned(),
            plain: bare == text && !has_version,
            text: text.to_owned(),
        }
    }

    /// `None` if it is for other repositories.
    pub(super) fn fits(&self, repository: &Repository) -> Option<Fit> {
        let path = repository.path();
        let below = self.path.is_empty()
            || path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let exact_host = self.host == repository.host();
        (below && (exact_host || host_matches(&self.host, repository.host()))).then(|| Fit {
            path_bytes: self.path.len(),
            exact_host,
            plain: self.plain,
            text: std::cmp::Reverse(self.text.clone()),
        })
    }

    /// Whether it is for a part of a registry.
    pub(super) fn has_path(&self) -> bool {
        !self.path.is_empty()
    }
}

/// Whether a host matches a pattern: label by label, with the same port.
pub(in crate::registry) fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.starts_with('[') || host.starts_with('[') {
        return pattern == host;
    }
    let port = |text: &str| {
        text.split_once(':').map_or((text.to_owned(), None), |(name, port)| (name.to_owned(), Some(port.to_owned())))
    };
    let ((pattern, pattern_port), (host, host_port)) = (port(pattern), port(host));
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == host_port
        && patterns.len() == labels.len()
        && patterns.iter().zip(&labels).all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
}

/// `*` matches any letters, `?` one, `[a-c]` or `[^a-c]` one of a set. A set without an end matches nothing.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where to continue if the text after the last star does not match: one letter further. The time is at most length
    // times length.
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(at), text.get(read)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((at + 1, read));
                at += 1;
                continue;
            }
            (Some(b'['), Some(letter)) => set(&pattern[at + 1..], *letter).map(|length| length + 1),
            (Some(b'?'), Some(_)) => Some(1),
            (Some(expected), Some(letter)) if expected == letter => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(step), _) => (at, read) = (at + step, read + 1),
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                (at, read) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The length of a set with its closing bracket, if the letter is in it.
fn set(pattern: &[u8], letter: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let (inside, negated) = match pattern[..end].strip_prefix(b"^") {
        Some(rest) => (rest, true),
        None => (&pattern[..end], false),
    };
    let mut left = inside;
    let mut found = false;
    while let Some((first, rest)) = left.split_first() {
        left = match rest {
            [b'-', last, after @ ..] => {
                found |= (*first..=*last).contains(&letter);
                after
            }
            _ => {
                found |= *first == letter;
                rest
            }
        };
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_matched_label_by_label_as_kubelet_does() {
        for (pattern, host, expected) in [
            ("*.example.org", "registry.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.b.example.org", false),
            ("*.*.example.org", "a.b.example.org", true),
            ("reg*.example.org", "registry.example.org", true),
            ("*try.example.org", "registry.example.org", true),
            ("r*i*y.example.org", "registry.example.org", true),
            ("r?gistry.example.org", "registry.example.org", true),
            ("r[a-f]gistry.example.org", "registry.example.org", true),
            ("r[^a-f]gistry.example.org", "registry.example.org", false),
            ("r[a-f.example.org", "registry.example.org", false),
            ("*.azurecr.*", "mine.azurecr.io", true),
            ("*.example.org:5000", "registry.example.org:5000", true),
            ("*.example.org", "registry.example.org:5000", false),
            ("*.example.org:5000", "registry.example.org", false),
            ("127.*.0.1:5000", "127.0.0.1:5000", true),
            ("*", "docker.io", false),
            ("[::1]:5000", "[::1]:5000", true),
        ] {
            assert_eq!(host_matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn keys_are_understood_as_kubelet_and_docker_write_them() {
        let repository: Repository = "registry.example.org:5000/group/lab".parse().unwrap();
        for text in [
            "registry.example.org:5000",
            "HTTPS://Registry.example.org:5000",
            "http://registry.example.org:5000/v2/",
            "registry.example.org:5000/v1",
            "https://registry.example.org:5000/v2/group",
            "registry.example.org:5000/v1/group/lab/",
            "registry.example.org:5000/group//",
        ] {
            assert!(Key::new(text).fits(&repository).is_some(), "{text}");
        }
        for text in [
            "registry.example.org",
            "registry.example.org:5000/v2/other",
            "registry.example.org:5000/gro",
            "registry.example.org:5000/v3",
            "https://index.docker.io/v1/access-token",
            "",
        ] {
            assert!(Key::new(text).fits(&repository).is_none(), "{text}");
        }
    }

    #[test]
    fn the_most_specific_key_comes_first() {
        let repository: Repository = "registry.example.org/group/lab".parse().unwrap();
        let mut keys: Vec<Key> = [
            "*.example.org",
            "https://registry.example.org/v2/",
            "registry.example.org/group",
            "registry.example.org",
            "registry.example.org/group/lab",
            "*.example.org/group",
            "https://registry.example.org",
            "registry.example.org/gro",
            "registry.example.net",
        ]
        .map(Key::new)
        .into();
        keys.retain(|key| key.fits(&repository).is_some());
        keys.sort_by_key(|key| std::cmp::Reverse(key.fits(&repository)));
        let order: Vec<&str> = keys.iter().map(|key| key.text.as_str()).collect();
        assert_eq!(
            order,
            [
                "registry.example.org/group/lab",
                "registry.example.org/group",
                "*.example.org/group",
                "registry.example.org",
                "https://registry.example.org",
                "https://registry.example.org/v2/",
                "*.example.org",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic_or_hang(pattern in "[a-c*?\\[\\]^-]{0,30}", text in "[a-c]{0,60}") {
            let _ = glob(pattern.as_bytes(), text.as_bytes());
        }
    }
}
