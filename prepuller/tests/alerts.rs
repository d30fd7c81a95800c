//! Each alert about images that prepuller causes, on a real Prometheus: it fires once when its cause begins, and ends with it. The
//! rules are those of `manifests/`, with shorter durations.
//!
//! The API server is a scripted one: it refuses what a test wants it to refuse.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::containerd::Containerd;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::images::{Image, Layer};
use testbed::prometheus::{Prometheus, rules};
use testbed::registry::Registry;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::LIMIT;

/// The longest duration of a rule. An agent that cannot read its orders waits for up to seven seconds within it.
const LONGEST: Duration = Duration::from_secs(12);

const KIND: &str = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nodeimages";

/// The alerts, each with its daemon: `plan` plans for `node1`, `orders` for nodes without agents, and `full` is an agent by
/// itself. When an order is too large,
const TOO_LARGE: [(&str, &str); 1] = [("LabhandsImagesDoNotFit", "full")];
/// when registry, runtime and API servers fail,
const DOWN: [(&str, &str); 9] = [
    ("LabhandsScanFailing", "plan"),
    ("LabhandsRepositoryStale", "plan"),
    ("LabhandsRuntimeDown", "full"),
    ("LabhandsNodeCutOff", "full"),
    ("LabhandsOrdersNotWritten", "orders"),
    ("LabhandsNodesInTrouble", "orders"),
    ("LabhandsImagesMissing", "orders"),
    ("LabhandsCatalogueNotPublished", "orders"),
    ("LabhandsEventsLost", "orders"),
];
/// when the registry's content is wrong,
const WRONG: [(&str, &str); 3] =
    [("LabhandsTagsUnread", "plan"), ("LabhandsWaveStopped", "plan"), ("LabhandsImagesMissing", "plan")];
/// and when no daemon is left.
const GONE: [(&str, &str); 1] = [("LabhandsDaemonGone", "prepuller")];

struct Bed {
    registry: Registry,
    containerd: Containerd,
    folder: Folder,
    daemons: BTreeMap<&'static str, Daemon>,
    prometheus: Prometheus,
}

#[test]
fn each_alert_fires_once_for_its_cause_and_ends_with_it() {
    let mut bed = Bed::start();
    let [of_plan, of_orders, of_full] = std::array::from_fn(|_| ScriptedApi::start().unwrap());
    of_plan.put("/api/v1/nodes/node1", node());
    of_orders.put("/api/v1/nodes/node1", node());
    of_orders.put(&format!("{KIND}/node1"), fine());
    let object = format!("{KIND}/node9");
    of_full.put(&object, orders(&[]));
    let host = bed.registry.host();
    let labs = format!("{host}/lab,{host}/other");
    bed.plan("plan", &of_plan, &[("LAB_REPOSITORIES", &labs), ("LAB_INSECURE_REGISTRIES", &host)]);
    let file = bed.folder.write("catalogue.json", catalogue()).unwrap().display().to_string();
    bed.plan("orders", &of_orders, &[("CATALOGUE_FILE", &file)]);
    bed.agent("node1", "node1", &of_plan);
    bed.agent("full", "node9", &of_full);
    // The first pull takes longer than a shortened rule waits for.
    for repository in ["lab", "other"] {
        let present = format!("labhands_prepuller_image_nodes_present{{image=\"{host}/{repository}:w_2026_01\"}} 1");
        bed.daemons["plan"].until("/metrics", LIMIT, |_, metrics| metrics.contains(&present)).unwrap();
    }
    bed.scrape();

    // ---- an order is too large ----
    let order =
        json!({"image": format!("{host}/large:w_1"), "size": 1_000_000_000_000_000_u64, "layers": [], "priority": 0});
    of_full.put(&object, orders(&[order]));
    bed.prometheus.until_fired(&TOO_LARGE, LIMIT).unwrap();
    of_full.put(&object, orders(&[]));
    let none = "labhands_prepuller_node_images{instance=\"full\", state=\"refused\"} == 0";
    bed.prometheus.until_data(none).unwrap();

    // ---- registry, runtime and API servers fail ----
    let repositories = bed.registry.storage().join("docker/registry/v2/repositories");
    let removed = bed.registry.storage().join("removed");
    fs::rename(repositories.join("other"), &removed).unwrap();
    bed.prometheus.until_data("labhands_prepuller_repository_complete == 0").unwrap();
    bed.registry.stop();
    bed.containerd.stop();
    // An agent that has nothing to do asks the runtime every five minutes.
    let order = json!({"image": format!("{host}/large:w_2"), "size": 1, "layers": [], "priority": 0});
    of_full.put(&object, orders(&[order]));
    bed.prometheus.until_data("labhands_prepuller_node_runtime_up{instance=\"full\"} == 0").unwrap();
    of_full.proxy().refuse();
    for forgotten in [KIND, "/apis/events.k8s.io", "/api/v1/namespaces/labhands/configmaps"] {
        of_orders.does_not_know(forgotten);
    }
    // The pauses after a refused write grow beyond what a shortened rule waits for, so that new nodes make new writes.
    let new_nodes = (2..).map(|number| format!("/api/v1/nodes/node{number}"));
    let mut added = Vec::new();
    for path in new_nodes.take(LIMIT.as_secs() as usize) {
        of_orders.put(&path, node());
        added.push(path);
        if bed.prometheus.until_fired(&DOWN, Duration::from_secs(1)).is_ok() {
            break;
        }
    }
    bed.prometheus.until_fired(&DOWN, Duration::ZERO).unwrap();
    bed.registry.start_again().unwrap();
    bed.containerd.restart().unwrap();
    of_full.proxy().resume();
    of_orders.knows_all();
    added.iter().for_each(|path| of_orders.delete(path));

    // ---- the registry's content is wrong ----
    let unread: Vec<_> = (0..5).map(|number| format!("junk-{number}")).collect();
    // Their image is another one: with that of a tag that is read they would be its aliases.
    unread.iter().for_each(|tag| bed.push("lab", tag, 4));
    bed.push("lab", "prepared", 3);
    bed.lose_layer(3);
    let tags = repositories.join("lab/_manifests/tags");
    fs::rename(tags.join("prepared"), tags.join("w_2026_02")).unwrap();
    bed.prometheus.until_fired(&WRONG, LIMIT).unwrap();
    fs::rename(&removed, repositories.join("other")).unwrap();
    unread.iter().for_each(|tag| fs::remove_dir_all(tags.join(tag)).unwrap());
    bed.push("lab", "w_2026_02", 3);
    let all = [&TOO_LARGE[..], &DOWN, &WRONG].concat();
    bed.prometheus.until_over(&all, LIMIT).unwrap();

    // ---- no daemon is left ----
    bed.daemons.clear();
    bed.prometheus.until_fired(&GONE, LIMIT).unwrap();
    bed.agent("node1", "node1", &of_plan);
    bed.scrape();
    bed.prometheus.until_over(&[&all[..], &GONE].concat(), LIMIT).unwrap();
}

