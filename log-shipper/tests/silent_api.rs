//! An API server that accepts connections and never answers: the shipper continues, reports it, and watches pods once it answers.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use testbed::daemon::Daemon;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

#[test]
fn lines_continue_with_an_api_server_that_never_answers() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("pods/default_talker_00000000-0000-0000-0000-000000000001/main");
    fs::create_dir_all(&logs).unwrap();
    let line = "2026-01-01T00:00:00.000000000Z stdout F hello\n";
    fs::write(logs.join("0.log"), line).unwrap();
    let api = ScriptedApi::start().unwrap();
    api.proxy().stall();
    let settings = [
        ("KUBECONFIG", api.kubeconfig().display().to_string()),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1".to_owned()),
        ("NODE_NAME", "node1".to_owned()),
        ("LOG_PATHS", folder.path().join("pods").display().to_string()),
        ("STATE_DIR", folder.path().join("state").display().to_string()),
        ("OUTPUT", "null".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let shipper = Daemon::start(env!("CARGO_BIN_EXE_log-shipper"), &["run"], &settings).unwrap();
    let until = |what: &str, wanted: &dyn Fn() -> bool| {
        let seen = wait::patiently(LIMIT, || wanted().then_some(()));
        seen.unwrap_or_else(|| panic!("{what}: not in time\n{}", shipper.log()));
    };
    let read = || shipper.metric("labhands_log_shipper_read_bytes_total").unwrap_or(0.0);
    until("the line", &|| read() >= line.len() as f64);
    until("the silence is said", &|| shipper.log().contains("the Kubernetes API gave no answer within 15 s"));
    assert!(shipper.metric("labhands_log_shipper_pod_watch_errors_total").is_some_and(|errors| errors >= 1.0));
    assert_eq!(shipper.get("/livez").unwrap().0, 200);
    api.proxy().resume();
    until("pods are watched", &|| api.answered("WATCH /api/v1/pods") >= 1);
    until("it is said", &|| shipper.log().contains("watching the pods of this node again"));
}
