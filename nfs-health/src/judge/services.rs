//! The cluster's Services and the pods behind them, as two watches report them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use crate::judge::store::{Key, Store};
use crate::server::{Host, Server};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All Services, and all EndpointSlices.
#[derive(Debug, Default)]
pub struct Services {
    services: Store<Service>,
    slices: Store<Slice>,
}

#[derive(Debug, PartialEq)]
struct Service {
    addresses: Vec<IpAddr>,
    /// Each port with its name.
    ports: Vec<(u16, String)>,
}

/// A part of the pods behind a Service.
#[derive(Debug, PartialEq)]
struct Slice {
    service: Key,
    /// Each port of the pods with the name of the Service's port.
    ports: Vec<(u16, String)>,
    pods: Vec<Pod>,
}

#[derive(Debug, PartialEq)]
struct Pod {
    is_ready: bool,
    address: IpAddr,
}

impl Services {
    /// Handles an event of the watch on Services.
    pub fn take_service(&mut self, event: Event<core::Service>) {
        self.services.take(event, service);
    }

    /// Handles an event of the watch on EndpointSlices.
    pub fn take_slice(&mut self, event: Event<EndpointSlice>) {
        self.slices.take(event, slice);
    }

    /// Whether both were listed once.
    pub fn are_complete(&self) -> bool {
        self.services.is_complete() && self.slices.is_complete()
    }

    /// A pod that the Service with the server's address leads to, at the pod's own port. Ready pods come first.
    pub fn pod_behind(&self, server: &Server) -> Option<Server> {
        let (key, service) = self.service_of(&server.host)?;
        let (_, name) = service.ports.iter().find(|(port, _)| *port == server.port)?;
        let slices = self.slices.objects().values().filter(|slice| slice.service == *key);
        let pods = slices.flat_map(|slice| {
            let port = slice.ports.iter().find(|(_, known)| known == name).map(|(port, _)| *port);
            slice.pods.iter().filter_map(move |pod| Some((!pod.is_ready, Host::Address(pod.address), port?)))
        });
        let (_, host, port) = pods.min()?;
        // The addresses of a headless Service are its pods'.
        (host != server.host).then_some(Server { host, port, export: None })
    }

    fn service_of(&self, host: &Host) -> Option<(&Key, &Service)> {
        match host {
            Host::Address(address) => {
                self.services.objects().iter().find(|(_, service)| service.addresses.contains(address))
            }
            Host::LinkLocal(..) => None,
            Host::Name(name) => self.services.objects().get_key_value(&service_name(name)?),
        }
    }
}

/// The Service that a DNS name refers to.
fn service_name(name: &str) -> Option<Key> {
    let mut labels = name.trim_end_matches('.').split('.');
    let (service, namespace) = (labels.next()?, labels.next()?);
    matches!(labels.next(), Some("svc")).then(|| (namespace.to_owned(), service.to_owned()))
}

fn service(service: &core::Service) -> Option<Service> {
    let spec = service.spec.as_ref()?;
    let balancer = service.status.iter().filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let balancer = balancer.flatten().filter_map(|ingress| ingress.ip.as_ref());
    let addresses = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    let addresses = addresses.chain(spec.external_ips.iter().flatten()).chain(balancer);
    let port = |port: &core::ServicePort| Some((port_number(port.port)?, port.name.clone().unwrap_or_default()));
    let ports = spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let ports: Vec<_> = ports.filter_map(port).collect();
    let addresses = addresses.filter_map(|address| address.parse().ok()).collect();
    (!ports.is_empty()).then_some(Service { addresses, ports })
}

fn slice(slice: &EndpointSlice) -> Option<Slice> {
    let service = slice.labels().get(SERVICE_NAME)?.clone();
    let ports = slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let ports = ports.filter_map(|port| Some((port_number(port.port?)?, port.name.clone().unwrap_or_default())));
    let pods = slice.endpoints.iter().filter_map(|endpoint| {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        Some(Pod { is_ready, address: endpoint.addresses.first()?.parse().ok()? })
    });
    let service = (slice.namespace().unwrap_or_default(), service);
    Some(Slice { service, ports: ports.collect(), pods: pods.collect() })
}

