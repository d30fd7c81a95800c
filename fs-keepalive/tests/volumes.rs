//! The daemon on real mounts: tmpfs, and a file system that never answers. The NFS client itself is in `kernel_client.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fs_keepalive::record::Record;
use rustix::mount::{MountFlags, UnmountFlags};
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait::{self, LIMIT};

/// A folder with a tmpfs over it; the folder's guard unmounts.
struct Volume(Folder);

impl Volume {
    fn new() -> Self {
        let volume = Self(Folder::new("volume").unwrap());
        mount_tmpfs(volume.path());
        volume
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn record(&self) -> PathBuf {
        self.path().join(".keepalive.d/node-1_pod-1")
    }

    fn remount(&self, flags: MountFlags) {
        // The volume cannot become read-only while a round has a file open to write.
        wait::until(LIMIT, || rustix::mount::mount_remount(self.path(), flags, c"").ok()).unwrap();
    }
}

fn mount_tmpfs(path: &Path) {
    rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
}

fn start(path: &Path, more: &[(&str, &str)]) -> Daemon {
    let mut settings = vec![
        ("KEEPALIVE_PATHS", path.to_str().unwrap()),
        ("KEEPALIVE_INTERVAL", "100ms"),
        ("KEEPALIVE_TIMEOUT", "60s"),
        ("NODE_NAME", "node-1"),
        ("POD_NAME", "pod-1"),
    ];
    settings.extend(more);
    Daemon::start(env!("CARGO_BIN_EXE_fs-keepalive"), &["run"], &settings).unwrap()
}

fn good(daemon: &Daemon) {
    daemon.until("/volumes", LIMIT, |status, _| status == 200).unwrap();
}

fn bad(daemon: &Daemon, words: &str) {
    daemon.until("/volumes", LIMIT, |status, body| status == 503 && body.contains(words)).unwrap();
    // It is ready whatever the volume does, so a rollout does not wait for a file server.
    assert_eq!(["/livez", "/readyz"].map(|page| daemon.get(page).unwrap().0), [200, 200]);
}

/// As [`bad`], from a round that began after this call.
fn bad_again(daemon: &Daemon, volume: &Volume, result: &str, words: &str) {
    let before = rounds(daemon, volume, result).unwrap();
    wait::until(LIMIT, || rounds(daemon, volume, result).filter(|now| *now > before + 1.0)).unwrap();
    bad(daemon, words);
}

/// Fills the volume until `is_full`. Once is not enough: a round gives back what it had taken at that moment.
fn fill(volume: &Volume, is_full: impl Fn() -> bool) -> PathBuf {
    let path = volume.path().join("filler");
    let mut filler = std::fs::File::create(&path).unwrap();
    wait::until(LIMIT, || {
        assert!(filler.write_all(&vec![1; 2 << 20]).is_err());
        is_full().then_some(())
    })
    .unwrap();
    path
}

/// The record. A round in between may be writing it.
fn record(volume: &Volume) -> Record {
    wait::until(LIMIT, || Record::decode(&std::fs::read(volume.record()).ok()?).ok()).unwrap()
}

fn records_grow(volume: &Volume) {
    let first = record(volume).sequence;
    wait::until(LIMIT, || (record(volume).sequence > first).then_some(())).unwrap();
}

#[test]
fn a_record_is_written_again_and_again_and_read_back() {
    let volume = Volume::new();
    let mut daemon = start(volume.path(), &[("KEEPALIVE_PLAIN_FILE", "true")]);
    good(&daemon);
    records_grow(&volume);
    let record = record(&volume);
    assert_eq!((record.node.as_str(), record.pod.as_str()), ("node-1", "pod-1"));
    let folder = std::fs::metadata(volume.path().join(".keepalive.d")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o1777);
    let line = std::fs::read_to_string(volume.path().join(".keepalive")).unwrap();
    assert!(line.contains(" UTC 20") && line.ends_with('\n') && line.lines().count() == 1, "{line}");
    let name = volume.path().display();
    for phase in ["stat", "open", "write", "fsync", "read"] {
        let count = format!("labhands_fs_keepalive_phase_duration_seconds_count{{path=\"{name}\",phase=\"{phase}\"}}");
        assert!(daemon.metric(&count).unwrap() >= 1.0, "{count}");
    }
    assert!(daemon.metric("labhands_fs_keepalive_last_good_timestamp_seconds").unwrap() > 1e9);
    assert!(daemon.metric("labhands_fs_keepalive_server_clock_offset_seconds").unwrap().abs() < 300.0);
    daemon.process().signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0));
}

