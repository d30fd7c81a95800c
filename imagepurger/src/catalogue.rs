//! Where the catalogue comes from, read anew for each look: a file, or the cluster's ConfigMap with its Lease.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use lab_images::catalogue::Catalogue;

use crate::plan::SeenCatalogue;

/// The name of the ConfigMap and of the Lease beside it.
const NAME: &str = "lab-images";

/// The ConfigMap's key.
const KEY: &str = "catalogue.json";

/// Where the catalogue comes from.
#[derive(Clone)]
pub enum CatalogueSource {
    /// A file, fresh as its `generated` and its time of change say, whichever is older.
    File(PathBuf),
    /// The ConfigMap `lab-images` of a namespace, fresh as the Lease of the same name says.
    ConfigMap {
        /// The way to the cluster.
        client: Client,
        /// Where both are.
        namespace: String,
    },
}

impl CatalogueSource {
    /// The one in a cluster.
    pub fn in_cluster(client: &Client, namespace: &str) -> Self {
        Self::ConfigMap { client: client.clone(), namespace: namespace.to_owned() }
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// A sentence, when there is none or its freshness is not known.
    pub async fn read(&self) -> Result<SeenCatalogue, String> {
        match self {
            Self::File(path) => of_file(path),
            Self::ConfigMap { client, namespace } => of_cluster(client, namespace).await,
        }
    }
}

fn of_file(path: &Path) -> Result<SeenCatalogue, String> {
    let catalogue = Catalogue::read(path).map_err(|error| error.to_string())?;
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let changed = changed.map_err(|error| format!("{}: {error}", path.display()))?;
    let changed = Timestamp::try_from(changed).map_err(|error| format!("{}: {error}", path.display()))?;
    let fresh_at = catalogue.generated.min(changed);
    Ok(SeenCatalogue { catalogue, fresh_at })
}

async fn of_cluster(client: &Client, namespace: &str) -> Result<SeenCatalogue, String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    // The Lease first: what it vouches for is then the catalogue read after it, or a newer one.
    let lease = leases.get_opt(NAME).await.map_err(|error| format!("the Lease {NAME} cannot be read: {error}"))?;
    let renewed = lease.and_then(|lease| lease.spec?.renew_time);
    let fresh_at = renewed.ok_or_else(|| format!("there is no Lease {NAME} that says when it was renewed"))?.0;
    let map = maps.get_opt(NAME).await.map_err(|error| format!("the ConfigMap {NAME} cannot be read: {error}"))?;
    let json = map.and_then(|map| map.data?.remove(KEY));
    let json = json.ok_or_else(|| format!("there is no ConfigMap {NAME} with the key {KEY}"))?;
    let catalogue =
        Catalogue::from_json(json.as_bytes(), "the ConfigMap lab-images").map_err(|error| error.to_string())?;
    Ok(SeenCatalogue { catalogue, fresh_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_file_is_as_fresh_as_the_older_of_its_two_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.json");
        let now = Timestamp::now();
        let hours = |hours: i64| jiff::SignedDuration::from_hours(hours);
        for (generated, changed, fresh) in [(1, 5, 5), (5, 1, 5), (0, 0, 0)] {
            let generated = now - hours(generated);
            Catalogue::new(generated, true, Vec::new()).write(&path).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::from(now - hours(changed))).unwrap();
            let seen = CatalogueSource::File(path.clone()).read().await.unwrap();
            assert_eq!(seen.fresh_at, now - hours(fresh));
        }
    }

    #[tokio::test]
    async fn what_is_no_catalogue_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.json");
        let source = CatalogueSource::File(path.clone());
        assert!(source.read().await.unwrap_err().contains("cannot read the catalogue"));
        std::fs::write(&path, "{\"version\":1,").unwrap();
        assert!(source.read().await.unwrap_err().contains("is not a catalogue"));
    }
}
