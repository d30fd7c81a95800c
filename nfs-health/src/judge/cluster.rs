//! What is to be probed, by the cluster's volumes, and the pods behind a Service's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::judge::nfs_volumes::NfsVolume;
use crate::server::{Host, Server};
use crate::targets::{Look, MOST_TARGETS, Target};

/// No more exports of one server are probed than this: what is wrong with all of them shows at some.
const MOST_EXPORTS: usize = 16;

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
    use k8s_openapi::api::core::v1::ObjectReference;
    use serde_json::{from_value, json};
    use std::time::Duration;

    fn nfs(server: &str, path: &str) -> NfsVolume {
        let server = format!("{server}{path}").parse().unwrap();
        let (reference, claim) = (ObjectReference::default(), None);
        NfsVolume { server, version: None, mount_port: None, reference, claim }
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
        let volumes: Vec<_> = ["/home/ann", "/home", "/data/x"].map(|path| nfs("nfs", path)).into();
        let behind = BTreeMap::from([((Host::Name("nfs".into()), 2049), "10.1.0.7:2050".parse().unwrap())]);
        let seen = targets(&look, &volumes, &behind);
        let names: Vec<_> = seen.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["nfs/data", "nfs/home"]);
        let home = &seen[&"nfs/home".parse().unwrap()];
        assert_eq!(home.behind.as_ref().unwrap().to_string(), "10.1.0.7:2050/home");
        let many: Vec<_> = (0..99).map(|number| nfs("other", &format!("/{number}"))).collect();
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
