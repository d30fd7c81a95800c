//! Where the commands get their catalogue: a scan, or a file.

use std::collections::HashMap;
use std::sync::Arc;

use lab_images::catalogue::Catalogue;
use lab_images::reference::{Digest, Platform};
use lab_images::registry::{ImageManifest, Registry, RegistryError};
use lab_images::scan::scan;

use crate::settings::CatalogueSettings;

/// A catalogue and what a pull needs besides.
#[derive(Debug)]
pub struct Found {
    /// The catalogue.
    pub catalogue: Catalogue,
    /// Manifests of wanted images, by the catalogue's digest.
    pub manifests: HashMap<Digest, Arc<ImageManifest>>,
    /// What could not be found out.
    pub problems: Vec<RegistryError>,
}

/// A client for the registries of these settings.
///
/// # Errors
///
/// When credentials or root certificates can't be read.
pub fn registry(settings: &CatalogueSettings) -> Result<Registry, RegistryError> {
    Registry::new(settings.registry.clone())
}

/// Scans, or reads `CATALOGUE_FILE` where no repository or image is named. A whole scan is written there; a scan that missed
/// something leaves the last good one.
///
/// # Errors
///
/// When the file can't be read or written.
pub async fn find(registry: &Registry, settings: &CatalogueSettings) -> anyhow::Result<Found> {
    let platform = Platform::of_this_machine();
    if let (true, Some(file)) = (settings.source.is_empty(), &settings.file) {
        let catalogue = Catalogue::read(file)?;
        return Ok(with_manifests(registry, catalogue, &platform).await);
    }
    let scanned = scan(registry, &settings.source, &settings.policy, &platform, jiff::Timestamp::now()).await;
    for problem in &scanned.problems {
        tracing::warn!(%problem, "the scan missed something");
    }
    if let Some(file) = settings.file.as_ref().filter(|_| scanned.catalogue.complete) {
        scanned
            .catalogue
            .write(file)
            .map_err(|error| anyhow::anyhow!("cannot write CATALOGUE_FILE {}: {error}", file.display()))?;
    }
    Ok(Found { catalogue: scanned.catalogue, manifests: scanned.manifests, problems: scanned.problems })
}

/// The layers of a catalogue's wanted images; pulls work without them, with less to show.
async fn with_manifests(registry: &Registry, catalogue: Catalogue, platform: &Platform) -> Found {
    let mut found = Found { catalogue, manifests: HashMap::new(), problems: Vec::new() };
    for image in found.catalogue.wanted() {
        let Some(digest) = image.digest.as_ref().filter(|digest| !found.manifests.contains_key(*digest)) else {
            continue;
        };
        match registry.manifest(&image.repository, digest, platform).await {
            Ok(manifest) => drop(found.manifests.insert(digest.clone(), manifest)),
            Err(error) => tracing::warn!(%error, "the layers are not known beforehand"),
        }
    }
    found
}
