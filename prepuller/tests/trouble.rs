//! What a planner reports when it cannot do its work: the real program with a scripted API server.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};
use testbed::daemon::Daemon;
use testbed::proxy::TcpProxy;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces";

/// A planner with an API server that has one node.
struct Bed {
    api: ScriptedApi,
    planner: Daemon,
}

impl Bed {
    fn start(objects: &[(&str, Value)], settings: &[(&str, &str)]) -> Self {
        let api = ScriptedApi::start().unwrap();
        let node = json!({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux"}}});
        api.put("/api/v1/nodes/node1", node);
        for (path, object) in objects {
            api.put(path, object.clone());
        }
        let kubeconfig = api.kubeconfig().display().to_string();
        let planner = Daemon::start(
            env!("CARGO_BIN_EXE_prepuller"),
            &["plan"],
            &[&[("KUBECONFIG", &*kubeconfig)][..], settings].concat(),
        );
        Self { api, planner: planner.unwrap() }
    }

    fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        wait::patiently(LIMIT, look).unwrap_or_else(|| {
            let (page, log) = (self.planner.get("/status.json"), self.planner.log());
            panic!("{what}: not in time\n{page:?}\n{log}");
        })
    }

    fn page_shows(&self, words: &str) -> String {
        self.until(words, || self.planner.get("/").map(|(_, page)| page).filter(|page| page.contains(words)))
    }

    /// The note of the Event with this reason about an object of this namespace.
    fn event(&self, namespace: &str, reason: &str) -> String {
        self.until(reason, || {
            let events = self.api.objects(&format!("{EVENTS}/{namespace}/events/"));
            let event = events.into_iter().find(|event| event["reason"] == reason)?;
            Some(event["note"].as_str()?.to_owned())
        })
    }
}

/// The page that explains the trouble must be reachable: a Service routes only to pods that are ready.
#[test]
fn a_first_installation_without_a_registry_shows_what_failed() {
    // It never answers, and then closes each connection.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = TcpProxy::start(silent.local_addr().unwrap()).unwrap();
    let host = proxy.host();
    let repository = format!("{host}/owner/lab");
    let bed = Bed::start(&[], &[("LAB_REPOSITORIES", &repository), ("LAB_INSECURE_REGISTRIES", &host)]);
    bed.page_shows("The first scan is under way");
    proxy.refuse();
    bed.planner.until_ready(LIMIT, |status, _| status == 200).unwrap();
    let page = bed.page_shows("No scan has succeeded yet");
    assert!(page.contains("The wanted images are not known, because no scan has succeeded so far"), "{page}");
    assert!(page.contains(&host) && page.contains("Last good scan: none yet."), "{page}");
    assert!(!page.contains("complete</span>"), "no node is complete with nothing: {page}");
    let event = bed.event("labhands", "ScanFailed");
    assert!(event.starts_with("Nothing is wanted yet: ") && event.contains(&host), "{event}");
    let (status, why) = bed.planner.get("/catalogue.json").unwrap();
    assert!(status == 503 && why.contains(&host), "{why}");
    assert_eq!(bed.planner.get("/readyz").unwrap().0, 200);
}

#[test]
fn a_node_whose_agent_stopped_reporting_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalogue.json");
    let image = "registry.example.org/lab:w_1";
    let catalogue = json!({"version": 1, "generated": "2026-01-01T00:00:00Z", "complete": true, "images": [
        {"reference": image, "repository": "registry.example.org/lab", "tag": "w_1", "class": "weekly", "kind": "lab",
            "name": "w_1", "digest": null, "size": null, "wanted": true, "why": "newest"}]});
    fs::write(&file, catalogue.to_string()).unwrap();
    let orders = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nodeimages/node1";
    let object = json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages",
        "spec": {"wanted": 1, "orders": [{"image": image, "priority": 1}]},
        "status": {"reported": "2026-01-01T00:00:00Z", "images": [
            {"image": image, "state": "Present", "since": "2026-01-01T00:00:00Z"}]}});
    let file = file.display().to_string();
    let bed = Bed::start(&[(orders, object)], &[("CATALOGUE_FILE", &file), ("SCAN_INTERVAL", "1h")]);
    let page = bed.page_shows("The agent has stopped reporting on node1");
    assert!(page.contains("1 image on the node; there is a problem"), "{page}");
    assert!(page.contains("its agent has not reported for"), "{page}");
    let event = bed.event("default", "AgentSilent");
    assert!(event.starts_with("The agent has not reported for "), "{event}");
    let silent = bed.planner.metric("labhands_prepuller_nodes_in_trouble{trouble=\"silent_agent\"}");
    assert_eq!(silent, Some(1.0));
    assert_eq!(bed.planner.metric("labhands_prepuller_nodes_in_trouble{trouble=\"no_agent\"}"), Some(0.0));
}
