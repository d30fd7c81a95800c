//! More log files than the soft limit of open files, and more than the hard limit.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use support::kubelet::Container;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::wait::{self, LIMIT};

/// A shipper to standard output, with limits of open files.
struct Limited {
    shipper: Daemon,
    events: PathBuf,
    _folder: Folder,
}

impl Limited {
    /// Starts it with these arguments of `ulimit`.
    fn start(folder: Folder, limits: &str) -> Self {
        let events = folder.join("events");
        let [pods, state] = ["pods", "state"].map(|name| folder.join(name).display().to_string());
        let program = env!("CARGO_BIN_EXE_log-shipper");
        let script = format!("{limits} && exec {program} run >{}", events.display());
        let settings = [("LOG_PATHS", pods.as_str()), ("STATE_DIR", &state), ("OUTPUT", "stdout")];
        let shipper = Daemon::start("sh", &["-c", &script], &settings).unwrap();
        Self { shipper, events, _folder: folder }
    }

    fn metric(&self, name: &str) -> Option<f64> {
        self.shipper.metric(&format!("labhands_log_shipper_{name}"))
    }

    /// How often each number came, counting only complete lines.
    fn arrived(&self) -> BTreeMap<usize, u32> {
        let mut arrived = BTreeMap::new();
        for line in fs::read_to_string(&self.events).unwrap().split_inclusive('\n').filter(|line| line.ends_with('\n'))
        {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let message = event["message"].as_str().unwrap();
            let number = message.strip_prefix("number=").unwrap().split(';').next().unwrap();
            *arrived.entry(number.parse().unwrap()).or_default() += 1;
        }
        arrived
    }
}

#[test]
fn ten_thousand_files_are_open_despite_a_small_soft_limit() {
    let folder = Folder::new("files").unwrap();
    let pods = folder.in_memory("pods").unwrap();
    for index in 0..5000 {
        // The first line fills a file, which is renamed; the second goes into the live one.
        let mut container = Container::new(&pods, index, 100);
        container.write(2 * index as u64, 100);
        container.write(2 * index as u64 + 1, 0);
        container.finish();
    }
    let limited = Limited::start(folder, "ulimit -Sn 1024 && ulimit -Hn 16384");
    wait::until(LIMIT, || limited.metric("events_confirmed_total").filter(|count| *count == 10_000.0)).unwrap();
    let arrived = limited.arrived();
    assert_eq!((arrived.len(), arrived.values().max()), (10_000, Some(&1)));
    wait::until(LIMIT, || limited.metric("open_files").filter(|open| *open == 10_000.0)).unwrap();
    assert!(!limited.shipper.log().contains("can't be opened"), "{}", limited.shipper.log());
}

#[test]
fn files_beyond_the_hard_limit_are_read_once_others_are_gone() {
    let folder = Folder::new("files").unwrap();
    let mut folders = Vec::new();
    for index in 0..100 {
        let mut container = Container::new(&folder.join("pods"), index, u64::MAX);
        container.write(index as u64, 50);
        container.finish();
        folders.push(container.folder().to_owned());
    }
    let checkpoint = folder.join("state/checkpoint-stdout.json");
    let limited = Limited::start(folder, "ulimit -n 64");
    let what_to_do = "raise the limit of open files";
    wait::until(LIMIT, || limited.shipper.log().contains(what_to_do).then_some(())).unwrap();
    // Everything else works as usual: enough files are reserved for it.
    wait::until(LIMIT, || checkpoint.exists().then_some(())).unwrap();
    assert_eq!(limited.metric("checkpoint_errors_total"), Some(0.0));
    assert!(limited.arrived().len() < 100);
    let all = wait::until(LIMIT, || {
        let arrived = limited.arrived();
        for index in arrived.keys() {
            let _ = fs::remove_dir_all(&folders[*index]);
        }
        (arrived.len() == 100).then_some(arrived)
    });
    assert!(all.unwrap().values().all(|times| *times == 1));
    assert_eq!(limited.metric("bytes_lost_total"), Some(0.0));
    // Not for each file at each scan.
    assert!(limited.shipper.log().matches(what_to_do).count() < 10, "{}", limited.shipper.log());
}