#[test]
fn nothing_is_written_to_the_root_file_system_where_the_mount_is_missing() {
    let folder = Folder::new("volume").unwrap();
    let daemon = start(folder.path(), &[]);
    bad(&daemon, "nothing is mounted there");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    mount_tmpfs(folder.path());
    good(&daemon);
}

#[test]
fn another_file_system_is_noticed_before_anything_is_written_to_it() {
    let volume = Volume::new();
    let daemon = start(volume.path(), &[]);
    good(&daemon);
    mount_tmpfs(volume.path());
    good_again_after(&daemon, &volume, "changed_mount");
    rustix::mount::unmount(volume.path(), UnmountFlags::empty())
        .or_else(|_| rustix::mount::unmount(volume.path(), UnmountFlags::DETACH))
        .unwrap();
    assert!(daemon.log().contains("a different file system is mounted there now"), "{}", daemon.log());
}

fn good_again_after(daemon: &Daemon, volume: &Volume, trouble: &str) {
    wait::until(LIMIT, || rounds(daemon, volume, trouble).filter(|rounds| *rounds > 0.0)).unwrap();
    good(daemon);
}

fn rounds(daemon: &Daemon, volume: &Volume, result: &str) -> Option<f64> {
    let path = volume.path().display();
    daemon.metric(&format!("labhands_fs_keepalive_rounds_total{{path=\"{path}\",result=\"{result}\"}}"))
}

#[test]
fn a_read_only_and_a_full_file_system_are_distinguished() {
    let volume = Volume::new();
    let daemon = start(volume.path(), &[]);
    good(&daemon);
    volume.remount(MountFlags::RDONLY);
    bad(&daemon, "read-only");
    volume.remount(MountFlags::empty());
    good(&daemon);
    let filler = fill(&volume, || daemon.get("/volumes").is_some_and(|(status, _)| status == 503));
    bad(&daemon, "no space left");
    std::fs::remove_file(&filler).unwrap();
    good(&daemon);
    records_grow(&volume);
}

#[test]
fn room_for_the_record_alone_is_no_room_in_any_round() {
    let volume = Volume::new();
    let daemon = start(volume.path(), &[]);
    good(&daemon);
    // The record's own page is there, a few pages are free, and another 64 KiB are not: as where a quota gives no more room.
    let filler = fill(&volume, || rounds(&daemon, &volume, "full") >= Some(1.0));
    let length = std::fs::metadata(&filler).unwrap().len();
    std::fs::File::options().write(true).open(&filler).unwrap().set_len(length - 3 * 4096).unwrap();
    let [was_full, was_good] = ["full", "ok"].map(|result| rounds(&daemon, &volume, result).unwrap());
    wait::until(LIMIT, || rounds(&daemon, &volume, "full").filter(|now| *now > was_full + 12.0)).unwrap();
    let is_good = rounds(&daemon, &volume, "ok").unwrap();
    assert!(is_good <= was_good + 1.0, "it is called good in between: {}", daemon.log());
    std::fs::remove_file(&filler).unwrap();
    good(&daemon);
}

#[test]
fn nothing_is_written_to_objects_that_users_put_there() {
    let volume = Volume::new();
    let outside = Folder::new("outside").unwrap();
    let precious = outside.write("precious", "precious").unwrap();
    std::fs::create_dir(volume.path().join(".keepalive.d")).unwrap();
    symlink(&precious, volume.record()).unwrap();
    let daemon = start(volume.path(), &[]);
    bad(&daemon, "node-1_pod-1 is a link");
    // Each replaces the one before at once, or the daemon would write its record in between.
    let next = volume.path().join("next");
    testbed::command::run_args("mkfifo", &[next.to_str().unwrap()]).unwrap();
    std::fs::rename(&next, volume.record()).unwrap();
    bad_again(&daemon, &volume, "foreign", "node-1_pod-1 is a link");
    std::fs::write(volume.path().join("named"), "users own").unwrap();
    std::fs::hard_link(volume.path().join("named"), &next).unwrap();
    std::fs::rename(&next, volume.record()).unwrap();
    bad_again(&daemon, &volume, "foreign", "node-1_pod-1 is a link");
    assert_eq!(std::fs::read_to_string(volume.path().join("named")).unwrap(), "users own");
    std::fs::remove_file(volume.record()).unwrap();
    good(&daemon);
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
}

