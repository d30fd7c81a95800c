//! etcd, API server, controller manager, scheduler and cluster DNS, in separate namespaces, at the usual ports.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use super::api::Api;
use super::kubectl::Kubectl;
use super::network::Network;
use crate::certificates::{Authority, Certificate};
use crate::enclosure::Enclosure;
use crate::folder::Folder;
use crate::http::Client;
use crate::process::Process;
use crate::{Error, Result};

/// The running control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    // In the order in which they are stopped.
    parts: Vec<Process>,
    api_server: Option<Process>,
    _etcd: Process,
    pub(super) authority: Authority,
    pub(super) network: Network,
    pub(super) enclosure: Enclosure,
    binaries: PathBuf,
    pub(super) folder: Folder,
}

impl ControlPlane {
    pub(super) fn start(binaries: &Path) -> Result<ControlPlane> {
        let folder = Folder::new("cluster")?;
        let enclosure = Enclosure::with_network(&folder)?;
        let network = Network::start(&enclosure, &folder.name())?;
        network.name_server(&enclosure, &folder)?;
        let authority = Authority::new("testbed cluster")?;
        keys(&folder, &authority, &network)?;
        let mut etcd = enclosure.command("etcd");
        etcd.arg("--data-dir").arg(folder.folder("etcd")?).args(["--unsafe-no-fsync", "--logger=zap"]);
        let etcd = enclosure.process("etcd", &etcd, &folder.join("etcd.log"))?;
        let binaries = binaries.to_owned();
        let mut plane = ControlPlane {
            parts: Vec::new(),
            api_server: None,
            _etcd: etcd,
            authority,
            network,
            enclosure,
            binaries,
            folder,
        };
        plane.kubeconfig("admin", "admin", Some("system:masters"))?;
        plane.start_api_server()?;
        plane.start_parts()?;
        Ok(plane)
    }

    /// The administrator's kubeconfig.
    pub(super) fn admin(&self) -> PathBuf {
        self.folder.join("admin.conf")
    }

    /// `kubectl` keeps the kinds of a cluster by its address for hours, and an earlier cluster may have had this address.
    pub(super) fn kubectl_cache(&self) -> PathBuf {
        self.folder.join("kubectl-cache")
    }

    pub(super) fn kubectl(&self) -> Kubectl {
        Kubectl { program: self.binaries.join("kubectl"), kubeconfig: self.admin(), cache: Some(self.kubectl_cache()) }
    }

    pub(super) fn api(&self) -> Result<Api> {
        let read = |file: &str| {
            let path = self.folder.join(file);
            fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
        };
        let own = Certificate { certificate: read("admin.crt")?, key: read("admin.key")? };
        let client = Client::with_certificate(&self.authority.certificate(), &own)?;
        Ok(Api { client, server: format!("https://{}:6443", self.network.api_server()) })
    }

    pub(super) fn api_server(&mut self) -> Option<&mut Process> {
        self.api_server.as_mut()
    }

    pub(super) fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server, and waits until it is ready.
    pub(super) fn start_api_server(&mut self) -> Result<()> {
        self.stop_api_server();
        let path = self.folder.path().display();
        let mut command = self.enclosure.command(&self.program("kube-apiserver"));
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".into(),
            "--secure-port=6443".into(),
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={}", self.network.api_server()),
            format!("--service-cluster-ip-range={}", self.network.services()),
            "--allow-privileged=true".into(),
            format!("--client-ca-file={path}/ca.crt"),
            format!("--tls-cert-file={path}/apiserver.crt"),
            format!("--tls-private-key-file={path}/apiserver.key"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={path}/service-accounts.pub"),
            format!("--service-account-signing-key-file={path}/service-accounts.key"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--kubelet-client-certificate={path}/admin.crt"),
            format!("--kubelet-client-key={path}/admin.key"),
            format!("--kubelet-certificate-authority={path}/ca.crt"),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ]);
        let log = self.folder.join("kube-apiserver.log");
        let mut process = self.enclosure.process("kube-apiserver", &command, &log)?;
        let client = Client::new(Some(&self.authority.certificate()), None)?;
        let url = format!("https://{}:6443/readyz", self.network.api_server());
        process.ready("be ready", || {
            let answer = client.send("GET", &url, &[], b"").ok()?;
            (answer.status == 200).then_some(())
        })?;
        self.api_server = Some(process);
        Ok(())
    }

    pub(super) fn stop_parts(&mut self) {
        self.parts.clear();
    }

    fn start_parts(&mut self) -> Result<()> {
        let path = self.folder.path().display();
        let kubeconfig = format!("--kubeconfig={}", self.admin().display());
        let zone = format!(
            "cluster.local in-addr.arpa {{\n  bind {address}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    \
             kubeconfig {admin}\n  }}\n}}\n. {{\n  bind {address}\n  template ANY ANY {{\n    rcode NXDOMAIN\n  }}\n}}\n",
            address = self.network.dns(),
            admin = self.admin().display(),
        );
        let zone = self.folder.write("Corefile", zone)?.display().to_string();
        let parts: [(&str, Vec<String>); 3] = [
            (
                "kube-controller-manager",
                vec![
                    kubeconfig.clone(),
                    "--leader-elect=false".into(),
                    "--use-service-account-credentials".into(),
                    format!("--service-account-private-key-file={path}/service-accounts.key"),
                    format!("--root-ca-file={path}/ca.crt"),
                ],
            ),
            ("kube-scheduler", vec![kubeconfig, "--leader-elect=false".into()]),
            ("coredns", vec!["-conf".into(), zone]),
        ];
        for (name, arguments) in parts {
            let mut command = self.enclosure.command(&self.program(name));
            command.args(arguments);
            self.parts.push(self.enclosure.process(name, &command, &self.folder.join(&format!("{name}.log")))?);
        }
        Ok(())
    }

    pub(super) fn program(&self, name: &str) -> String {
        self.binaries.join(name).display().to_string()
    }

    /// Writes a certificate and a kubeconfig for a user. Returns the kubeconfig's path.
    pub(super) fn kubeconfig(&self, file: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let Certificate { certificate, key } = self.authority.issue(user, group, &["localhost"])?;
        write_pair(&self.folder, file, &Certificate { certificate, key })?;
        let (path, server) = (self.folder.path().display(), self.network.api_server());
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: testbed, cluster: {{server: \"https://{server}:6443\", certificate-authority: {path}/ca.crt}}}}]\n\
             users: [{{name: {file}, user: {{client-certificate: {path}/{file}.crt, client-key: {path}/{file}.key}}}}]\n\
             contexts: [{{name: testbed, context: {{cluster: testbed, user: {file}}}}}]\ncurrent-context: testbed\n"
        );
        self.folder.write(&format!("{file}.conf"), text)
    }
}

fn keys(folder: &Folder, authority: &Authority, network: &Network) -> Result<()> {
    folder.write("ca.crt", authority.certificate())?;
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
        "127.0.0.1",
        &network.api_server(),
        &network.kubernetes_service(),
    ];
    write_pair(folder, "apiserver", &authority.issue("kube-apiserver", None, &names)?)?;
    let key = KeyPair::generate().map_err(|error| Error::Missing(format!("cannot create a key: {error}")))?;
    folder.write("service-accounts.pub", key.public_key_pem())?;
    folder.write("service-accounts.key", key.serialize_pem()).map(drop)
}

pub(super) fn write_pair(folder: &Folder, name: &str, pair: &Certificate) -> Result<()> {
    folder.write(&format!("{name}.crt"), &pair.certificate)?;
    folder.write(&format!("{name}.key"), &pair.key).map(drop)
}
