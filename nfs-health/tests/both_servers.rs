//! `nfs-health` against both common NFS servers, nfs-ganesha and that of the Linux kernel, in each version and each
//! state. The verdicts are written into docs/nfs.md.
//!
//! `NFS_MATRIX=write` rewrites the table; `NFS_FAULT_ROUNDS=1000` runs that many rounds of random faults.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "both_servers/check.rs"]
mod check;
#[path = "both_servers/faults.rs"]
mod faults;
#[path = "both_servers/matrix.rs"]
mod matrix;

use std::path::Path;

use check::{As, check};
use matrix::{Matrix, keep};
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::knfsd::Knfsd;
use testbed::wait::{self, LIMIT};

/// An option of these tests, from the environment.
fn asked(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

fn of_ganesha(matrix: &mut Matrix) -> Ganesha {
    let mut ganesha = Ganesha::start(Setup { grace: 120, ..Setup::default() }).unwrap();
    let home = format!("{}/home", ganesha.address());
    let mut note = |name, expected: &[&str]| matrix.note(name, "ganesha", &home, expected);
    note("healthy", &["ok compound"]);
    ganesha.pause();
    note("stopped: it accepts connections but does not answer", &["server_down null"]);
    ganesha.resume();
    ganesha.firewall(Firewall::Drop).unwrap();
    note("a firewall drops", &["unreachable connect"]);
    ganesha.firewall(Firewall::Reject).unwrap();
    note("a firewall rejects", &["server_down connect"]);
    ganesha.firewall(Firewall::Open).unwrap();
    ganesha.kill();
    note("killed", &["server_down connect"]);
    ganesha.restart(|_| ()).unwrap();
    std::fs::write(ganesha.export().join("hello"), "there").unwrap();
    testbed::command::run_args("nfs-cat", &[&format!("nfs://{}/home/hello?version=4", ganesha.address())]).unwrap();
    ganesha.restart(|_| ()).unwrap();
    // Versions 3 and 4.0 do not report it.
    note("restarted, while clients may reclaim", &["grace session", "grace compound", "ok compound"]);
    // Another server, on which no client has anything to reclaim.
    drop(ganesha);
    let mut ganesha = Ganesha::start(Setup { exported: false, ..Setup::default() }).unwrap();
    let home = format!("{}/home", ganesha.address());
    let mut note = |name, expected: &[&str]| matrix.note(name, "ganesha", &home, expected);
    note("the export is gone", &["denied compound", "denied mountd"]);
    ganesha.restart(|setup| (setup.exported, setup.writable) = (true, false)).unwrap();
    note("read-only", &["readonly compound"]);
    ganesha.restart(|setup| (setup.writable, setup.squash) = (true, "All_Squash")).unwrap();
    note("squashed (`all_squash`)", &["ok compound"]);
    ganesha.restart(|setup| (setup.squash, setup.security) = ("No_Root_Squash", "krb5")).unwrap();
    note("Kerberos only", &["denied compound", "denied mountd"]);
    ganesha.restart(|setup| (setup.security, setup.privileged) = ("sys", true)).unwrap();
    note("ports below 1024 only (Linux's default), and the prober has one", &["ok compound"]);
    let denied = ["denied compound", "denied mountd"];
    let name = "ports below 1024 only, and the prober has none";
    matrix.note_as(name, "ganesha", &home, &denied, As::Nobody, &mut || ());
    ganesha.restart(|setup| setup.privileged = false).unwrap();
    let full = Ganesha::start(Setup { size: Some("2m"), ..Setup::default() }).unwrap();
    let filler = full.export().join("filler");
    full.inside(&["sh", "-c", &format!("! dd if=/dev/zero of={} bs=64k 2>/dev/null", filler.display())]).unwrap();
    matrix.note("full", "ganesha", &format!("{}/home", full.address()), &["full compound"]);
    ganesha
}

fn of_knfsd(matrix: &mut Matrix, knfsd: &mut Knfsd, ganesha: &Ganesha) {
    let place = |export: &str| format!("{}/srv/{export}", knfsd.address());
    let home = place("home");
    matrix.note("healthy", "knfsd", &home, &["ok compound"]);
    knfsd.pause_exports().unwrap();
    let stopped = "stopped: it accepts connections but does not answer";
    matrix.note(stopped, "knfsd", &home, &["server_down compound", "server_down mountd", "server_down session"]);
    knfsd.resume_exports().unwrap();
    let well = || Some(check(&home, "3", "60s", As::Root).verdict).filter(|verdict| verdict.starts_with("ok"));
    wait::until(LIMIT, well).unwrap();
    knfsd.firewall(2049, Firewall::Drop).unwrap();
    matrix.note("a firewall drops", "knfsd", &home, &["unreachable connect"]);
    knfsd.firewall(2049, Firewall::Reject).unwrap();
    matrix.note("a firewall rejects", "knfsd", &home, &["server_down connect"]);
    // The error names what else version 3 needs.
    knfsd.firewall(2049, Firewall::Open).unwrap();
    knfsd.run("kill $(pidof rpc.mountd); while pidof rpc.mountd; do sleep 0.1; done").unwrap();
    let result = check(&home, "3", "60s", As::Root);
    assert!(
        result.verdict == "server_down portmapper" && result.sentence.contains("not registered"),
        "{}",
        result.sentence
    );
    knfsd.run("rpc.mountd -p 20048").unwrap();
    for (port, phase) in [(20048, "server_down mountd"), (111, "server_down portmapper")] {
        knfsd.firewall(port, Firewall::Reject).unwrap();
        let result = check(&home, "3", "60s", As::Root);
        assert!(result.verdict == phase && result.sentence.contains("NFS itself answers"), "{}", result.sentence);
        knfsd.firewall(port, Firewall::Drop).unwrap();
        assert_eq!(check(&home, "3", "10s", As::Root).verdict, phase);
    }
    knfsd.firewall(111, Firewall::Open).unwrap();
    knfsd.stop().unwrap();
    matrix.note("killed", "knfsd", &home, &["server_down connect"]);
    let mut again = || {
        knfsd.stop().unwrap();
        knfsd.start_again().unwrap();
    };
    let expected = ["grace session", "grace compound", "ok compound"];
    matrix.note_as("restarted, while clients may reclaim", "knfsd", &home, &expected, As::Root, &mut again);
    knfsd.end_grace().unwrap();
    knfsd.export("/srv/home", None).unwrap();
    matrix.note("the export is gone", "knfsd", &home, &["denied compound", "denied mountd"]);
    knfsd.export("/srv/home", Some("rw,no_root_squash,insecure,no_subtree_check,fsid=11")).unwrap();
    matrix.note("read-only", "knfsd", &place("readonly"), &["readonly compound"]);
    matrix.note("squashed (`all_squash`)", "knfsd", &place("squashed"), &["ok compound"]);
    matrix.note("Kerberos only", "knfsd", &place("kerberos"), &["denied compound", "denied mountd"]);
    let (name, nobody) = (
        "ports below 1024 only (Linux's default), and the prober has one",
        "ports below 1024 only, and the prober has none",
    );
    matrix.note(name, "knfsd", &place("default"), &["ok compound"]);
    let denied = ["denied compound", "denied mountd"];
    matrix.note_as(nobody, "knfsd", &place("default"), &denied, As::Nobody, &mut || ());
    knfsd.run("! dd if=/dev/zero of=/srv/full/filler bs=64k 2>/dev/null").unwrap();
    matrix.note("full", "knfsd", &place("full"), &["full compound"]);
    let fill = |folder: &str| {
        let line = format!("! su writer -c 'dd if=/dev/zero of=/srv/quota/{folder}filler bs=64k count=64 conv=fsync'");
        knfsd.run(&line).unwrap();
    };
    fill("");
    matrix.note("over the quota of a user (fs-keepalive notices)", "knfsd", &place("quota"), &["ok compound"]);
    knfsd.run("rm /srv/quota/filler").unwrap();
    fill("project/");
    matrix.note("over the quota of a folder (XFS project)", "knfsd", &place("quota/project"), &["full compound"]);
    let elsewhere = format!("ro,insecure,no_subtree_check,fsid=16,refer=/home@{}", ganesha.address());
    knfsd.export("/srv/referral", Some(&elsewhere)).unwrap();
    // Version 3 has no referrals, so the path is an empty folder.
    let expected = ["ok compound", "readonly compound", "denied mountd"];
    matrix.note("a referral to a server that is healthy", "knfsd", &place("referral"), &expected);
    ganesha.refer("referral", &format!("{}:/srv/home", knfsd.address())).unwrap();
    let referral = format!("{}/home/referral", ganesha.address());
    matrix.note("a referral to a server that is healthy", "ganesha", &referral, &expected);
    let sentence = check(&referral, "4.1", "60s", As::Root).sentence;
    assert!(sentence.contains(&format!("the server refers to {}", place("home"))), "{sentence}");
}

#[test]
fn each_state_of_both_servers_has_its_verdict_in_each_version() {
    let mut matrix = Matrix::default();
    let ganesha = of_ganesha(&mut matrix);
    let programs =
        [env!("CARGO_BIN_EXE_nfs-health"), "/usr/bin/ganesha.nfsd", "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so"];
    let mut knfsd = Knfsd::start(&programs.map(Path::new)).unwrap();
    of_knfsd(&mut matrix, &mut knfsd, &ganesha);
    of_paths(&knfsd, &ganesha);
    of_the_node(&knfsd);
    of_quotas(&mut matrix, &knfsd);
    keep(&matrix.table());
}

/// Paths, refusals and their messages.
fn of_paths(knfsd: &Knfsd, ganesha: &Ganesha) {
    let place = |export: &str| format!("{}/srv/{export}", knfsd.address());
    let expect = |export: &str, version: &str, wanted: &str, words: &str| {
        let result = check(&place(export), version, "60s", As::Root);
        assert!(
            result.verdict == wanted && result.sentence.contains(words),
            "{export}: {} {}",
            result.verdict,
            result.sentence
        );
    };
    expect("home/link", "4.2", "ok compound", "through symbolic links to /srv/home/sub");
    expect("home/link/.", "4.0", "ok compound", "through symbolic links to /srv/home/sub");
    expect("home/closed/hub", "4.2", "ok compound", "as root, because other users may not access it");
    expect("home/closed/hub", "3", "ok compound", "");
    expect("nowhere", "4.2", "denied compound", "there is no such export");
    expect("kerberos", "4.2", "denied compound", "the server works, but requires Kerberos (sec=krb5)");
    expect("kerberos", "3", "denied mountd", "the server works, but requires Kerberos (sec=krb5)");
    expect("referral", "4.1", "ok compound", &format!("the server refers to {}/home", ganesha.address()));
    let nobody = check(&place("default"), "4.2", "60s", As::Nobody);
    assert!(nobody.sentence.contains("NFS4ERR_PERM") && nobody.sentence.contains("`insecure`"), "{}", nobody.sentence);
    knfsd.run("mkdir -p -m 0700 /srv/rootsquash/closed/hub && chmod 0700 /srv/rootsquash/closed").unwrap();
    expect("rootsquash/closed/hub", "4.2", "denied compound", "may enter /srv/rootsquash/closed");
    knfsd.export("/srv/referral", Some("ro,insecure,no_subtree_check,fsid=16,refer=/home@127.0.0.9")).unwrap();
    let lost = check(&place("referral"), "4.2", "60s", As::Root);
    assert!(
        lost.verdict == "server_down connect" && lost.sentence.contains("refers to 127.0.0.9/home"),
        "{}",
        lost.sentence
    );
}

/// nfs-ganesha in the virtual machine of knfsd, because this machine's kernel may have no quotas. They are used up already.
fn of_quotas(matrix: &mut Matrix, knfsd: &Knfsd) {
    let export = |number: u8, folder: &str, pseudo: &str| {
        format!(
            "EXPORT {{ Export_Id = {number}; Path = {folder}; Pseudo = {pseudo}; Access_Type = RW; SecType = sys, none; \
             Squash = All_Squash; Anonymous_uid = 5001; Anonymous_gid = 5001; FSAL {{ Name = VFS; }} }}"
        )
    };
    let configuration = [
        "NFS_CORE_PARAM { MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; \
         Protocols = 3, 4; mount_path_pseudo = true; }"
            .to_owned(),
        "NFSv4 { Graceless = true; UseGetpwnam = true; RecoveryBackend = fs; RecoveryRoot = /tmp; }".to_owned(),
        export(1, "/srv/quota", "/quota"),
        export(2, "/srv/quota/project", "/project"),
    ];
    let folder = "/usr/lib/x86_64-linux-gnu/ganesha";
    knfsd.run(&format!("rpc.nfsd 0; killall rpc.mountd; mkdir -p {folder}; mv /bin/libfsalvfs.so {folder}")).unwrap();
    knfsd.run(&format!("echo '{}' > /etc/ganesha.conf", configuration.join(" "))).unwrap();
    knfsd
        .background("ganesha.nfsd -F -f /etc/ganesha.conf -p /tmp/ganesha.pid -L /tmp/ganesha.log", "/tmp/ganesha.out")
        .unwrap();
    let place = |export: &str| format!("{}/{export}", knfsd.address());
    let serves = || check(&place("quota"), "3", "10s", As::Root).verdict.starts_with("ok").then_some(());
    let log = || knfsd.run("cat /tmp/ganesha.out /tmp/ganesha.log").unwrap_or_default();
    wait::patiently(LIMIT, serves).unwrap_or_else(|| panic!("{}", log()));
    matrix.note("over the quota of a user (fs-keepalive notices)", "ganesha", &place("quota"), &["ok compound"]);
    // It reports the free space of the whole file system.
    matrix.note("over the quota of a folder (XFS project)", "ganesha", &place("project"), &["ok compound"]);
}

/// The mounts inside the machine, of its own server.
fn of_the_node(knfsd: &Knfsd) {
    let mount = |export: &str, point: &str| {
        let options = "vers=4.2,hard,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1";
        knfsd.run(&format!("mkdir -p {point}; mount -t nfs4 -o {options} 127.0.0.1:{export} {point}")).unwrap();
    };
    let verdict = |command: &str, words: &str| {
        let printed = knfsd.run(&format!("NFS_TIMEOUT=20s {command} check")).unwrap();
        assert!(printed.lines().last().unwrap().contains(words), "{command}: {printed}");
        printed
    };
    mount("/srv/default", "/mnt/default");
    verdict("nfs-health", "verdict             ok");
    let printed = verdict(
        "unshare -n nfs-health",
        "the mounts here answer, but this process cannot probe the server over the network (connect: ",
    );
    assert!(printed.contains("127.0.0.1/srv/default"), "{printed}");
    // A mount that covers another one is not mistaken for it.
    knfsd
        .run("mount -t tmpfs -o size=64k tmpfs /mnt/default && ! dd if=/dev/zero of=/mnt/default/x 2>/dev/null")
        .unwrap();
    let printed = verdict("nfs-health", "verdict             ok");
    assert!(printed.contains("the path leads to another file system"), "{printed}");
    knfsd.run("umount /mnt/default && umount /mnt/default").unwrap();
}
