//! The layouts of log files that sites really have, each shipped to standard output by the program as its users start it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use support::layout::{Node, POD, TIME, append, gzip, id};
use testbed::daemon::Daemon;
use testbed::wait::{self, LIMIT};

#[test]
fn a_file_that_was_rotated_meanwhile_is_recognized_under_any_name() {
    let names = [
        ".1",
        "-20261123",
        "-2026112310",
        "-1795435200",
        "-20261123-100000",
        ".20261123-100000",
        "-2026-11-23",
        ".old",
        "_aside",
    ];
    for zipped in [false, true] {
        for name in names {
            let node = Node::new(&["docker"]);
            let live = node.docker(&id("a"), "", "one, and as long as a real line is");
            let run = node.run();
            assert_eq!((run.messages().len(), run.code), (1, Some(0)), "{name} {zipped}: {}", run.log);
            node.docker(&id("a"), "", "two");
            let rotated = PathBuf::from(format!("{}{name}", live.display()));
            fs::rename(&live, &rotated).unwrap();
            if zipped {
                gzip(&rotated);
            }
            node.docker(&id("a"), "", "three");
            let run = node.run();
            assert_eq!((run.messages(), run.code), (vec!["two", "three"], Some(0)), "{name} {zipped}: {}", run.log);
        }
    }
}

#[test]
fn the_first_run_reads_all_rotated_files_in_order_and_reports_others() {
    let node = Node::new(&["docker"]);
    for (rotated, text) in [
        ("", "4"),
        ("-20261121", "1"),
        ("-20261122", "2"),
        ("-20261123", "3"),
        (".bak", "unknown"),
        (".1.xz", "packed"),
    ] {
        node.docker(&id("a"), rotated, text);
    }
    gzip(&node.path("docker").join(id("a")).join(format!("{}-json.log-20261121", id("a"))));
    let run = node.run();
    assert_eq!((run.messages(), run.code), (vec!["1", "2", "3", "4"], Some(0)));
    for expected in ["-json.log.bak: the name does not say", "-json.log.1.xz: log-shipper decompresses gzip files only"]
    {
        assert!(run.log.contains(expected), "{}", run.log);
    }
}

#[test]
fn a_host_with_a_containers_name_ships_it_and_a_pod_is_known_by_its_uid() {
    let node = Node::new(&["docker", "pods"]);
    for digits in ["a", "ca", "db10"] {
        node.docker(&digits.repeat(64 / digits.len()), "", digits);
    }
    node.pod("0.log", "ours");
    for name in ["a", "ca", "db1", &"a".repeat(12), "pod"] {
        fs::remove_dir_all(node.path("state")).unwrap();
        let script = format!("hostname {name} && exec \"$0\" \"$@\"");
        let run = node.run_with(&["unshare", "--uts", "sh", "-c", &script], &[]);
        assert_eq!(run.messages().len(), 4, "{name}: {}", run.log);
    }
    fs::remove_dir_all(node.path("state")).unwrap();
    assert!(!node.run_with(&[], &[("POD_UID", "0d0b2b1e")]).messages().contains(&"ours"));
}

#[test]
fn a_docker_container_knows_itself_under_any_host_name() {
    let node = Node::new(&["docker"]);
    node.docker(&id("a"), "", "ours");
    node.docker(&id("b"), "", "theirs");
    let hosts = append(&node.path("containers").join(id("a")).join("hostname"), "the-host\n");
    let script = format!("mount --bind {} /etc/hostname && exec \"$0\" \"$@\"", hosts.display());
    let run = node.run_with(&["unshare", "--mount", "sh", "-c", &script], &[]);
    assert_eq!(run.messages(), ["theirs"], "{}", run.log);
}

