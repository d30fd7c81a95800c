//! Publishes the catalogue for purgers and Hubs: in the ConfigMap `lab-images`, with its freshness and the hash of its
//! content in the Lease of the same name.
//!
//! Both are applied after each scan, whatever this process wrote before, so a deleted or edited ConfigMap
//! is restored by the next scan. The API server skips writes that change nothing. Until then the hash in the Lease
//! shows readers that the content was changed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use lab_images::catalogue::{Catalogue, CatalogueImage};
use lab_images::published::{KEY, NAME, VOUCHED, content_hash};
use lab_images::reference::Repository;
use sidecar::kubernetes::explain;

use crate::node_images::PLANNER;

/// The largest catalogue that is published. A ConfigMap may have a megabyte, but every reader reads it each time.
const MOST_BYTES: usize = 128 * 1024;

/// Publishes the catalogue.
pub(super) struct Publisher {
    maps: Api<ConfigMap>,
    leases: Api<Lease>,
    holder: String,
    interval: Duration,
    /// The content that the ConfigMap should have.
    published: Option<Published>,
}

/// A catalogue in its published form. It keeps its text and its time until its content changes.
struct Published {
    content: Content,
    json: String,
}

/// What readers rely on: the images, and which repositories were scanned completely. If a purger took an incomplete
/// repository for a complete one, it would remove its images.
#[derive(PartialEq)]
struct Content {
    images: Vec<CatalogueImage>,
    repositories: Vec<(Repository, bool)>,
}

impl Content {
    fn new(catalogue: &Catalogue, images: Vec<CatalogueImage>) -> Self {
        let repositories = catalogue.repositories.iter().map(|state| (state.name.clone(), state.complete));
        Self { images, repositories: repositories.collect() }
    }
}

impl Publisher {
    /// Publishes in `namespace` with `holder` as the Lease's holder, every `interval`.
    pub(super) fn new(client: &Client, namespace: &str, holder: &str, interval: Duration) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), namespace),
            leases: Api::namespaced(client.clone(), namespace),
            holder: holder.to_owned(),
            interval,
            published: None,
        }
    }

    /// The catalogue that was published last, possibly by an earlier process; `None` if there is none, or if its
    /// content is not what the Lease vouches for.
    ///
    /// # Errors
    ///
    /// If the API server does not answer.
    pub(super) async fn read_back(&mut self) -> Result<Option<Catalogue>, String> {
        let lease = self.leases.get_opt(NAME).await.map_err(|error| failed("read the Lease", &error))?;
        let map = self.maps.get_opt(NAME).await.map_err(|error| failed("read the ConfigMap", &error))?;
        let Some(json) = map.and_then(|map| map.data?.remove(KEY)) else { return Ok(None) };
        // An older planner vouched for no content.
        let vouched = lease.and_then(|lease| lease.metadata.annotations?.remove(VOUCHED));
        if vouched.is_some_and(|vouched| vouched != content_hash(&json)) {
            tracing::warn!("the published catalogue was changed by another writer and will be replaced");
            return Ok(None);
        }
        match Catalogue::from_json(json.as_bytes(), "the ConfigMap lab-images") {
            Ok(catalogue) => {
                let content = Content::new(&catalogue, catalogue.images.clone());
                self.published = Some(Published { content, json });
                Ok(Some(catalogue))
            }
            Err(error) => {
                tracing::warn!(%error, "the published catalogue is not usable and will be replaced");
                Ok(None)
            }
        }
    }

    /// Publishes a good catalogue: the ConfigMap, then the Lease that vouches for it.
    ///
    /// # Errors
    ///
    /// The API server's error.
    pub(super) async fn publish(&mut self, catalogue: &Catalogue) -> Result<(), String> {
        let (images, json) = cut(catalogue, MOST_BYTES).map_err(|error| error.to_string())?;
        let content = Content::new(catalogue, images);
        if self.published.as_ref().is_none_or(|published| published.content != content) {
            tracing::info!(images = content.images.len(), "published a new catalogue in the ConfigMap {NAME}");
            self.published = Some(Published { content, json });
        }
        self.heal().await?;
        let hash = self.published.as_ref().map(|published| content_hash(&published.json)).unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(self.interval.as_secs().saturating_mul(2)).ok(),
            renew_time: Some(MicroTime(jiff::Timestamp::now())),
            ..LeaseSpec::default()
        };
        let annotations = Some(BTreeMap::from([(VOUCHED.to_owned(), hash)]));
        let lease = Lease { metadata: ObjectMeta { annotations, ..named() }, spec: Some(spec) };
        let parameters = PatchParams::apply(PLANNER).force();
        let applied = self.leases.patch_metadata(NAME, &parameters, &Patch::Apply(&lease)).await;
        applied.map(drop).map_err(|error| failed("write the Lease", &error))
    }

    /// Restores the ConfigMap that was published last, without renewing the Lease: after a scan that failed.
    ///
    /// # Errors
    ///
    /// The API server's error.
    pub(super) async fn heal(&self) -> Result<(), String> {
        let Some(Published { json, .. }) = &self.published else { return Ok(()) };
        let map = ConfigMap {
            metadata: named(),
            data: Some(BTreeMap::from([(KEY.to_owned(), json.clone())])),
            ..ConfigMap::default()
        };
        let parameters = PatchParams::apply(PLANNER).force();
        let applied = self.maps.patch_metadata(NAME, &parameters, &Patch::Apply(&map)).await;
        applied.map(drop).map_err(|error| failed("write the ConfigMap", &error))
    }
}

