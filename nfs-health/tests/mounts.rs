//! `nfs-health run` with mounts: hung ones on this machine, and real ones of the kernel's client in a virtual machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use testbed::daemon::{self, Daemon};
use testbed::folder::Folder;
use testbed::ganesha::{Ganesha, Setup};
use testbed::qemu::{BOOT_LIMIT, Qemu};
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_mount_that_hangs_while_the_server_serves_is_this_nodes_trouble() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("mounts").unwrap(), ganesha.address());
    let place = folder.folder("home").unwrap();
    // The node's mounts as a file: the kernel here has no NFS, so another file system stands for the mount.
    let line = format!("2 1 0:9 / {} rw - nfs4 {address}:/home rw,vers=4.1,addr={address}\n", place.display());
    let mountinfo = folder.write("mountinfo", format!("1 0 8:1 / / rw - ext4 a rw\n{line}")).unwrap();
    let settings = [("NFS_MOUNTINFO", mountinfo.to_str().unwrap()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "500ms")];
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    daemon.until_ready(LIMIT, |status, _| status == 200).unwrap();
    for (silence, words) in [(Silence::Killable, "does not answer for"), (Silence::BeyondSigkill, "can't be killed")] {
        let silent = SilentFileSystem::mount_over(&place, silence).unwrap();
        let said = daemon.until_ready(LIMIT, |status, body| status == 503 && body.contains(words)).unwrap();
        assert!(said.contains(&format!("{address}/home: client_stuck (stat): ")), "{said}");
        assert_eq!(daemon.get("/livez").unwrap().0, 200);
        let stuck = daemon.metric("labhands_nfs_health_mount_stuck_seconds").unwrap();
        assert_eq!(stuck > 0.0, silence == Silence::BeyondSigkill);
        drop(silent);
        daemon.until_ready(LIMIT, |status, _| status == 200).unwrap();
    }
    std::fs::write(&mountinfo, "1 0 8:1 / / rw - ext4 a rw\n").unwrap();
    wait::until(LIMIT, || daemon.log().contains("no longer mounted here").then_some(())).unwrap();
    assert_eq!(daemon.metric(&format!("labhands_nfs_health_healthy{{export=\"{address}/home\"}}")), None);
    let _silent = SilentFileSystem::mount_over(&place, Silence::BeyondSigkill).unwrap();
    std::fs::write(&mountinfo, line).unwrap();
    daemon.until_ready(LIMIT, |status, body| status == 503 && body.contains("can't be killed")).unwrap();
    daemon.process().signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0));
}

#[test]
fn real_mounts_are_found_with_their_server_and_each_hang_is_told_apart() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    for version in ["v3", "v4"] {
        std::fs::create_dir(ganesha.export().join(version)).unwrap();
    }
    let address = ganesha.address();
    let script = format!(
        "mkdir /mnt/v3 /mnt/v4\n\
         mount -t nfs4 -o vers=4.1,hard,proto=tcp,addr={address},clientaddr=10.0.2.15 {address}:/home/v4 /mnt/v4 || echo failed to mount\n\
         mount -t nfs -o vers=3,nolock,hard,proto=tcp,addr={address},port=2049,mountport=2050,mountproto=tcp {address}:/home/v3 /mnt/v3 || echo failed to mount\n\
         export NFS_INTERVAL=1s NFS_TIMEOUT=2s ADMIN_ADDR=0.0.0.0:8080 NODE_NAME=node-1\n\
         nfs-health run\n"
    );
    let qemu = Qemu::start(&[Path::new(env!("CARGO_BIN_EXE_nfs-health"))], &script).unwrap();
    let get = |path: &str| daemon::get(([127, 0, 0, 1], qemu.port()).into(), path);
    let ready = |limit, wanted: &dyn Fn(u16, &str) -> bool| {
        let mut last = None;
        let seen = wait::until(limit, || {
            last = get("/readyz");
            last.as_ref().filter(|(status, body)| wanted(*status, body)).map(drop)
        });
        assert!(seen.is_some(), "{last:?}\n{}", qemu.console());
    };
    let metric = |beginning: &str| -> Option<f64> {
        let (_, text) = get("/metrics")?;
        text.lines().find(|line| line.starts_with(beginning))?.rsplit(' ').next()?.parse().ok()
    };
    let both = |status, body: &str, verdict: &str| {
        status == 503
            && ["v3", "v4"].iter().all(|version| body.contains(&format!("{address}/home/{version}: {verdict}")))
    };
    ready(BOOT_LIMIT, &|status, body| status == 200 || body.contains("grace"));
    ready(LIMIT, &|status, _| status == 200);
    let operations = format!("labhands_nfs_health_mount_operations{{mount=\"/mnt/v4\",source=\"{address}:/home/v4\"}}");
    wait::until(LIMIT, || metric(&operations).filter(|operations| *operations > 10.0)).unwrap();

    ganesha.pause();
    ready(LIMIT, &|status, body| both(status, body, "server_down (null)"));
    assert_eq!(get("/livez").unwrap().0, 200);
    ganesha.resume();
    ready(LIMIT, &|status, _| status == 200);

    // Only the mounts' own connections are cut: the server answers whoever comes anew.
    let peers = || -> BTreeSet<String> {
        let listed = ganesha.inside(&["ss", "-Htn", "state", "established", "sport", "=", ":2049"]).unwrap();
        listed
            .lines()
            .filter_map(|line| line.split_whitespace().last()?.rsplit(':').next().map(str::to_owned))
            .collect()
    };
    let mut lasting = peers();
    wait::until(LIMIT, || {
        lasting = lasting.intersection(&peers()).cloned().collect();
        (lasting.len() <= 2).then_some(())
    })
    .unwrap();
    for port in &lasting {
        ganesha.inside(&["iptables", "-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]).unwrap();
    }
    ready(LIMIT, &|status, body| both(status, body, "client_stuck (stat)"));
    ganesha.inside(&["iptables", "-F", "INPUT"]).unwrap();
    ready(LIMIT, &|status, _| status == 200);

    std::fs::remove_dir(ganesha.export().join("v3")).unwrap();
    ready(LIMIT, &|status, body| status == 503 && body.contains("/home/v3: "));
}
