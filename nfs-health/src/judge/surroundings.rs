//! What the cluster knows of NFS: PersistentVolumes with their claims, and the pods behind a Service's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::judge::csi;
use crate::probe::Version;
use crate::server::{Host, NFS_PORT, Server};
use crate::settings::Look;
use crate::targets::{MOST_TARGETS, Target};
use crate::volumes::objects::source_of;

/// Objects that are asked for at a time.
const PAGE: u32 = 500;

/// No more exports of one server are probed than this: what is wrong with all of them shows at some.
const MOST_EXPORTS: usize = 16;

/// A PersistentVolume that is on an NFS server.
#[derive(Clone, Debug, PartialEq)]
pub struct NfsVolume {
    /// The server with the export.
    pub server: Server,
    version: Option<Version>,
    mount_port: Option<u16>,
    /// What Events about the volume refer to.
    pub reference: ObjectReference,
    /// What Events about its claim refer to.
    pub claim: Option<ObjectReference>,
}

/// All NFS volumes of the cluster.
///
/// # Errors
///
/// What the API server said.
pub async fn volumes(client: &Client) -> Result<Vec<NfsVolume>, kube::Error> {
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let (mut volumes, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        volumes.extend(list.items.iter().filter_map(nfs_volume));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(volumes),
        }
    }
}

fn nfs_volume(volume: &PersistentVolume) -> Option<NfsVolume> {
    let spec = volume.spec.as_ref()?;
    let (host, export) = match source_of(spec) {
        Some(source) => (source.server, source.path),
        None => csi::place(spec.csi.as_ref()?)?,
    };
    if export.is_empty() {
        return None;
    }
    let options = spec.mount_options.iter().flatten().flat_map(|options| options.split(','));
    let options: BTreeMap<&str, &str> = options.filter_map(|option| option.split_once('=')).collect();
    let option = |name: &str| options.get(name).copied();
    let port = |name| option(name).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let server = Server {
        host: Host::named(host.trim_start_matches('[').trim_end_matches(']'))?,
        port: port("port").unwrap_or(NFS_PORT),
        export: Some(export),
    };
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

/// What to probe: the named servers, and those of the volumes. `behind` is what is behind addresses, as the cluster knows.
pub fn targets(look: &Look, volumes: &[NfsVolume], behind: &BTreeMap<(Host, u16), Server>) -> BTreeMap<Server, Target> {
    let mut targets: BTreeMap<Server, Target> =
        look.servers.iter().map(|server| (server.clone(), Target::default())).collect();
    // The shortest first: an export holds the folders in it.
    let mut volumes: Vec<&NfsVolume> = volumes.iter().collect();
    volumes.sort_by_key(|volume| (volume.server.export.as_ref().map_or(0, String::len), &volume.server));
    for NfsVolume { server, version, mount_port, .. } in volumes {
        let of_server = targets.keys().filter(|known| (&known.host, known.port) == (&server.host, server.port));
        let is_enough = of_server.count() >= MOST_EXPORTS || targets.len() >= MOST_TARGETS;
        if is_enough || targets.keys().any(|known| known.holds(server, None)) {
            continue;
        }
        let target = Target { version: *version, mount_port: *mount_port, ..Target::default() };
        targets.insert(server.clone(), target);
    }
    for (server, target) in &mut targets {
        let known = behind.get(&(server.host.clone(), server.port));
        target.behind = look.behind(server).or_else(|| {
            let behind = known?.clone();
            Some(Server { export: server.export.clone(), ..behind })
        });
    }
    targets
}

/// The pod behind each of the servers' addresses that is a Service's.
///
/// # Errors
///
/// What the API server said.
pub async fn behind<'a>(
    client: &Client,
    servers: impl Iterator<Item = &'a Server>,
) -> Result<BTreeMap<(Host, u16), Server>, kube::Error> {
    let mut all = BTreeMap::new();
    for server in servers {
        let address = (server.host.clone(), server.port);
        if all.contains_key(&address) {
            continue;
        }
        let found = match service(client, &server.host).await? {
            Some(service) => pod(client, &service, server.port).await?,
            None => None,
        };
        all.insert(address, found.filter(|found| found.host != server.host));
    }
    Ok(all.into_iter().filter_map(|(address, found)| Some((address, found?))).collect())
}

/// The Service that an address belongs to.
async fn service(client: &Client, host: &Host) -> Result<Option<Service>, kube::Error> {
    match host {
        Host::Address(address) => {
            let params = ListParams::default().fields(&format!("spec.clusterIP={address}"));
            Ok(Api::<Service>::all(client.clone()).list(&params).await?.items.pop())
        }
        Host::LinkLocal(..) => Ok(None),
        Host::Name(name) => match service_name(name) {
            Some((name, namespace)) => Api::<Service>::namespaced(client.clone(), namespace).get_opt(name).await,
            None => Ok(None),
        },
    }
}

