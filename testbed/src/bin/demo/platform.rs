//! The whole platform as a site has it: the page of `manifests/site`, applied, and what a site provides itself: a
//! registry, a broker, disks, an OAuth provider and a certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::certificates::Authority;
use testbed::cluster::Cluster;
use testbed::folder::Folder;
use testbed::http::Client;
use testbed::images::{Image, Layer};
use testbed::jupyter::Jupyter;
use testbed::packages::{self, Part};
use testbed::rabbitmq::RabbitMq;
use testbed::{Error, Result, command, wait};

use crate::page::{self, AUTHORITY, Site};
use crate::{DEFINITIONS, beside_this, print, say};

pub(crate) const DAEMONS: [&str; 5] = ["prepuller", "imagepurger", "log-shipper", "fs-keepalive", "nfs-health"];
const FAKE_GITHUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/hub/tests/fake_github.py");
const NGINX: &str = "/usr/sbin/nginx";
const LIMIT: Duration = Duration::from_secs(300);

/// Volumes for the claims, because this cluster has no provisioner.
const DISK: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: NAMESPACE, name: NAME}
  hostPath: {path: FOLDER}
---
";

/// The OAuth provider.
const GITHUB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: github, namespace: github, labels: {app: github}}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  volumes: [{name: files, configMap: {name: files}}]
  containers:
  - name: github
    image: IMAGE
    workingDir: /files
    command: [python3, fake_github.py, '443', --address, 0.0.0.0, --certificate, tls.crt, --key, tls.key]
    readinessProbe: {tcpSocket: {port: 443}, periodSeconds: 1}
    volumeMounts: [{name: files, mountPath: /files}]
---
apiVersion: v1
kind: Service
metadata: {name: github, namespace: github}
spec: {clusterIP: ADDRESS, selector: {app: github}, ports: [{port: 443}]}
";

pub(crate) struct Platform {
    pub(crate) cluster: Cluster,
    pub(crate) broker: RabbitMq,
    disk: Folder,
    site: Folder,
    authority: String,
    /// The addresses of the Hub and the GitHub.
    pub(crate) hub: String,
    pub(crate) github: String,
}

impl Platform {
    /// Starts the cluster and what a site provides. Nothing of Labhands is running yet.
    pub(crate) fn start() -> Result<Platform> {
        packages::require(Part::Nginx)?;
        say("building images of JupyterHub and JupyterLab (some minutes the first time)")?;
        let jupyter = Jupyter::find_or_build()?;
        say("starting RabbitMQ and a Kubernetes of two nodes (about ten minutes the first time, to build it)")?;
        let broker = RabbitMq::start()?;
        broker.control(&["import_definitions", DEFINITIONS])?;
        let mut cluster = Cluster::start(2)?;
        print(&cluster.kubectl().run(&["get", "nodes", "-o", "wide"])?)?;
        let broker_host = cluster.expose(broker.address())?;
        // Kubernetes assigns addresses of Services from another part of the range.
        let network = cluster.machine().trim_end_matches("255.1").to_owned();
        let (hub, github) = (format!("{network}128.80"), format!("{network}128.81"));
        let authority = Authority::new("labhands demo")?;
        let (disk, site) = (Folder::new("disk")?, Folder::new("page")?);
        let own = Platform { cluster, broker, disk, site, authority: authority.certificate(), hub, github };
        own.push_images(&jupyter)?;
        own.start_github(&authority)?;
        let issued = authority.issue(&own.hub, None, &[&own.hub])?;
        own.site.write("ca.crt", &own.authority)?;
        let registry = own.cluster.registry_host();
        let (hub, github) = (own.hub.as_str(), own.github.as_str());
        let (certificate, key) = (issued.certificate.as_str(), issued.key.as_str());
        page::fill_in(&own.site, &Site { registry: &registry, broker: &broker_host, hub, github, certificate, key })?;
        Ok(own)
    }

    /// The CA of the Hub's and the GitHub's certificates, as a file.
    pub(crate) fn authority(&self) -> PathBuf {
        self.site.join("ca.crt")
    }

    /// The site's page.
    pub(crate) fn page(&self) -> PathBuf {
        page::folder(&self.site)
    }

