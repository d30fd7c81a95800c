//! Addresses and links of a cluster. Each cluster has its own /16 network, so that several can run at the same time:
//!
//! ```text
//! 10.S.N.0/24     pods of node N            10.S.128.0/18   Services
//! 10.S.254.N      node N                    10.S.254.254    the control plane, on a bridge with all nodes
//! 10.S.255.1      this machine              10.S.255.2      the control plane, on a link with this machine
//! ```
//!
//! The bridge and the nodes' ends are in network namespaces and end with them. Only one link and one route belong to
//! the machine.

use crate::command::run_args;
use crate::enclosure::Enclosure;
use crate::folder::Folder;
use crate::{Error, Result, command};

/// The /16 networks of clusters: 10.192.0.0/16 and the next.
const FIRST: u8 = 192;
const CLUSTERS: u8 = 32;
/// The number of nodes for which there are routes.
pub(super) const MOST_NODES: u8 = 20;

/// The network of one cluster; dropping it removes the link to this machine.
#[derive(Debug)]
pub(super) struct Network {
    second: u8,
    link: String,
}

impl Network {
    /// Takes the first free network and connects it to the control plane's namespace. `name`, the folder's, lets the
    /// janitor find the link: a killed namespace may live on for minutes, until its last connection times out.
    pub(super) fn start(control_plane: &Enclosure, name: &str) -> Result<Network> {
        let id = control_plane.id().to_string();
        for second in FIRST..FIRST + CLUSTERS {
            // The link's name is the lock: creating it fails if another cluster has this network.
            let link = format!("labhands{second}");
            let routes = run_args("ip", &["route", "show", "root", &format!("10.{second}.0.0/16")])?;
            let made = ["link", "add", &link, "type", "veth", "peer", "name", "machine", "netns", &id];
            if !routes.trim().is_empty() || run_args("ip", &made).is_err() {
                continue;
            }
            let network = Network { second, link };
            ip(None, &["link", "set", "dev", &network.link, "alias", name])?;
            network.join(control_plane)?;
            return Ok(network);
        }
        Err(Error::Missing(format!("no free network from 10.{FIRST}.0.0/16 on: end other clusters (`ip link`)")))
    }

    fn join(&self, control_plane: &Enclosure) -> Result<()> {
        ip(None, &["addr", "add", &format!("{}/30", self.machine()), "dev", &self.link])?;
        ip(None, &["link", "set", &self.link, "up"])?;
        ip(None, &["route", "add", &self.all(), "via", &self.api_server()])?;
        let inside = Some(control_plane);
        ip(inside, &["link", "add", "nodes", "type", "bridge"])?;
        ip(inside, &["addr", "add", &format!("{}/30", self.api_server()), "dev", "machine"])?;
        ip(inside, &["addr", "add", &format!("{}/24", self.node(254)), "dev", "nodes"])?;
        ip(inside, &["link", "set", "machine", "up"])?;
        ip(inside, &["link", "set", "nodes", "up"])?;
        self.forward(control_plane, 0)?;
        // No machine has the addresses of Services, so the first node's kube-proxy handles all traffic from
        // outside.
        ip(inside, &["route", "add", &self.services(), "via", &self.node(1)]).map(drop)
    }

    /// Connects node `number` to the bridge.
    pub(super) fn join_node(&self, control_plane: &Enclosure, node: &Enclosure, number: u8) -> Result<()> {
        let (link, id) = (format!("node{number}"), node.id().to_string());
        ip(Some(control_plane), &["link", "add", &link, "type", "veth", "peer", "name", "eth0"])?;
        // Process ids are those of the caller's namespace, so the link is moved from outside.
        let source = control_plane.id().to_string();
        run_args("nsenter", &["-t", &source, "-n", "ip", "link", "set", "eth0", "netns", &id])?;
        ip(Some(control_plane), &["link", "set", &link, "master", "nodes", "up"])?;
        ip(Some(node), &["addr", "add", &format!("{}/24", self.node(number)), "dev", "eth0"])?;
        ip(Some(node), &["link", "set", "eth0", "up"])?;
        ip(Some(node), &["route", "add", "default", "via", &self.node(254)])?;
        self.forward(node, number)
    }

    /// Gives a namespace the cluster's DNS. The machine's name servers cannot be reached from it, and every look-up
    /// would wait.
    pub(super) fn name_server(&self, namespace: &Enclosure, folder: &Folder) -> Result<()> {
        let file = folder.write("resolv.conf", format!("nameserver {}\n", self.dns()))?;
        command::run(namespace.command("mount").arg("--bind").arg(file).arg("/etc/resolv.conf")).map(drop)
    }

    /// Enables forwarding in a namespace, with routes to the pods of all other nodes.
    fn forward(&self, namespace: &Enclosure, own: u8) -> Result<()> {
        for number in (1..=MOST_NODES).filter(|&number| number != own) {
            ip(Some(namespace), &["route", "add", &self.pods(number), "via", &self.node(number)])?;
        }
        let mut sysctl = namespace.command("sysctl");
        command::run(sysctl.args(["-qw", "net.ipv4.ip_forward=1"])).map(drop)
    }

    pub(super) fn machine(&self) -> String {
        format!("10.{}.255.1", self.second)
    }

    pub(super) fn api_server(&self) -> String {
        format!("10.{}.255.2", self.second)
    }

    pub(super) fn node(&self, number: u8) -> String {
        format!("10.{}.254.{number}", self.second)
    }

    pub(super) fn pods(&self, number: u8) -> String {
        format!("10.{}.{number}.0/24", self.second)
    }

    /// CoreDNS's address, which is the control plane's.
    pub(super) fn dns(&self) -> String {
        self.node(254)
    }

    /// All pods of all nodes.
    pub(super) fn all_pods(&self) -> String {
        format!("10.{}.0.0/17", self.second)
    }

    pub(super) fn services(&self) -> String {
        format!("10.{}.128.0/18", self.second)
    }

    /// One of the first 255 addresses of Services. Kubernetes assigns these only when no other is free.
    pub(super) fn service(&self, number: u8) -> String {
        format!("10.{}.128.{number}", self.second)
    }

    /// The first Service's address, which is the API server's.
    pub(super) fn kubernetes_service(&self) -> String {
        self.service(1)
    }

    fn all(&self) -> String {
        format!("10.{}.0.0/16", self.second)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended with the namespace at its other end.
        let _ = run_args("ip", &["link", "del", &self.link]);
    }
}

fn ip(namespace: Option<&Enclosure>, arguments: &[&str]) -> Result<String> {
    match namespace {
        Some(namespace) => command::run(namespace.command("ip").args(arguments)),
        None => run_args("ip", arguments),
    }
}
