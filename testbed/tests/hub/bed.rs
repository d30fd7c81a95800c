//! The cluster of this suite: a Hub behind nginx with TLS, its GitHub, all daemons, a file server and a broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testbed::certificates::{Authority, Certificate};
use testbed::chromium::{Browser, Look, Page};
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::folder::Folder;
use testbed::github::GitHub;
use testbed::http::Client;
use testbed::images::Pushed;
use testbed::jupyter::{AUTHORITY, Jupyter};
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::{LIMIT, patiently};

use super::broker::Lines;

/// The window of users' browsers.
pub(crate) const LOOK: Look = Look { width: 1100, height: 800, dark: false };
/// The folder for screenshots; none are kept if it is unset.
const PICTURES: &str = "TESTBED_PICTURES";
const DAEMONS: [&str; 5] = ["prepuller", "imagepurger", "log-shipper", "fs-keepalive", "nfs-health"];

/// A site's lines in its kustomization, after the list of ConfigMaps. A component's ConfigMap needs a patch, because kustomize adds
/// components after it has merged ConfigMaps.
const SITE: &str = "
- {name: hub, namespace: jupyter, behavior: merge, envs: [hub.env]}
- {name: hub-config, namespace: jupyter, behavior: merge, files: [60-site.py]}
secretGenerator:
- {name: hub, namespace: jupyter, literals: [proxy-token=TOKEN, crypt-key=TOKEN, cookie-secret=TOKEN]}
- {name: hub-login, namespace: jupyter, literals: [GITHUB_CLIENT_ID=hub, GITHUB_CLIENT_SECRET=secret]}
- {name: nginx-tls, namespace: labhands, files: [tls.crt, tls.key]}
- {name: amqp, namespace: labhands-node, literals: [\"password=PASSWORD\"], options: {disableNameSuffixHash: true}}
patches:
- target: {kind: PersistentVolumeClaim}
  patch: '[{\"op\": \"add\", \"path\": \"/spec/storageClassName\", \"value\": \"\"}]'
- target: {kind: Service, name: nginx}
  patch: '[{\"op\": \"add\", \"path\": \"/spec/clusterIP\", \"value\": \"ADDRESS\"}]'
- patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: nginx, namespace: labhands},
    data: {FIREFLY_SERVICE: firefly/firefly}}'
# Below kubelet's own thresholds, unlike prepuller's.
- patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: imagepurger, namespace: labhands-node}, data: {DISK_HIGH: 75%}}'
";

/// A stand-in for Firefly at /firefly.
const FIREFLY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: firefly, namespace: firefly, labels: {app: firefly}}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  containers:
  - name: firefly
    image: IMAGE
    workingDir: /tmp
    command: [sh, -c, 'mkdir -p firefly/admin && echo a stand-in | tee firefly/index.html firefly/admin/index.html &&
      exec python3 -m http.server 8080']
---
apiVersion: v1
kind: Service
metadata: {name: firefly, namespace: firefly}
spec: {selector: {app: firefly}, ports: [{port: 80, targetPort: 8080}]}
";

/// Limits for a busy test machine, the private authority as oauthenticator requires it, and a shorter wait for a file server.
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
    /// The Hub's address: `https://…`, no slash at the end.
    pub(crate) hub: String,
    /// It trusts only the authority of Hub and GitHub.
    pub(crate) client: Client,
    authority: String,
    _broker: RabbitMq,
    disk: Folder,
}