impl Bed {
    fn start() -> Self {
        let registry = Registry::start().unwrap();
        let containerd = Containerd::start(&registry).unwrap();
        let prometheus = Prometheus::start(&rules::of_the_manifests(LONGEST).unwrap()).unwrap();
        let folder = Folder::new("alerts").unwrap();
        let bed = Self { registry, containerd, folder, daemons: BTreeMap::new(), prometheus };
        bed.push("lab", "w_2026_01", 1);
        bed.push("other", "w_2026_01", 2);
        bed
    }

    fn layer(seed: u64) -> Layer {
        Layer::random(seed, 100_000)
    }

    fn push(&self, repository: &str, tag: &str, seed: u64) {
        Image::new([Self::layer(seed)]).push(&self.registry, repository, tag).unwrap();
    }

    /// The registry no longer has the layer of this seed.
    fn lose_layer(&self, seed: u64) {
        let digest = Self::layer(seed).blob().unwrap().digest;
        let digest = digest.trim_start_matches("sha256:");
        let blobs = self.registry.storage().join("docker/registry/v2/blobs/sha256");
        fs::remove_dir_all(blobs.join(&digest[..2]).join(digest)).unwrap();
    }

    fn plan(&mut self, name: &'static str, api: &ScriptedApi, settings: &[(&str, &str)]) {
        let common = [("LAB_KEEP", "weekly=1"), ("SCAN_INTERVAL", "1s"), ("PREPULLER_NEW_NODE_AGE", "1ms")];
        self.run(name, "plan", api, &[&common[..], settings].concat());
    }

    fn agent(&mut self, name: &'static str, node: &str, api: &ScriptedApi) {
        let (state, endpoint) = (self.folder.join(name).display().to_string(), self.containerd.endpoint());
        // A test machine's disk may be rather full.
        let settings =
            [("NODE_NAME", node), ("STATE_DIR", &state), ("RUNTIME_ENDPOINT", &endpoint), ("DISK_HIGH", "98%")];
        self.run(name, "node", api, &settings);
    }

    fn run(&mut self, name: &'static str, command: &str, api: &ScriptedApi, settings: &[(&str, &str)]) {
        let kubeconfig = api.kubeconfig().display().to_string();
        let settings = [&[("KUBECONFIG", &*kubeconfig)], settings].concat();
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_prepuller"), &[command], &settings).unwrap();
        self.daemons.insert(name, daemon);
    }

    fn scrape(&mut self) {
        let daemons: Vec<_> = self.daemons.iter().map(|(name, daemon)| (*name, daemon.admin())).collect();
        self.prometheus.scrape(&daemons).unwrap();
    }
}

fn node() -> Value {
    json!({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"}}})
}

const WANTED: &str = "registry.example.org/lab:w_1";

fn catalogue() -> String {
    json!({"version": 1, "generated": "2026-01-01T00:00:00Z", "complete": true, "images": [
        {"reference": WANTED, "repository": "registry.example.org/lab", "tag": "w_1", "class": "weekly", "kind": "lab",
            "name": "w_1", "digest": null, "size": null, "wanted": true, "why": "newest"}]})
    .to_string()
}

/// The orders and the report of a node that has the catalogue's image.
fn fine() -> Value {
    let now = jiff::Timestamp::now();
    json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages",
        "spec": {"wanted": 1, "orders": [{"image": WANTED, "priority": 1}]},
        "status": {"reported": now, "images": [{"image": WANTED, "state": "Present", "since": now}]}})
}

fn orders(orders: &[Value]) -> Value {
    json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "spec": {"wanted": orders.len(), "orders": orders}})
}
