//! Volumes for claims, because these clusters have no provisioner.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Cluster;
use crate::{Error, Result};

const DISK: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: NAMESPACE, name: CLAIM}
  hostPath: {path: FOLDER}
";

impl Cluster {
    /// Creates the volume `name` for one claim. The folder is the same on every node, and every user may write to it.
    pub fn add_disk(&self, name: &str, namespace: &str, claim: &str, folder: &Path) -> Result<()> {
        let failed = || Error::io(format!("change the mode of {}", folder.display()));
        fs::set_permissions(folder, Permissions::from_mode(0o777)).map_err(failed())?;
        let disk = DISK.replace("NAMESPACE", namespace).replace("NAME", name).replace("CLAIM", claim);
        self.kubectl().apply(&disk.replace("FOLDER", &folder.to_string_lossy())).map(drop)
    }
}
