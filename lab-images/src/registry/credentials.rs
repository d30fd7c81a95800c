//! Credentials from a dockerconfigjson, as `docker login` and Kubernetes' pull secrets write it. Read again when it changes.
//!
//! Forms of an entry: `auth` (base64 of `name:password`), `username` and `password`, `identitytoken`. That covers Docker Hub,
//! GHCR, Harbor, Google (`_json_key`, `oauth2accesstoken`) and ECR tokens. Helper programs are not run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sidecar::files::Stamp;
use sidecar::secret::Secret;
use thiserror::Error;

use crate::reference::Repository;
use crate::runtime::PullCredentials;

const MOST_BYTES: u64 = 1024 * 1024;

/// Why a file of credentials can't be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// It could not be read.
    #[error("cannot read REGISTRY_AUTH_FILE {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else. The JSON error has a place and never content.
    #[error(
        "REGISTRY_AUTH_FILE {path} is not a dockerconfigjson: {reason}; make it with docker login or kubectl create secret docker-registry"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What is shown to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Basic { username: String, password: Secret },
    IdentityToken(Secret),
}

/// The credentials of one file.
#[derive(Debug, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    logins: HashMap<String, Login>,
}

impl Credentials {
    /// From this file, or none at all.
    ///
    /// # Errors
    ///
    /// When there is a file and it can't be used.
    pub fn new(file: Option<PathBuf>) -> Result<Self, CredentialsError> {
        let known = match &file {
            Some(path) => Known { stamp: Stamp::of(path), logins: read(path)? },
            None => Known::default(),
        };
        Ok(Self { file, known: Mutex::new(known) })
    }

    /// For a runtime that pulls from this repository.
    pub fn for_pull(&self, repository: &Repository) -> Option<PullCredentials> {
        Some(match self.login(repository)? {
            Login::Basic { username, password } => PullCredentials::Basic { username, password },
            Login::IdentityToken(token) => PullCredentials::IdentityToken(token),
        })
    }

    /// The login for a repository: the entry with the longest path that fits.
    pub(super) fn login(&self, repository: &Repository) -> Option<Login> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let stamp = Stamp::of(path);
            if stamp != known.stamp {
                match read(path) {
                    Ok(logins) => *known = Known { stamp, logins },
                    // The last good ones serve until the file is whole again.
                    Err(error) => tracing::warn!(%error, "the changed credentials are left out"),
                }
            }
        }
        let full = format!("{}/{}", repository.host(), repository.path());
        let fits =
            |key: &&String| full == **key || full.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let best = known.logins.keys().filter(fits).max_by_key(|key| key.len())?;
        known.logins.get(best).cloned()
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

fn read(path: &Path) -> Result<HashMap<String, Login>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let wrong = |reason: String| CredentialsError::Form { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(failed)?.len() > MOST_BYTES {
        return Err(wrong("it is too large".to_owned()));
    }
    let text = std::fs::read(path).map_err(failed)?;
    // Where it is wrong, not what stands there: it may be a password.
    let file: File = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("no JSON of that form at line {}, column {}", error.line(), error.column())))?;
    let mut logins = HashMap::new();
    for (key, entry) in file.auths {
        let login = login(entry).ok_or_else(|| wrong(format!("the entry for {key:?} has no usable auth")))?;
        if let Some(login) = login {
            logins.insert(normalised(&key), login);
        }
    }
    Ok(logins)
}

/// `None` for an entry that can't be read, `Some(None)` for an empty one (`docker login` with a helper leaves such).
fn login(entry: Entry) -> Option<Option<Login>> {
    if !entry.identitytoken.is_empty() {
        return Some(Some(Login::IdentityToken(Secret::new(entry.identitytoken))));
    }
    if !entry.username.is_empty() {
        return Some(Some(Login::Basic { username: entry.username, password: Secret::new(entry.password) }));
    }
    if entry.auth.is_empty() {
        return Some(None);
    }
    let decoded = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    let password = Secret::new(password.trim_end_matches('\0'));
    Some(Some(Login::Basic { username: username.to_owned(), password }))
}

/// `https://index.docker.io/v1/` is Docker Hub's key; others come with or without scheme, version and path.
fn normalised(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let bare = ["/v1", "/v2"].iter().find_map(|version| bare.strip_suffix(version)).unwrap_or(bare);
    let (host, path) = match bare.split_once('/') {
        Some((host, path)) => (host, format!("/{path}")),
        None => (bare, String::new()),
    };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io",
        host => host,
    };
    format!("{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(json: &str) -> Result<(tempfile::TempDir, Credentials), CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Credentials::new(Some(path)).map(|credentials| (folder, credentials))
    }

    fn said(credentials: &Credentials, repository: &str) -> String {
        match credentials.login(&repository.parse().unwrap()) {
            Some(Login::Basic { username, password }) => format!("{username}:{}", password.expose()),
            Some(Login::IdentityToken(token)) => format!("token {}", token.expose()),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn entries_in_all_forms() {
        let (_folder, credentials) = credentials(
            r#"{"auths":{
              "https://index.docker.io/v1/":{"auth":"aHViOnBhc3M6d29yZA=="},
              "ghcr.io":{"username":"me","password":"gh"},
              "europe-docker.pkg.dev":{"username":"_json_key","password":"{\"a\":1}"},
              "registry.example.org:5000":{"identitytoken":"abc"},
              "registry.example.org:5000/special":{"username":"special","password":"x"},
              "https://harbor.example.org/v2/":{"username":"robot$a","password":"h"},
              "helper.example.org":{}},
              "credHelpers":{"x":"y"}}"#,
        )
        .unwrap();
        for (repository, expected) in [
            ("docker.io/owner/lab", "hub:pass:word"),
            ("ghcr.io/a/b", "me:gh"),
            ("europe-docker.pkg.dev/p/r/i", "_json_key:{\"a\":1}"),
            ("registry.example.org:5000/lab", "token abc"),
            ("registry.example.org:5000/special/lab", "special:x"),
            ("registry.example.org:5000/specialist", "token abc"),
            ("harbor.example.org/p/lab", "robot$a:h"),
            ("helper.example.org/lab", "-"),
            ("elsewhere.example.org/lab", "-"),
        ] {
            assert_eq!(said(&credentials, repository), expected, "{repository}");
        }
        assert!(!format!("{credentials:?}").contains("word\""), "{credentials:?}");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not() {
        let (folder, credentials) =
            credentials(r#"{"auths":{"a.example.org":{"username":"u","password":"1"}}}"#).unwrap();
        let path = folder.path().join("config.json");
        let write = |text: &str| sidecar::files::replace(&path, text.as_bytes()).unwrap();
        write(r#"{"auths":{"a.example.org":{"username":"u","password":"2"}}}"#);
        assert_eq!(said(&credentials, "a.example.org/lab"), "u:2");
        write("{");
        assert_eq!(said(&credentials, "a.example.org/lab"), "u:2");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (json, expected) in [
            ("7", "line 1"),
            (r#"{"auths":{"a":{"auth":"hunter2!"}}}"#, "\"a\""),
            (r#"{"auths":{"a":{"auth":7}}}"#, "column"),
        ] {
            let error = credentials(json).err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let error = Credentials::new(Some("/nonexistent/auth".into())).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/auth"), "{error}");
    }
}
