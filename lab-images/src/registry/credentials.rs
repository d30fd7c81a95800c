//! Credentials for registries, in the files of Docker, containers and Kubernetes. Files are read again when they
//! change.
//!
//! Forms of an entry: `auth` (base64 of `name:password`), `username` and `password`, `identitytoken`, `registrytoken`.
//! That covers Docker Hub, GHCR, Harbor, Google (`_json_key`, `oauth2accesstoken`) and ECR tokens. Helper programs run
//! on a single host only: in a cluster there are none, and a node's agent does not run foreign programs.

mod file;
mod helper;
mod key;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sidecar::files::Stamp;
use sidecar::secret::Secret;
use sidecar::sync::lock;

use crate::reference::Repository;
use crate::runtime::PullCredentials;
use file::Contents;
use key::Fit;

pub use file::CredentialsError;
pub(super) use key::host_matches;

/// How long a helper's answer is used. ECR's passwords live for hours, and a refused one is requested again at once.
const HELPER_LIFE: Duration = Duration::from_secs(300);

/// The key of Docker Hub for helpers.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// The sources of credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSources {
    /// Dockerconfigjson files; credentials of an earlier one are tried first.
    pub files: Vec<PathBuf>,
    /// Whether the files come from a setting. Then they must exist and be valid.
    pub required: bool,
    /// Whether helper programs may be run (`credsStore`, `credHelpers`).
    pub run_helpers: bool,
}

/// The login for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Basic {
        username: String,
        password: Secret,
    },
    /// Exchanged for a token (OAuth2).
    IdentityToken(Secret),
    /// Sent unchanged.
    RegistryToken(Secret),
}

impl Login {
    fn new(username: &str, password: &str) -> Self {
        Self::Basic { username: username.to_owned(), password: Secret::new(password) }
    }
}

/// The credentials of some files.
#[derive(Debug, Default)]
pub struct Credentials {
    sources: CredentialSources,
    files: Mutex<HashMap<PathBuf, Loaded>>,
    /// The helpers' answers, by program and server.
    helped: Mutex<HashMap<(String, String), Helped>>,
    /// The logins that registries last accepted, which are tried first.
    accepted: Mutex<HashMap<Repository, Login>>,
    warned: Mutex<HashSet<String>>,
}

/// The time and the result of a helper's answer.
type Helped = (Instant, Result<Option<Login>, String>);

#[derive(Debug, Default)]
struct Loaded {
    stamp: Option<Stamp>,
    contents: Contents,
}

impl Credentials {
    /// Reads these sources.
    ///
    /// # Errors
    ///
    /// If a configured file is invalid. Problems of other files are only logged.
    pub fn new(sources: CredentialSources) -> Result<Self, CredentialsError> {
        let credentials = Self { sources, ..Self::default() };
        for path in &credentials.sources.files {
            let stamp = Stamp::of(path);
            match file::read(path) {
                Ok(contents) => credentials.take(path, Loaded { stamp, contents }),
                Err(error) if credentials.sources.required => return Err(error),
                Err(_) if stamp.is_none() => {}
                Err(error) => credentials.warn(error.to_string()),
            }
        }
        Ok(credentials)
    }

    /// The credentials for a runtime that pulls from this repository: all that match, the last accepted one first, then
    /// the best ones, in kubelet's order.
    pub async fn for_pulls(&self, repository: &Repository) -> Vec<PullCredentials> {
        let logins = self.logins(repository).await.into_iter();
        let usable = logins.filter_map(|login| match login {
            Login::Basic { username, password } => Some(PullCredentials::Basic { username, password }),
            Login::IdentityToken(token) => Some(PullCredentials::IdentityToken(token)),
            // CRI runtimes do not accept it.
            Login::RegistryToken(_) => None,
        });
        usable.collect()
    }

    /// A registry accepted these credentials from a runtime. They are tried first from now on.
    pub fn pulled_with(&self, repository: &Repository, credentials: &PullCredentials) {
        let login = match credentials.clone() {
            PullCredentials::Basic { username, password } => Login::Basic { username, password },
            PullCredentials::IdentityToken(token) => Login::IdentityToken(token),
        };
        self.accept(repository, &login);
    }

