//! The cluster's PersistentVolumes that are on NFS servers, with their claims.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume};
use kube::ResourceExt as _;

use crate::judge::csi;
use crate::probe::Version;
use crate::server::{Host, NFS_PORT, Server};
use crate::targets::{is_tls, mountd_port};

/// The annotation with mount options, from before the specification had a field. kubelet still prefers it.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// A PersistentVolume on an NFS server.
#[derive(Clone, Debug, PartialEq)]
pub struct NfsVolume {
    /// The server with the export.
    pub server: Server,
    /// The version in its mount options, if it is 3.
    pub version: Option<Version>,
    /// mountd's port in its mount options, if they have one.
    pub mount_port: Option<u16>,
    /// mountd's host in its mount options, if they have one.
    pub mount_address: Option<IpAddr>,
    /// Whether only the mounts show its state: they use RDMA, UDP or TLS, or a tunnel on their own node.
    pub only_mounts: bool,
    /// Whether its mounts use Kerberos.
    pub kerberos: bool,
    /// The reference for Events about the volume.
    pub reference: ObjectReference,
    /// The reference for Events about its claim.
    pub claim: Option<ObjectReference>,
}

/// The relevant parts of a PersistentVolume, if it is on an NFS server.
pub fn nfs_volume(volume: &PersistentVolume) -> Option<NfsVolume> {
    let spec = volume.spec.as_ref()?;
    let (host, export) = match (&spec.nfs, &spec.csi) {
        (Some(nfs), _) => (nfs.server.clone(), nfs.path.clone()),
        (None, csi) => csi::source(csi.as_ref()?)?,
    };
    if export.is_empty() {
        return None;
    }
    let own = match volume.annotations().get(MOUNT_OPTIONS) {
        Some(annotation) => std::slice::from_ref(annotation),
        None => spec.mount_options.as_deref().unwrap_or_default(),
    };
    let of_driver = spec.csi.as_ref().and_then(|csi| csi::attribute(csi, "mountOptions"));
    let options = own.iter().chain(&of_driver).flat_map(|options| options.split(',')).map(str::trim);
    let options: Vec<(&str, &str)> = options.map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
    // As for mount.nfs, the last one of several counts, also of several names for the same.
    let last = |names: &[&str]| options.iter().rfind(|(name, _)| names.contains(name)).copied();
    let option = |name: &str| last(&[name]).map(|(_, value)| value);
    let transport = match last(&["proto", "tcp", "udp", "rdma"]) {
        Some(("proto", protocol)) => protocol,
        Some((name, _)) => name,
        None => "tcp",
    };
    let version = match last(&["nfsvers", "vers", "v3", "v4", "v4.0", "v4.1", "v4.2"]) {
        Some(("nfsvers" | "vers", version)) => version,
        Some((name, _)) => name.trim_start_matches('v'),
        None => "",
    };
    let port = option("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let (is_rdma, is_udp) = (transport.starts_with("rdma"), transport.starts_with("udp"));
    let server = Server {
        host: Host::named(host.trim_start_matches('[').trim_end_matches(']'))?,
        // RDMA has its own port.
        port: port.filter(|_| !is_rdma).unwrap_or(NFS_PORT),
        export: Some(export),
    };
    // `tls` is an option of efs-utils, which mounts through a tunnel then.
    let is_tunnel = option("tls").is_some() || spec.csi.as_ref().is_some_and(csi::is_encrypted);
    let only_mounts = is_rdma || is_udp || is_tunnel || is_tls(option("xprtsec")) || server.is_loopback();
    let reference = |kind: &str| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        ..ObjectReference::default()
    };
    Some(NfsVolume {
        server,
        version: (version == "3").then_some(Version::V3),
        mount_port: mountd_port(option).filter(|_| !is_udp),
        mount_address: option("mountaddr").or(option("mounthost")).and_then(|address| address.parse().ok()),
        only_mounts,
        kerberos: option("sec").is_some_and(|security| security.starts_with("krb5")),
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

    #[test]
    fn mount_options_have_several_spellings_and_belong_to_a_protocol() {
        let seen = |options: &[&str]| {
            let volume = volume(nfs("10.0.0.9", "/home"), options).unwrap();
            (volume.version, volume.mount_port, volume.only_mounts)
        };
        let (v3, any) = (Some(Version::V3), None);
        for (options, expected) in [
            (&["vers=3"][..], (v3, None, false)),
            (&["v3"], (v3, None, false)),
            (&["hard, nfsvers=3"], (v3, None, false)),
            (&["v4.1", "tcp"], (any, None, false)),
            (&["nfsvers=4.1", "vers=3"], (v3, None, false)),
            (&["v3,nfsvers=4.2"], (any, None, false)),
            (&["vers=4.0", "v3"], (v3, None, false)),
            (&["udp", "proto=tcp"], (any, None, false)),
            (&["proto=rdma", "tcp"], (any, None, false)),
            (&["tcp,proto=rdma6"], (any, None, true)),
            (&["v3,mountport=2050,mountproto=tcp6"], (v3, Some(2050), false)),
            (&["v3,mountport=2050,mountproto=udp"], (v3, None, false)),
            (&["v3,mountport=2050,mountvers=1"], (v3, None, false)),
            (&["v3,udp,mountport=2050"], (v3, None, true)),
            (&["xprtsec=mtls"], (any, None, true)),
            (&["xprtsec=none"], (any, None, false)),
            (&["tls"], (any, None, true)),
        ] {
            assert_eq!(seen(options), expected, "{options:?}");
        }
        // The annotation from before there was a field; kubelet still uses it.
        let annotations = json!({"volume.beta.kubernetes.io/mount-options": "nfsvers=3,port=2050"});
        let metadata = json!({"name": "pv", "annotations": annotations});
        let old = nfs_volume(&from_value(json!({"metadata": metadata, "spec": nfs("nas", "/home")})).unwrap()).unwrap();
        assert_eq!((old.server.to_string().as_str(), old.version), ("nas:2050/home", v3));
    }

    #[test]
    fn a_driver_that_encrypts_mounts_through_a_tunnel() {
        // Only the driver of EFS encrypts by default.
        let azure = ("file.csi.azure.com", json!({"storageAccount": "acc", "shareName": "h", "protocol": "nfs"}));
        let efs = ("efs.csi.aws.com", json!({"mounttargetip": "10.0.0.9"}));
        for ((driver, attributes), by_default) in [(azure, false), (efs, true)] {
            for (value, expected) in [("true", true), ("True", true), ("false", false), ("", by_default)] {
                let mut attributes = attributes.clone();
                attributes["encryptInTransit"] = value.into();
                let csi = json!({"driver": driver, "volumeHandle": "x", "volumeAttributes": attributes});
                assert_eq!(volume(json!({"csi": csi}), &[]).unwrap().only_mounts, expected, "{driver} {value:?}");
            }
        }
    }

    #[test]
    fn attributes_of_the_nfs_driver_are_read_as_it_reads_them() {
        let seen = |driver: &str, attributes: serde_json::Value| {
            let csi = json!({"driver": driver, "volumeHandle": "x", "volumeAttributes": attributes});
            volume(json!({"csi": csi}), &[]).map(|volume| (volume.server.to_string(), volume.version))
        };
        let (nas, v3) = (|export: &str, version| Some((format!("nas{export}"), version)), Some(Version::V3));
        for (driver, attributes, expected) in [
            ("nfs.csi.k8s.io", json!({"Server": "nas", "SHARE": "/home"}), nas("/home", None)),
            ("nfs.csi.k8s.io", json!({"server": "nas", "share": "/home/", "subDir": "ann"}), nas("/home/ann", None)),
            ("nfs.csi.k8s.io", json!({"server": "nas", "share": "/", "subdir": "pvc-1"}), nas("/pvc-1", None)),
            (
                "nfs.csi.k8s.io",
                json!({"server": "nas", "share": "/home", "subDir": "${pvc.metadata.name}"}),
                nas("/home", None),
            ),
            (
                "nfs.csi.k8s.io",
                json!({"server": "nas", "share": "/home", "mountOptions": "nfsvers=3,port=2050"}),
                nas(":2050/home", v3),
            ),
            ("rook-ceph.nfs.csi.ceph.com", json!({"server": "nas", "share": "/0001-a"}), nas("/0001-a", None)),
            ("nfs.csi.k8s.io", json!({"server": "nas"}), None),
            ("smb.csi.k8s.io", json!({"server": "nas", "share": "/home"}), None),
        ] {
            assert_eq!(seen(driver, attributes.clone()), expected, "{driver} {attributes}");
        }
    }
}
