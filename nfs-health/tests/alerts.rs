//! Each alert of nfs-health on a real Prometheus: it fires once when its cause begins, and ends with it. The rules are those of
//! `manifests/`, with shorter durations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::ganesha::{Ganesha, Setup};
use testbed::prometheus::{Prometheus, rules};
use testbed::scripted_api::ScriptedApi;
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait::LIMIT;

/// The longest duration of a rule. Pauses after a failed report grow to eight seconds within it.
const LONGEST: Duration = Duration::from_secs(12);

/// The statistics of the kernel's NFS client, which this kernel may not have.
const STATISTICS: &str =
    "device a:/home mounted on /home with fstype nfs4\nper-op statistics\nREAD: 7 9 0 700 700 0 3 3\n";

const REPORTS: &str = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports";
const CLAIM: &str = "/api/v1/namespaces/labs/persistentvolumeclaims/homes";

/// The alerts, each with its daemon or its claim: when the disk is nearly full,
const FULL: [(&str, &str); 3] =
    [("LabhandsHomesFillUp", "agent"), ("LabhandsHomesFillUp", "judge"), ("LabhandsHomesFillUp", "mounts")];
/// when the server and a mount hang, the API server refuses what is written, and a claim is bound elsewhere,
const TROUBLE: [(&str, &str); 8] = [
    ("LabhandsHomesDown", "agent"),
    ("LabhandsHomesDown", "judge"),
    ("LabhandsHomesDown", "mounts"),
    ("LabhandsHomesTrouble", "judge"),
    ("LabhandsMountStuck", "mounts"),
    ("LabhandsNfsReportsFail", "mounts"),
    ("LabhandsVolumeTrouble", "labs/homes"),
    ("LabhandsEventsLost", "volumes"),
];
/// and when no daemon is left.
const GONE: [(&str, &str); 1] = [("LabhandsDaemonGone", "nfs-health")];

struct Bed {
    api: ScriptedApi,
    /// Of `nfs-health volumes`: the judge would watch its volumes, too.
    of_volumes: ScriptedApi,
    daemons: BTreeMap<&'static str, Daemon>,
    prometheus: Prometheus,
}

#[test]
fn each_alert_fires_once_for_its_cause_and_ends_with_it() {
    let mut ganesha = Ganesha::start(Setup { size: Some("64m"), ..Setup::default() }).unwrap();
    let export = format!("{}/home", ganesha.address());
    let folder = Folder::new("alerts").unwrap();
    let place = folder.folder("home").unwrap();
    let address = ganesha.address();
    let list = || {
        let mount = exports::mount(&place, address);
        folder.write("mountinfo", format!("1 0 8:1 / / rw - ext4 a rw\n{mount}")).unwrap().display().to_string()
    };
    let mut bed = Bed::start();
    bed.run("agent", "run", &[("NFS_SERVERS", &export), ("NFS_MOUNTS", "no"), ("NODE_NAME", "node1")]);
    folder.write("mountstats", STATISTICS).unwrap();
    // Its reports go to a namespace of their own, which the API server can forget.
    let mounts = [("NFS_MOUNTINFO", &*list()), ("NFS_REPORT_NAMESPACE", "elsewhere"), ("NODE_NAME", "node2")];
    bed.run("mounts", "run", &mounts);
    bed.run("judge", "judge", &[("NFS_SERVERS", &export)]);
    let volumes = [("NFS_SERVICE", "files/server"), ("VOLUME_CLAIM", "labs/homes"), ("VOLUME_WATCH", "true")];
    bed.run("volumes", "volumes", &volumes);
    for name in ["agent", "mounts"] {
        exports::until(&bed.daemons[name], LIMIT, exports::all_healthy);
    }
    bed.prometheus.until_data("sum by (instance) (labhands_nfs_health_mount_retransmissions)").unwrap();

    // ---- the disk is nearly full ----
    let filler = ganesha.export().join("filler").display().to_string();
    ganesha.inside(&["fallocate", "-l", "60m", &filler]).unwrap();
    bed.prometheus.until_fired(&FULL, LIMIT).unwrap();
    ganesha.inside(&["rm", &filler]).unwrap();

    // ---- the server hangs, a mount hangs, and the API server refuses ----
    ganesha.pause();
    let silent = SilentFileSystem::mount_over(&place, Silence::BeyondSigkill).unwrap();
    list();
    bed.api.does_not_know(&REPORTS.replace("labhands-node", "elsewhere"));
    bed.of_volumes.does_not_know("/apis/events.k8s.io");
    bed.of_volumes
        .put(CLAIM, json!({"spec": {"volumeName": "other", "storageClassName": ""}, "status": {"phase": "Pending"}}));
    bed.prometheus.until_fired(&TROUBLE, LIMIT).unwrap();
    ganesha.resume();
    drop(silent);
    list();
    bed.api.knows_all();
    bed.of_volumes.knows_all();
    bed.of_volumes.delete(CLAIM);
    let all = [&FULL[..], &TROUBLE].concat();
    bed.prometheus.until_over(&all, LIMIT).unwrap();

    // ---- no daemon is left ----
    bed.daemons.clear();
    bed.prometheus.until_fired(&GONE, LIMIT).unwrap();
    bed.run("agent", "run", &[("NFS_SERVERS", &export), ("NFS_MOUNTS", "no"), ("NODE_NAME", "node1")]);
    bed.prometheus.until_over(&[&all[..], &GONE].concat(), LIMIT).unwrap();
}

impl Bed {
    fn start() -> Self {
        let [api, of_volumes] = std::array::from_fn(|_| ScriptedApi::start().unwrap());
        let service = json!({"spec": {"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "selector": {"a": "b"}}});
        of_volumes.put("/api/v1/namespaces/files/services/server", service);
        api.put("/api/v1/nodes/node1", json!({"spec": {}, "status": {}}));
        let prometheus = Prometheus::start(&rules::of_the_manifests(LONGEST).unwrap()).unwrap();
        Self { api, of_volumes, daemons: BTreeMap::new(), prometheus }
    }

    /// Starts a daemon that is scraped from now on.
    fn run(&mut self, name: &'static str, command: &str, settings: &[(&str, &str)]) {
        let api = if name == "volumes" { &self.of_volumes } else { &self.api };
        let kubeconfig = api.kubeconfig().display().to_string();
        let common = [("KUBECONFIG", kubeconfig.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "3s")];
        let reports = ("NFS_REPORT_NAMESPACE", "labhands-node");
        let mut all = [&common[..], settings].concat();
        if !settings.iter().any(|(name, _)| *name == reports.0) {
            all.push(reports);
        }
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &[command], &all).unwrap();
        self.prometheus.scrape(&[(name, daemon.admin())]).unwrap();
        self.daemons.insert(name, daemon);
    }
}
