//! Each alert of fs-keepalive on a real Prometheus: it fires once when its cause begins, and ends with it. The rules are those
//! of `manifests/`, with shorter durations.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use testbed::command::run_args;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::prometheus::{Prometheus, rules};
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait::{self, LIMIT};

/// The longest duration of a rule.
const LONGEST: Duration = Duration::from_secs(12);

/// The alerts, each with its daemon: one volume is full, and one hangs.
const ALERTS: [(&str, &str); 3] =
    [("LabhandsKeepaliveFails", "full"), ("LabhandsKeepaliveFails", "stuck"), ("LabhandsKeepaliveStuck", "stuck")];
const GONE: (&str, &str) = ("LabhandsDaemonGone", "fs-keepalive");

fn start(volume: &Path) -> Daemon {
    let settings = [
        ("KEEPALIVE_PATHS", volume.to_str().unwrap()),
        ("KEEPALIVE_INTERVAL", "1s"),
        ("KEEPALIVE_TIMEOUT", "5s"),
        ("NODE_NAME", "node-1"),
        ("POD_NAME", "pod-1"),
    ];
    Daemon::start(env!("CARGO_BIN_EXE_fs-keepalive"), &["run"], &settings).unwrap()
}

#[test]
fn each_alert_fires_once_for_its_cause_and_ends_with_it() {
    let folder = Folder::new("alerts").unwrap();
    let [full, stuck] = ["full", "stuck"].map(|name| {
        let volume = folder.folder(name).unwrap();
        run_args("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", volume.to_str().unwrap()]).unwrap();
        volume
    });
    let mut prometheus = Prometheus::start(&rules::of_the_manifests(LONGEST).unwrap()).unwrap();
    let daemons = [start(&full), start(&stuck)];
    prometheus.scrape(&[("full", daemons[0].admin()), ("stuck", daemons[1].admin())]).unwrap();
    prometheus.until_data("sum(labhands_fs_keepalive_good) == 2").unwrap();

    let filler = full.join("filler");
    // A round gives back what it had taken at that moment, so once is not enough.
    let fill = || {
        let mut file = std::fs::File::options().append(true).create(true).open(&filler).unwrap();
        assert!(file.write_all(&vec![1; 2 << 20]).is_err());
        daemons[0].get("/volumes").filter(|(status, _)| *status == 503)
    };
    wait::until(LIMIT, fill).unwrap();
    let silent = SilentFileSystem::mount_over(&stuck, Silence::BeyondSigkill).unwrap();
    prometheus.until_fired(&ALERTS, LIMIT).unwrap();
    std::fs::remove_file(&filler).unwrap();
    drop(silent);
    prometheus.until_over(&ALERTS, LIMIT).unwrap();

    drop(daemons);
    prometheus.until_fired(&[GONE], LIMIT).unwrap();
    let daemon = start(&full);
    prometheus.scrape(&[("full", daemon.admin())]).unwrap();
    prometheus.until_over(&[&ALERTS[..], &[GONE]].concat(), LIMIT).unwrap();
}
