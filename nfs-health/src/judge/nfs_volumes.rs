//! The cluster's PersistentVolumes that are on NFS servers, with their claims.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume};

use crate::judge::csi;
use crate::probe::Version;
use crate::server::{Host, NFS_PORT, Server};
use crate::volumes::objects::source_of;

/// A PersistentVolume on an NFS server.
#[derive(Clone, Debug, PartialEq)]
pub struct NfsVolume {
    /// The server with the export.
    pub server: Server,
    /// The version in its mount options, if it is 3.
    pub version: Option<Version>,
    /// mountd's port in its mount options, if they have one.
    pub mount_port: Option<u16>,
    /// Whether only the mounts show its state: they use RDMA or UDP, or a tunnel on their own node.
    pub only_mounts: bool,
    /// The reference for Events about the volume.
    pub reference: ObjectReference,
    /// The reference for Events about its claim.
    pub claim: Option<ObjectReference>,
}

/// The relevant parts of a PersistentVolume, if it is on an NFS server.
pub fn nfs_volume(volume: &PersistentVolume) -> Option<NfsVolume> {
    let spec = volume.spec.as_ref()?;
    let (host, export) = match source_of(spec) {
        Some(source) => (source.server, source.path),
        None => csi::source(spec.csi.as_ref()?)?,
    };
    if export.is_empty() {
        return None;
    }
    let options = spec.mount_options.iter().flatten().flat_map(|options| options.split(','));
    let options: BTreeMap<&str, &str> = options.map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
    let option = |name: &str| options.get(name).copied();
    let port = |name| option(name).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let is_rdma = option("rdma").is_some() || option("proto").is_some_and(|protocol| protocol.starts_with("rdma"));
    let is_udp = option("udp").is_some() || option("proto").is_some_and(|protocol| protocol.starts_with("udp"));
    let server = Server {
        host: Host::named(host.trim_start_matches('[').trim_end_matches(']'))?,
        // RDMA has its own port.
        port: port("port").filter(|_| !is_rdma).unwrap_or(NFS_PORT),
        export: Some(export),
    };
    let only_mounts = is_rdma || is_udp || server.is_loopback();
    let is_v3 = option("nfsvers").or(option("vers")) == Some("3");
    let reference = |kind: &str| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        ..ObjectReference::default()
    };
    Some(NfsVolume {
        server,
        version: is_v3.then_some(Version::V3),
        mount_port: port("mountport"),
        only_mounts,
        reference: ObjectReference {
            name: volume.metadata.name.clone(),
            uid: volume.metadata.uid.clone(),
            ..reference("PersistentVolume")
        },
        claim: spec.claim_ref.as_ref().map(|claim| ObjectReference {
            name: claim.name.clone(),
            namespace: claim.namespace.clone(),
            uid: claim.uid.clone(),
            ..reference("PersistentVolumeClaim")
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn volume(source: serde_json::Value, options: &[&str]) -> Option<NfsVolume> {
        let mut spec = json!({"mountOptions": options, "claimRef": {"name": "home", "namespace": "labs", "uid": "7"}});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        nfs_volume(&from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap())
    }

    fn nfs(server: &str, path: &str) -> serde_json::Value {
        json!({"nfs": {"server": server, "path": path}})
    }

    #[test]
    fn volumes_name_their_server() {
        let home =
            volume(json!({"nfs": {"server": "10.96.0.9", "path": "/home"}}), &["nfsvers=3,port=2050", "mountport=9"]);
        let home = home.unwrap();
        assert_eq!((home.server.to_string(), home.version), ("10.96.0.9:2050/home".into(), Some(Version::V3)));
        assert_eq!(home.mount_port, Some(9));
        assert_eq!(home.claim.unwrap().namespace.as_deref(), Some("labs"));
        let attributes = json!({"server": "nfs.labs.svc", "share": "/home"});
        let csi = json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "x", "volumeAttributes": attributes}});
        assert_eq!(volume(csi, &["vers=4.1"]).unwrap().server.to_string(), "nfs.labs.svc/home");
        let attributes = json!({"ip": "10.0.0.5", "volume": "vol1"});
        let filestore =
            json!({"driver": "filestore.csi.storage.gke.io", "volumeHandle": "x", "volumeAttributes": attributes});
        assert_eq!(volume(json!({"csi": filestore}), &[]).unwrap().server.to_string(), "10.0.0.5/vol1");
        let mounts_only = |server, options: &[&str]| {
            let volume = volume(nfs(server, "/home"), options).unwrap();
            (volume.server.to_string(), volume.only_mounts)
        };
        assert_eq!(mounts_only("10.0.0.9", &["proto=rdma,port=20049"]), ("10.0.0.9/home".into(), true));
        assert_eq!(mounts_only("10.0.0.9", &["rdma", "port=20049"]), ("10.0.0.9/home".into(), true));
        assert_eq!(mounts_only("10.0.0.9", &["proto=udp6"]), ("10.0.0.9/home".into(), true));
        assert_eq!(mounts_only("127.0.0.1", &["port=20127"]), ("127.0.0.1:20127/home".into(), true));
        assert_eq!(mounts_only("10.0.0.9", &["proto=tcp6", "hard"]), ("10.0.0.9/home".into(), false));
        assert_eq!(volume(nfs("fd00::1", "/"), &[]).unwrap().server.to_string(), "[fd00::1]/");
        assert_eq!(volume(json!({"hostPath": {"path": "/home"}}), &[]), None);
    }
}
