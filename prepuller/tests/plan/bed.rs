//! The cluster that all steps share, and requests to it.

use std::cell::Cell;
use std::fs;
use std::time::Instant;

use serde_json::Value;
use testbed::cluster::{Api, Cluster, Install, Kubectl};
use testbed::http::{Answer, Client};
use testbed::images::{Image, Layer, Pushed};
use testbed::wait::{LIMIT, patiently};

pub(super) const MB: u64 = 1_000_000;
pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_prepuller");

/// Probes every second, so that the daemons count as ready at once and not up to ten seconds later.
const PROBES: &str = "patches:
- target: {name: prepuller-(plan|node), kind: Deployment|DaemonSet}
  patch: '- {op: replace, path: /spec/template/spec/containers/0/readinessProbe/periodSeconds, value: 1}'
";

pub(super) struct Bed {
    began: Instant,
    /// The namespace of the `NodeImages`.
    pub(super) agents: Cell<&'static str>,
    pub(super) cluster: Cluster,
    pub(super) kubectl: Kubectl,
    api: Api,
}

impl Bed {
    pub(super) fn start() -> Self {
        let began = Instant::now();
        let cluster = Cluster::start(2).unwrap();
        let bed = Self {
            began,
            agents: Cell::new("labhands-node"),
            kubectl: cluster.kubectl(),
            api: cluster.api().unwrap(),
            cluster,
        };
        bed.push("w_2026_01", &[10, 11]);
        bed.push("w_2026_02", &[20, 21]);
        bed.install("prepuller");
        bed
    }

    pub(super) fn install(&self, overlay: &str) {
        let repositories = format!("{}/lab", self.cluster.registry_host());
        let settings = [
            ("LAB_REPOSITORIES", repositories.as_str()),
            ("LAB_KEEP", "weekly=2"),
            ("LAB_NAMESPACE", "default"),
            ("SCAN_INTERVAL", "1s"),
            ("PREPULLER_PARALLEL_NODES", "1"),
            // The nodes of this cluster are seconds old.
            ("PREPULLER_NEW_NODE_AGE", "1ms"),
            // A test machine's disk may be nearly full.
            ("DISK_HIGH", "98%"),
        ];
        let install =
            Install { overlay, programs: &[PROGRAM], settings: &settings, more: PROBES, ..Install::default() };
        self.cluster.install(&install).unwrap();
    }