fn failed(what: &str, error: &kube::Error) -> String {
    format!("cannot {what} {NAME}: {}", explain(error))
}

fn named() -> ObjectMeta {
    ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() }
}

/// All wanted images, and as many others as fit, in the order of the menu.
fn cut(catalogue: &Catalogue, most: usize) -> Result<(Vec<CatalogueImage>, String), serde_json::Error> {
    let empty = Catalogue { images: Vec::new(), ..catalogue.clone() };
    let mut room = most.saturating_sub(serde_json::to_string(&empty)?.len());
    let mut fits = |image: &CatalogueImage| -> Result<bool, serde_json::Error> {
        let size = serde_json::to_string(image)?.len() + 1;
        let fits = size <= room;
        room = room.saturating_sub(size);
        Ok(fits)
    };
    let mut chosen = Vec::new();
    for wanted in [true, false] {
        for (index, image) in catalogue.images.iter().enumerate().filter(|(_, image)| image.wanted == wanted) {
            // Wanted images are never left out, because a purger would remove them.
            if !fits(image)? && !wanted {
                break;
            }
            chosen.push(index);
        }
    }
    chosen.sort_unstable();
    let images: Vec<CatalogueImage> = chosen.into_iter().map(|index| catalogue.images[index].clone()).collect();
    let json = serde_json::to_string(&Catalogue { images: images.clone(), ..empty })?;
    Ok((images, json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_images::catalogue::Kind;
    use lab_images::tag::Class;

    fn catalogue(count: usize) -> Catalogue {
        let image = |number: usize| CatalogueImage {
            reference: format!("registry.example.org/owner/lab:w_{number:05}").parse().unwrap(),
            repository: "registry.example.org/owner/lab".parse().unwrap(),
            tag: format!("w_{number:05}"),
            class: Class::Weekly,
            kind: Kind::Lab,
            name: format!("Weekly {number}"),
            digest: None,
            platforms: Vec::new(),
            size: None,
            aliases: Vec::new(),
            wanted: number.is_multiple_of(100),
            why: "newest weekly".to_owned(),
        };
        Catalogue::new(jiff::Timestamp::UNIX_EPOCH, true, (0..count).map(image).collect())
    }

    #[test]
    fn a_small_catalogue_is_published_whole() {
        let (images, json) = cut(&catalogue(300), MOST_BYTES).unwrap();
        assert_eq!(images, catalogue(300).images);
        assert_eq!(Catalogue::from_json(json.as_bytes(), "x").unwrap(), catalogue(300));
    }

    #[test]
    fn of_a_large_one_all_wanted_images_and_the_first_others_are_published() {
        let all = catalogue(10_000);
        let (images, json) = cut(&all, MOST_BYTES).unwrap();
        assert!(json.len() <= MOST_BYTES && json.len() > MOST_BYTES * 9 / 10, "{}", json.len());
        assert_eq!(images.iter().filter(|image| image.wanted).count(), 100);
        let others: Vec<_> = images.iter().filter(|image| !image.wanted).collect();
        let first: Vec<_> = all.images.iter().filter(|image| !image.wanted).take(others.len()).collect();
        assert_eq!(others, first);
        assert_eq!(cut(&all, 10).unwrap().0.len(), 100);
    }
}