    /// The logins for a repository, the best first: the last accepted one; then, file by file, entries for a part of
    /// the registry, a helper's answer, and entries for the whole registry.
    pub(super) async fn logins(&self, repository: &Repository) -> Vec<Login> {
        self.read_again();
        let mut logins = Vec::new();
        for path in &self.sources.files {
            let (mut entries, helper) = self.known_in(path, repository);
            entries.sort_by(|(one, _, _), (other, _, _)| other.cmp(one));
            let (parts, whole): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, has_path, _)| *has_path);
            logins.extend(parts.into_iter().map(|(_, _, login)| login));
            if let Some(helper) = helper.filter(|_| self.sources.run_helpers) {
                logins.extend(self.helped(&helper, repository).await);
            }
            logins.extend(whole.into_iter().map(|(_, _, login)| login));
        }
        let accepted = lock(&self.accepted).get(repository).cloned();
        if let Some(place) = accepted.and_then(|accepted| logins.iter().position(|login| *login == accepted)) {
            logins[..=place].rotate_right(1);
        }
        let mut different = Vec::new();
        for login in logins {
            if !different.contains(&login) {
                different.push(login);
            }
        }
        different
    }

    /// A registry accepted this login.
    pub(super) fn accept(&self, repository: &Repository, login: &Login) {
        let mut accepted = lock(&self.accepted);
        if accepted.get(repository) != Some(login) {
            accepted.insert(repository.clone(), login.clone());
        }
    }

    /// A registry refused a login, so helpers are asked again.
    pub(super) fn refuse(&self, repository: &Repository, login: &Login) {
        let mut accepted = lock(&self.accepted);
        if accepted.get(repository) == Some(login) {
            accepted.remove(repository);
        }
        lock(&self.helped).retain(|_, (_, answer)| !answer.as_ref().is_ok_and(|answer| answer.as_ref() == Some(login)));
    }

    /// What to do about a registry that refuses access.
    pub(super) fn hint(&self, repository: &Repository, refused: bool) -> String {
        let host = repository.host();
        let place = match self.sources.files.as_slice() {
            [file] if self.sources.required => format!("REGISTRY_AUTH_FILE {}", file.display()),
            _ => "REGISTRY_AUTH_FILE".to_owned(),
        };
        let mut hint = match refused {
            true => format!("the credentials for {host} were refused: renew them in {place}"),
            false => format!("put credentials for {host} that may pull into {place}"),
        };
        let files = lock(&self.files);
        for (path, loaded) in files.iter() {
            let notes = loaded.contents.notes.iter().filter(|(key, _)| key.fits(repository).is_some());
            for (_, note) in notes {
                hint += &format!("; in {} {note}", path.display());
            }
            if let Some(named) = loaded.contents.named_helpers().filter(|_| !self.sources.run_helpers) {
                hint += &format!("; {} names {named}, and helper programs are not run in a cluster", path.display());
            }
        }
        for ((_, server), (_, answer)) in lock(&self.helped).iter() {
            if let Err(error) = answer
                && *server == server_of(repository)
            {
                hint += &format!("; {error}");
            }
        }
        hint
    }

    fn known_in(&self, path: &Path, repository: &Repository) -> (Vec<(Fit, bool, Login)>, Option<String>) {
        let files = lock(&self.files);
        let Some(Loaded { contents, .. }) = files.get(path) else { return (Vec::new(), None) };
        let fitting = |(key, login): &(key::Key, Login)| Some((key.fits(repository)?, key.has_path(), login.clone()));
        let entries = contents.entries.iter().filter_map(fitting).collect();
        let helpers = contents.helpers.iter().filter_map(|(key, name)| Some((key.fits(repository)?, name)));
        let helper = helpers.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, name)| name.clone());
        (entries, helper.or_else(|| contents.store.clone()))
    }

    async fn helped(&self, helper: &str, repository: &Repository) -> Option<Login> {
        let key = (helper.to_owned(), server_of(repository));
        let known = lock(&self.helped).get(&key).cloned();
        let answer = match known.filter(|(at, _)| at.elapsed() < HELPER_LIFE) {
            Some((_, answer)) => answer,
            None => {
                let answer = helper::ask(helper, &key.1).await;
                lock(&self.helped).insert(key, (Instant::now(), answer.clone()));
                answer
            }
        };
        answer.unwrap_or_else(|error| {
            let host = repository.host();
            self.warn(format!(
                "credsStore or credHelpers has the credentials for {host}, but the helper failed: {error}"
            ));
            None
        })
    }

    /// Reads files that changed. While a file is invalid, its last good content is used.
    fn read_again(&self) {
        for path in &self.sources.files {
            let stamp = Stamp::of(path);
            if lock(&self.files).get(path).map_or(stamp.is_none(), |loaded| loaded.stamp == stamp) {
                continue;
            }
            match file::read(path) {
                Ok(contents) => self.take(path, Loaded { stamp, contents }),
                Err(error) => self.warn(format!("ignoring the changed credentials: {error}")),
            }
        }
    }

    fn take(&self, path: &Path, loaded: Loaded) {
        for (_, note) in &loaded.contents.notes {
            self.warn(format!("in {}, {note}", path.display()));
        }
        if let Some(named) = loaded.contents.named_helpers().filter(|_| !self.sources.run_helpers) {
            self.warn(format!(
                "{} names {named}; helper programs are not run in a cluster: put names and passwords into auths",
                path.display()
            ));
        }
        lock(&self.files).insert(path.to_owned(), loaded);
    }

    /// Logs each warning once.
    fn warn(&self, warning: String) {
        if lock(&self.warned).insert(warning.clone()) {
            tracing::warn!("{warning}");
        }
    }
}

