//! Gets the catalogue for the commands: from a scan or a file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use lab_images::catalogue::{Catalogue, CatalogueError};
use lab_images::reference::{Digest, Platform};
use lab_images::registry::{ImageManifest, Registry, RegistryError};
use lab_images::scan::scan;

use crate::settings::CatalogueSettings;

/// A catalogue, and what pulls need besides.
#[derive(Debug)]
pub struct ScanResult {
    /// The catalogue. A repository that could not be scanned has its last good entries.
    pub catalogue: Catalogue,
    /// Manifests for the nodes' platforms, by the catalogue's digest.
    pub manifests: HashMap<Digest, Arc<ImageManifest>>,
    /// What could not be scanned.
    pub problems: Vec<String>,
    /// Configured images that do not exist, and repositories in which nothing is wanted.
    pub remarks: Vec<String>,
    /// Whether the scan found anything new.
    pub is_of_use: bool,
}

/// A client for the registries in these settings.
///
/// # Errors
///
/// If the credentials or the root certificates cannot be read.
pub fn registry(settings: &CatalogueSettings) -> Result<Registry, RegistryError> {
    Registry::new(settings.registry.clone())
}

/// Scans for machines of these platforms, or reads `CATALOGUE_FILE` if no repository or image is configured. Complete
/// scans are written to that file. A repository whose scan failed keeps its entries from `last`, or else from the file.
///
/// # Errors
///
/// If the file cannot be read or written.
pub async fn find(
    registry: &Registry,
    settings: &CatalogueSettings,
    platforms: &[Platform],
    last: Option<&Catalogue>,
) -> anyhow::Result<ScanResult> {
    let Some(file) = &settings.file else {
        return Ok(scan_after(registry, settings, platforms, last).await);
    };
    if settings.source.is_empty() {
        return Ok(with_manifests(registry, Catalogue::read(file)?, platforms).await);
    }
    let of_file = if last.is_none() { last_good(file)? } else { None };
    let found = scan_after(registry, settings, platforms, last.or(of_file.as_ref())).await;
    if found.is_of_use {
        let written = found.catalogue.write(file);
        written.map_err(|error| anyhow::anyhow!("cannot write CATALOGUE_FILE {}: {error}", file.display()))?;
    }
    Ok(found)
}

/// The catalogue that the file has from an earlier scan. If its content is not a catalogue, the first good scan
/// replaces it.
fn last_good(file: &Path) -> anyhow::Result<Option<Catalogue>> {
    match Catalogue::read(file) {
        Ok(catalogue) => Ok(Some(catalogue)),
        Err(CatalogueError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error @ CatalogueError::Read { .. }) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "CATALOGUE_FILE is not usable and will be replaced");
            Ok(None)
        }
    }
}

async fn scan_after(
    registry: &Registry,
    settings: &CatalogueSettings,
    platforms: &[Platform],
    last: Option<&Catalogue>,
) -> ScanResult {
    let scanned = scan(registry, &settings.source, &settings.policy, platforms).await;
    let mut problems: Vec<String> = scanned.problems().map(ToString::to_string).collect();
    for problem in &problems {
        tracing::warn!(problem, "the scan was incomplete");
    }
    for remark in &scanned.remarks {
        tracing::warn!(remark, "the scan did not find everything that is configured");
    }
    let catalogue = scanned.catalogue(last, jiff::Timestamp::now());
    let is_of_use = scanned.is_of_use(last);
    if problems.is_empty() && !catalogue.complete {
        // Wanted images of these repositories may have disappeared.
        let states = catalogue.repositories.iter().filter(|state| !state.complete);
        problems.extend(states.filter_map(|state| Some(format!("{}: {}", state.name, state.problem.as_ref()?))));
        for problem in &problems {
            tracing::warn!(problem, "keeping the last good part of the catalogue");
        }
    }
    let mut manifests = scanned.manifests;
    for digest in catalogue.wanted().filter_map(|image| image.digest.as_ref()) {
        // Entries from an earlier scan.
        if let (false, Some(known)) = (manifests.contains_key(digest), registry.known_manifest(digest, platforms)) {
            manifests.insert(digest.clone(), known);
        }
    }
    ScanResult { catalogue, manifests, problems, remarks: scanned.remarks, is_of_use }
}

/// Loads the layers of a catalogue's wanted images. Pulls work without them, but show less progress.
async fn with_manifests(registry: &Registry, catalogue: Catalogue, platforms: &[Platform]) -> ScanResult {
    let (manifests, problems, remarks) = (HashMap::new(), Vec::new(), Vec::new());
    let mut found = ScanResult { catalogue, manifests, problems, remarks, is_of_use: true };
    for image in found.catalogue.wanted() {
        let Some(digest) = image.digest.as_ref().filter(|digest| !found.manifests.contains_key(*digest)) else {
            continue;
        };
        match registry.manifest(&image.repository, digest, platforms).await {
            Ok(manifest) => drop(found.manifests.insert(digest.clone(), manifest)),
            Err(error) => {
                tracing::warn!(%error, "cannot read the layers of an image; its pull will show less progress");
            }
        }
    }
    found
}
