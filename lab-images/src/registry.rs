//! A client for registries: Docker Registry HTTP API v2 and the OCI distribution specification 1.1.
//!
//! [`Registry`] lists tags, asks for digests and reads manifests. `exchange.rs` sends one request with everything around it
//! (authorisation, redirects, retries, pacing, limits); `challenge.rs`, `token.rs` and `credentials.rs` are the authorisation;
//! `paging.rs` and `manifest.rs` read what came, without I/O.

mod challenge;
mod credentials;
mod error;
mod exchange;
mod manifest;
mod paging;
mod token;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ETAG, IF_NONE_MATCH, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::reference::{Digest, Platform, Repository, TagName};
use exchange::{Answer, Ask, Exchange};

pub use credentials::Credentials;
pub use error::{Problem, RegistryError};
pub use manifest::ImageManifest;

/// One page of tags.
const MOST_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// The OCI image specification asks clients to take manifests of 4 MiB.
const MOST_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// A repository with more tags needs somebody to tidy it.
const MOST_TAGS: usize = 1_000_000;

const MOST_PAGES: usize = 10_000;

/// How many tags are asked for in one page; a registry may give fewer, or ignore it.
const PAGE_SIZE: usize = 1000;

/// Manifests kept, by digest. One has a few kilobytes.
const MOST_MANIFESTS_KEPT: usize = 1024;

const DIGEST_HEADER: &str = "docker-content-digest";

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Hosts that are spoken to over plain HTTP (`LAB_INSECURE_REGISTRIES`), with their ports.
    pub insecure: Vec<String>,
    /// A dockerconfigjson (`REGISTRY_AUTH_FILE`).
    pub auth_file: Option<PathBuf>,
    /// How long one request may wait for a registry that is too busy, all tries together.
    pub patience: Duration,
    /// The first pause after a failure that may pass; each further one is twice as long.
    pub first_pause: Duration,
    /// Requests to one host at a time.
    pub parallel: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            auth_file: None,
            patience: Duration::from_secs(300),
            first_pause: Duration::from_secs(1),
            parallel: 8,
        }
    }
}

/// The tags of a repository.
#[derive(Debug, Default)]
pub struct TagList {
    /// The tags, as the registry lists them.
    pub tags: Vec<String>,
    /// Why some are missing: the error of the page that did not come.
    pub partial: Option<RegistryError>,
}

/// A client for all registries of one configuration.
#[derive(Debug)]
pub struct Registry {
    exchange: Exchange,
    manifests: Mutex<HashMap<Digest, Arc<ImageManifest>>>,
    /// Tags of repositories that fit one page, with its ETag.
    tags: Mutex<HashMap<Repository, (String, Vec<String>)>>,
}