/// The registry's name for helpers.
fn server_of(repository: &Repository) -> String {
    match repository.host() {
        "docker.io" => DOCKER_HUB_SERVER.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(json: &str) -> (tempfile::TempDir, Credentials) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        let sources = CredentialSources { files: vec![path], required: true, run_helpers: false };
        let credentials = Credentials::new(sources).unwrap();
        (folder, credentials)
    }

    async fn shown(credentials: &Credentials, repository: &str) -> String {
        let show = |login| match login {
            Login::Basic { username, password } => format!("{username}:{}", password.expose()),
            Login::IdentityToken(token) => format!("token {}", token.expose()),
            Login::RegistryToken(token) => format!("registry token {}", token.expose()),
        };
        let logins = credentials.logins(&repository.parse().unwrap()).await;
        logins.into_iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[tokio::test]
    async fn entries_in_all_forms() {
        let (_folder, credentials) = credentials(
            r#"{"auths":{
              "https://index.docker.io/v1/":{"auth":"aHViOnBhc3M6d29yZA=="},
              "ghcr.io":{"username":"me","password":"gh"},
              "europe-docker.pkg.dev":{"username":"_json_key","password":"{\"a\":1}"},
              "registry.example.org:5000":{"identitytoken":"abc"},
              "registry.example.org:5000/special":{"username":"special","password":"x"},
              "https://harbor.example.org/v2/":{"username":"robot$a","password":"h"},
              "*.azurecr.*":{"registrytoken":"t"},
              "helper.example.org":{}},
              "credHelpers":{"x":"y"}}"#,
        );
        for (repository, expected) in [
            ("docker.io/owner/lab", "hub:pass:word"),
            ("ghcr.io/a/b", "me:gh"),
            ("europe-docker.pkg.dev/p/r/i", "_json_key:{\"a\":1}"),
            ("registry.example.org:5000/lab", "token abc"),
            ("registry.example.org:5000/special/lab", "special:x, token abc"),
            ("registry.example.org:5000/specialist", "token abc"),
            ("harbor.example.org/p/lab", "robot$a:h"),
            ("mine.azurecr.io/lab", "registry token t"),
            ("helper.example.org/lab", ""),
            ("elsewhere.example.org/lab", ""),
        ] {
            assert_eq!(shown(&credentials, repository).await, expected, "{repository}");
        }
        assert!(!format!("{credentials:?}").contains("word\""), "{credentials:?}");
        let hint = credentials.hint(&"helper.example.org/lab".parse().unwrap(), false);
        assert!(hint.contains("credHelpers \"y\"") && hint.contains("not run in a cluster"), "{hint}");
    }

    #[tokio::test]
    async fn an_accepted_login_comes_first_until_it_is_refused() {
        let (_folder, credentials) = credentials(
            r#"{"auths":{"a.example.org":{"username":"u","password":"1"},"https://a.example.org":{"username":"u","password":"2"}}}"#,
        );
        let repository = "a.example.org/lab".parse().unwrap();
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:1, u:2");
        credentials.accept(&repository, &Login::new("u", "2"));
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:2, u:1");
        credentials.refuse(&repository, &Login::new("u", "2"));
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:1, u:2");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not() {
        let (folder, credentials) = credentials(r#"{"auths":{"a.example.org":{"username":"u","password":"1"}}}"#);
        let path = folder.path().join("config.json");
        let write = |text: &str| sidecar::files::replace(&path, text.as_bytes()).unwrap();
        write(r#"{"auths":{"a.example.org":{"username":"u","password":"2"}}}"#);
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:2");
        write("{");
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:2");
    }

    #[tokio::test]
    async fn unconfigured_files_may_be_missing_or_broken_and_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["missing", "broken", "auth.json", "config.json"].map(|name| folder.path().join(name));
        let entry =
            |password: &str| format!(r#"{{"auths":{{"a.example.org":{{"username":"u","password":"{password}"}}}}}}"#);
        std::fs::write(&files[1], "{").unwrap();
        std::fs::write(&files[2], entry("containers")).unwrap();
        std::fs::write(&files[3], entry("docker")).unwrap();
        let sources = CredentialSources { files: files.to_vec(), required: false, run_helpers: true };
        let credentials = Credentials::new(sources.clone()).unwrap();
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:containers, u:docker");
        std::fs::write(&files[0], entry("late")).unwrap();
        assert_eq!(shown(&credentials, "a.example.org/lab").await, "u:late, u:containers, u:docker");
        assert!(Credentials::new(CredentialSources { required: true, ..sources }).is_err());
    }
}