#[test]
fn records_of_writers_gone_for_a_day_are_removed_and_nothing_else() {
    let volume = Volume::new();
    let folder = volume.path().join(".keepalive.d");
    std::fs::create_dir(&folder).unwrap();
    let record = Record { sequence: 1, time: jiff::Timestamp::now(), node: "a".into(), pod: "b".into(), interval: 60 };
    let files = [("old_one", true, 25), ("young_one", true, 23), ("old_notes", false, 25)];
    for (name, is_record, hours) in files {
        let bytes = if is_record { record.encode() } else { [b'x'; 512] };
        std::fs::write(folder.join(name), bytes).unwrap();
        let file = std::fs::File::options().write(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
    let daemon = start(volume.path(), &[]);
    good(&daemon);
    // A round may just be creating a file to detect a used-up quota, and removes it again.
    let left = || {
        let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        left
    };
    let wanted = || (left() == ["node-1_pod-1", "old_notes", "young_one"]).then_some(());
    assert!(wait::until(LIMIT, wanted).is_some(), "{:?}", left());
    assert_eq!(daemon.metric("labhands_fs_keepalive_removed_files_total"), Some(1.0));
}

#[test]
fn a_hung_file_system_hangs_neither_the_daemon_nor_its_end() {
    for (silence, words) in [(Silence::Killable, "stat: no answer for"), (Silence::BeyondSigkill, "can't be killed")] {
        let volume = Volume::new();
        let mut daemon = start(volume.path(), &[("KEEPALIVE_TIMEOUT", "1s")]);
        good(&daemon);
        let silent = SilentFileSystem::mount_over(volume.path(), silence).unwrap();
        bad(&daemon, words);
        drop(silent);
        good(&daemon);
        records_grow(&volume);
        let _silent = SilentFileSystem::mount_over(volume.path(), silence).unwrap();
        bad(&daemon, words);
        daemon.process().signal(rustix::process::Signal::TERM);
        assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0));
    }
}

#[test]
fn bad_settings_end_it_with_64_before_anything_else() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fs-keepalive"));
    let output = command.arg("run").env("KEEPALIVE_PATHS", "home").env("KEEPALIVE_INTERVAL", "1h").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("KEEPALIVE_PATHS: ") && stderr.contains("KEEPALIVE_INTERVAL: ") && stderr.lines().count() == 2,
        "{stderr}"
    );
}

#[test]
fn a_folder_that_a_user_filled_is_searched_in_steps_and_hides_no_old_record() {
    let volume = Volume(Folder::new("volume").unwrap());
    rustix::mount::mount("tmpfs", volume.path(), "tmpfs", MountFlags::empty(), c"size=60m,nr_inodes=30000").unwrap();
    let folder = volume.path().join(".keepalive.d");
    std::fs::create_dir(&folder).unwrap();
    let record = Record { sequence: 1, time: jiff::Timestamp::now(), node: "a".into(), pod: "b".into(), interval: 60 };
    let old = |name: &str| {
        std::fs::write(folder.join(name), record.encode()).unwrap();
        let file = std::fs::File::options().write(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    };
    // Whatever the order of a folder's list, one of them comes last.
    old("first_one");
    for number in 0..10_000 {
        std::fs::write(folder.join(format!("users_{number}")), "").unwrap();
    }
    old("last_one");
    let daemon = start(volume.path(), &[]);
    good(&daemon);
    let gone = || (!folder.join("first_one").exists() && !folder.join("last_one").exists()).then_some(());
    assert!(wait::until(LIMIT * 3, gone).is_some(), "{}", daemon.log());
    records_grow(&volume);
    good(&daemon);
    assert_eq!(rounds(&daemon, &volume, "hung"), Some(0.0));
    let left = || (std::fs::read_dir(&folder).unwrap().count() == 10_001).then_some(());
    assert!(wait::until(LIMIT, left).is_some());
}
