//! How a run ends when one of its parts ends, without a broker.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use testbed::folder::Folder;
use testbed::wait::{self, LIMIT};

struct Node(Folder);

impl Node {
    fn with_lines(lines: usize) -> Self {
        let node = Self(Folder::new("ends").unwrap());
        let text = (0..lines).map(|line| format!("2026-11-22T10:00:00.1Z stdout F line {line} ..............\n"));
        fs::create_dir_all(node.log().parent().unwrap()).unwrap();
        fs::write(node.log(), text.collect::<String>()).unwrap();
        node
    }

    fn log(&self) -> PathBuf {
        self.0.join("pods/space_pod_uid/main/0.log")
    }

    fn start(&self, arguments: &[&str], settings: &[(&str, &str)], stdout: Stdio) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_log-shipper"));
        command.arg("run").args(arguments).env_clear().stdout(stdout).stderr(Stdio::piped());
        command.env("LOG_PATHS", self.0.join("pods")).env("STATE_DIR", self.0.join("state"));
        Running(command.envs(settings.iter().copied()).spawn().unwrap())
    }

    /// The messages of one run to standard output.
    fn until_idle(&self) -> Vec<String> {
        let mut run = self.start(&["--until-idle"], &[("OUTPUT", "stdout")], Stdio::piped());
        let events = BufReader::new(run.0.stdout.take().unwrap()).lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            event["message"].as_str().unwrap().to_owned()
        });
        let events = events.collect();
        assert_eq!(run.end().0, Some(0));
        events
    }
}

struct Running(Child);

impl Running {
    /// Its exit code, and its log.
    fn end(&mut self) -> (Option<i32>, String) {
        let status = wait::until(LIMIT, || self.0.try_wait().unwrap()).expect("it does not end");
        let mut log = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_closed_or_full_output_ends_the_run_with_its_reason() {
    let node = Node::with_lines(20_000);
    for arguments in [&["--until-idle"][..], &[]] {
        // Like `| head -1`.
        let mut run = node.start(arguments, &[], Stdio::piped());
        let mut first = String::new();
        BufReader::new(run.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("line 0"), "{first}");
        let (code, log) = run.end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("cannot write to standard output"), "{log}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, log) = node.start(arguments, &[], full.into()).end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("cannot write to standard output: No space left"), "{log}");
    }
}

#[test]
fn a_closed_standard_output_is_refused_and_the_null_device_is_not() {
    let node = Node::with_lines(3);
    let (binary, pods, state) = (env!("CARGO_BIN_EXE_log-shipper"), node.0.join("pods"), node.0.join("state"));
    for (redirection, code) in [(">&-", 1), (">&- <&-", 1), (">/dev/null", 0)] {
        let mut shell = Command::new("sh");
        shell.env_clear().env("LOG_PATHS", &pods).env("STATE_DIR", &state).env("OUTPUT", "stdout");
        let ended = shell.args(["-c", &format!("exec {binary} run --until-idle {redirection}")]).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{redirection}: {said}");
        assert_eq!(said.contains("cannot write to standard output: it was closed"), code == 1, "{redirection}: {said}");
        assert_eq!(state.join("checkpoint-stdout.json").exists(), code == 0, "{redirection}");
    }
}

#[test]
fn a_closed_or_full_output_of_a_command_has_its_exit_code() {
    let binary = env!("CARGO_BIN_EXE_log-shipper");
    let folder = Folder::new("ends").unwrap();
    for (command, code, words) in [
        ("status >/dev/full", 1, "cannot write to standard output: No space left"),
        ("--help >/dev/full", 1, "cannot write to standard output: No space left"),
        ("status >&-", 0, ""),
        ("status | true", 0, ""),
        // Nothing can be reported, but the program says by its code what is wrong.
        ("run --max-line x 2>/dev/full", 64, ""),
        ("run --no-such-flag 2>/dev/full", 64, ""),
        ("check --amqp-url amqp://127.0.0.1:1 2>/dev/full", 1, ""),
    ] {
        let mut shell = Command::new("bash");
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("STATE_DIR", folder.path());
        let ended = shell.args(["-c", &format!("set -o pipefail; {binary} {command}")]).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains(words) && !said.contains("panicked"), "{command}: {said}");
    }
}

#[test]
fn a_file_that_can_not_be_read_does_not_keep_a_run_until_idle_from_ending() {
    let node = Node::with_lines(3);
    fs::remove_file(node.log()).unwrap();
    // This file has a size and can be opened, but every read fails.
    std::os::unix::fs::symlink("/sys/class/net/lo/speed", node.log()).unwrap();
    let (code, log) =
        node.start(&["--until-idle", "--give-up-after", "15s"], &[("OUTPUT", "stdout")], Stdio::null()).end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("a log file can't be read") && log.contains("not everything was shipped"), "{log}");
}

#[test]
fn an_output_without_a_reader_does_not_keep_the_run_from_ending() {
    let node = Node::with_lines(200_000);
    let mut run = node.start(&[], &[], Stdio::piped());
    let mut first = String::new();
    // Kept open, but not read any further.
    let mut pipe = BufReader::with_capacity(1, run.0.stdout.take().unwrap());
    pipe.read_line(&mut first).unwrap();
    kill_process(Pid::from_child(&run.0), Signal::TERM).unwrap();
    let (code, log) = run.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("standard output did not accept all lines in time"), "{log}");
}

#[test]
fn standard_output_and_null_leave_the_brokers_checkpoint_alone() {
    let node = Node::with_lines(3);
    let broker = node.0.join("state/checkpoint.json");
    fs::create_dir_all(broker.parent().unwrap()).unwrap();
    fs::write(&broker, r#"{"version":1,"logs":[]}"#).unwrap();
    let null = node.start(&["--until-idle"], &[("OUTPUT", "null")], Stdio::null()).end();
    assert_eq!(null.0, Some(0), "{}", null.1);
    assert_eq!(node.until_idle().len(), 3);
    let mut text = fs::read_to_string(node.log()).unwrap();
    text.push_str("2026-11-22T10:00:01Z stdout F new\n");
    fs::write(node.log(), text).unwrap();
    assert_eq!(node.until_idle(), ["new"]);
    assert_eq!(fs::read_to_string(&broker).unwrap(), r#"{"version":1,"logs":[]}"#);
}

#[test]
fn invalid_settings_end_it_before_anything_else() {
    let node = Node::with_lines(1);
    for (url, expected) in [
        ("amqp://logs:12#secret@rabbit", "%23"),
        ("amqp://:secret@rabbit", "no user"),
        ("amqp://logs@rabbit", "AMQP_PASSWORD"),
        ("amqp://h/v?heartbeat=5&verify=verify_none", "AMQP_HEARTBEAT"),
        ("rabbit.example.org", "amqps://"),
    ] {
        let (code, log) = node.start(&[], &[("AMQP_URL", url)], Stdio::null()).end();
        assert_eq!(code, Some(64), "{url}: {log}");
        assert!(log.contains(expected) && !log.contains("secret"), "{url}: {log}");
    }
}
