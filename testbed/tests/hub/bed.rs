//! The cluster of this suite: a Hub, its GitHub, planner and agents, a file server, a log shipper and a broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::certificates::Authority;
use testbed::chromium::{Browser, Look, Page};
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::folder::Folder;
use testbed::http::Client;
use testbed::images::{Image, Layer, Pushed};
use testbed::jupyter::Jupyter;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::patiently;

use super::broker::Lines;

/// The end of a test that hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// The folder for pictures of what users see; none are kept where it is unset.
const PICTURES: &str = "TESTBED_PICTURES";
const DAEMONS: [&str; 4] = ["prepuller", "nfs-health", "fs-keepalive", "log-shipper"];
const FAKE_GITHUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/hub/tests/fake_github.py");

/// Disks for the claims: this cluster makes none by itself.
const DISKS: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: labhands-fileserver, name: fileserver}
  hostPath: {path: FOLDER/share}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: database}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  claimRef: {namespace: jupyter, name: hub-database}
  hostPath: {path: FOLDER/database}
";

/// What a site has in its kustomization: these lines follow the list of ConfigMaps.
const SITE: &str = "
- {name: hub, namespace: jupyter, behavior: merge, envs: [hub.env]}
- {name: hub-config, namespace: jupyter, behavior: merge, files: [60-site.py]}
secretGenerator:
- {name: hub, namespace: jupyter, literals: [proxy-token=TOKEN, crypt-key=TOKEN, cookie-secret=TOKEN]}
- {name: hub-login, namespace: jupyter, literals: [GITHUB_CLIENT_ID=hub, GITHUB_CLIENT_SECRET=secret]}
- {name: amqp, namespace: labhands-node, literals: [\"password=PASSWORD\"], options: {disableNameSuffixHash: true}}
patches:
- target: {kind: PersistentVolumeClaim}
  patch: '[{\"op\": \"add\", \"path\": \"/spec/storageClassName\", \"value\": \"\"}]'
- target: {kind: Service, name: proxy-public}
  patch: '[{\"op\": \"add\", \"path\": \"/spec/clusterIP\", \"value\": \"PROXY\"}]'
";

/// A GitHub with its repositories.
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
    command: [sh, -c, 'git init --quiet --bare /srv/ada/work.git && exec python3 fake_github.py 443 --address 0.0.0.0
      --certificate tls.crt --key tls.key --repositories /srv']
    readinessProbe: {tcpSocket: {port: 443}, periodSeconds: 1}
    volumeMounts: [{name: files, mountPath: /files}]
---
apiVersion: v1
kind: Service
metadata: {name: github, namespace: github}
spec: {clusterIP: ADDRESS, selector: {app: github}, ports: [{port: 443}]}
";

/// Where images have the authority of the fake GitHub.
const AUTHORITY: &str = "/usr/local/share/testbed.pem";

/// A test machine may be busy; a private authority is named as oauthenticator has it; and a file server is not waited for so long.
const SITE_FILE: &str = "
from labhands_hub import start
start._VOLUMES_WAIT = start.Wait(60, start._VOLUMES_WAIT.words)
c.Spawner.http_timeout = 120
c.OAuthenticator.http_request_kwargs = {**c.OAuthenticator.http_request_kwargs, 'ca_certs': 'AUTHORITY'}
";

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) kubectl: Kubectl,
    pub(crate) lines: Lines,
    pub(crate) jupyter: Jupyter,
    pub(crate) github: GitHub,
    pub(crate) hub: String,
    authority: String,
    _broker: RabbitMq,
    disk: Folder,
}

/// The fake GitHub, as this machine reaches it.
pub(crate) struct GitHub {
    pub(crate) address: String,
    client: Client,
}

impl GitHub {
    /// Changes accounts, or begins and ends an outage.
    pub(crate) fn control(&self, change: &Value) {
        let url = format!("{}/control", self.address);
        self.client.send("POST", &url, &[], change.to_string().as_bytes()).unwrap().expect(200, &url).unwrap();
    }
}

impl Bed {
    pub(crate) fn start() -> Bed {
        let programs = programs();
        let jupyter = Jupyter::find_or_build().unwrap();
        let broker = RabbitMq::start().unwrap();
        let lines = Lines::of(&broker);
        let mut cluster = Cluster::start(2).unwrap();
        let kubectl = cluster.kubectl();
        // Addresses of Services that Kubernetes gives out by itself are elsewhere in its range.
        let network = cluster.machine().trim_end_matches("255.1").to_owned();
        let (hub, address) = (format!("{network}128.80"), format!("{network}128.81"));
        let authority = Authority::new("testbed").unwrap();
        let certificate = authority.issue(&address, None, &[&address]).unwrap();
        let disk = Folder::new("disk").unwrap();
        for name in ["share", "database"] {
            let folder = disk.folder(name).unwrap();
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let broker_address = cluster.expose(broker.address()).unwrap();
        let github = GitHub {
            client: Client::new(Some(&authority.certificate()), None).unwrap(),
            address: format!("https://{address}"),
        };
        let (authority, hub) = (authority.certificate(), format!("http://{hub}"));
        let bed = Bed { kubectl, lines, jupyter, github, hub, authority, _broker: broker, disk, cluster };

        let hub_image = bed.trusting(&bed.jupyter.hub);
        hub_image.push(bed.cluster.registry(), "hub", "1").unwrap();
        bed.start_github(&address, &certificate.certificate, &certificate.key);
        bed.push_lab("w_2026_46", "46");
        bed.push_lab("w_2026_47", "47");
        bed.kubectl.apply(&DISKS.replace("FOLDER", &bed.disk.path().to_string_lossy())).unwrap();
        bed.cluster.mount_nfs("/home", &bed.share()).unwrap();
        bed.install(&programs, &broker_address);
        bed
    }

    fn install(&self, programs: &[PathBuf], broker: &str) {
        let registry = self.cluster.registry_host();
        let settings = [
            ("LAB_REPOSITORIES", format!("{registry}/lab")),
            ("LAB_KEEP", "weekly=2".into()),
            ("LAB_NAMESPACE", "jupyter".into()),
            ("PREPULLER_NEW_NODE_AGE", "1ms".into()), // all nodes here are seconds old
            ("SCAN_INTERVAL", "1h".into()),           // when the test says so
            ("DISK_HIGH", "98%".into()),              // a test machine's disk may be rather full
            ("AMQP_URL", format!("amqp://{broker}/%2f")),
            ("AMQP_USERNAME", USER.into()),
            ("AMQP_PASSWORD_FILE", "/etc/labhands/amqp/password".into()),
            ("VOLUME_SIZE", "10Gi".into()),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let of_hub = [
            ("GITHUB_ORGANIZATIONS", "stars".to_owned()),
            ("GITHUB_URL", self.github.address.clone()),
            ("GITHUB_PUSH", "on".into()),
            ("OAUTH_CALLBACK_URL", format!("{}/hub/oauth_callback", self.hub)),
            ("LOGIN_REFRESH", "2s".into()),
            ("LAB_CATALOGUE_REFRESH", "1s".into()),
            ("LAB_SIZES", r#"{"small": {"cpu": [0.05, 1], "memory": ["64M", "1G"]}}"#.into()),
        ];
        let of_hub: String = of_hub.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let address = self.hub.trim_start_matches("http://");
        let more = SITE.replace("TOKEN", &"5e".repeat(32)).replace("PASSWORD", PASSWORD).replace("PROXY", address);
        let site_file = SITE_FILE.replace("AUTHORITY", AUTHORITY);
        let programs: Vec<&str> = programs.iter().filter_map(|program| program.to_str()).collect();
        let install = Install {
            overlay: "hub",
            components: &["log-shipper"],
            images: &["fileserver"],
            binaries: Path::new(programs[0]).parent(),
            programs: &programs,
            settings: &settings,
            replaced: &[
                ("quay.io/jupyterhub/k8s-hub", "hub:1"),
                ("quay.io/jupyterhub/configurable-http-proxy", "hub:1"),
            ],
            files: &[("hub.env", &of_hub), ("60-site.py", &site_file)],
            more: &more,
        };
        self.cluster.install(&install).unwrap();
        for deployment in ["hub", "proxy"] {
            self.rolled_out(deployment);
        }
    }

    fn start_github(&self, address: &str, certificate: &str, key: &str) {
        let folder = Folder::new("github").unwrap();
        folder.write("tls.crt", certificate).unwrap();
        folder.write("tls.key", key).unwrap();
        fs::copy(FAKE_GITHUB, folder.join("fake_github.py")).unwrap();
        self.kubectl.run(&["create", "namespace", "github"]).unwrap();
        let files = format!("--from-file={}", folder.path().display());
        self.kubectl.run(&["-n", "github", "create", "configmap", "files", &files]).unwrap();
        let image = format!("{}/hub:1", self.cluster.registry_host());
        self.kubectl.apply(&GITHUB.replace("IMAGE", &image).replace("ADDRESS", address)).unwrap();
        let ready = ["-n", "github", "wait", "pod/github", "--for=condition=Ready", "--timeout=120s"];
        self.kubectl.run(&ready).unwrap();
        let account = |login: &str, id: u32, organizations: Value| {
            json!({"login": login, "id": id, "name": format!("{login} of the test"), "organizations": organizations,
                "private_email": format!("{login}@example.org")})
        };
        let stars = json!({"stars": 58_100});
        let accounts = [
            account("ada", 58_001, stars.clone()),
            account("bob", 58_002, stars.clone()),
            account("cleo", 58_004, stars),
            account("eve", 58_003, json!({})),
        ];
        patiently(LIMIT, || self.github.client.send("GET", &format!("{}/control", self.github.address), &[], b"").ok());
        self.github.control(&json!({"accounts": accounts}));
    }

    /// The image with the authority of the fake GitHub.
    fn trusting(&self, image: &Image) -> Image {
        image.clone().layer(Layer::files(&[(AUTHORITY, 0o644, self.authority.as_bytes())]))
    }

    /// Pushes a lab whose `/version` says this.
    pub(crate) fn push_lab(&self, tag: &str, version: &str) -> Pushed {
        let lab = self.trusting(&self.jupyter.lab).environment("GIT_SSL_CAINFO", AUTHORITY);
        let lab = lab.layer(Layer::files(&[("/version", 0o644, version.as_bytes())]));
        lab.push(self.cluster.registry(), "lab", tag).unwrap()
    }

    /// The file server's export, as its disk has it.
    pub(crate) fn share(&self) -> PathBuf {
        self.disk.join("share/home")
    }

    /// A browser that logs in as this user of GitHub and comes to the form.
    pub(crate) fn log_in(&self, user: &str) -> Page {
        self.github.control(&json!({"browser_user": user}));
        let mut page = Browser::find().unwrap().page(Look { width: 1100, height: 800, dark: false }).unwrap();
        page.open(&format!("{}/hub/oauth_login?next=%2Fhub%2Fspawn", self.hub)).unwrap();
        page.wait(LIMIT, "document.readyState === 'complete'").unwrap();
        page
    }

    /// Has the planner scan the registry now.
    pub(crate) fn scan(&self) {
        let path = "/api/v1/namespaces/labhands/services/prepuller:80/proxy/scan";
        let raw = ["create", "--raw", path, "-f", "/dev/null"];
        patiently(LIMIT, || self.kubectl.run(&raw).ok()).expect("the planner takes a scan on");
    }

    /// An empty folder on the disk of this machine, which is the nodes' disk, too.
    pub(crate) fn empty_folder(&self, name: &str) -> PathBuf {
        self.disk.folder(name).unwrap()
    }

    /// Changes a setting of the Hub, as `NAME=value`, and waits until the Hub with it answers through its proxy.
    pub(crate) fn configure(&self, setting: &str) {
        self.kubectl.run(&["-n", "jupyter", "set", "env", "deployment/hub", setting]).unwrap();
        self.rolled_out("hub");
        let health = format!("{}/hub/health", self.hub);
        let answers = || self.github.client.send("GET", &health, &[], b"").ok()?.expect(200, &health).ok();
        patiently(LIMIT, answers).unwrap_or_else(|| panic!("{}", self.said()));
    }

    fn rolled_out(&self, deployment: &str) {
        let rolled_out = ["-n", "jupyter", "rollout", "status", &format!("deployment/{deployment}"), "--timeout=120s"];
        self.kubectl.run(&rolled_out).unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
    }

    pub(crate) fn get(&self, namespace: &str, what: &str, path: &str) -> String {
        self.kubectl.run(&["-n", namespace, "get", what, "-o", &format!("jsonpath={path}")]).unwrap_or_default()
    }

    /// Keeps a picture of the page for people.
    pub(crate) fn picture(&self, page: &mut Page, name: &str) {
        if let Some(folder) = std::env::var_os(PICTURES) {
            fs::create_dir_all(&folder).unwrap();
            page.picture(&Path::new(&folder).join(format!("{name}.png"))).unwrap();
        }
    }

    /// All that may explain a failure.
    pub(crate) fn said(&self) -> String {
        let asked: [&[&str]; 4] = [
            &["get", "pods", "-A", "-o", "wide"],
            &["-n", "jupyter", "get", "events", "--sort-by=.lastTimestamp"],
            &["-n", "jupyter", "describe", "pods"],
            &["-n", "jupyter", "logs", "deployment/hub", "--tail=60"],
        ];
        asked.map(|ask| self.kubectl.run(ask).unwrap_or_else(|error| error.to_string())).join("\n")
    }
}

/// The daemons' programs: tests of the whole workspace have built them already.
fn programs() -> Vec<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let programs: Vec<PathBuf> = DAEMONS.iter().map(|name| folder.join(name)).collect();
    if programs.iter().any(|program| !program.exists()) {
        let packages = DAEMONS.iter().flat_map(|name| ["--package", name]);
        let mut build = Command::new(env!("CARGO"));
        testbed::command::run(build.args(["build", "--quiet", "--locked"]).args(packages)).unwrap();
    }
    programs
}
