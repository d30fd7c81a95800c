//! `nfs-health` against a real NFS server: each version, and each way in which it fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;

use std::process::{Command, Output};

use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::wait::LIMIT;

fn check(settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfs-health"));
    command.arg("check").env("NFS_MOUNTS", "no").env("NFS_TIMEOUT", "60s").envs(settings.iter().copied());
    command.output().unwrap()
}

/// The verdict of a check: kind, phase and sentence as printed.
fn verdict(settings: &[(&str, &str)]) -> String {
    let output = check(settings);
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let words: Vec<&str> = line.split_whitespace().skip(2).collect();
    let healthy = matches!(words[0], "ok" | "grace");
    assert_eq!(output.status.code(), Some(if healthy { 0 } else { 1 }), "{text}");
    words.join(" ")
}

fn assert_verdict(ganesha: &Ganesha, version: &str, expected: &str) {
    let printed = verdict(&[("NFS_SERVERS", &home(ganesha)), ("NFS_VERSION", version)]);
    assert!(printed.starts_with(expected), "version {version}: {printed}");
}

/// As [`assert_verdict`], for a server that does not answer.
fn assert_verdict_in_time(ganesha: &Ganesha, expected: &str) {
    let printed = verdict(&[("NFS_SERVERS", &home(ganesha)), ("NFS_TIMEOUT", "5s")]);
    assert!(printed.starts_with(expected), "{printed}");
}

fn home(ganesha: &Ganesha) -> String {
    format!("{}/home", ganesha.address())
}

#[test]
fn a_healthy_server_is_ok_in_every_version_over_ipv4_and_ipv6() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    for version in ["3", "4.0", "4.1", "4.2", "auto"] {
        assert_verdict(&ganesha, version, "ok");
    }
    let v6 = format!("[{}]/home", ganesha.address_v6());
    let output = check(&[("NFS_SERVERS", &v6)]);
    let text = String::from_utf8(output.stdout).unwrap();
    for seen in ["4.0, 4.1, 4.2", "lease 5 s", "epoch ", "iB left", "nfs v4 session"] {
        assert!(text.contains(seen), "{seen}: {text}");
    }
    for version in ["3", "4.2"] {
        let printed = verdict(&[("NFS_SERVERS", &v6), ("NFS_VERSION", version)]);
        assert!(printed.starts_with("ok"), "version {version} over IPv6: {printed}");
    }
    let v3 = check(&[("NFS_SERVERS", &home(&ganesha)), ("NFS_VERSION", "3")]);
    assert!(String::from_utf8(v3.stdout).unwrap().contains("mountd at port 2050"));
    // The export's tag on the server, a name without a slash.
    let tag = format!("{}:homes", ganesha.address());
    assert!(verdict(&[("NFS_SERVERS", &tag), ("NFS_VERSION", "3")]).starts_with("ok compound"));
    assert_eq!(ganesha.export().read_dir().unwrap().count(), 0, "a prober leaves nothing on the export");
}

#[test]
fn refusals_of_the_server_are_distinguished() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let nowhere = format!("{}/nowhere", ganesha.address());
    assert!(verdict(&[("NFS_SERVERS", &nowhere)]).starts_with("denied compound: there is no such export"));
    let wrong_port = format!("{}:2052/home", ganesha.address());
    assert!(verdict(&[("NFS_SERVERS", &wrong_port)]).starts_with("server_down connect: the connection is refused"));
    let mountd = format!("{}:2050/home", ganesha.address());
    assert!(verdict(&[("NFS_SERVERS", &mountd)]).starts_with("protocol_error null:"));
    ganesha.restart(|setup| setup.writable = false).unwrap();
    for version in ["3", "4.0", "4.1", "4.2"] {
        assert_verdict(&ganesha, version, "readonly compound");
    }
    ganesha.restart(|setup| setup.minor_versions = "0").unwrap();
    assert_verdict(&ganesha, "4.2", "protocol_error compound: version 4.2 is required, but the server supports 4.0");
    assert_verdict(&ganesha, "auto", "readonly compound");
    ganesha.restart(|setup| setup.versions = "3").unwrap();
    assert_verdict(&ganesha, "4.1", "protocol_error null: the server has versions 3 to 3");
}

