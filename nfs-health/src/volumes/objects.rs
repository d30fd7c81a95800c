//! The objects that are created: volume, claim, second Service, with the labels that identify them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NFSVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PersistentVolumeSpec, Service, ServicePort, ServiceSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

use super::plan::NfsSource;
use super::wanted::{Named, Wanted, plain_path};

/// The label that marks our objects.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "nfs-health");

/// The Service of a volume, or the one whose old address a second Service keeps.
const SERVICE_NAMESPACE: &str = "labhands.dev/service-namespace";
const SERVICE: &str = "labhands.dev/service";

/// csi-driver-nfs.
const CSI_DRIVER: &str = "nfs.csi.k8s.io";

fn labels(service: &Named) -> BTreeMap<String, String> {
    [MANAGED_BY, (SERVICE_NAMESPACE, &service.namespace), (SERVICE, &service.name)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Whether we created it.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    let (name, value) = MANAGED_BY;
    meta.labels.as_ref().and_then(|labels| labels.get(name)).is_some_and(|found| found == value)
}

/// The Service that we created it for, if we created it.
pub fn made_for(meta: &ObjectMeta) -> Option<Named> {
    let label = |name| meta.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let service = Named { namespace: label(SERVICE_NAMESPACE)?, name: label(SERVICE)? };
    is_ours(meta).then_some(service)
}

/// The source of a volume, if it is on an NFS server.
pub fn source_of(volume: &PersistentVolumeSpec) -> Option<NfsSource> {
    if let Some(nfs) = &volume.nfs {
        return Some(NfsSource { csi: false, server: nfs.server.clone(), path: plain_path(&nfs.path) });
    }
    let csi = volume.csi.as_ref().filter(|csi| csi.driver == CSI_DRIVER)?;
    let attribute = |name| csi.volume_attributes.as_ref().and_then(|attributes| attributes.get(name)).cloned();
    let [server, path] = ["server", "share"].map(|name| attribute(name).unwrap_or_default());
    Some(NfsSource { csi: true, server, path: plain_path(&path) })
}

impl fmt::Display for NfsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.path)
    }
}

/// The volume.
pub fn volume(wanted: &Wanted, name: &str, source: &NfsSource) -> PersistentVolume {
    let (nfs, csi) = match source.csi {
        false => {
            (Some(NFSVolumeSource { path: source.path.clone(), server: source.server.clone(), read_only: None }), None)
        }
        true => {
            let attributes = [("server", &source.server), ("share", &source.path)];
            let csi = CSIPersistentVolumeSource {
                driver: CSI_DRIVER.to_owned(),
                volume_handle: name.to_owned(),
                volume_attributes: Some(attributes.map(|(name, value)| (name.to_owned(), value.clone())).into()),
                ..CSIPersistentVolumeSource::default()
            };
            (None, Some(csi))
        }
    };
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), labels: Some(labels(&wanted.service)), ..ObjectMeta::default() };
    let spec = PersistentVolumeSpec {
        nfs,
        csi,
        access_modes: Some(access_modes()),
        capacity: Some(storage(wanted)),
        claim_ref: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(wanted.claim.namespace.clone()),
            name: Some(wanted.claim.name.clone()),
            ..ObjectReference::default()
        }),
        mount_options: (!wanted.mount_options.is_empty()).then(|| wanted.mount_options.clone()),
        // Whatever happens to the claim, no file is touched.
        persistent_volume_reclaim_policy: Some("Retain".to_owned()),
        storage_class_name: Some(String::new()),
        volume_mode: Some("Filesystem".to_owned()),
        ..PersistentVolumeSpec::default()
    };
    PersistentVolume { metadata, spec: Some(spec), status: None }
}

/// The claim.
pub fn claim(wanted: &Wanted, volume: &str) -> PersistentVolumeClaim {
    let metadata = ObjectMeta {
        name: Some(wanted.claim.name.clone()),
        namespace: Some(wanted.claim.namespace.clone()),
        labels: Some(labels(&wanted.service)),
        ..ObjectMeta::default()
    };
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(access_modes()),
        resources: Some(VolumeResourceRequirements { requests: Some(storage(wanted)), limits: None }),
        // An empty class, because the default class would create another volume.
        storage_class_name: Some(String::new()),
        volume_name: Some(volume.to_owned()),
        ..PersistentVolumeClaimSpec::default()
    };
    PersistentVolumeClaim { metadata, spec: Some(spec), status: None }
}

