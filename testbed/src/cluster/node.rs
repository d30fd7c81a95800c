//! One node: containerd, kubelet and kube-proxy in separate namespaces, with every file at its usual path.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::control_plane::{ControlPlane, write_pair};
use crate::containerd::{Configuration, Installed, Release, plain_registry};
use crate::enclosure::Enclosure;
use crate::folder::Folder;
use crate::process::Process;
use crate::{Result, command, cri};

/// A node of a [`Cluster`](super::Cluster). Dropping it is like a power failure: everything on it ends at once.
#[derive(Debug)]
pub struct Node {
    name: String,
    running_kubelet: Option<Process>,
    containerd: Option<Process>,
    installed: Installed,
    _proxy: Process,
    kubelet: Kubelet,
    enclosure: Enclosure,
    folder: Folder,
}

/// The node whose containerd discards unpacked layers, as on Amazon's nodes; the others keep them.
const DISCARDS_LAYERS: u8 = 2;

/// Mounts that keep everything of a node away from the machine and other nodes. `$1` is the node's folder.
const MOUNTS: &str = include_str!("mounts.sh");

impl Node {
    pub(super) fn start(plane: &ControlPlane, number: u8, registries: &[(String, String)]) -> Result<Node> {
        let name = format!("node{number}");
        let installed = Release::Current.find_or_build()?;
        let folder = Folder::new(&name)?;
        let enclosure = Enclosure::with_network(&folder)?;
        plane.network.join_node(&plane.enclosure, &enclosure, number)?;
        plane.network.name_server(&enclosure, &folder)?;
        command::run(enclosure.command("sh").args(["-c", MOUNTS, "mounts"]).arg(folder.path()))?;
        for (name, server) in registries {
            plain_registry(&folder, name, server)?;
        }
        let pause = registries.first().map_or_else(String::new, |(name, _)| format!("{name}/pause:1"));
        let configuration = Configuration {
            release: Release::Current,
            root: Path::new("/var/lib/containerd"),
            socket: Path::new("/run/containerd/containerd.sock"),
            registries: &folder.join("certs.d"),
            networks: &folder.join("net.d"),
            sandbox_image: Some(&pause),
            max_concurrent_downloads: None,
            discard_unpacked_layers: number == DISCARDS_LAYERS,
        };
        folder.write("containerd.toml", configuration.text())?;
        folder.write("net.d/10-bridge.conflist", pod_network(&plane.network.pods(number)))?;
        let address = plane.network.node(number);
        write_pair(&folder, "kubelet", &plane.authority.issue(&name, None, &[&name, &address])?)?;
        folder.write("kubelet.yml", kubelet_configuration(plane, &folder, number))?;
        let kubeconfig = plane.kubeconfig(&name, &format!("system:node:{name}"), Some("system:nodes"))?;

        let mut proxy = enclosure.command(&plane.program("kube-proxy"));
        proxy.args([
            format!("--kubeconfig={}", plane.admin().display()),
            "--proxy-mode=iptables".into(),
            format!("--hostname-override={name}"),
            format!("--cluster-cidr={}", plane.network.all_pods()),
            "--conntrack-max-per-core=0".into(), // these are the machine's, not a namespace's
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
        ]);
        let proxy = enclosure.process("kube-proxy", &proxy, &folder.join("kube-proxy.log"))?;
        let kubelet = Kubelet { program: plane.program("kubelet"), kubeconfig, address };
        let mut node = Node {
            name,
            running_kubelet: None,
            containerd: None,
            installed,
            _proxy: proxy,
            kubelet,
            enclosure,
            folder,
        };
        node.start_containerd()?;
        node.start_kubelet()?;
        Ok(node)
    }