#[test]
fn an_export_that_is_removed_is_denied_in_every_version() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let servers = home(&ganesha);
    let versions = ["3", "4.0", "4.1", "4.2"];
    let watches = versions.map(|version| {
        let settings =
            [("NFS_SERVERS", servers.as_str()), ("NFS_VERSION", version), ("NFS_INTERVAL", "1s"), ("NFS_MOUNTS", "no")];
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
        exports::until(&daemon, LIMIT, exports::all_healthy);
        daemon
    });
    // On a server that keeps running,
    ganesha.reload(|setup| setup.exported = false).unwrap();
    for (watch, version) in watches.iter().zip(versions) {
        // Version 3 asks for a path, and this server only says that an existing one may not be mounted.
        let words =
            if version == "3" { "denied (mountd): ACCES" } else { "denied (compound): there is no such export" };
        exports::until(watch, LIMIT, |verdicts| verdicts[0].contains(words));
    }
    ganesha.reload(|setup| setup.exported = true).unwrap();
    for watch in &watches {
        exports::until(watch, LIMIT, exports::all_healthy);
    }
    // and on one that is started without it.
    ganesha.restart(|setup| setup.exported = false).unwrap();
    for version in versions {
        let phase = if version == "3" { "mountd" } else { "compound" };
        assert_verdict(&ganesha, version, &format!("denied {phase}"));
    }
}

#[test]
fn a_full_export_is_full() {
    let ganesha = Ganesha::start(Setup { size: Some("2m"), ..Setup::default() }).unwrap();
    for version in ["3", "4.2"] {
        assert_verdict(&ganesha, version, "ok");
    }
    let filler = ganesha.export().join("filler");
    ganesha.inside(&["sh", "-c", &format!("! dd if=/dev/zero of={} bs=64k 2>/dev/null", filler.display())]).unwrap();
    for version in ["3", "4.0", "4.2"] {
        assert_verdict(&ganesha, version, "full compound");
    }
}

#[test]
fn a_firewall_that_drops_and_one_that_rejects_and_a_stopped_server() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    ganesha.firewall(Firewall::Drop).unwrap();
    assert_verdict_in_time(&ganesha, "unreachable connect: no connection: no answer in time");
    ganesha.firewall(Firewall::Reject).unwrap();
    assert_verdict(&ganesha, "auto", "server_down connect: the connection is refused");
    ganesha.firewall(Firewall::Open).unwrap();
    ganesha.pause();
    assert_verdict_in_time(&ganesha, "server_down null: it accepts connections but does not respond");
    ganesha.resume();
    assert_verdict(&ganesha, "auto", "ok");
}

#[test]
fn with_the_server_behind_an_address_a_dead_path_is_distinguished_from_a_dead_server() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    // Nothing listens at the address in front.
    let (front, behind) = (format!("{}:2099", ganesha.address()), format!("{}", ganesha.address()));
    let (servers, backends) = (format!("{front}/home"), format!("{front}={behind}"));
    let settings = [("NFS_SERVERS", servers.as_str()), ("NFS_BACKENDS", backends.as_str())];
    let printed = verdict(&settings);
    assert!(printed.starts_with("service_path_broken connect: the server itself works"), "{printed}");
    ganesha.kill();
    assert!(verdict(&settings).starts_with("server_down connect"));
}

#[test]
fn the_watch_sees_a_stop_a_restart_and_grace_and_recovers() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let servers = home(&ganesha);
    let daemon = Daemon::start(
        env!("CARGO_BIN_EXE_nfs-health"),
        &["run"],
        &[("NFS_SERVERS", &servers), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "5s"), ("NFS_MOUNTS", "no")],
    )
    .unwrap();
    exports::until(&daemon, LIMIT, exports::all_healthy);
    ganesha.pause();
    let hangs = |verdicts: &[String]| verdicts[0].contains("server_down (null): it accepts connections");
    exports::until(&daemon, LIMIT, hangs);
    // The daemon is ready, whatever the state of the server.
    assert_eq!(["/livez", "/readyz"].map(|page| daemon.get(page).unwrap().0), [200, 200]);
    let down = format!("labhands_nfs_health_verdict{{export=\"{servers}\",verdict=\"server_down\"}}");
    assert_eq!(daemon.metric(&down), Some(1.0));
    ganesha.resume();
    exports::until(&daemon, LIMIT, exports::all_healthy);
    assert_eq!(daemon.metric(&down), Some(0.0));
    ganesha.restart(|_| ()).unwrap();
    let restarts = format!("labhands_nfs_health_server_restarts_total{{export=\"{servers}\"}}");
    testbed::wait::until(LIMIT, || daemon.metric(&restarts).filter(|count| *count == 1.0)).unwrap();
    exports::until(&daemon, LIMIT, exports::all_healthy);
    assert!(daemon.log().contains("the server was restarted"));
}

