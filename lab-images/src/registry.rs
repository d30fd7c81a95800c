//! A client for registries: Docker Registry HTTP API v2 and the OCI distribution specification 1.1.
//!
//! [`Registry`] lists tags, asks for digests and reads manifests. `exchange.rs` sends a request with redirects and
//! logins (`login.rs`, `challenge.rs`, `token.rs`, `credentials.rs`) over `transport.rs`, which limits the rate and
//! retries (`host.rs`, `backoff.rs`) what `request.rs` sends once. `image.rs` follows indices to the image that a
//! runtime uses. `tag_list.rs`, `paging.rs`, `manifest.rs` and `platform.rs` parse the answers.

mod backoff;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod host;
mod image;
mod login;
mod manifest;
mod paging;
mod platform;
mod request;
mod tag_list;
mod token;
mod transport;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use sidecar::sync::lock;

use crate::reference::{Digest, Repository, TagName};
use exchange::{Ask, Exchange};
use request::Answer;
use tag_list::TagLists;

pub use credentials::{CredentialSources, Credentials, CredentialsError};
pub use error::{Problem, RegistryError};
pub use manifest::ImageManifest;
pub use tag_list::TagList;

/// The OCI image specification recommends accepting manifests of up to 4 MiB.
const MOST_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The most manifests that are kept, by digest. One has a few kilobytes.
const MOST_MANIFESTS_KEPT: usize = 1024;

const DIGEST_HEADER: &str = "docker-content-digest";

/// How to access registries.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Hosts that use plain HTTP (`LAB_INSECURE_REGISTRIES`), with their ports.
    pub insecure: Vec<String>,
    /// Hosts in other domains that may be asked for tokens (`LAB_TOKEN_SERVERS`).
    pub token_servers: Vec<String>,
    /// The sources of credentials.
    pub credentials: CredentialSources,
    /// The longest time that one request may wait for a registry that is too busy, all tries together.
    pub patience: Duration,
    /// The first pause after a temporary failure; each further one is twice as long.
    pub first_pause: Duration,
    /// The most concurrent requests to one host.
    pub parallel: usize,
    /// The most requests per second to one host, including token servers and retries.
    pub per_second: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            token_servers: Vec::new(),
            credentials: CredentialSources::default(),
            patience: Duration::from_secs(300),
            first_pause: Duration::from_secs(1),
            parallel: 8,
            per_second: 40,
        }
    }
}

/// A client for all registries of one configuration.
#[derive(Debug)]
pub struct Registry {
    exchange: Exchange,
    manifests: Mutex<HashMap<Digest, Arc<ImageManifest>>>,
    /// Images whose configuration could not be read, and when that was tried.
    unread: Mutex<HashMap<Digest, Instant>>,
    tag_lists: TagLists,
    /// Hosts that do not support HEAD.
    without_head: Mutex<HashSet<String>>,
}

impl Registry {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the credentials cannot be read or there are no root certificates.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self {
            exchange: Exchange::new(config)?,
            manifests: Mutex::default(),
            unread: Mutex::default(),
            tag_lists: TagLists::default(),
            without_head: Mutex::default(),
        })
    }

    /// The credentials, for runtimes that pull.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.exchange.credentials()
    }

    /// Lists all tags, page by page.
    ///
    /// # Errors
    ///
    /// If the first page cannot be read. If a later one cannot be read, the list says so.
    pub async fn tags(&self, repository: &Repository) -> Result<TagList, RegistryError> {
        self.tag_lists.list(&self.exchange, repository).await
    }

    /// The current digest of a tag: that of the index, if there is one.
    ///
    /// # Errors
    ///
    /// If the registry does not answer, or there is no such tag ([`RegistryError::is_gone`]).
    pub async fn digest(&self, repository: &Repository, tag: &TagName) -> Result<Digest, RegistryError> {
        if !lock(&self.without_head).contains(repository.host()) {
            let what = format!("ask for the digest of {repository}:{tag}");
            let url = self.exchange.url(repository, &format!("manifests/{tag}"))?;
            let ask = Ask::get(repository, url, &what, 0).method(Method::HEAD).accept(manifest::ACCEPTED);
            match self.exchange.send(ask).await {
                Ok(answer) => {
                    if let Some(digest) = digest_header(&answer) {
                        return Ok(digest);
                    }
                }
                // Some registries do not support HEAD, and its answer has no body that explains the error.
                Err(error) if error.is_refusal() => {
                    if matches!(error.problem, Problem::Status { status: 405 | 501, .. }) {
                        lock(&self.without_head).insert(repository.host().to_owned());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let (answer, digest) = self.fetch(repository, tag.as_str(), None).await?;
        // The digest of a proxy's error page is not an image's digest.
        let what = format!("read the manifest {repository}:{tag}");
        answer.object::<serde::de::IgnoredAny>().map_err(|problem| RegistryError::new(&what, problem))?;
        Ok(digest)
    }

    /// A manifest, whose digest was checked against the requested one and the registry's header.
    async fn fetch(
        &self,
        repository: &Repository,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<(Answer, Digest), RegistryError> {
        let separator = if expected.is_some() { '@' } else { ':' };
        let what = format!("read the manifest {repository}{separator}{name}");
        let url = self.exchange.url(repository, &format!("manifests/{name}"))?;
        let ask = Ask::get(repository, url, &what, MOST_MANIFEST_BYTES).accept(manifest::ACCEPTED);
        let answer = self.exchange.send(ask).await?;
        let failed = |problem| RegistryError::new(&what, problem);
        let header = digest_header(&answer);
        let expected = expected.or(header.as_ref());
        let actual = manifest::digest_of(&answer.body, expected.map_or("sha256", Digest::algorithm));
        match expected {
            Some(expected) if *expected != actual => {
                Err(failed(Problem::DigestMismatch { expected: expected.clone(), actual }))
            }
            _ => Ok((answer, actual)),
        }
    }
}

/// The digest in the registry's header. The header is only recommended: if it is missing or invalid, the digest is
/// computed from the content.
fn digest_header(answer: &Answer) -> Option<Digest> {
    answer.header(DIGEST_HEADER)?.parse().ok()
}