impl Bed {
    pub(crate) fn start() -> Bed {
        let programs = programs();
        let jupyter = Jupyter::find_or_build().unwrap();
        let broker = RabbitMq::start().unwrap();
        let lines = Lines::of(&broker);
        let mut cluster = Cluster::start(2).unwrap();
        let kubectl = cluster.kubectl();
        let (address, github) = (cluster.service_address(80), cluster.service_address(81));
        let authority = Authority::new("testbed").unwrap();
        let certificate = authority.issue(&address, None, &[&address]).unwrap();
        let jupyter = jupyter.trusting(&authority.certificate());
        jupyter.push_hub(cluster.registry()).unwrap();
        let hub_image = format!("{}/hub:1", cluster.registry_host());
        let github = GitHub::start(&cluster, &github, &authority, &hub_image).unwrap();
        let disk = Folder::new("disk").unwrap();
        let share = disk.folder("share").unwrap();
        cluster.add_disk("disk", "labhands-fileserver", "fileserver", &share).unwrap();
        cluster.add_disk("database", "jupyter", "hub-database", &disk.folder("database").unwrap()).unwrap();
        let broker_address = cluster.expose(broker.address()).unwrap();
        let authority = authority.certificate();
        let client = Client::new(Some(&authority), None).unwrap();
        let hub = format!("https://{address}");
        let bed = Bed { kubectl, lines, jupyter, github, hub, client, authority, _broker: broker, disk, cluster };

        bed.push_lab("w_2026_46", "46");
        bed.push_lab("w_2026_47", "47");
        bed.kubectl.create_namespace("firefly").unwrap();
        bed.kubectl.apply(&FIREFLY.replace("IMAGE", &hub_image)).unwrap();
        bed.cluster.mount_nfs("/home", &bed.share()).unwrap();
        bed.install(&programs, &broker_address, &certificate);
        bed
    }