/// Whether a port is one of TCP, which is the default. A port of UDP may have the same number.
fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, from_value, json};

    fn listed<K: DeserializeOwned>(objects: &[Value]) -> Vec<Event<K>> {
        let objects = objects.iter().map(|object| Event::InitApply(from_value(object.clone()).unwrap()));
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }

    fn files(addresses: [&str; 2]) -> Value {
        json!({"metadata": {"namespace": "labs", "name": "files"}, "spec": {
            "clusterIP": addresses[0], "clusterIPs": addresses,
            "externalIPs": ["192.0.2.9"],
            "ports": [{"name": "nfs-udp", "port": 2049, "protocol": "UDP"}, {"name": "mountd", "port": 20048},
                {"name": "nfs", "port": 2049, "targetPort": 12049, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "nfs.example.org"}, {"ip": "203.0.113.9"}]}}})
    }

    fn slice(name: &str, service: &str, pods: &[(&str, bool)]) -> Value {
        let pod = |(address, ready): &(&str, bool)| json!({"addresses": [address], "conditions": {"ready": ready}});
        json!({"metadata": {"namespace": "labs", "name": name, "labels": {SERVICE_NAME: service}}, "addressType": "IPv4",
            "ports": [{"name": "nfs-udp", "port": 12050, "protocol": "UDP"}, {"name": "nfs", "port": 12049}], "endpoints": pods.iter().map(pod).collect::<Vec<_>>()})
    }

    fn services(services: &[Value], slices: &[Value]) -> Services {
        let mut all = Services::default();
        listed(services).into_iter().for_each(|event| all.take_service(event));
        assert!(!all.are_complete());
        listed(slices).into_iter().for_each(|event| all.take_slice(event));
        assert!(all.are_complete());
        all
    }

    fn behind(services: &Services, server: &str) -> Option<String> {
        services.pod_behind(&server.parse().unwrap()).map(|server| server.to_string())
    }

    #[test]
    fn a_ready_pod_is_behind_a_service_and_else_any() {
        let seen = |slices: &[Value], server| behind(&services(&[files(["10.96.0.9", "fd00::9"])], slices), server);
        let (unready, ready) = (("10.1.0.3", false), ("10.1.0.7", true));
        let both = [slice("files-a", "files", &[unready]), slice("files-b", "files", &[ready])];
        for server in [
            "10.96.0.9/home",
            "[fd00::9]/home",
            "files.labs.svc/home",
            "files.labs.svc.cluster.local./home",
            "192.0.2.9/home",
            "203.0.113.9/home",
        ] {
            assert_eq!(seen(&both, server).as_deref(), Some("10.1.0.7:12049"), "{server}");
        }
        assert_eq!(seen(&both[..1], "10.96.0.9/home").as_deref(), Some("10.1.0.3:12049"));
        for server in
            ["10.96.0.9:111/home", "10.96.0.9:20048/home", "10.96.0.8/home", "files.other.svc/home", "nas/home"]
        {
            assert_eq!(seen(&both, server), None, "{server}");
        }
        assert_eq!(seen(&[slice("files-a", "web", &[ready])], "10.96.0.9/home"), None);
        assert_eq!(seen(&[slice("files-a", "files", &[("10.96.0.9", true)])], "10.96.0.9/home"), None, "itself");
    }

    #[test]
    fn names_of_services_are_distinguished_from_others() {
        let name = |name| service_name(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        assert_eq!(name("nfs.labs.svc.cluster.local").as_deref(), Some("labs/nfs"));
        assert_eq!(name("nfs.labs.svc").as_deref(), Some("labs/nfs"));
        assert_eq!(name("fs-1.efs.eu-west-1.amazonaws.com"), None);
        assert_eq!(name("nas"), None);
    }
}
