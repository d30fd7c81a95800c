//! Agent, judge and volumes with an API server that accepts connections and never answers, or that lacks a CustomResourceDefinition:
//! none hangs, each reports what is missing, and each continues once it is there.

use serde_json::json;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::scripted_api::ScriptedApi;
use testbed::wait::{self, LIMIT};

const SILENT: &str = "the Kubernetes API gave no answer within 15 s";

fn until(what: &str, daemon: &Daemon, wanted: impl Fn() -> bool) {
    let seen = wait::patiently(LIMIT, || wanted().then_some(()));
    seen.unwrap_or_else(|| panic!("{what}: not in time\n{}", daemon.log()));
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
            // Nothing listens there: a failed export is reported, too.
            ("NFS_SERVERS", "127.0.0.1:1/home"),
        ],
    );
    let judge = start("judge", &[("NFS_REPORT_NAMESPACE", "labhands-node")]);
    let volumes =
        start("volumes", &[("NFS_SERVICE", "files/server"), ("VOLUME_CLAIM", "labs/homes"), ("VOLUME_WATCH", "true")]);
    let daemons = [("agent", &agent), ("judge", &judge), ("volumes", &volumes)];

    for (name, daemon) in daemons {
        until(&format!("{name} says it"), daemon, || daemon.log().contains(SILENT));
        assert_eq!(daemon.get("/livez").unwrap().0, 200, "{name}");
    }
    api.proxy().resume();
    let report = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports/node1";
    until("a report", &agent, || api.object(report).is_some());
    until("the judge reads reports and volumes", &judge, || {
        judge.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    until("a volume", &volumes, || api.object("/api/v1/persistentvolumes/files-server-home").is_some());
    assert!(agent.metric("labhands_nfs_health_report_failures_total").is_some_and(|failures| failures >= 1.0));
}

#[test]
fn agent_and_judge_name_the_definition_that_is_missing() {
    let api = ScriptedApi::start().unwrap();
    let kind = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports";
    api.put("/api/v1/nodes/node1", json!({"spec": {}, "status": {}}));
    api.does_not_know(kind);
    let kubeconfig = api.kubeconfig().display().to_string();
    let start = |command: &str, settings: &[(&str, &str)]| {
        let common =
            [("KUBECONFIG", kubeconfig.as_str()), ("NFS_REPORT_NAMESPACE", "labhands-node"), ("NFS_INTERVAL", "1s")];
        Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &[command], &[&common, settings].concat()).unwrap()
    };
    let of_agent = [("NODE_NAME", "node1"), ("NFS_MOUNTS", "false"), ("NFS_SERVERS", "127.0.0.1:1/home")];
    let (agent, judge) = (start("run", &of_agent), start("judge", &[]));
    let missing = "the cluster has no CustomResourceDefinition nfsreports.labhands.dev of version v1alpha1; apply the crd.yaml of this release";
    for daemon in [&agent, &judge] {
        daemon.until_ready(LIMIT, |status, why| status == 503 && why.contains(missing)).unwrap();
        assert!(daemon.log().contains(missing), "{}", daemon.log());
    }
    api.knows_all();
    until("a report", &agent, || api.object(&format!("{kind}/node1")).is_some());
    judge.until_ready(LIMIT, |status, _| status == 200).unwrap();
}

#[test]
fn a_node_whose_mounts_cannot_be_listed_does_not_report_that_they_are_well() {
    let (api, folder) = (ScriptedApi::start().unwrap(), Folder::new("mounts").unwrap());
    let (kubeconfig, mountinfo) = (api.kubeconfig().display().to_string(), folder.join("mountinfo"));
    let settings = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("NODE_NAME", "node1"),
        ("NFS_REPORT_NAMESPACE", "labhands-node"),
        ("NFS_INTERVAL", "1s"),
        ("NFS_MOUNTINFO", mountinfo.to_str().unwrap()),
        ("NFS_SERVERS", "127.0.0.1:1/home"),
    ];
    let agent = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    agent.until_ready(LIMIT, |status, why| status == 503 && why.contains("cannot list the mounts")).unwrap();
    let rounds = "labhands_nfs_health_rounds_total{export=\"127.0.0.1:1/home\",verdict=\"server_down\"}";
    until("rounds of the named server", &agent, || agent.metric(rounds).is_some_and(|rounds| rounds >= 6.0));
    let report = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports/node1";
    assert_eq!(api.object(report), None);
    folder.write("mountinfo", "1 0 8:1 / / rw - ext4 a rw\n").unwrap();
    until("a report", &agent, || api.object(report).is_some());
}