impl Registry {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the credentials can't be read or there are no root certificates.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self { exchange: Exchange::new(config)?, manifests: Mutex::default(), tags: Mutex::default() })
    }

    /// The credentials, for runtimes that pull.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.exchange.credentials()
    }

    /// Lists all tags, page by page.
    ///
    /// # Errors
    ///
    /// When the first page does not come. When a later one does not, the list says so.
    pub async fn tags(&self, repository: &Repository) -> Result<TagList, RegistryError> {
        let mut list = TagList::default();
        let mut seen = HashSet::new();
        let mut next = self.exchange.url(repository, &format!("tags/list?n={PAGE_SIZE}"))?;
        let kept = lock(&self.tags).get(repository).cloned();
        for number in 1..=MOST_PAGES {
            let what = format!("list the tags of {repository} (page {number})");
            let page = async {
                if !seen.insert(next.to_string()) {
                    return Err(RegistryError::new(&what, Problem::PageLoop { url: next.to_string() }));
                }
                let mut ask = Ask::get(repository, next.clone(), &what, MOST_PAGE_BYTES);
                if let Some((etag, _)) = kept.as_ref().filter(|_| number == 1) {
                    ask = ask.header(IF_NONE_MATCH, etag);
                }
                let answer = self.exchange.send(ask).await?;
                if answer.status == StatusCode::NOT_MODIFIED {
                    return Ok((answer, None));
                }
                let page: TagPage = answer.json(&what)?;
                let link = answer.header(LINK.as_str()).map(|link| paging::next(link, &next));
                let link = link.transpose().map_err(|problem| RegistryError::new(&what, problem))?.flatten();
                if list.tags.len() + page.tags.len() > MOST_TAGS {
                    return Err(RegistryError::new(&what, Problem::TooManyTags { most: MOST_TAGS }));
                }
                Ok((answer, Some((page.tags, link))))
            };
            match page.await {
                Ok((_, None)) => {
                    list.tags = kept.map(|(_, tags)| tags).unwrap_or_default();
                    return Ok(list);
                }
                Ok((answer, Some((tags, link)))) => {
                    list.tags.extend(tags);
                    let Some(link) = link else {
                        if let Some(etag) = answer.header(ETAG.as_str()).filter(|_| number == 1) {
                            lock(&self.tags).insert(repository.clone(), (etag.to_owned(), list.tags.clone()));
                        }
                        return Ok(list);
                    };
                    next = link;
                }
                Err(error) if number == 1 => return Err(error),
                Err(error) => {
                    list.partial = Some(error);
                    return Ok(list);
                }
            }
        }
        let what = format!("list the tags of {repository}");
        list.partial = Some(RegistryError::new(&what, Problem::TooManyPages { most: MOST_PAGES }));
        Ok(list)
    }

    /// The digest that a tag stands for now: of the index where there is one.
    ///
    /// # Errors
    ///
    /// When the registry does not say, or there is no such tag.
    pub async fn digest(&self, repository: &Repository, tag: &TagName) -> Result<Digest, RegistryError> {
        let what = format!("ask for the digest of {repository}:{tag}");
        let url = self.exchange.url(repository, &format!("manifests/{tag}"))?;
        let ask = Ask::get(repository, url, &what, 0).method(Method::HEAD).accept(manifest::ACCEPTED);
        match self.exchange.send(ask).await {
            Ok(answer) => match answer.header(DIGEST_HEADER) {
                Some(digest) => digest.parse().map_err(|error| RegistryError::new(&what, Problem::Digest(error))),
                // The header is only recommended: the content has the same digest.
                None => Ok(self.fetch(repository, tag.as_str(), None).await?.1),
            },
            // Some registries know no HEAD, and its answer has no body that says what is wrong.
            Err(error) if error.is_refusal() => Ok(self.fetch(repository, tag.as_str(), None).await?.1),
            Err(error) => Err(error),
        }
    }

    /// The manifest with this digest, for this platform.
    ///
    /// # Errors
    ///
    /// When it does not come, is of a kind that no runtime could use, or is not there for the platform.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Arc<ImageManifest>, RegistryError> {
        if let Some(manifest) = lock(&self.manifests).get(digest).filter(|manifest| manifest.platform == *platform) {
            return Ok(manifest.clone());
        }
        let (answer, _) = self.fetch(repository, digest.as_str(), Some(digest)).await?;
        let what = format!("read the manifest {repository}@{digest}");
        let failed = |problem| RegistryError::new(&what, problem);
        let top = manifest::parse(&answer.body, answer.content_type()).map_err(failed)?;
        let manifest = match top {
            manifest::Parsed::Image(layers) => {
                ImageManifest::new(digest.clone(), digest.clone(), platform, Vec::new(), layers)
            }
            manifest::Parsed::Index(entries) => {
                let entry = manifest::choose(&entries, platform).map_err(failed)?;
                let (child, _) = self.fetch(repository, entry.as_str(), Some(&entry)).await?;
                match manifest::parse(&child.body, child.content_type()).map_err(failed)? {
                    manifest::Parsed::Image(layers) => {
                        let platforms = entries.into_iter().filter_map(|entry| entry.platform).collect();
                        ImageManifest::new(digest.clone(), entry, platform, platforms, layers)
                    }
                    manifest::Parsed::Index(_) => return Err(failed(Problem::NestedIndex)),
                }
            }
        };
        let manifest = Arc::new(manifest);
        let mut kept = lock(&self.manifests);
        if kept.len() >= MOST_MANIFESTS_KEPT {
            kept.clear();
        }
        kept.insert(digest.clone(), manifest.clone());
        Ok(manifest)
    }

    /// A manifest as it is, whose digest was checked against what was asked for and what the registry says.
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
        let told = answer.header(DIGEST_HEADER).map(str::parse::<Digest>).transpose();
        let told = told.map_err(|error| failed(Problem::Digest(error)))?;
        let expected = expected.or(told.as_ref());
        let actual = manifest::digest_of(&answer.body, expected.map_or("sha256", Digest::algorithm));
        match expected {
            Some(expected) if *expected != actual => {
                Err(failed(Problem::DigestMismatch { expected: expected.clone(), actual }))
            }
            _ => Ok((answer, actual)),
        }
    }
}

/// `GET /v2/<name>/tags/list`; some registries send `null` for no tags.
#[derive(Deserialize)]
struct TagPage {
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
