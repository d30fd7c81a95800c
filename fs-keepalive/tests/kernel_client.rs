//! The daemon on real NFS mounts of the kernel's client, versions 3 and 4.1, in a virtual machine; the server is outside.

use std::path::Path;

use fs_keepalive::record::Record;
use testbed::daemon;
use testbed::ganesha::{Ganesha, Setup};
use testbed::qemu::Qemu;
use testbed::wait::{self, LIMIT};

#[test]
fn a_hung_server_is_reported_while_it_hangs_and_the_daemon_recovers() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let mount = ganesha.mount_both_versions().unwrap();
    let script = format!(
        "{mount}\
         export KEEPALIVE_PATHS=/mnt/v3,/mnt/v4 KEEPALIVE_INTERVAL=1s KEEPALIVE_TIMEOUT=5s ADMIN_ADDR=0.0.0.0:8080\n\
         export NODE_NAME=node-1 POD_NAME=pod-1\n\
         (while sleep 2; do grep -E ' (READ|WRITE):' /proc/self/mountstats; done) &\n\
         fs-keepalive run\n"
    );
    let qemu = Qemu::start(&[Path::new(env!("CARGO_BIN_EXE_fs-keepalive"))], &script).unwrap();
    let volumes = |limit, wanted: &dyn Fn(u16, &str) -> bool| {
        let mut last = None;
        let seen = wait::until(limit, || {
            last = daemon::get(([127, 0, 0, 1], qemu.port()).into(), "/volumes");
            last.as_ref().filter(|(status, body)| wanted(*status, body)).map(drop)
        });
        assert!(seen.is_some(), "{last:?}\n{}", qemu.console());
    };
    volumes(LIMIT, &|status, _| status == 200);
    for version in ["v3", "v4"] {
        let path = ganesha.export().join(version).join(".keepalive.d/node-1_pod-1");
        // A round in between may be writing it.
        let record = wait::until(LIMIT, || Record::decode(&std::fs::read(&path).ok()?).ok());
        assert_eq!(record.unwrap().node, "node-1");
    }
    // Each round reads from the server: results from the page cache would not show here.
    let reads_of_both = || {
        let console = qemu.console();
        let calls = |operation: &str| -> Vec<u64> {
            let of = |line: &str| line.trim().strip_prefix(operation)?.split_whitespace().next()?.parse().ok();
            console.lines().filter_map(of).filter(|calls| *calls >= 3).collect()
        };
        (calls("READ:").len() >= 2 && calls("WRITE:").len() >= 2).then_some(())
    };
    assert!(wait::until(LIMIT, reads_of_both).is_some(), "{}", qemu.console());

    ganesha.pause();
    volumes(LIMIT, &|status, body| status == 503 && body.matches("\"hung\"").count() == 2);
    volumes(LIMIT, &|_, body| body.matches("no answer for").count() == 2);
    for page in ["/livez", "/readyz"] {
        assert_eq!(daemon::get(([127, 0, 0, 1], qemu.port()).into(), page).unwrap().0, 200, "{page}");
    }
    ganesha.resume();
    volumes(LIMIT, &|status, _| status == 200);

    ganesha.restart(|_| ()).unwrap();
    volumes(LIMIT, &|status, _| status == 200);

    ganesha.restart(|setup| setup.writable = false).unwrap();
    volumes(LIMIT, &|status, body| status == 503 && body.matches("read-only").count() == 2);
    ganesha.restart(|setup| setup.writable = true).unwrap();
    volumes(LIMIT, &|status, _| status == 200);

    std::fs::remove_dir_all(ganesha.export().join("v4")).unwrap();
    volumes(LIMIT, &|status, body| status == 503 && body.matches("stale file handle").count() == 1);
}
