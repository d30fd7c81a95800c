//! Planner and node agent with an API server that accepts connections and never answers, or that lacks their
//! CustomResourceDefinition: neither hangs, both report what is missing, and both continue once it is there.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;

use serde_json::json;
use testbed::daemon::Daemon;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

const PROGRAM: &str = env!("CARGO_BIN_EXE_prepuller");

const SILENT: &str = "the Kubernetes API gave no answer within 15 s";

const KIND: &str = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nodeimages";

const NO_KIND: &str = "the cluster has no CustomResourceDefinition nodeimages.labhands.dev of version v1alpha1; apply the crd.yaml of this release";

fn until(what: &str, daemon: &Daemon, wanted: impl Fn() -> bool) {
    let seen = wait::patiently(LIMIT, || wanted().then_some(()));
    seen.unwrap_or_else(|| panic!("{what}: not in time\n{}", daemon.log()));
}

fn metric(daemon: &Daemon, beginning: &str) -> f64 {
    daemon.metric(beginning).unwrap_or(0.0)
}

fn start(command: &str, api: &ScriptedApi, settings: &[(&str, String)]) -> Daemon {
    let kubeconfig = [("KUBECONFIG", api.kubeconfig().display().to_string())];
    let settings: Vec<(&str, &str)> =
        kubeconfig.iter().chain(settings).map(|(name, value)| (*name, value.as_str())).collect();
    Daemon::start(PROGRAM, &[command], &settings).unwrap()
}

/// A planner for one node, with this catalogue.
fn planner(api: &ScriptedApi, file: &Path) -> Daemon {
    let ready = json!({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"}}});
    api.put("/api/v1/nodes/node1", ready);
    start("plan", api, &[("CATALOGUE_FILE", file.display().to_string()), ("SCAN_INTERVAL", "1h".to_owned())])
}

/// An agent that reports a missing container runtime.
fn agent(api: &ScriptedApi, folder: &Path) -> Daemon {
    let settings = [
        ("NODE_NAME", "node1".to_owned()),
        ("STATE_DIR", folder.display().to_string()),
        ("RUNTIME_ENDPOINT", format!("unix://{}/nobody.sock", folder.display())),
    ];
    start("node", api, &settings)
}

fn catalogue(tags: &[&str]) -> String {
    let image = |tag: &&str| {
        json!({"reference": format!("registry.example.org/lab:{tag}"), "repository": "registry.example.org/lab", "tag": tag,
            "class": "weekly", "kind": "lab", "name": tag, "digest": null, "size": null, "wanted": true, "why": "newest"})
    };
    let images: Vec<_> = tags.iter().map(image).collect();
    json!({"version": 1, "generated": "2026-01-01T00:00:00Z", "complete": true, "images": images}).to_string()
}

#[test]
fn a_planner_survives_an_api_server_that_never_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalogue.json");
    let write = |tags: &[&str]| fs::write(&file, catalogue(tags)).unwrap();
    write(&["w_1"]);
    let api = ScriptedApi::start().unwrap();
    api.proxy().stall();
    let planner = planner(&api, &file);

    // Silent from the start.
    let logs = |words: &str| planner.log().lines().any(|line| line.contains(words) && line.contains(SILENT));
    until("the Deployment", &planner, || logs("the Deployment prepuller-plan is not found"));
    until("the catalogue", &planner, || logs("the published catalogue cannot be read"));
    until("the nodes", &planner, || logs("the watch of Nodes is interrupted"));
    assert_eq!(planner.get("/livez").unwrap().0, 200);
    let (status, why) = planner.get("/readyz").unwrap();
    assert!(status == 503 && why.contains(SILENT), "{why}");
    api.proxy().resume();
    let orders = &format!("{KIND}/node1");
    let map = "/api/v1/namespaces/labhands/configmaps/lab-images";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/labhands/leases/lab-images";
    until("orders", &planner, || api.object(orders).is_some());
    until("the Lease", &planner, || api.object(lease).is_some());
    planner.until_ready(LIMIT, |status, _| status == 200).unwrap();
    let hash = |json: &str| lab_images::published::content_hash(json);
    let published = || api.object(map).unwrap()["data"]["catalogue.json"].as_str().unwrap().to_owned();
    let vouched = || api.object(lease).unwrap()["metadata"]["annotations"][lab_images::published::VOUCHED].clone();
    assert_eq!(vouched(), hash(&published()));

    // Silent later: the scan's result is published once the API server answers again, without another scan.
    write(&["w_2", "w_1"]);
    api.proxy().stall();
    testbed::http::Client::new(None, None)
        .unwrap()
        .send("POST", &format!("http://{}/scan", planner.admin()), &[], b"")
        .unwrap();
    until("no catalogue", &planner, || logs("the catalogue cannot be published yet"));
    until("no orders", &planner, || logs("orders can't be written yet"));
    assert_eq!(planner.get("/livez").unwrap().0, 200);
    api.proxy().resume();
    until("the new catalogue", &planner, || published().contains("w_2") && vouched() == hash(&published()));
    until("new orders", &planner, || api.object(orders).unwrap()["spec"].to_string().contains("w_2"));
    assert_eq!(metric(&planner, "labhands_prepuller_scans_total{result=\"ok\"}"), 2.0);
    assert!(metric(&planner, "labhands_prepuller_catalogue_publishes_total{result=\"failed\"}") >= 1.0);
}

#[test]
fn a_node_agent_survives_an_api_server_that_never_answers() {
    let folder = tempfile::tempdir().unwrap();
    let api = ScriptedApi::start().unwrap();
    let orders = &format!("{KIND}/node1");
    api.put(orders, json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "spec": {"orders": []}}));
    api.proxy().stall();
    let agent = agent(&api, folder.path());
    let silent = || agent.log().lines().filter(|line| line.contains(SILENT)).count();
    until("the orders", &agent, || silent() > 0);
    assert!(metric(&agent, "labhands_prepuller_node_api_failures_total{call=\"watch\"}") >= 1.0);
    assert_eq!(agent.get("/livez").unwrap().0, 200);
    api.proxy().resume();
    let has_reported = || api.object(orders).is_some_and(|object| object["status"]["problem"].is_string());
    until("the report", &agent, has_reported);
}