/// Name and namespace of the Service that a DNS name stands for.
fn service_name(name: &str) -> Option<(&str, &str)> {
    let mut labels = name.trim_end_matches('.').split('.');
    let (service, namespace) = (labels.next()?, labels.next()?);
    matches!(labels.next(), Some("svc")).then_some((service, namespace))
}

/// A pod that a Service leads to, ready ones first, at the port that stands for the Service's.
async fn pod(client: &Client, service: &Service, port: u16) -> Result<Option<Server>, kube::Error> {
    let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace) else { return Ok(None) };
    let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    Ok(pod_in(service, &slices.list(&params).await?.items, port))
}

fn pod_in(service: &Service, slices: &[EndpointSlice], port: u16) -> Option<Server> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let name = &ports.iter().find(|known| known.port == i32::from(port))?.name;
    let name = name.as_deref().unwrap_or_default();
    let mut pods = slices.iter().flat_map(|slice| {
        let port = slice.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == name);
        let port = port.and_then(|port| u16::try_from(port.port?).ok()).filter(|port| *port > 0);
        slice.endpoints.iter().filter_map(move |endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
            let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
            Some((!ready, Server { host: Host::Address(address), port: port?, export: None }))
        })
    });
    let first = pods.next()?;
    Some(pods.fold(first, |best, pod| best.min(pod)).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probing;
    use serde_json::{from_value, json};
    use std::time::Duration;

    fn volume(source: serde_json::Value, options: &[&str]) -> Option<NfsVolume> {
        let mut spec = json!({"mountOptions": options, "claimRef": {"name": "home", "namespace": "labs", "uid": "7"}});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        nfs_volume(&from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap())
    }

    fn nfs(server: &str, path: &str) -> Option<NfsVolume> {
        volume(json!({"nfs": {"server": server, "path": path}}), &[])
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
        assert_eq!(nfs("fd00::1", "/").unwrap().server.to_string(), "[fd00::1]/");
        assert_eq!(volume(json!({"hostPath": {"path": "/home"}}), &[]), None);
    }

    #[test]
    fn folders_of_an_export_and_too_many_exports_are_not_probed() {
        let probing = Probing::plain(Duration::from_secs(1));
        let look = Look {
            servers: vec!["nfs/data".parse().unwrap()],
            backends: Vec::new(),
            mountinfo: None,
            excluded: Vec::new(),
            probing,
        };
        let volumes: Vec<_> =
            ["/home/ann", "/home", "/data/x"].into_iter().filter_map(|path| nfs("nfs", path)).collect();
        let behind = BTreeMap::from([((Host::Name("nfs".into()), 2049), "10.1.0.7:2050".parse().unwrap())]);
        let seen = targets(&look, &volumes, &behind);
        let names: Vec<_> = seen.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["nfs/data", "nfs/home"]);
        let home = &seen[&"nfs/home".parse().unwrap()];
        assert_eq!(home.behind.as_ref().unwrap().to_string(), "10.1.0.7:2050/home");
        let many: Vec<_> = (0..99).filter_map(|number| nfs("other", &format!("/{number}"))).collect();
        assert_eq!(targets(&look, &many, &behind).len(), MOST_EXPORTS + 1);
    }

    #[test]
    fn a_ready_pod_is_behind_a_service_and_else_any() {
        let service = from_value(json!({"spec": {"ports": [
            {"name": "mountd", "port": 20048}, {"name": "nfs", "port": 2049, "targetPort": 12049}]}}));
        let service = service.unwrap();
        let slice = |ready: [bool; 2]| -> EndpointSlice {
            from_value(json!({"addressType": "IPv4", "ports": [{"name": "nfs", "port": 12049}], "endpoints": [
                {"addresses": ["10.1.0.3"], "conditions": {"ready": ready[0]}},
                {"addresses": ["10.1.0.7"], "conditions": {"ready": ready[1]}}]}))
            .unwrap()
        };
        let seen = |slices: &[EndpointSlice], port| pod_in(&service, slices, port).map(|server| server.to_string());
        assert_eq!(seen(&[slice([false, true])], 2049).as_deref(), Some("10.1.0.7:12049"));
        assert_eq!(seen(&[slice([false, false])], 2049).as_deref(), Some("10.1.0.3:12049"));
        assert_eq!(seen(&[slice([true, true])], 111), None);
        assert_eq!(seen(&[], 2049), None);
    }

    #[test]
    fn names_of_services_are_told_from_others() {
        assert_eq!(service_name("nfs.labs.svc.cluster.local"), Some(("nfs", "labs")));
        assert_eq!(service_name("nfs.labs.svc"), Some(("nfs", "labs")));
        assert_eq!(service_name("fs-1.efs.eu-west-1.amazonaws.com"), None);
        assert_eq!(service_name("nas"), None);
    }
}