    /// Its name in Kubernetes: `node1`, `node2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// containerd's socket on this machine; on the node it is at `/run/containerd/containerd.sock`.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/containerd.sock")
    }

    /// The node's root on this machine, with all its mounts: `/proc/…/root`.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.enclosure.id()).into()
    }

    /// The folder of its parts' logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that runs on the node.
    pub fn command(&self, program: &str) -> Command {
        self.enclosure.command(program)
    }

    /// Runs `ctr` in the namespace of Kubernetes and returns its output.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.installed.command(&self.enclosure, "ctr")?.args(["--namespace", "k8s.io"]).args(arguments))
    }

    /// Makes the node's containerd reach a registry `name` over plain HTTP at `server` (both `host:port`).
    pub fn plain_registry(&self, name: &str, server: &str) -> Result<()> {
        plain_registry(&self.folder, name, server)
    }

    /// Delays each layer by this time before containerd unpacks it, as on a slow disk. Restarts containerd.
    pub fn delay_unpacking(&mut self, delay: Duration) -> Result<()> {
        self.installed.delay_unpacking(&self.folder, delay)?;
        self.start_containerd()
    }

    /// containerd's process, if it is running, to pause or signal it.
    pub fn containerd(&mut self) -> Option<&mut Process> {
        self.containerd.as_mut()
    }

    /// Stops containerd; pods continue.
    pub fn stop_containerd(&mut self) {
        self.containerd = None;
    }

    /// Starts containerd (again), and waits until it answers.
    pub fn start_containerd(&mut self) -> Result<()> {
        self.stop_containerd();
        let mut command = self.installed.command(&self.enclosure, "containerd")?;
        command.arg("--config").arg(self.folder.join("containerd.toml"));
        let mut process = self.enclosure.process("containerd", &command, &self.folder.join("containerd.log"))?;
        let socket = self.socket();
        process.ready("answer", || cri::answers(&socket).then_some(()))?;
        self.containerd = Some(process);
        Ok(())
    }

    /// The kubelet's process, if it runs.
    pub fn kubelet(&mut self) -> Option<&mut Process> {
        self.running_kubelet.as_mut()
    }

    /// Stops the kubelet; pods continue, and the node is not ready after a while.
    pub fn stop_kubelet(&mut self) {
        self.running_kubelet = None;
    }

    /// Starts the kubelet (again). The node is ready a few seconds later: see [`Cluster::wait_ready`](super::Cluster::wait_ready).
    pub fn start_kubelet(&mut self) -> Result<()> {
        self.stop_kubelet();
        let mut command = self.enclosure.command(&self.kubelet.program);
        command.args([
            format!("--config={}", self.folder.join("kubelet.yml").display()),
            format!("--kubeconfig={}", self.kubelet.kubeconfig.display()),
            "--root-dir=/var/lib/kubelet".into(),
            "--cert-dir=/var/lib/kubelet/pki".into(),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", self.kubelet.address),
        ]);
        self.running_kubelet = Some(self.enclosure.process("kubelet", &command, &self.folder.join("kubelet.log"))?);
        Ok(())
    }
}

/// The parameters of a kubelet.
#[derive(Debug)]
struct Kubelet {
    program: String,
    kubeconfig: PathBuf,
    address: String,
}

/// The pods' addresses are routed everywhere in the cluster and on the machine, so nothing is masqueraded.
fn pod_network(subnet: &str) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
 {{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{subnet}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
 {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#
    )
}

fn kubelet_configuration(plane: &ControlPlane, folder: &Folder, number: u8) -> String {
    let (ca, path) = (plane.folder.join("ca.crt"), folder.path().display());
    let mut text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
         authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}\n\
         authorization: {{mode: Webhook}}\ntlsCertFile: {path}/kubelet.crt\ntlsPrivateKeyFile: {path}/kubelet.key\n\
         address: {address}\n\
         containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\ncgroupDriver: cgroupfs\nfailCgroupV1: false\n\
         failSwapOn: false\ncontainerLogMaxSize: 1Mi\nclusterDNS: [{dns}]\nclusterDomain: cluster.local\nresolvConf: \"\"\n",
        ca = ca.display(),
        address = plane.network.node(number),
        dns = plane.network.dns(),
    );
    // On a machine with little free disk, test pods must not be evicted, and images must not be removed during a test.
    let _ =
        writeln!(text, "evictionHard: {{nodefs.available: \"1%\", imagefs.available: \"1%\", memory.available: 50Mi}}");
    let _ = writeln!(text, "imageGCHighThresholdPercent: 100\nimageGCLowThresholdPercent: 99");
    text
}