    fn install(&self, programs: &[PathBuf], broker: &str, certificate: &Certificate) {
        let registry = self.cluster.registry_host();
        let settings = [
            ("LAB_REPOSITORIES", format!("{registry}/lab")),
            ("LAB_KEEP", "weekly=2".into()),
            ("LAB_NAMESPACE", "jupyter".into()),
            ("PREPULLER_NEW_NODE_AGE", "1ms".into()), // all nodes here are seconds old
            ("SCAN_INTERVAL", "1h".into()),           // only when the test requests it
            ("DISK_HIGH", "98%".into()),              // a test machine's disk may be nearly full
            ("AMQP_URL", format!("amqp://{broker}/%2f")),
            ("AMQP_USERNAME", USER.into()),
            ("AMQP_PASSWORD_FILE", "/etc/labhands/amqp/password".into()),
            ("VOLUME_SIZE", "10Gi".into()),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let of_hub = [
            ("GITHUB_ORGANIZATIONS", "stars".to_owned()),
            ("GITHUB_URL", self.github.url().into()),
            ("GITHUB_PUSH", "on".into()),
            ("OAUTH_CALLBACK_URL", format!("{}/hub/oauth_callback", self.hub)),
            ("LOGIN_REFRESH", "2s".into()),
            ("LAB_CATALOGUE_REFRESH", "1s".into()),
            // A lab that saves 90 MB needs several times that much memory.
            ("LAB_SIZES", r#"{"small": {"cpu": [0.05, 1], "memory": ["64M", "2G"]}}"#.into()),
        ];
        let of_hub: String = of_hub.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let address = self.hub.trim_start_matches("https://");
        let more = SITE.replace("TOKEN", &"5e".repeat(32)).replace("PASSWORD", PASSWORD).replace("ADDRESS", address);
        let site_file = SITE_FILE.replace("AUTHORITY", AUTHORITY);
        let programs: Vec<&str> = programs.iter().filter_map(|program| program.to_str()).collect();
        let install = Install {
            overlay: "hub",
            components: &["log-shipper", "imagepurger", "nfs-health", "nginx", "monitoring"],
            images: &["fileserver"],
            binaries: Path::new(programs[0]).parent(),
            programs: &programs,
            settings: &settings,
            replaced: &[
                ("quay.io/jupyterhub/k8s-hub", "hub:1"),
                ("quay.io/jupyterhub/configurable-http-proxy", "hub:1"),
                ("nginxinc/nginx-unprivileged", "nginx:1"),
            ],
            files: &[
                ("hub.env", &of_hub),
                ("60-site.py", &site_file),
                ("tls.crt", &certificate.certificate),
                ("tls.key", &certificate.key),
            ],
            more: &more,
        };
        self.cluster.install(&install).unwrap();
        for deployment in ["hub", "proxy"] {
            self.rolled_out(deployment);
        }
        let nginx = ["-n", "labhands", "rollout", "status", "deployment/nginx", "--timeout=300s"];
        self.kubectl.run(&nginx).unwrap_or_else(|error| panic!("{error}\n{}", self.state()));
        // Nodes send the traffic of a Service to its pods a moment after these are ready.
        for path in ["hub/login", "firefly/"] {
            self.answers(path);
        }
    }

    /// Pushes a lab image with this text in `/version`.
    pub(crate) fn push_lab(&self, tag: &str, version: &str) -> Pushed {
        self.jupyter.push_lab(self.cluster.registry(), tag, version).unwrap()
    }

    /// The file server's export, as a folder on its disk.
    pub(crate) fn share(&self) -> PathBuf {
        self.disk.join("share/home")
    }

    /// A browser that logs in as this user of GitHub and gets to the form.
    pub(crate) fn log_in(&self, user: &str) -> Page {
        self.github.control(&json!({"browser_user": user})).unwrap();
        let mut page = Browser::find().unwrap().page(LOOK, Some(&self.authority)).unwrap();
        page.open(&format!("{}/hub/oauth_login?next=%2Fhub%2Fspawn", self.hub)).unwrap();
        page.wait(LIMIT, "document.readyState === 'complete'").unwrap();
        page
    }

    /// Makes the planner scan the registry now.
    pub(crate) fn scan(&self) {
        let path = "/api/v1/namespaces/labhands/services/prepuller:80/proxy/scan";
        let raw = ["create", "--raw", path, "-f", "/dev/null"];
        patiently(LIMIT, || self.kubectl.run(&raw).ok()).expect("the planner takes a scan on");
    }

    /// An empty folder on this machine's disk, which nodes share.
    pub(crate) fn empty_folder(&self, name: &str) -> PathBuf {
        self.disk.folder(name).unwrap()
    }

    /// Changes a setting of the Hub, as `NAME=value`, and waits until the Hub with it answers through its proxy.
    pub(crate) fn configure(&self, setting: &str) {
        self.kubectl.run(&["-n", "jupyter", "set", "env", "deployment/hub", setting]).unwrap();
        self.rolled_out("hub");
        self.answers("hub/health");
    }

    /// Waits until a path is answered through nginx.
    fn answers(&self, path: &str) {
        let url = format!("{}/{path}", self.hub);
        let answers = || self.client.send("GET", &url, &[], b"").ok()?.expect(200, &url).ok();
        patiently(LIMIT, answers).unwrap_or_else(|| panic!("{url} is not answered\n{}", self.state()));
    }

    fn rolled_out(&self, deployment: &str) {
        let rolled_out = ["-n", "jupyter", "rollout", "status", &format!("deployment/{deployment}"), "--timeout=300s"];
        self.kubectl.run(&rolled_out).unwrap_or_else(|error| panic!("{error}\n{}", self.state()));
    }

    pub(crate) fn get(&self, namespace: &str, what: &str, path: &str) -> String {
        self.kubectl.run(&["-n", namespace, "get", what, "-o", &format!("jsonpath={path}")]).unwrap_or_default()
    }

    /// Saves a screenshot of the page for the developer.
    pub(crate) fn picture(&self, page: &mut Page, name: &str) {
        if let Some(folder) = std::env::var_os(PICTURES) {
            fs::create_dir_all(&folder).unwrap();
            page.picture(&Path::new(&folder).join(format!("{name}.png"))).unwrap();
        }
    }

    /// Everything that may explain a failure.
    pub(crate) fn state(&self) -> String {
        let asked: [&[&str]; 5] = [
            &["get", "pods", "-A", "-o", "wide"],
            &["-n", "jupyter", "get", "events", "--sort-by=.lastTimestamp"],
            &["-n", "jupyter", "describe", "pods"],
            &["-n", "jupyter", "logs", "deployment/hub", "--tail=60"],
            &["-n", "labhands", "logs", "-l", "app.kubernetes.io/name=nginx", "--tail=20"],
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
