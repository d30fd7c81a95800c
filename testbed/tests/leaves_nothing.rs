//! A process that runs real parts leaves nothing behind, whether it ends by a panic, Ctrl-C, `testbed down` or a kill.
use std::fs;
use std::io::{BufRead, BufReader};
use std::panic;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testbed::containerd::Containerd;
use testbed::images::Image;
use testbed::registry::Registry;
use testbed::wait;

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");

/// Everything on this machine with this number: processes (including those of its session), folders, mounts, cgroups.
fn left(of: &str) -> Vec<String> {
    let mine = format!("labhands-testbed/{of}-");
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
    };
    let processes = names("/proc").into_iter().filter(|process| {
        let command = fs::read(format!("{process}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&mine) || session(process).as_deref() == Some(of)
    });
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    let mounts: Vec<String> = mounts.lines().filter(|mount| mount.contains(&mine)).map(str::to_owned).collect();
    let cgroups = names("/sys/fs/cgroup").into_iter().flat_map(|hierarchy| names(&hierarchy));
    let name = |path: &String| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let marked = |path: &String| name(path).starts_with(&format!("{of}-"));
    let rest = cgroups.chain(names("/var/tmp/labhands-testbed")).filter(marked);
    processes.chain(mounts).chain(rest).collect()
}

/// proc_pid_stat(5): the sixth field; the second one may contain spaces.
fn session(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3).map(str::to_owned)
}

/// Runs in its own session, which has the process's number.
fn testbed() -> Command {
    let mut command = Command::new("setsid");
    command.arg(TESTBED);
    command
}

fn up(parts: &[&str]) -> (Child, Vec<String>) {
    let mut child = testbed().arg("up").args(parts).stdout(Stdio::piped()).spawn().expect("testbed runs");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let lines: Vec<String> = lines.map_while(Result::ok).take_while(|line| line != "ready").collect();
    assert!(left(&child.id().to_string()).len() > 3, "nothing was started: {lines:?}");
    (child, lines)
}

fn assert_gone(child: &Child) {
    let id = child.id().to_string();
    let gone = wait::until(wait::LIMIT, || left(&id).is_empty().then_some(()));
    assert!(gone.is_some(), "left: {:#?}", left(&id));
}

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    let (mut child, lines) = up(&["registry", "containerd", "docker", "nfs"]);
    for name in ["REGISTRY=127.0.0.1:", "CONTAINERD=unix:///", "DOCKER=docker:///", "NFS=198.18."] {
        assert!(lines.iter().any(|line| line.starts_with(name)), "{name} is not in {lines:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&child);
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    let (mut child, _) = up(&["containerd"]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert_gone(&child);
}

#[test]
fn nothing_is_left_when_it_is_ended_before_everything_has_started() {
    let mut child =
        testbed().args(["up", "registry", "docker", "nfs", "kubernetes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("REGISTRY="));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_gone(&child);
}

#[test]
fn a_panic_ends_running_containers_too() {
    let mut folder = None;
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let registry = Registry::start().unwrap();
        let image = Image::pause().unwrap().push(&registry, "pause", "1").unwrap();
        let containerd = Containerd::start(&registry).unwrap();
        containerd.pull(&image.reference).unwrap();
        containerd.ctr(&["run", "--detach", &image.reference, "sleeper"]).unwrap();
        assert!(containerd.ctr(&["tasks", "list"]).unwrap().contains("RUNNING"));
        folder = Some(containerd.folder().name());
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    let folder = folder.expect("the container ran");
    let left: Vec<String> = left(&std::process::id().to_string());
    let left: Vec<&String> = left.iter().filter(|name| name.contains(&folder)).collect();
    assert!(left.is_empty(), "left: {left:#?}");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    for arguments in [&[][..], &["up"], &["up", "nothing-like-it"], &["sideways"], &["push", "no-registry", "1"]] {
        let output = Command::new(TESTBED).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: testbed up NAME"), "{arguments:?}");
    }
}
