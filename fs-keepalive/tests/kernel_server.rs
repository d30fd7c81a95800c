//! The daemon on exports of the Linux kernel's own server that map users, and on one with a quota; server and client are one
//! virtual machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use testbed::knfsd::Knfsd;
use testbed::wait::{self, LIMIT};

/// The daemon in the machine, as one of its users.
struct Writer<'a>(&'a Knfsd);

impl<'a> Writer<'a> {
    fn start(machine: &'a Knfsd, mount: &str, user: &str) -> Self {
        let settings = format!(
            "KEEPALIVE_PATHS={mount} KEEPALIVE_INTERVAL=1s KEEPALIVE_TIMEOUT=60s NODE_NAME=node POD_NAME={user} ADMIN_ADDR=127.0.0.1:8080"
        );
        let daemon = format!("{settings} fs-keepalive run > /tmp/{user}.log 2>&1 & echo \\$! > /tmp/daemon.pid");
        machine.run(&format!("su {user} -s /bin/sh -c \"{daemon}\"")).unwrap();
        Self(machine)
    }

    /// Waits until `/volumes` meets the condition.
    fn until(&self, good: bool, words: &str) {
        let mut last = String::new();
        let seen = wait::until(LIMIT, || {
            // busybox's wget prints no body of a 503; its error has the status, and the log has the message.
            let asked =
                "wget -q -O - http://127.0.0.1:8080/volumes && echo && echo good || true; tail -n 1 /tmp/*.log || true";
            last = self.0.run(asked).unwrap();
            (last.contains("good\n") == good && last.contains(words)).then_some(())
        });
        assert!(seen.is_some(), "not {good} with {words:?}: {last}");
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let end = "kill $(cat /tmp/daemon.pid); while [ -d /proc/$(cat /tmp/daemon.pid) ]; do sleep 0.1; done; rm /tmp/*.log /tmp/daemon.pid";
        let ended = self.0.run(end);
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

#[test]
fn records_are_written_if_the_server_maps_users_and_a_used_up_quota_is_reported() {
    let machine = Knfsd::start(&[Path::new(env!("CARGO_BIN_EXE_fs-keepalive"))]).unwrap();
    let run = |line: &str| machine.run(line).unwrap();
    // A round takes longer when it allocates a block.
    let is_whole = |path: &str| {
        let whole = || (run(&format!("wc -c < {path}")).trim() == "512").then_some(());
        wait::until(LIMIT, whole).is_some()
    };
    let options = "vers=4.2,hard,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1";
    for export in ["squashed", "rootsquash", "quota"] {
        run(&format!("mkdir -p /mnt/{export}; mount -t nfs4 -o {options} 127.0.0.1:/srv/{export} /mnt/{export}"));
    }
    run("chmod 755 /bin/fs-keepalive");

    // ---- the client's kernel refuses O_CREAT for another user's file in a folder like /tmp, and the server maps the writer ----
    for protection in [1, 2] {
        run(&format!("echo {protection} > /proc/sys/fs/protected_regular"));
        for (export, user) in [("squashed", "nonroot"), ("rootsquash", "root"), ("rootsquash", "nonroot")] {
            run(&format!("rm -rf /srv/{export}/.keepalive.d; mkdir -m 1777 /srv/{export}/.keepalive.d"));
            let writer = Writer::start(&machine, &format!("/mnt/{export}"), user);
            writer.until(true, "");
            let path = format!("/srv/{export}/.keepalive.d/node_{user}");
            assert!(is_whole(&path), "{export} {user}");
        }
    }
    // Without permission, the message does not blame the server alone.
    run("rm -rf /srv/squashed/.keepalive.d; mkdir -m 0755 /srv/squashed/.keepalive.d");
    Writer::start(&machine, "/mnt/squashed", "nonroot").until(false, "permission denied: by the export");

    // The file that fills the quota below is another user's, too.
    run("echo 0 > /proc/sys/fs/protected_regular");

    // ---- the record's own bytes exist, but a new byte is refused: others can write nothing ----
    let writer = Writer::start(&machine, "/mnt/quota", "root");
    writer.until(true, "");
    let filled = run("dd if=/dev/zero of=/mnt/quota/users bs=64k count=100 conv=fsync && echo all || echo not all");
    assert!(filled.contains("Disk quota exceeded") && filled.contains("not all"), "{filled}");
    // A round gives back what it had taken at that moment, so once is not enough.
    let fill = || {
        run("dd if=/dev/zero of=/mnt/quota/more bs=4k count=64 conv=notrunc,fsync 2> /dev/null || true");
        machine.run("! wget -q -O /dev/null http://127.0.0.1:8080/volumes").ok()
    };
    assert!(wait::until(LIMIT, fill).is_some());
    writer.until(false, "the quota is used up");
    assert!(is_whole("/srv/quota/.keepalive.d/node_root"));
    run("rm -f /mnt/quota/users /mnt/quota/more");
    writer.until(true, "");

    // ---- there is space for bytes, but not for another file ----
    run("xfs_quota -x -c 'limit -u ihard=1 5001' /srv/quota");
    writer.until(false, "the quota is used up");
    run("xfs_quota -x -c 'limit -u ihard=0 5001' /srv/quota");
    writer.until(true, "");
    let alone = || (run("ls -A /srv/quota/.keepalive.d").trim() == "node_root").then_some(());
    assert!(wait::until(LIMIT, alone).is_some());
}