#[test]
fn a_planner_names_the_definition_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalogue.json");
    fs::write(&file, catalogue(&["w_1"])).unwrap();
    let api = ScriptedApi::start().unwrap();
    api.does_not_know(KIND);
    let planner = planner(&api, &file);
    let logs = |words: &str| planner.log().lines().any(|line| line.contains(words) && line.contains(NO_KIND));
    until("the log", &planner, || logs("the watch of NodeImages is interrupted"));
    planner.until_ready(LIMIT, |status, why| status == 503 && why.contains(NO_KIND)).unwrap();
    until("the page", &planner, || planner.get("/").is_some_and(|(_, page)| page.contains(NO_KIND)));
    api.knows_all();
    until("orders", &planner, || api.object(&format!("{KIND}/node1")).is_some());
    planner.until_ready(LIMIT, |status, _| status == 200).unwrap();

    // It is deleted later.
    api.does_not_know(KIND);
    fs::write(&file, catalogue(&["w_2", "w_1"])).unwrap();
    let scan = format!("http://{}/scan", planner.admin());
    testbed::http::Client::new(None, None).unwrap().send("POST", &scan, &[], b"").unwrap();
    until("the log", &planner, || logs("cannot write the orders of node1"));
    until("the page", &planner, || planner.get("/").is_some_and(|(_, page)| page.contains(NO_KIND)));
    api.knows_all();
    let written =
        || api.object(&format!("{KIND}/node1")).is_some_and(|object| object["spec"].to_string().contains("w_2"));
    until("new orders", &planner, written);
}

#[test]
fn an_agent_names_the_definition_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let api = ScriptedApi::start().unwrap();
    let orders = &format!("{KIND}/node1");
    api.put(orders, json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "spec": {"orders": []}}));
    api.does_not_know(KIND);
    let agent = agent(&api, folder.path());
    agent.until_ready(LIMIT, |status, why| status == 503 && why.contains(NO_KIND)).unwrap();
    until("the log", &agent, || agent.log().contains(NO_KIND));
    api.knows_all();
    let reported = || api.object(orders).is_some_and(|object| object["status"]["problem"].is_string());
    until("the report", &agent, reported);
}