/// The second Service: the first one's pods and ports at the old address.
pub fn kept(wanted: &Wanted, name: &str, address: IpAddr, first: &ServiceSpec) -> Service {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(wanted.service.namespace.clone()),
        labels: Some(labels(&wanted.service)),
        annotations: Some(BTreeMap::from([(
            "labhands.dev/why".to_owned(),
            format!("mounts still use {address}, which Service {} no longer has", wanted.service.name),
        )])),
        ..ObjectMeta::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some(address.to_string()),
        session_affinity: first.session_affinity.clone(),
        ip_families: Some(vec![if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned()]),
        ip_family_policy: Some("SingleStack".to_owned()),
        ..followed(first)
    };
    Service { metadata, spec: Some(spec), status: None }
}

/// What a second Service takes from the first: selector and ports.
pub fn followed(first: &ServiceSpec) -> ServiceSpec {
    let ports = first.ports.iter().flatten().map(|port| ServicePort { node_port: None, ..port.clone() });
    ServiceSpec { selector: first.selector.clone(), ports: Some(ports.collect()), ..ServiceSpec::default() }
}

/// Whether `other` leads to the same pods and ports as `first`.
pub fn serves(other: &ServiceSpec, first: &ServiceSpec) -> bool {
    let targets = |spec: &ServiceSpec| {
        let target = |port: &ServicePort| (port.protocol.clone(), port.port, port.target_port.clone());
        spec.ports.iter().flatten().map(target).collect::<Vec<_>>()
    };
    let others = targets(other);
    other.selector == first.selector && targets(first).iter().all(|target| others.contains(target))
}

fn access_modes() -> Vec<String> {
    vec!["ReadWriteMany".to_owned()]
}

fn storage(wanted: &Wanted) -> BTreeMap<String, Quantity> {
    [("storage".to_owned(), Quantity(wanted.size.clone()))].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::wanted::Driver;
    use serde_json::json;

    fn wanted() -> Wanted {
        Wanted {
            service: "storage/files".parse().unwrap(),
            export: "/home".into(),
            claim: "labs/homes".parse().unwrap(),
            driver: Driver::Nfs,
            mount_options: vec!["nfsvers=4.2".into(), "hard".into()],
            size: "10Gi".into(),
        }
    }

    #[test]
    fn a_volume_keeps_the_files_and_waits_for_one_claim() {
        let source = NfsSource { csi: false, server: "10.0.0.9".into(), path: "/home".into() };
        let spec = serde_json::to_value(volume(&wanted(), "v", &source).spec).unwrap();
        assert_eq!(
            spec,
            json!({
                "accessModes": ["ReadWriteMany"], "capacity": {"storage": "10Gi"},
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "labs", "name": "homes"},
                "mountOptions": ["nfsvers=4.2", "hard"], "nfs": {"server": "10.0.0.9", "path": "/home"},
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "", "volumeMode": "Filesystem",
            })
        );
        let source = NfsSource { csi: true, server: "files.storage.svc.cluster.local".into(), path: "/home".into() };
        let spec = serde_json::to_value(volume(&wanted(), "v", &source).spec).unwrap();
        let attributes = json!({"server": "files.storage.svc.cluster.local", "share": "/home"});
        let csi = json!({"driver": "nfs.csi.k8s.io", "volumeHandle": "v", "volumeAttributes": attributes});
        assert_eq!((&spec["csi"], &spec["nfs"]), (&csi, &serde_json::Value::Null));
    }

    #[test]
    fn more_slashes_in_a_volume_are_the_same_export() {
        for (text, expected) in
            [("/home", "/home"), ("/home/", "/home"), ("//home//", "/home"), ("/", "/"), ("homes", "homes")]
        {
            let nfs = json!({"nfs": {"server": "10.0.0.9", "path": text}});
            let attributes = json!({"server": "files", "share": text});
            let csi = json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": "v", "volumeAttributes": attributes}});
            for spec in [nfs, csi] {
                assert_eq!(source_of(&serde_json::from_value(spec).unwrap()).unwrap().path, expected, "{text}");
            }
        }
    }

    #[test]
    fn a_second_service_has_the_address_and_leads_to_the_same() {
        let first: ServiceSpec = serde_json::from_value(json!({
            "clusterIP": "10.0.0.7", "selector": {"app": "nfs"}, "type": "NodePort",
            "ports": [{"name": "nfs", "protocol": "TCP", "port": 2049, "targetPort": "nfs", "nodePort": 32049}],
        }))
        .unwrap();
        let kept = kept(&wanted(), "files-kept", [10, 0, 0, 9].into(), &first);
        assert_eq!(made_for(&kept.metadata), Some(wanted().service));
        let spec = kept.spec.unwrap();
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.0.0.9"));
        assert_eq!(spec.ports.as_ref().unwrap()[0].node_port, None);
        assert!(serves(&spec, &first) && serves(&first, &spec));
        let other = ServiceSpec { selector: Some([("app".to_owned(), "web".to_owned())].into()), ..spec.clone() };
        assert!(!serves(&other, &first));
        assert!(!serves(&ServiceSpec { ports: None, ..spec }, &first));
    }
}
