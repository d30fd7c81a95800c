//! `nfs-health run` with mounts: hung ones on this machine, and real ones of the kernel's client in a virtual machine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testbed::daemon::{self, Daemon};
use testbed::folder::Folder;
use testbed::ganesha::{Ganesha, Setup};
use testbed::packages::{self, Part};
use testbed::process::Process;
use testbed::qemu::Qemu;
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait::{self, LIMIT};

#[test]
fn a_mount_that_hangs_while_the_server_works_is_this_nodes_trouble() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("mounts").unwrap(), ganesha.address());
    let place = folder.folder("home").unwrap();
    let root = "1 0 8:1 / / rw - ext4 a rw\n";
    let list = || folder.write("mountinfo", format!("{root}{}", exports::mount(&place, address))).unwrap();
    let mountinfo = list();
    let settings = [("NFS_MOUNTINFO", mountinfo.to_str().unwrap()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "3s")];
    let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    exports::until(&daemon, LIMIT, exports::all_healthy);
    let state = |state: &str| {
        daemon.metric(&format!("labhands_nfs_health_mounts{{export=\"{address}/home\",state=\"{state}\"}}"))
    };
    wait::until(LIMIT, || (state("ok") == Some(1.0) && state("unknown") == Some(0.0)).then_some(())).unwrap();
    for (silence, words) in [(Silence::Killable, "has not answered for"), (Silence::BeyondSigkill, "can't be killed")] {
        let silent = SilentFileSystem::mount_over(&place, silence).unwrap();
        // The listed device is not the mounted one: nothing is known, so nothing is reported.
        wait::until(LIMIT, || state("unknown").filter(|count| *count == 1.0)).unwrap();
        assert!(exports::all_healthy(&exports::verdicts(&daemon.get("/exports").unwrap().1).unwrap()));
        list();
        let wanted = |verdicts: &[String]| verdicts.iter().any(|verdict| verdict.contains(words));
        let verdicts = exports::until(&daemon, LIMIT, wanted).join("; ");
        assert!(verdicts.contains(&format!("{address}/home: client_stuck (stat): ")), "{verdicts}");
        assert_eq!(["/livez", "/readyz"].map(|page| daemon.get(page).unwrap().0), [200, 200]);
        let stuck = || daemon.metric("labhands_nfs_health_mount_stuck_seconds").map(|seconds| seconds > 0.0);
        wait::until(LIMIT, || stuck().filter(|stuck| *stuck == (silence == Silence::BeyondSigkill))).unwrap();
        drop(silent);
        list();
        exports::until(&daemon, LIMIT, exports::all_healthy);
    }
    folder.write("mountinfo", root).unwrap();
    wait::until(LIMIT, || daemon.log().contains("no longer mounted here").then_some(())).unwrap();
    assert_eq!(daemon.metric(&format!("labhands_nfs_health_healthy{{export=\"{address}/home\"}}")), None);
    let _silent = SilentFileSystem::mount_over(&place, Silence::BeyondSigkill).unwrap();
    list();
    exports::until(&daemon, LIMIT, |verdicts| verdicts.iter().any(|verdict| verdict.contains("can't be killed")));
    daemon.process().signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0));
}

#[test]
fn a_device_is_checked_through_any_of_its_paths() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("mounts").unwrap(), ganesha.address());
    let place = folder.folder("home").unwrap();
    let _silent = SilentFileSystem::mount_over(&place, Silence::Killable).unwrap();
    let here = exports::mount(&place, address);
    let elsewhere = here.replace(place.to_str().unwrap(), "/srv/only-on-the-host");
    for lines in [[&elsewhere, &here], [&here, &elsewhere]] {
        let mountinfo =
            folder.write("mountinfo", format!("1 0 8:1 / / rw - ext4 a rw\n{}{}", lines[0], lines[1])).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_nfs-health"));
        let output = check.arg("check").env("NFS_MOUNTINFO", mountinfo).env("NFS_TIMEOUT", "5s").output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains("client_stuck"), "{printed}");
        assert_eq!(output.status.code(), Some(1));
    }
    // The next round continues with the others, however many hang.
    let many: String =
        (0..20).map(|number| elsewhere.replace("on-the-host", &format!("on-the-host-{number}"))).collect();
    let mountinfo = folder.write("mountinfo", format!("1 0 8:1 / / rw - ext4 a rw\n{many}{here}")).unwrap();
    let settings = [("NFS_MOUNTINFO", mountinfo.to_str().unwrap()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "2s")];
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    exports::until(&daemon, LIMIT, |verdicts| {
        verdicts.iter().any(|verdict| verdict.contains(": client_stuck (stat): "))
    });
}

