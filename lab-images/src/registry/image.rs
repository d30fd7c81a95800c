//! Finds the manifest that a runtime uses for a digest: through indices, also nested ones, to one platform's image.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidecar::sync::lock;

use super::error::{Problem, RegistryError};
use super::exchange::Ask;
use super::manifest::{self, EntryPlatform, ImageManifest, Parsed};
use super::{MOST_MANIFESTS_KEPT, Registry, platform};
use crate::reference::{Digest, Platform, Repository};

/// How deeply nested indices are followed. In practice there are two levels.
const MOST_LEVELS: usize = 5;

/// The pause before a configuration that could not be read is requested again. Blobs are often on another host, which
/// may be unreachable for good.
const CONFIG_RETRY: Duration = Duration::from_secs(3600);

/// The largest configuration. Usual ones have a few kilobytes, or some dozen with a long history.
const MOST_CONFIG_BYTES: usize = 4 * 1024 * 1024;

impl Registry {
    /// The image with this digest, for the first of these platforms for which the runtime finds one.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not an image, or does not exist for any of the platforms.
    pub async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        wanted: &[Platform],
    ) -> Result<Arc<ImageManifest>, RegistryError> {
        if let Some(manifest) = self.known_manifest(digest, wanted) {
            return Ok(manifest);
        }
        let failed = |problem| RegistryError::new(&format!("read the manifest {repository}@{digest}"), problem);
        // All platforms that indices have named.
        let mut platforms: Vec<Platform> = Vec::new();
        let mut wanted = wanted.to_vec();
        // Whether an index has named the platform of the next manifest.
        let mut is_named = false;
        let mut next = digest.clone();
        for _ in 0..MOST_LEVELS {
            let (answer, _) = self.fetch(repository, next.as_str(), Some(&next)).await?;
            match manifest::parse(&answer.body, answer.content_type()).map_err(failed)? {
                Parsed::Index(entries) => {
                    for entry in &entries {
                        if let EntryPlatform::Named(platform) = &entry.platform
                            && !platforms.contains(platform)
                        {
                            platforms.push(platform.clone());
                        }
                    }
                    let Some((entry, named)) = platform::choose(&entries, &wanted) else {
                        return Err(failed(platform::nothing_for(&wanted, &platforms)));
                    };
                    next = entry.clone();
                    if let Some(named) = named {
                        (wanted, is_named) = (vec![named], true);
                    }
                }
                Parsed::Image(image) => {
                    let mut is_known = true;
                    if !is_named {
                        // Only the configuration contains the platform.
                        let config = match &image.config {
                            Some(config) => self.config_platform(repository, config).await,
                            None => None,
                        };
                        is_known = config.is_some();
                        if let Some(offered) = config.flatten() {
                            let suits = |wanted: &&Platform| platform::distance(wanted, &offered).is_some();
                            let suited = wanted.iter().find(suits).cloned();
                            platforms.push(offered);
                            let Some(suited) = suited else {
                                return Err(failed(platform::nothing_for(&wanted, &platforms)));
                            };
                            wanted = vec![suited];
                        }
                    }
                    let platform = wanted.first().cloned().unwrap_or_else(Platform::of_this_machine);
                    let manifest = ImageManifest::new(digest.clone(), next, &platform, platforms, image.layers);
                    let manifest = Arc::new(manifest);
                    self.keep_manifest(digest, &manifest, is_known);
                    return Ok(manifest);
                }
            }
        }
        Err(failed(Problem::NestedIndex))
    }

    /// An image that was read before, without a request to the registry.
    pub fn known_manifest(&self, digest: &Digest, wanted: &[Platform]) -> Option<Arc<ImageManifest>> {
        let known = lock(&self.manifests).get(digest).cloned()?;
        if lock(&self.unread).get(digest).is_some_and(|tried| tried.elapsed() >= CONFIG_RETRY) {
            return None;
        }
        let asked = wanted.iter().position(|wanted| *wanted == known.platform)?;
        // Another platform may be preferred now, and the image may have it.
        let suits = |wanted: &Platform| known.platforms.iter().any(|is| platform::distance(wanted, is).is_some());
        (!wanted[..asked].iter().any(suits)).then_some(known)
    }

    fn keep_manifest(&self, digest: &Digest, manifest: &Arc<ImageManifest>, is_platform_known: bool) {
        let mut kept = lock(&self.manifests);
        let mut unread = lock(&self.unread);
        if kept.len() >= MOST_MANIFESTS_KEPT {
            kept.clear();
            unread.clear();
        }
        if is_platform_known {
            unread.remove(digest);
        } else {
            unread.insert(digest.clone(), Instant::now());
        }
        kept.insert(digest.clone(), Arc::clone(manifest));
    }

    /// The platform in an image's configuration; `Some(None)` if it contains none, `None` if it could not be read. Then
    /// the platform is unknown, and the image may still be pulled.
    async fn config_platform(&self, repository: &Repository, config: &Digest) -> Option<Option<Platform>> {
        let what = format!("read the configuration {repository}@{config}");
        let read = async {
            let url = self.exchange.url(repository, &format!("blobs/{config}"))?;
            let answer = self.exchange.send(Ask::get(repository, url, &what, MOST_CONFIG_BYTES)).await?;
            let failed = |problem| RegistryError::new(&what, problem);
            let actual = manifest::digest_of(&answer.body, config.algorithm());
            if actual != *config {
                return Err(failed(Problem::DigestMismatch { expected: config.clone(), actual }));
            }
            manifest::platform_of_config(&answer.body).map_err(failed)
        };
        match read.await {
            Ok(platform) => Some(platform),
            Err(error) => {
                tracing::debug!(%error, "the platform of the image is not known");
                None
            }
        }
    }
}
