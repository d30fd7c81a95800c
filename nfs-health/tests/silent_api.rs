//! Agent, judge and volumes with an API server that accepts connections and never answers: none hangs, each says it, and each goes
//! on once it answers again.

use std::time::Duration;

use serde_json::json;
use testbed::daemon::Daemon;
use testbed::scripted_api::ScriptedApi;
use testbed::wait;

/// The end of a test that hangs; calls are given up after 15 s, and tried again after pauses of up to a minute.
const LIMIT: Duration = Duration::from_secs(240);

const SILENT: &str = "the Kubernetes API gave no answer within 15 s";

fn until(what: &str, daemon: &Daemon, wanted: impl Fn() -> bool) {
    let seen = wait::patiently(LIMIT, || wanted().then_some(()));
    seen.unwrap_or_else(|| panic!("{what}: not in time\n{}", daemon.log()));
}

fn silences(daemon: &Daemon) -> usize {
    daemon.log().lines().filter(|line| line.contains(SILENT)).count()
}

#[test]
fn all_three_survive_an_api_server_that_never_answers() {
    let api = ScriptedApi::start().unwrap();
    let service = json!({"spec": {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "selector": {"a": "b"}}});
    api.put("/api/v1/namespaces/files/services/server", service);
    api.put("/api/v1/nodes/node1", json!({"spec": {}, "status": {}}));
    api.proxy().stall();
    let kubeconfig = api.kubeconfig().display().to_string();
    let start = |command: &str, settings: &[(&str, &str)]| {
        let all = [&[("KUBECONFIG", kubeconfig.as_str()), ("NFS_INTERVAL", "1s")], settings].concat();
        Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &[command], &all).unwrap()
    };
    let agent = start(
        "run",
        &[
            ("NODE_NAME", "node1"),
            ("NFS_REPORT_NAMESPACE", "labhands-node"),
            ("NFS_MOUNTS", "false"),
            // Nobody listens there: a report of trouble is a report.
            ("NFS_SERVERS", "127.0.0.1:1/home"),
        ],
    );
    let judge = start("judge", &[("NFS_REPORT_NAMESPACE", "labhands-node")]);
    let volumes =
        start("volumes", &[("NFS_SERVICE", "files/server"), ("VOLUME_CLAIM", "labs/homes"), ("VOLUME_WATCH", "true")]);
    let daemons = [("agent", &agent), ("judge", &judge), ("volumes", &volumes)];

    let report = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports/node1";
    let written = || api.object(report).and_then(|object| object["spec"]["seen"].as_u64());
    let looked = || api.answered("GET /api/v1/persistentvolumes");
    let settled = || api.answered("GET /api/v1/namespaces/files/services/server");
    // At first, and later on; the agent writes every two minutes only.
    for daemons in [&daemons[..], &daemons[1..]] {
        let silent: Vec<usize> = daemons.iter().map(|(_, daemon)| silences(daemon)).collect();
        let before = (written(), looked(), settled());
        api.proxy().stall();
        for ((name, daemon), before) in daemons.iter().zip(silent) {
            until(&format!("{name} says it"), daemon, || silences(daemon) > before);
            assert_eq!(daemon.get("/livez").unwrap().0, 200, "{name}");
        }
        api.proxy().resume();
        until("a report", &agent, || written() > before.0 || daemons.len() < 3);
        until("the judge looks around", &judge, || looked() > before.1);
        until("volumes are looked after", &volumes, || settled() > before.2);
    }
    assert!(agent.metric("labhands_nfs_health_report_failures_total").is_some_and(|failures| failures >= 1.0));
}
