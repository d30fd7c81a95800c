//! Reads the catalogue, again for each check: from a file, or from the cluster's ConfigMap and its Lease.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use lab_images::catalogue::Catalogue;
use lab_images::published::{KEY, NAME, VOUCHED, content_hash};
use sidecar::kubernetes::explain;
use tokio::time::sleep;

use crate::files::{Files, Found};
use crate::plan::SeenCatalogue;

/// The planner writes the ConfigMap and then the Lease. A reader that hits the time in between reads again after this
/// delay.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// How often the catalogue is read before content that no Lease vouches for is refused.
const LOOKS: usize = 3;

/// The largest catalogue that is read.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Where the catalogue comes from.
pub enum CatalogueSource {
    /// A file. It is as fresh as the older of its `generated` field and its modification time.
    File {
        /// The file.
        path: PathBuf,
        /// Reads files.
        files: Files,
    },
    /// The ConfigMap `lab-images` of a namespace. It is as fresh as the Lease of the same name.
    ConfigMap {
        /// The cluster's client.
        client: Client,
        /// The namespace of both.
        namespace: String,
    },
}

impl CatalogueSource {
    /// The source inside a cluster.
    pub fn in_cluster(client: &Client, namespace: &str) -> Self {
        Self::ConfigMap { client: client.clone(), namespace: namespace.to_owned() }
    }

    /// Reads the catalogue.
    ///
    /// # Errors
    ///
    /// A sentence, if there is no catalogue or its freshness is not known.
    pub async fn read(&mut self) -> Result<SeenCatalogue, String> {
        match self {
            Self::File { path, files } => match files.read(path, MOST_BYTES).await {
                Ok(Some(found)) => of_file(path, &found),
                Ok(None) => Err(format!("cannot read the catalogue {}: there is no such file", path.display())),
                Err(error) => Err(format!("cannot read the catalogue {}: {error}", path.display())),
            },
            Self::ConfigMap { client, namespace } => of_cluster(client, namespace).await,
        }
    }
}

fn of_file(path: &Path, found: &Found) -> Result<SeenCatalogue, String> {
    let name = path.display().to_string();
    let catalogue = Catalogue::from_json(found.text.as_bytes(), &name).map_err(|error| error.to_string())?;
    let fresh_at = catalogue.generated.min(found.modified);
    Ok(SeenCatalogue { catalogue, fresh_at })
}

async fn of_cluster(client: &Client, namespace: &str) -> Result<SeenCatalogue, String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for look in 1.. {
        // The Lease is read first, so it vouches for the catalogue that is read after it, or for an older one.
        let lease = leases.get_opt(NAME).await;
        let lease = lease.map_err(|error| format!("the Lease {NAME} cannot be read: {}", explain(&error)))?;
        let map = maps.get_opt(NAME).await;
        let map = map.map_err(|error| format!("the ConfigMap {NAME} cannot be read: {}", explain(&error)))?;
        let json = map.and_then(|map| map.data?.remove(KEY));
        let json = json.ok_or_else(|| format!("there is no ConfigMap {NAME} with the key {KEY}"))?;
        match renewed_at(lease, &json)? {
            Some(fresh_at) => {
                let catalogue = Catalogue::from_json(json.as_bytes(), "the ConfigMap lab-images");
                return Ok(SeenCatalogue { catalogue: catalogue.map_err(|error| error.to_string())?, fresh_at });
            }
            None if look < LOOKS => sleep(BETWEEN_WRITES).await,
            None => break,
        }
    }
    Err(format!(
        "the ConfigMap {NAME} does not have the content that the planner published: its hash differs from the one \
         in the Lease {NAME} ({VOUCHED}); the planner writes it again after its next scan"
    ))
}

/// The time at which the Lease that vouches for this content was renewed; `None` if it vouches for other content. A
/// planner older than this version vouches for any content.
fn renewed_at(lease: Option<Lease>, json: &str) -> Result<Option<Timestamp>, String> {
    let (metadata, spec) = lease.map(|lease| (lease.metadata, lease.spec)).unwrap_or_default();
    let renewed = spec.and_then(|spec| spec.renew_time);
    let fresh_at = renewed.ok_or_else(|| format!("the Lease {NAME} does not exist or has no renewTime"))?.0;
    let hash = metadata.annotations.and_then(|mut annotations| annotations.remove(VOUCHED));
    Ok(hash.is_none_or(|hash| hash == content_hash(json)).then_some(fresh_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_vouches_for_its_content_only() {
        let lease = |hash: Option<String>| -> Lease {
            let annotations: std::collections::BTreeMap<_, _> = hash.map(|hash| (VOUCHED, hash)).into_iter().collect();
            let json = serde_json::json!({
                "metadata": {"annotations": annotations}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"},
            });
            serde_json::from_value(json).unwrap()
        };
        let renewed = Some("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(renewed_at(Some(lease(Some(content_hash("{}")))), "{}"), Ok(renewed));
        assert_eq!(renewed_at(Some(lease(Some(content_hash("{}")))), "{ }"), Ok(None));
        assert_eq!(renewed_at(Some(lease(None)), "{}"), Ok(renewed));
        assert!(renewed_at(Some(Lease::default()), "{}").is_err() && renewed_at(None, "{}").is_err());
    }

    #[test]
    fn a_file_is_as_fresh_as_the_older_of_its_two_times() {
        let now = Timestamp::now();
        let hours = |hours: i64| jiff::SignedDuration::from_hours(hours);
        for (generated, changed, fresh) in [(1, 5, 5), (5, 1, 5), (0, 0, 0)] {
            let catalogue = Catalogue::new(now - hours(generated), true, Vec::new());
            let found = Found { text: serde_json::to_string(&catalogue).unwrap(), modified: now - hours(changed) };
            assert_eq!(of_file(Path::new("/c"), &found).unwrap().fresh_at, now - hours(fresh));
        }
    }

    #[test]
    fn an_invalid_catalogue_is_reported() {
        let found = Found { text: "{\"version\":1,".into(), modified: Timestamp::now() };
        assert!(of_file(Path::new("/c"), &found).unwrap_err().contains("/c is not a catalogue"));
    }
}
