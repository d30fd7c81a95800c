//! Which address of a server is probed: names, referrals, and zones.

use std::process::Command;

use testbed::folder::Folder;
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::wait::{self, LIMIT};

use crate::scripted::{self, Script};
use crate::{SHORT, check, check_with, server};

#[test]
fn each_server_of_a_referral_is_tried() {
    let place = scripted::start(Script::default());
    let port: u16 = place.rsplit(':').next().unwrap().parse().unwrap();
    // The form in which RFC 5665 writes an address with its port.
    let alive = format!("127.0.0.1.{}.{}", port / 256, port % 256);
    let silent = Ganesha::start(Setup::default()).unwrap();
    silent.firewall(Firewall::Drop).unwrap();
    // Nothing listens at 127.0.0.9. A server without a name is the one that was asked.
    for (servers, expected) in [
        (alive.clone(), "ok compound"),
        (format!("127.0.0.9+{alive}"), "ok compound"),
        (format!("{alive}+127.0.0.9"), "ok compound"),
        (String::new(), "ok compound"),
        (format!("{}{alive}", "127.0.0.9+".repeat(80)), "server_down connect: the connection is refused"),
        (format!("{}+no.such.host.invalid+{alive}", silent.address()), "ok compound"),
        (
            "127.0.0.9".to_owned(),
            "server_down connect: the connection is refused (the server refers to 127.0.0.9/home)",
        ),
    ] {
        let verdict = check_with(&format!("{place}/moved-to-{servers}"), &[("NFS_TIMEOUT", "18s")]);
        assert!(
            verdict.starts_with(expected) && verdict.contains("the server refers to 127.0.0."),
            "{servers}: {verdict}"
        );
    }
}

#[test]
fn every_address_of_a_name_is_tried_within_the_time() {
    let place = scripted::start(Script::default());
    let port = place.rsplit(':').next().unwrap();
    let folder = Folder::new("hosts").unwrap();
    // 127.0.0.9 refuses connections, and nothing answers at the dead address.
    let (dead, alive) = (Ganesha::start(Setup::default()).unwrap(), Ganesha::start(Setup::default()).unwrap());
    dead.firewall(Firewall::Drop).unwrap();
    let hosts = format!(
        "127.0.0.9 refused gone\n127.0.0.1 refused\n{} dead\n{} dead\n::1 localhost\n127.0.0.1 localhost\n",
        dead.address(),
        alive.address()
    );
    let hosts = folder.write("hosts", hosts).unwrap();
    let check = |server: &str| {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\" check";
        command.args(["-m", "sh", "-ec", script, "sh"]).arg(&hosts).arg(env!("CARGO_BIN_EXE_nfs-health"));
        command.env("NFS_SERVERS", server).env("NFS_MOUNTS", "no").env("NFS_TIMEOUT", "18s");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // The listener is on IPv4 alone, and `localhost` may be ::1 first.
    for server in [format!("refused:{port}/plain"), format!("localhost:{port}/plain"), "dead/home".to_owned()] {
        let verdict = check(&server);
        assert!(verdict.contains("verdict             ok"), "{server}: {verdict}");
    }
    let verdict = check(&format!("gone:{port}/plain"));
    assert!(verdict.contains("server_down") && verdict.contains("the connection is refused"), "{verdict}");
}

#[test]
fn a_server_on_one_link_is_named_with_its_zone() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let shown = ganesha.inside(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).unwrap();
    let address = shown.split_whitespace().find(|word| word.starts_with("fe80")).unwrap().split('/').next().unwrap();
    let host = format!("[{address}%{}]", ganesha.interface());
    // The address is checked for duplicates first.
    let verdict = wait::until(LIMIT, || {
        Some(check_with(&format!("{host}/home"), &SHORT)).filter(|verdict| verdict.starts_with("ok"))
    });
    assert!(verdict.is_some(), "{}", check(&format!("{host}:/home")));
}

#[test]
fn a_name_is_resolved_and_a_missing_one_is_reported() {
    let address = server(drop);
    let by_name = address.replace("127.0.0.1", "localhost");
    let verdict = check(&by_name);
    assert!(verdict.starts_with("server_down "), "{verdict}");
    let verdict = check("no-such-host.invalid/home");
    assert!(verdict.starts_with("unreachable resolve: the name can't be resolved"), "{verdict}");
}
