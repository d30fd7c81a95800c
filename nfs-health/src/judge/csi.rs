//! Finds server and export of volumes of CSI drivers that use NFS, if the volume contains them.

use k8s_openapi::api::core::v1::CSIPersistentVolumeSource;

/// A volume's attribute, if it is set. Most drivers accept their attributes in any case.
pub(super) fn attribute(csi: &CSIPersistentVolumeSource, name: &str) -> Option<String> {
    let attributes = csi.volume_attributes.as_ref()?;
    let (_, value) = attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether the driver is csi-driver-nfs, or one that passes its volumes to it, as Ceph's does.
fn is_nfs(driver: &str) -> bool {
    driver == "nfs.csi.k8s.io" || driver == "nfs.csi.ceph.com" || driver.ends_with(".nfs.csi.ceph.com")
}

/// Whether the driver mounts the volume through a tunnel that encrypts. EFS's driver does so unless told otherwise.
pub(super) fn is_encrypted(csi: &CSIPersistentVolumeSource) -> bool {
    match attribute(csi, "encryptInTransit") {
        Some(value) => value.eq_ignore_ascii_case("true"),
        None => csi.driver == "efs.csi.aws.com",
    }
}

/// The server and the export of a volume of a known driver. Some are not in the volume: the address of an EFS mount
/// target, which only the cloud knows, and a Trident backend's server, which that driver passes to the node when it
/// publishes the volume.
pub(super) fn source(csi: &CSIPersistentVolumeSource) -> Option<(String, String)> {
    let attribute = |name: &str| attribute(csi, name);
    let rooted = |path: String| if path.starts_with('/') { path } else { format!("/{path}") };
    match csi.driver.as_str() {
        driver if is_nfs(driver) => {
            let (server, share) = (attribute("server")?, attribute("share")?);
            // With a placeholder, the folder is the driver's to name.
            let folder = attribute("subDir").filter(|folder| !folder.contains("${"));
            let path = folder.map(|folder| format!("{}/{}", share.trim_end_matches('/'), folder.trim_matches('/')));
            Some((server, path.unwrap_or(share)))
        }
        "efs.csi.aws.com" => {
            // `fs-1`, `fs-1:/path` and `fs-1:/path:fsap-1`; an access point has its own root, which is not in the
            // handle.
            let mut parts = csi.volume_handle.split(':').skip(1);
            let (path, access_point) = (parts.next().unwrap_or_default(), parts.next());
            let path = if access_point.is_some() { String::new() } else { path.to_owned() };
            Some((attribute("mounttargetip")?, rooted(path)))
        }
        "file.csi.azure.com" => {
            let kinds = [attribute("protocol"), attribute("fsType"), csi.fs_type.clone()];
            kinds.iter().flatten().find(|kind| kind.eq_ignore_ascii_case("nfs"))?;
            // `group#account#share#…`
            let in_handle = |part| csi.volume_handle.split('#').nth(part).filter(|part| !part.is_empty());
            let account = attribute("storageAccount").or(in_handle(1).map(str::to_owned))?;
            let share = attribute("shareName").or(in_handle(2).map(str::to_owned))?;
            let suffix = attribute("storageEndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
            let server = attribute("server").unwrap_or_else(|| format!("{account}.file.{suffix}"));
            let folder = attribute("folderName").map_or_else(String::new, rooted);
            Some((server, format!("/{account}/{share}{folder}")))
        }
        "filestore.csi.storage.gke.io" => Some((attribute("ip")?, rooted(attribute("volume")?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn each_driver_names_its_server_and_export_in_its_own_way() {
        let table = [
            ("efs.csi.aws.com", "fs-1", json!({"mounttargetip": "10.0.0.9"}), Some(("10.0.0.9", "/"))),
            ("efs.csi.aws.com", "fs-1:/a/b", json!({"mounttargetip": "10.0.0.9"}), Some(("10.0.0.9", "/a/b"))),
            ("efs.csi.aws.com", "fs-1::fsap-2", json!({"mounttargetip": "10.0.0.9"}), Some(("10.0.0.9", "/"))),
            ("efs.csi.aws.com", "fs-1", json!({}), None),
            (
                "file.csi.azure.com",
                "x",
                json!({"storageaccount": "acc", "shareName": "home", "protocol": "nfs"}),
                Some(("acc.file.core.windows.net", "/acc/home")),
            ),
            (
                "file.csi.azure.com",
                "x",
                json!({"storageAccount": "acc", "shareName": "h", "protocol": "NFS", "server": "10.0.0.7", "folderName": "f"}),
                Some(("10.0.0.7", "/acc/h/f")),
            ),
            ("file.csi.azure.com", "x", json!({"storageAccount": "acc", "shareName": "smb"}), None),
            (
                "file.csi.azure.com",
                "group#acc#home#disk#1#labs",
                json!({"protocol": "nfs"}),
                Some(("acc.file.core.windows.net", "/acc/home")),
            ),
            (
                "file.csi.azure.com",
                "x",
                json!({"storageaccount": "acc", "sharename": "h", "fstype": "nfs"}),
                Some(("acc.file.core.windows.net", "/acc/h")),
            ),
            (
                "filestore.csi.storage.gke.io",
                "x",
                json!({"ip": "10.0.0.5", "volume": "vol1"}),
                Some(("10.0.0.5", "/vol1")),
            ),
            ("csi.trident.netapp.io", "x", json!({"backendUUID": "1", "internalName": "v"}), None),
            ("ebs.csi.aws.com", "x", json!({"ip": "10.0.0.5", "volume": "vol1"}), None),
        ];
        for (driver, handle, attributes, expected) in table {
            let csi = json!({"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes});
            let seen = source(&from_value(csi.clone()).unwrap());
            assert_eq!(seen, expected.map(|(server, path)| (server.to_owned(), path.to_owned())), "{csi}");
        }
    }
}
