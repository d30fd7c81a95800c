//! A real Kubernetes on this machine: its own programs, a control plane, and nodes that are isolated like machines.
//!
//! Control plane and nodes are [`Enclosure`](crate::enclosure::Enclosure)s with separate networks: each has the
//! usual ports and paths, several clusters run side by side, and a dropped cluster takes its processes, mounts, links,
//! rules and cgroups with it. `binaries` finds or builds the programs, `network` assigns the addresses, `control_plane`
//! and `node` start the parts,
//! `nfs_client` lets kubelet mount NFS volumes.

mod api;
mod binaries;
mod control_plane;
mod disk;
mod install;
mod kubectl;
mod network;
mod nfs_client;
mod node;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use api::Api;
pub use install::Install;
pub use kubectl::{Kubectl, attach};
pub use node::Node;

use self::control_plane::ControlPlane;
use crate::images::Image;
use crate::packages::{self, Part};
use crate::process::Process;
use crate::proxy::TcpProxy;
use crate::registry::Registry;
use crate::{Error, Result};

/// A running cluster with a registry.
#[derive(Debug)]
pub struct Cluster {
    // Nodes end before the control plane.
    nodes: Vec<Node>,
    made: u8,
    registry_proxy: TcpProxy,
    exposed: Vec<TcpProxy>,
    plane: ControlPlane,
    registry: Registry,
}

impl Cluster {
    /// Starts a cluster with `nodes` ready nodes. Builds Kubernetes first if there is no earlier build.
    pub fn start(nodes: u8) -> Result<Cluster> {
        packages::require(Part::Cluster)?;
        let binaries = binaries::find_or_build()?;
        let registry = Registry::start()?;
        Image::pause()?.push(&registry, "pause", "1")?;
        let plane = ControlPlane::start(&binaries)?;
        // The registry has the same port at the address for pods and nodes as on the loopback address.
        let port = registry.port();
        let registry_proxy = TcpProxy::listen(on_machine(&plane, port)?, ([127, 0, 0, 1], port).into())?;
        let mut cluster = Cluster { nodes: Vec::new(), made: 0, registry_proxy, exposed: Vec::new(), plane, registry };
        for _ in 0..nodes {
            cluster.new_node()?;
        }
        cluster.wait_ready()?;
        // No pod is admitted without it. A controller creates it a moment after the API server's start.
        cluster.kubectl().run(&["wait", "serviceaccount/default", "--for=create", "--timeout=300s"])?;
        Ok(cluster)
    }

    /// The registry. Its images have two names: `127.0.0.1:PORT/…` on this machine and for the nodes' container
    /// runtimes, and [`Cluster::registry_host`]`/…` for these and for pods.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The registry, to stop and start it.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// `host:port` of the registry for this machine, nodes and pods, over plain HTTP.
    pub fn registry_host(&self) -> String {
        self.registry_proxy.host()
    }

    /// The proxy in front of the registry, to slow, stall or cut what nodes and pods pull.
    pub fn registry_proxy(&self) -> &TcpProxy {
        &self.registry_proxy
    }

    /// Makes something that listens on this machine reachable from nodes and pods. Returns its `host:port` there.
    pub fn expose(&mut self, target: SocketAddr) -> Result<String> {
        let proxy = TcpProxy::listen(on_machine(&self.plane, 0)?, target)?;
        let host = proxy.host();
        self.exposed.push(proxy);
        Ok(host)
    }

    /// This machine's address for nodes and pods.
    pub fn machine(&self) -> String {
        self.plane.network.machine()
    }

    /// An address for a Service that sets its own, from number 20. Kubernetes itself assigns others.
    pub fn service_address(&self, number: u8) -> String {
        self.plane.network.service(number)
    }

    /// The administrator's kubeconfig, for `KUBECONFIG`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.admin()
    }

    /// The environment of other programs that use the cluster as the administrator, such as Helm.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("KUBECONFIG", self.kubeconfig()), (kubectl::CACHE, self.plane.kubectl_cache())]
    }

    /// The folder of the control plane: logs and keys.
    pub fn folder(&self) -> &Path {
        self.plane.folder.path()
    }

    /// `kubectl` for this cluster.
    pub fn kubectl(&self) -> Kubectl {
        self.plane.kubectl()
    }

    /// The API server, with the administrator's certificate.
    pub fn api(&self) -> Result<Api> {
        self.plane.api()
    }

    /// The nodes, first to last.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node, to stop and start its parts.
    pub fn node(&mut self, name: &str) -> Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.ok_or_else(|| Error::Missing(format!("the cluster has no node {name}")))
    }

    /// Adds a node and returns it. It is ready a few seconds later ([`Cluster::wait_ready`]).
    pub fn add_node(&mut self) -> Result<&mut Node> {
        let name = self.new_node()?;
        self.node(&name)
    }

    /// Ends a node and removes its object, as a cloud does when it removes a machine. Its name is not used again.
    pub fn remove_node(&mut self, name: &str) -> Result<()> {
        self.node(name)?;
        self.nodes.retain(|node| node.name() != name);
        self.kubectl().run(&["delete", "node", name]).map(drop)
    }

    /// Waits until all nodes are ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let kubectl = self.kubectl();
        for node in &mut self.nodes {
            let name = format!("node/{}", node.name());
            let Some(kubelet) = node.kubelet() else { continue }; // stopped: it is not waited for
            kubelet.ready("have its node ready", || {
                // kubectl watches for these seconds, which is cheaper than asking all the time.
                kubectl.run(&["wait", &name, "--for=create", "--timeout=2s"]).ok()?;
                kubectl.run(&["wait", &name, "--for=condition=Ready", "--timeout=2s"]).ok()
            })?;
        }
        Ok(())
    }

    /// The API server's process, if it is running, to pause or signal it.
    pub fn api_server(&mut self) -> Option<&mut Process> {
        self.plane.api_server()
    }

    /// Stops the API server; everything else continues.
    pub fn stop_api_server(&mut self) {
        self.plane.stop_api_server();
    }

    /// Stops the controller manager, the scheduler and cluster DNS: objects then stay as they are written.
    pub fn stop_controllers(&mut self) {
        self.plane.stop_parts();
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.plane.start_api_server()
    }

    fn new_node(&mut self) -> Result<String> {
        let number = self.made + 1;
        if number > network::MOST_NODES {
            return Err(Error::Missing(format!("a cluster has at most {} nodes", network::MOST_NODES)));
        }
        let reached = self.registry_host();
        let registries = [(self.registry.host(), reached.clone()), (reached.clone(), reached)];
        let node = Node::start(&self.plane, number, &registries)?;
        let name = node.name().to_owned();
        self.nodes.push(node);
        self.made = number;
        Ok(name)
    }
}

fn on_machine(plane: &ControlPlane, port: u16) -> Result<SocketAddr> {
    let text = format!("{}:{port}", plane.network.machine());
    text.parse().map_err(|_| Error::Missing(format!("{text} is not an address")))
}