    fn push_images(&self, jupyter: &Jupyter) -> Result<()> {
        say("pushing images of the daemons, the Hub, and two labs to the cluster's registry")?;
        let registry = self.cluster.registry();
        let trusting =
            |image: &Image| image.clone().layer(Layer::files(&[(AUTHORITY, 0o644, self.authority.as_bytes())]));
        let hub = trusting(&jupyter.hub);
        hub.push(registry, "hub", "1")?;
        hub.with_program(Path::new(NGINX))?.push(registry, "nginx", "1")?;
        for (tag, version) in [("w_2026_46", "46"), ("w_2026_47", "47")] {
            let lab = trusting(&jupyter.lab).layer(Layer::files(&[("/version", 0o644, version.as_bytes())]));
            lab.push(registry, "lab", tag)?;
        }
        for name in DAEMONS {
            let repository = format!("labhands/{name}");
            Image::program(&beside_this(name))?.push(registry, &repository, env!("CARGO_PKG_VERSION"))?;
        }
        say("building the file server's image with images/bld")?;
        self.cluster.build(&["fileserver"], beside_this("demo").parent())
    }

    fn start_github(&self, authority: &Authority) -> Result<()> {
        say("starting a test GitHub with the organization stars")?;
        let address = &self.github;
        let certificate = authority.issue(address, None, &[address])?;
        let files = Folder::new("github")?;
        files.write("tls.crt", &certificate.certificate)?;
        files.write("tls.key", &certificate.key)?;
        fs::copy(FAKE_GITHUB, files.join("fake_github.py")).map_err(Error::io("copy the GitHub"))?;
        let kubectl = self.cluster.kubectl();
        kubectl.run(&["create", "namespace", "github"])?;
        let from = format!("--from-file={}", files.path().display());
        kubectl.run(&["-n", "github", "create", "configmap", "files", &from])?;
        let image = format!("{}/hub:1", self.cluster.registry_host());
        kubectl.apply(&GITHUB.replace("IMAGE", &image).replace("ADDRESS", address))?;
        kubectl.run(&["-n", "github", "wait", "pod/github", "--for=condition=Ready", "--timeout=300s"])?;
        let account = |login: &str, id: u32, organizations: serde_json::Value| {
            json!({"login": login, "id": id, "name": format!("{login} of the demo"), "organizations": organizations,
                "private_email": format!("{login}@example.org")})
        };
        let stars = || json!({"stars": 58_100});
        let accounts =
            [account("ada", 58_001, stars()), account("bob", 58_002, stars()), account("eve", 58_003, json!({}))];
        self.control(&json!({"accounts": accounts, "browser_user": "ada"}))
    }

    /// Changes the test GitHub's accounts, and the account of the browser.
    pub(crate) fn control(&self, change: &serde_json::Value) -> Result<()> {
        let client = Client::new(Some(&self.authority), None)?;
        let url = format!("https://{}/control", self.github);
        let answered = wait::patiently(LIMIT, || client.send("POST", &url, &[], change.to_string().as_bytes()).ok());
        answered.ok_or_else(|| Error::Missing(format!("{url} does not answer")))?.expect(200, &url).map(drop)
    }

    /// Applies the page, and waits until every part is ready.
    pub(crate) fn install(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        let mut disks = String::new();
        for (namespace, name) in [("labhands-fileserver", "fileserver"), ("jupyter", "hub-database")] {
            let folder = self.disk.folder(name)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))
                .map_err(Error::io("open a disk's folder"))?;
            let disk = DISK.replace("NAMESPACE", namespace).replace("NAME", name);
            disks += &disk.replace("FOLDER", &folder.to_string_lossy());
        }
        kubectl.apply(&disks)?;
        self.cluster.mount_nfs("/home", &self.disk.join("fileserver/home"))?;
        say("checking and applying the page: kubectl apply -k manifests/site")?;
        self.check("")?;
        kubectl.run(&["apply", "-k", &self.page().to_string_lossy()])?;
        say("waiting until every part is ready; the file server, the homes and the Hub start one after the other")?;
        let mut last = String::new();
        let ready = wait::patiently(LIMIT, || {
            let said = self.check("--after");
            let shown = said.as_ref().map_or_else(ToString::to_string, Clone::clone);
            let waiting = shown.lines().find(|line| line.contains("pods are ready")).unwrap_or_default().to_owned();
            if waiting != last && !waiting.is_empty() {
                let _ = print(&format!("{waiting}\n")); // the next line finds out whether the terminal is gone
                last = waiting;
            }
            said.ok()
        });
        match ready {
            Some(said) => print(&said),
            None => self.check("--after").map(drop),
        }
    }

    /// The output of `manifests/site/check`.
    fn check(&self, argument: &str) -> Result<String> {
        let kubectl = self.cluster.kubectl();
        let programs = kubectl.program().parent().unwrap_or(Path::new("/")).display().to_string();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut check = Command::new(self.page().join("check"));
        check.args(Some(argument).filter(|argument| !argument.is_empty()));
        command::run(
            check.env("PATH", format!("{programs}:{}", path.display())).env("KUBECONFIG", self.cluster.kubeconfig()),
        )
    }
}