#[test]
fn a_restarted_server_that_waits_for_its_clients_is_in_grace() {
    let mut ganesha = Ganesha::start(Setup { grace: 120, ..Setup::default() }).unwrap();
    // A client that disappears without closing its session, for which the next server waits.
    std::fs::write(ganesha.export().join("hello"), "there").unwrap();
    testbed::command::run_args("nfs-cat", &[&format!("nfs://{}/home/hello?version=4", ganesha.address())]).unwrap();
    ganesha.restart(|_| ()).unwrap();
    assert_verdict(&ganesha, "4.1", "grace session");
}

#[test]
fn a_server_that_wants_what_the_mounts_here_have_is_well_and_one_that_wants_more_is_not() {
    let ganesha = Ganesha::start(Setup { security: "krb5", ..Setup::default() }).unwrap();
    let (folder, address) = (Folder::new("kerberos").unwrap(), ganesha.address());
    // An automount is not touched, so the server alone is looked at.
    let check = |options: &str| {
        let autofs = "1 0 8:1 / / rw - ext4 a rw\n2 1 0:40 / /net rw - autofs map rw,timeout=300\n";
        let mount = format!("3 2 0:41 / /net/home rw - nfs4 {address}:/home rw,addr={address}{options}\n");
        let mountinfo = folder.write("mountinfo", format!("{autofs}{mount}")).unwrap();
        verdict(&[("NFS_MOUNTS", "yes"), ("NFS_MOUNTINFO", mountinfo.to_str().unwrap())])
    };
    for security in ["krb5", "krb5i", "krb5p"] {
        let printed = check(&format!(",vers=4.2,sec={security}"));
        assert!(printed.starts_with("ok ") && printed.contains("requires Kerberos"), "{printed}");
    }
    for options in [",vers=4.2,sec=sys", ",vers=4.2"] {
        assert!(check(options).starts_with("denied "), "{options}");
    }
}

#[test]
fn mounts_that_are_not_checked_are_said() {
    let folder = Folder::new("left").unwrap();
    let lines = "1 0 8:1 / / rw - ext4 a rw\nnonsense\n3 1 0:41 / /net/home rw - nfs4 nas:/home rw,addr=127.0.0.9\n";
    let mountinfo = folder.write("mountinfo", lines).unwrap();
    let mounts = [
        ("NFS_MOUNTS", "yes"),
        ("NFS_MOUNTINFO", mountinfo.to_str().unwrap()),
        ("NFS_MOUNTS_EXCLUDED", "/net"),
        ("NFS_SERVERS", "127.0.0.1:1/home"),
    ];
    let phrases = [
        "not checked: 1, excluded by NFS_MOUNTS_EXCLUDED",
        "not checked: 1, in lines of the list of mounts that cannot",
    ];
    let printed = String::from_utf8(check(&mounts).stdout).unwrap();
    assert!(phrases.iter().all(|phrase| printed.contains(phrase)), "{printed}");
    let output = check(&mounts[..3]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && phrases.iter().all(|phrase| printed.contains(phrase)), "{printed}");
}

#[test]
fn bad_usage_is_64() {
    assert_eq!(check(&[("NFS_SERVERS", "/home")]).status.code(), Some(64));
    assert_eq!(check(&[]).status.code(), Some(64));
    let nothing_here = check(&[("NFS_MOUNTS", "yes"), ("NFS_MOUNTINFO", "/dev/null")]);
    assert_eq!(nothing_here.status.code(), Some(64), "a probe that looks at nothing must not say that all is well");
}