#[test]
fn a_path_is_no_folder_or_closed_to_this_process_or_not_even_text_and_the_mount_is_judged_by_itself() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("mounts").unwrap(), ganesha.address());
    let open = folder.folder("open").unwrap();
    let closed = folder.folder("closed/home").unwrap();
    std::fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o700)).unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    // What a pod mounts by a subPath may be a file.
    let file = folder.write("file", "").unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"h\xf6me"));
    std::fs::create_dir(&odd).unwrap();
    let like = exports::mount(&open, address);
    let (before, after) = like.split_once(open.to_str().unwrap()).unwrap();
    let check = |places: &[&Path]| {
        let line = |place: &&Path| [before.as_bytes(), place.as_os_str().as_bytes(), after.as_bytes()].concat();
        let lines: Vec<u8> = places.iter().flat_map(line).collect();
        let mountinfo = folder.write("mountinfo", [b"1 0 8:1 / / rw - ext4 a rw\n", &lines[..]].concat()).unwrap();
        let mut check = Command::new("setpriv");
        check.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_nfs-health"), "check"]);
        let output = check.env("NFS_MOUNTINFO", mountinfo).env("NFS_TIMEOUT", "60s").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = check(&[&closed]);
    assert!(printed.contains("verdict             ok") && printed.contains("mount               unknown"), "{printed}");
    for places in [&[&*closed, &*open][..], &[&*file][..], &[&*odd]] {
        let printed = check(places);
        assert!(
            printed.contains("verdict             ok") && printed.contains("mount               ok"),
            "{places:?}: {printed}"
        );
    }
}

#[test]
fn mounts_stay_known_while_their_list_cannot_be_read() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("mounts").unwrap(), ganesha.address());
    let place = folder.folder("home").unwrap();
    let mountinfo =
        folder.write("mountinfo", format!("1 0 8:1 / / rw - ext4 a rw\n{}", exports::mount(&place, address))).unwrap();
    let settings = [("NFS_MOUNTINFO", mountinfo.to_str().unwrap()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "60s")];
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    exports::until(&daemon, LIMIT, |verdicts| !verdicts.is_empty() && exports::all_healthy(verdicts));
    std::fs::remove_file(&mountinfo).unwrap();
    std::fs::create_dir(&mountinfo).unwrap();
    daemon.until_ready(LIMIT, |status, why| status == 503 && why.contains("cannot list the mounts")).unwrap();
    let rounds = format!("labhands_nfs_health_rounds_total{{export=\"{address}/home\",verdict=\"ok\"}}");
    let count = daemon.metric(&rounds).unwrap();
    wait::until(LIMIT, || daemon.metric(&rounds).filter(|now| *now > count + 1.0)).unwrap();
    let verdicts = exports::verdicts(&daemon.get("/exports").unwrap().1).unwrap();
    assert!(!verdicts.is_empty() && exports::all_healthy(&verdicts), "{verdicts:?}");
    std::fs::remove_dir(&mountinfo).unwrap();
    // A list that is being rewritten says nothing about the mounts.
    folder.write("mountinfo", "").unwrap();
    daemon.until_ready(LIMIT, |status, why| status == 503 && why.contains("lists no mounts")).unwrap();
    let rounds_now = daemon.metric(&rounds).unwrap();
    wait::until(LIMIT, || daemon.metric(&rounds).filter(|now| *now > rounds_now + 1.0)).unwrap();
    assert!(!daemon.log().contains("no longer mounted here"));
    folder.write("mountinfo", "1 0 8:1 / / rw - ext4 a rw\n").unwrap();
    wait::until(LIMIT, || daemon.log().contains("no longer mounted here").then_some(())).unwrap();
}

#[test]
fn a_list_of_mounts_that_hangs_hangs_neither_the_daemon_nor_a_check() {
    for silence in [Silence::Killable, Silence::BeyondSigkill] {
        let silent = SilentFileSystem::mount(silence).unwrap();
        let mountinfo = silent.path().join("mountinfo");
        let settings = [
            ("NFS_MOUNTINFO", mountinfo.to_str().unwrap()),
            ("NFS_INTERVAL", "1s"),
            ("NFS_SERVERS", "127.0.0.1:1/home"),
        ];
        let mut daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
        daemon.until_ready(LIMIT, |status, why| status == 503 && why.contains("does not answer")).unwrap();
        assert_eq!(daemon.get("/livez").unwrap().0, 200);
        daemon.process().signal(rustix::process::Signal::TERM);
        assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0));
        let mut check = Command::new(env!("CARGO_BIN_EXE_nfs-health"));
        let output = check.arg("check").envs(settings).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && printed.contains("does not answer"), "{printed}");
    }
}