    /// An image with layers of 2 MB, generated from seeds.
    pub(super) fn push(&self, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| Layer::random(seed, 2 * MB));
        Image::new(layers).push(self.cluster.registry(), "lab", tag).unwrap()
    }

    /// The planner's address.
    pub(super) fn planner(&self) -> String {
        let path = "/api/v1/namespaces/labhands/pods?labelSelector=app.kubernetes.io/component%3Dplan";
        let running = || {
            let pods = self.api.get(path)?["items"].as_array()?.clone();
            let mut running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let address = running.next()?["status"]["podIP"].as_str()?.to_owned();
            running.next().is_none().then_some(address)
        };
        patiently(LIMIT, running)
            .unwrap_or_else(|| panic!("{}", self.kubectl.run(&["-n", "labhands", "describe", "pods"]).unwrap()))
    }

    pub(super) fn ask(&self, path: &str) -> Option<Answer> {
        let client = Client::new(None, None).unwrap();
        client.send("GET", &format!("http://{}:8080{path}", self.planner()), &[], b"").ok()
    }

    pub(super) fn wait_answer(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = String::new();
        let answer = patiently(LIMIT, || {
            let answer = self.ask(path)?;
            last = answer.text();
            wanted(&answer).then_some(answer)
        });
        answer.unwrap_or_else(|| panic!("{path} is not as wanted: {last}\n{}", self.log()))
    }

    pub(super) fn log(&self) -> String {
        let printed = |arguments: &[&str]| self.kubectl.run(arguments).unwrap_or_else(|error| error.to_string());
        printed(&["-n", "labhands", "logs", "deployment/prepuller-plan", "--tail=40"])
            + &printed(&["-n", "labhands", "get", "pods", "-o", "wide"])
            + &printed(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"])
    }

    /// Prints in the test's output when a step begins, to show what takes long.
    pub(super) fn step(&self, name: &str) {
        eprintln!("{:>5.0} s  {name}", self.began.elapsed().as_secs_f64());
    }

    /// Changes the planner's settings (`NAME=VALUE`, `NAME-`), and waits until it runs with them.
    pub(super) fn set(&self, settings: &[&str]) {
        let deployment = "deployment/prepuller-plan";
        self.kubectl.run(&[&["-n", "labhands", "set", "env", deployment], settings].concat()).unwrap();
        self.kubectl.run(&["-n", "labhands", "rollout", "status", deployment, "--timeout=300s"]).unwrap();
    }

    pub(super) fn restart_planner(&self) {
        let pods = ["-n", "labhands", "delete", "pods", "-l", "app.kubernetes.io/component=plan", "--wait"];
        self.kubectl.run(&pods).unwrap();
        self.wait_answer("/readyz", |_| true);
    }

    /// Sends a request with the planner's token: method, path, content type, body. Returns status and body.
    pub(super) fn as_planner(&self) -> impl Fn(&str, &str, &str, &str) -> (u16, String) {
        let authority = fs::read_to_string(self.cluster.folder().join("ca.crt")).unwrap();
        let token = self.kubectl.run(&["-n", "labhands", "create", "token", "prepuller-plan"]).unwrap();
        let client = Client::new(Some(&authority), Some(format!("Bearer {}", token.trim()))).unwrap();
        let view = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
        let server = self.kubectl.run(&view).unwrap();
        move |method, path, kind, body| {
            let url = format!("{server}{path}");
            let answer = client.send(method, &url, &[("content-type", kind)], body.as_bytes()).unwrap();
            (answer.status, answer.text())
        }
    }

    pub(super) fn version_of_catalogue(&self) -> String {
        let map = ["-n", "labhands", "get", "configmap", "lab-images", "-o", "jsonpath={.metadata.resourceVersion}"];
        self.kubectl.run(&map).unwrap()
    }

    /// The nodes that have an order for a tag.
    pub(super) fn ordered(&self, tag: &str) -> Vec<String> {
        let list = self.api.get(&self.node_images("")).unwrap();
        let has = |object: &&Value| tags(&object["spec"]["orders"]).iter().any(|ordered| ordered == tag);
        let nodes = list["items"].as_array().unwrap().iter().filter(has);
        nodes.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn wait_for_canary(&self, tag: &str) -> String {
        let mut canary = patiently(LIMIT, || Some(self.ordered(tag)).filter(|nodes| !nodes.is_empty())).unwrap();
        assert_eq!(canary.len(), 1, "{canary:?}");
        canary.remove(0)
    }

    pub(super) fn object(&self, node: &str) -> Value {
        self.api.get(&self.node_images(node)).unwrap_or_default()
    }

    /// The path of a node's `NodeImages`, or of all.
    fn node_images(&self, node: &str) -> String {
        format!("/apis/labhands.dev/v1alpha1/namespaces/{}/nodeimages/{node}", self.agents.get())
    }

    /// The tags that a node reports as present, as they were ordered.
    pub(super) fn present(&self, node: &str) -> Vec<String> {
        let object = self.object(node);
        let images = object["status"]["images"].as_array().cloned().unwrap_or_default();
        let present: Vec<Value> = images.into_iter().filter(|image| image["state"] == "Present").collect();
        let present = tags(&present.into());
        let ordered = tags(&object["spec"]["orders"]);
        ordered.into_iter().filter(|tag| present.contains(tag)).collect()
    }

    pub(super) fn wait_present(&self, node: &str, wanted: &[&str]) {
        let are =
            || (self.present(node) == wanted && tags(&self.object(node)["spec"]["orders"]) == wanted).then_some(());
        patiently(LIMIT, are)
            .unwrap_or_else(|| panic!("{node} does not hold {wanted:?}: {:#}\n{}", self.object(node), self.log()));
    }

    pub(super) fn wait_orders(&self, node: &str, wanted: &[&str]) {
        let are = || {
            let object = self.object(node);
            (object.is_object() && tags(&object["spec"]["orders"]) == wanted).then_some(())
        };
        patiently(LIMIT, are)
            .unwrap_or_else(|| panic!("{node} has no such orders: {:#}\n{}", self.object(node), self.log()));
    }

    /// The note of an Event with this reason, after the name of its object, with these words in them.
    pub(super) fn wait_event(&self, namespace: &str, reason: &str, words: &str) -> String {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events?fieldSelector=reason%3D{reason}");
        let noted = || {
            let events = self.api.get(&path)?["items"].as_array()?.clone();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let line = |event: &Value| format!("{}: {}", text(&event["regarding"]["name"]), text(&event["note"]));
            events.iter().map(line).find(|line| line.contains(words))
        };
        patiently(LIMIT, noted).unwrap_or_else(|| panic!("no Event {reason} with {words:?}\n{}", self.log()))
    }
}

/// The tags of orders or reports, in their order.
fn tags(images: &Value) -> Vec<String> {
    let tag =
        |image: &Value| image["image"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned();
    images.as_array().into_iter().flatten().map(tag).collect()
}
