//! An API server that accepts connections and never answers: no round hangs, nothing is removed, the log gives the reason, and
//! rounds continue once it answers again.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use jiff::Timestamp;
use lab_images::published::{VOUCHED, content_hash};
use serde_json::json;
use testbed::containerd::Containerd;
use testbed::daemon::Daemon;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

const SILENT: &str = "the Kubernetes API gave no answer within 15 s";

#[test]
fn rounds_survive_an_api_server_that_never_answers() {
    let registry = testbed::registry::Registry::start().unwrap();
    let (containerd, folder) = (Containerd::start(&registry).unwrap(), tempfile::tempdir().unwrap());
    let api = ScriptedApi::start().unwrap();
    api.proxy().stall();
    let settings = [
        ("KUBECONFIG", api.kubeconfig().display().to_string()),
        ("NODE_NAME", "node1".to_owned()),
        ("POD_NAME", "imagepurger-1".to_owned()),
        ("POD_NAMESPACE", "labhands-node".to_owned()),
        ("RUNTIME_ENDPOINT", containerd.endpoint()),
        ("STATE_DIR", folder.path().display().to_string()),
        ("PURGE_INTERVAL", "1s".to_owned()),
        ("LOG", "info".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let purger = Daemon::start(env!("CARGO_BIN_EXE_imagepurger"), &["run"], &settings).unwrap();
    let until = |what: &str, wanted: &dyn Fn() -> bool| {
        let seen = wait::patiently(LIMIT, || wanted().then_some(()));
        seen.unwrap_or_else(|| panic!("{what}: not in time\n{}", purger.log()));
    };
    let held =
        |words: &str| purger.log().lines().any(|line| line.contains("nothing is removed") && line.contains(words));
    until("the silence is reported", &|| held(SILENT));
    assert_eq!(purger.get("/livez").unwrap().0, 200);

    api.proxy().resume();
    until("there is no catalogue", &|| held("there is no ConfigMap lab-images"));
    // The Lease vouches for a catalogue by the hash of its content.
    let catalogue =
        json!({"version": 1, "generated": "2026-01-01T00:00:00Z", "complete": true, "images": []}).to_string();
    let lease = |content: &str| {
        json!({"metadata": {"annotations": {VOUCHED: content_hash(content)}},
            "spec": {"renewTime": format!("{:.6}", Timestamp::now())}})
    };
    let path = "/apis/coordination.k8s.io/v1/namespaces/labhands/leases/lab-images";
    api.put("/api/v1/namespaces/labhands/configmaps/lab-images", json!({"data": {"catalogue.json": catalogue}}));
    api.put(path, lease("another one"));
    until("the edited catalogue is refused", &|| held("does not have the content that the planner published"));
    api.put(path, lease(&catalogue));
    until("the catalogue is read", &|| held("the catalogue is empty"));
    // An Event also shows why nothing is removed.
    let events = "POST /apis/events.k8s.io/v1/namespaces/labhands-node/events";
    until("Events", &|| api.answered(events) >= 3);
}