#[test]
fn an_automount_expires_while_it_is_watched() {
    packages::require(Part::Knfsd).unwrap();
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let (folder, address) = (Folder::new("autofs").unwrap(), ganesha.address());
    let base = folder.folder("base").unwrap();
    let map = folder.write("map", "ann -fstype=tmpfs :tmpfs\n").unwrap();
    let master = folder.write("master", format!("{} {} --timeout=6\n", base.display(), map.display())).unwrap();
    let mut automounter = Command::new("unshare");
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && \
                  exec automount -f --dont-check-daemon --pid-file /run/automount.pid \"$0\"";
    automounter.args(["-m", "sh", "-ec", script]).arg(&master);
    let mut automounter = Process::start("automount", &automounter, &folder.join("automount.log")).unwrap();
    let listed = format!("/proc/{}/mountinfo", automounter.id());
    let point = base.join("ann");
    // The list shows the mount as NFS.
    let list = || {
        let mounts = std::fs::read_to_string(&listed).unwrap();
        let here = format!(" {} ", point.display());
        let source = format!(" - nfs4 {address}:/home rw,vers=4.1,addr={address}");
        let relabel = |line: &str| match line.split_once(" - ").filter(|_| line.contains(&here)) {
            Some((mount, _)) => format!("{mount}{source}\n"),
            None => format!("{line}\n"),
        };
        folder.write("mountinfo", mounts.lines().map(relabel).collect::<String>()).unwrap();
        mounts.contains(&here)
    };
    let is_ready = || std::fs::read_to_string(&listed).unwrap().contains(" - autofs ").then_some(());
    automounter.ready("be ready", is_ready).unwrap();
    let namespace = ["-t".to_owned(), automounter.id().to_string(), "-m".to_owned(), "--".to_owned()];
    let inside = |arguments: &[&str]| testbed::command::run(Command::new("nsenter").args(&namespace).args(arguments));
    let mounted = || {
        inside(&["ls", point.to_str().unwrap()]).unwrap();
        list().then_some(())
    };
    wait::until(LIMIT, mounted).expect("the automounter mounts what is looked at");
    let mountinfo = folder.join("mountinfo");
    let settings = [("NFS_MOUNTINFO", mountinfo.to_str().unwrap()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "2s")];
    let arguments: Vec<&str> =
        namespace.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_nfs-health"), "run"]).collect();
    let daemon = Daemon::start("/usr/bin/nsenter", &arguments, &settings).unwrap();
    let left_out = || daemon.metric("labhands_nfs_health_mounts_left_out{reason=\"automount\"}");
    let seen = wait::until(LIMIT, || {
        // It must not expire before the daemon has seen it.
        inside(&["ls", point.to_str().unwrap()]).unwrap();
        list();
        (left_out() == Some(1.0)).then_some(())
    });
    assert!(seen.is_some(), "it is not seen: {}", daemon.log());
    let gone = wait::until(LIMIT, || (!list()).then_some(()));
    assert!(gone.is_some(), "it stays mounted: {}", daemon.log());
}

#[test]
fn real_mounts_are_found_with_their_server_and_each_hang_is_distinguished() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let (address, mount) = (ganesha.address(), ganesha.mount_both_versions().unwrap());
    let script = format!(
        "{mount}\
         export NFS_INTERVAL=1s NFS_TIMEOUT=5s ADMIN_ADDR=0.0.0.0:8080 NODE_NAME=node-1\n\
         nfs-health run\n"
    );
    let qemu = Qemu::start(&[Path::new(env!("CARGO_BIN_EXE_nfs-health"))], &script).unwrap();
    let get = |path: &str| daemon::get(([127, 0, 0, 1], qemu.port()).into(), path);
    let ready = |limit, wanted: &dyn Fn(&[String]) -> bool| {
        let mut last = None;
        let seen = wait::until(limit, || {
            last = get("/exports");
            let verdicts = exports::verdicts(&last.as_ref()?.1)?;
            wanted(&verdicts).then_some(())
        });
        assert!(seen.is_some(), "{last:?}\n{}", qemu.console());
    };
    let metric = |beginning: &str| -> Option<f64> {
        let (_, text) = get("/metrics")?;
        text.lines().find(|line| line.starts_with(beginning))?.rsplit(' ').next()?.parse().ok()
    };
    let both = |verdicts: &[String], verdict: &str| {
        ["v3", "v4"].iter().all(|version| {
            let wanted = format!("{address}/home/{version}: {verdict}");
            verdicts.iter().any(|verdict| verdict.starts_with(&wanted))
        })
    };
    ready(LIMIT, &exports::all_healthy);
    let operations = format!("labhands_nfs_health_mount_operations{{mount=\"/mnt/v4\",source=\"{address}:/home/v4\"}}");
    wait::until(LIMIT, || metric(&operations).filter(|operations| *operations > 10.0)).unwrap();

    ganesha.pause();
    ready(LIMIT, &|verdicts| both(verdicts, "server_down (null)"));
    assert_eq!(["/livez", "/readyz"].map(|page| get(page).unwrap().0), [200, 200]);
    ganesha.resume();
    ready(LIMIT, &exports::all_healthy);

    // Only the connections of the mounts are cut: the server answers new ones.
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
        if lasting.len() < 2 {
            lasting = peers(); // a mount has connected again
        }
        (lasting.len() == 2).then_some(())
    })
    .unwrap();
    for port in &lasting {
        ganesha.inside(&["iptables", "-A", "INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]).unwrap();
    }
    ready(LIMIT, &|verdicts| both(verdicts, "client_stuck (stat)"));
    ganesha.inside(&["iptables", "-F", "INPUT"]).unwrap();
    ready(LIMIT, &exports::all_healthy);

    std::fs::remove_dir(ganesha.export().join("v3")).unwrap();
    ready(LIMIT, &|verdicts| {
        verdicts.iter().any(|verdict| verdict.contains("/home/v3: ") && !verdict.contains(": ok ("))
    });
}