#[test]
fn one_file_is_shipped_once_however_many_paths_lead_to_it() {
    for roots in [&["pods", "docker"][..], &["docker", "pods"], &["pods", "pods/", "again"], &["pods"]] {
        let node = Node::new(roots);
        symlink(node.path("pods"), node.path("again")).unwrap();
        let file = node.docker(&id("a"), "", "one");
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        symlink(&file, folder.join("0.log")).unwrap();
        let run = node.run();
        assert_eq!((run.messages(), run.code), (vec!["one"], Some(0)), "{roots:?}: {}", run.log);
        assert_eq!(run.events[0]["kubernetes"]["pod"]["name"], "pod", "{roots:?}");
        // Rotated behind the link while nothing runs here.
        node.docker(&id("a"), "", "two");
        fs::rename(&file, format!("{}.1", file.display())).unwrap();
        node.docker(&id("a"), "", "three");
        let run = node.run();
        assert_eq!((run.messages(), run.code), (vec!["two", "three"], Some(0)), "{roots:?}: {}", run.log);
        assert_eq!(node.run().messages(), [""; 0]);
    }
}

#[test]
fn a_file_with_hard_links_is_shipped_once_under_the_name_that_says_most() {
    let names = ["0.log.bak", "0.log.1", "0.log.20261123-100000", "copy-of-0.log"];
    for name in names {
        let node = Node::new(&["pods"]);
        let live = node.pod("0.log", "one");
        fs::hard_link(&live, live.with_file_name(name)).unwrap();
        let run = node.run();
        assert_eq!((run.messages(), run.code), (vec!["one"], Some(0)), "{name}: {}", run.log);
        node.pod("0.log", "two");
        let run = node.run();
        assert_eq!((run.messages(), run.code), (vec!["two"], Some(0)), "{name}: {}", run.log);
    }
}

#[test]
fn unfinished_lines_are_shipped_before_the_end_in_each_format() {
    let node = Node::new(&["pods", "docker"]);
    node.pod("0.log", "working");
    append(&node.path("pods").join(POD).join("0.log"), &format!("{TIME} stderr P panic: out of luck\n"));
    let docker = node.path("docker").join(id("a")).join(format!("{}-json.log", id("a")));
    append(&docker, &format!("{{\"log\":\"killed\",\"stream\":\"stderr\",\"time\":\"{TIME}\"}}\n"));
    let run = node.run();
    assert_eq!(run.code, Some(0));
    let messages: BTreeSet<_> = run.messages().into_iter().collect();
    assert_eq!(messages, BTreeSet::from(["working", "panic: out of luck", "killed"]));
    for event in run.events.iter().filter(|event| event["message"] != "working") {
        assert_eq!(event["log"]["flags"], serde_json::json!(["unfinished"]), "{event}");
    }
    assert_eq!(node.run().messages(), [""; 0]);
}

#[test]
fn a_json_line_becomes_fields_if_configured() {
    for schema in ["ecs", "legacy"] {
        let node = Node::new(&["pods", "docker"]);
        node.pod("0.log", "{\"level\":\"info\",\"nested\":{\"n\":-0}}");
        node.pod("0.log", "[1]");
        append(
            &node.path("docker").join(id("a")).join(format!("{}-json.log", id("a"))),
            &format!(
                "{{\"log\":\"{{\\\"level\\\":\\\"warn\\\"}}\\n\",\"stream\":\"stdout\",\"attrs\":{{\"tag\":\"web/x\"}},\"time\":\"{TIME}\"}}\n"
            ),
        );
        let settings = [("JSON_LINES", "on"), ("EVENT_SCHEMA", schema)];
        let run = node.run_with(&[], &settings);
        let fields =
            |event: &Value| if schema == "ecs" { event["json"].clone() } else { event["json"]["fields"].clone() };
        let mut got: Vec<_> = run.events.iter().map(|event| fields(event).to_string()).collect();
        got.sort();
        assert_eq!(
            got,
            ["null", "{\"level\":\"info\",\"nested\":{\"n\":-0.0}}", "{\"level\":\"warn\"}"],
            "{}",
            run.log
        );
        let attrs =
            |event: &&Value| event["docker"]["attrs"]["tag"] == "web/x" || event["json"]["attrs"]["tag"] == "web/x";
        assert_eq!(run.events.iter().filter(attrs).count(), 1);
        fs::remove_dir_all(node.path("state")).unwrap();
        let plain = node.run_with(&[], &settings[1..]);
        assert!(plain.events.len() == 3 && plain.events.iter().all(|event| fields(event).is_null()));
    }
}

#[test]
fn attrs_that_are_too_large_are_left_out_and_the_event_says_so() {
    let node = Node::new(&["docker"]);
    let deep = format!("{}1{}", "{\"a\":".repeat(17), "}".repeat(17));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(65 * 1024));
    for attrs in [&deep, &long, "{\"a\":1}"] {
        append(
            &node.path("docker").join(id("a")).join(format!("{}-json.log", id("a"))),
            &format!("{{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{attrs},\"time\":\"{TIME}\"}}\n"),
        );
    }
    let run = node.run();
    let got: Vec<_> =
        run.events.iter().map(|event| (event["log"]["flags"][0].as_str(), &event["docker"]["attrs"])).collect();
    let (left_out, one) = (Some("attrs_left_out"), serde_json::json!({"a": 1}));
    assert_eq!(got, [(left_out, &Value::Null), (left_out, &Value::Null), (None, &one)], "{}", run.log);
}

#[test]
fn a_container_that_writes_too_much_is_limited_and_others_are_not() {
    let node = Node::new(&["pods", "docker"]);
    for number in 0..500 {
        node.pod("0.log", &number.to_string());
    }
    node.docker(&id("a"), "", "other");
    let run = node.run_with(&[], &[("LINES_PER_SECOND", "20")]);
    assert!((21..=200).contains(&run.events.len()), "{}", run.events.len());
    assert!(run.messages().contains(&"other"));
    assert!(run.log.contains("LINES_PER_SECOND"), "{}", run.log);
    assert_eq!(node.run().messages(), [""; 0]);
}

#[test]
fn docker_containers_are_chosen_by_label() {
    let node = Node::new(&["docker"]);
    for (digit, tier) in [("a", "front"), ("b", "back")] {
        node.docker(&id(digit), "", tier);
        let config =
            format!("{{\"Name\":\"/{tier}\",\"Config\":{{\"Image\":\"i\",\"Labels\":{{\"tier\":\"{tier}\"}}}}}}");
        fs::write(node.path("docker").join(id(digit)).join("config.v2.json"), config).unwrap();
    }
    let cases = [("LOG_LABELS", "tier in (front)", "front"), ("LOG_LABELS_EXCLUDED", "tier=front", "back")];
    for (setting, selector, expected) in cases {
        let run = node.run_with(&[], &[(setting, selector)]);
        assert_eq!(run.messages(), [expected], "{setting}={selector}: {}", run.log);
        fs::remove_dir_all(node.path("state")).unwrap();
    }
}

#[test]
fn a_second_shipper_with_the_same_state_is_refused() {
    let node = Node::new(&["pods"]);
    node.pod("0.log", "one");
    let settings = [
        ("LOG_PATHS", node.path("pods").display().to_string()),
        ("STATE_DIR", node.path("state").display().to_string()),
        ("OUTPUT", "stdout".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut first = Daemon::start(env!("CARGO_BIN_EXE_log-shipper"), &["run"], &settings).unwrap();
    first.until("/output", LIMIT, |status, _| status == 200).unwrap();
    let run = node.run();
    assert_eq!((run.messages(), run.code), (vec![], Some(1)), "{}", run.log);
    assert!(run.log.contains(&format!("is in use by process {}", first.process().id())), "{}", run.log);
    // The folder of the first one is deleted.
    // It may write a checkpoint there meanwhile.
    wait::until(LIMIT, || fs::remove_dir_all(node.path("state")).ok()).unwrap();
    node.pod("0.log", "two");
    wait::until(LIMIT, || {
        fs::read_dir(node.path("state"))
            .ok()?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint"))
    })
    .unwrap();
    assert_eq!(node.run().code, Some(1));
    assert!(first.log().matches("checkpoint can't be written").count() <= 1, "{}", first.log());
}

#[test]
fn lines_are_shipped_without_a_checkpoint_and_the_end_reports_it() {
    let node = Node::new(&["pods"]);
    node.pod("0.log", "one");
    let script = format!("mount -t tmpfs -o ro none {} && exec \"$0\" \"$@\"", node.path("state").display());
    let run = node.run_with(&["unshare", "--mount", "sh", "-c", &script], &[]);
    assert_eq!((run.messages(), run.code), (vec!["one"], Some(1)), "{}", run.log);
    assert!(run.log.contains("the checkpoint"), "{}", run.log);
    let run = node.run();
    assert_eq!((run.messages(), run.code), (vec!["one"], Some(0)), "{}", run.log);
}
