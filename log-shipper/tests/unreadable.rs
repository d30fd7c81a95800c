//! Logs that the program can't read: each is named, and the run fails.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use support::layout::{Node, POD, TIME, append, id};

#[test]
fn unreadable_logs_are_named_and_are_a_failure() {
    type Prepare = fn(&Node);
    let dangling: Prepare = |node| {
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        symlink("/nonexistent/x-json.log", folder.join("0.log")).unwrap();
    };
    let links: Prepare = |node| {
        let file = node.docker(&id("a"), "", "one");
        symlink(file, node.path("pods").join(format!("pod_space_main-{}.log", id("a")))).unwrap();
    };
    let above: Prepare = |node| {
        fs::create_dir_all(node.path("pods/pods").join(POD)).unwrap();
        fs::create_dir(node.path("pods/containers")).unwrap();
    };
    let file: Prepare = |node| {
        fs::remove_dir(node.path("pods")).unwrap();
        fs::write(node.path("pods"), "").unwrap();
    };
    let missing: Prepare = |node| fs::remove_dir(node.path("pods")).unwrap();
    let local: Prepare = |node| {
        let folder = node.path("pods").join(id("b"));
        append(&folder.join("local-logs/container.log"), "x");
        fs::write(folder.join("hostconfig.json"), "{\"LogConfig\":{\"Type\":\"local\",\"Config\":{}}}").unwrap();
    };
    // It can be opened and shows a size of 0, and every read fails.
    let unreadable: Prepare = |node| {
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        symlink("/proc/self/mem", folder.join("0.log")).unwrap();
    };
    let pod_elsewhere: Prepare = |node| symlink("/nonexistent/pod", node.path("pods/space_pod_1")).unwrap();
    let container_elsewhere: Prepare = |node| {
        fs::create_dir(node.path("pods/space_pod_1")).unwrap();
        symlink("/nonexistent/main", node.path("pods/space_pod_1/main")).unwrap();
    };
    let podman: Prepare = |node| drop(append(&node.path("pods").join(id("c")).join("userdata/ctr.log"), "x"));
    let pipe: Prepare = |node| {
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        assert!(Command::new("mkfifo").arg(folder.join("0.log")).status().unwrap().success());
    };
    let cached: Prepare = |node| {
        let folder = node.path("pods").join(id("d"));
        append(&folder.join("container-cached.log"), "x");
        fs::write(folder.join("hostconfig.json"), "{\"LogConfig\":{\"Type\":\"fluentd\"}}").unwrap();
    };
    let too_high: Prepare = |node| drop(append(&node.path("pods/space_pod_1/0.log"), "x"));
    let too_deep: Prepare = |node| drop(append(&node.path("pods").join(POD).join("logs/0.log"), "x"));
    let not_utf8: Prepare = |node| {
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(b"\xff.log")), "x").unwrap();
    };
    let no_file: Prepare = |node| fs::create_dir_all(node.path("pods").join(POD).join("0.log")).unwrap();
    let cases: [(&str, Prepare); 16] = [
        ("/nonexistent/x-json.log", dangling),
        ("/var/log/pods", links),
        ("pods/pods", above),
        ("Not a directory", file),
        ("No such file or directory", missing),
        ("local", local),
        ("podman", podman),
        ("Input/output error", unreadable),
        ("/nonexistent/pod", pod_elsewhere),
        ("/nonexistent/main", container_elsewhere),
        ("0.log: it is not a regular file", pipe),
        ("0.log: it is not a regular file", no_file),
        ("log driver fluentd", cached),
        ("space_pod_1/0.log: a log directly in a pod's folder", too_high),
        ("main/logs: not the name of a log", too_deep),
        ("its name is not UTF-8", not_utf8),
    ];
    for (expected, prepare) in cases {
        let node = Node::new(&["pods"]);
        prepare(&node);
        let run = node.run();
        assert_eq!(run.code, Some(1), "{expected}: {}", run.log);
        assert!(run.log.contains(expected), "{expected}: {}", run.log);
    }
    let run = Node::new(&["pods/*/*/*.log"]).run();
    assert!(run.code == Some(1) && run.log.contains("not patterns"), "{}", run.log);
    let node = Node::new(&["pods"]);
    assert_eq!(node.run().code, Some(0), "an empty node is no failure");
    node.pod("0.log", "one");
    // CRI-O's log of the sandbox.
    append(&node.path("pods").join(POD).with_file_name(format!("{}.log", id("e"))), "x");
    let run = node.run();
    assert!(run.log.contains("found 1 containers with 1 log files") && !run.log.contains("not read"), "{}", run.log);
}

#[test]
fn a_folder_without_permission_is_a_failure_and_the_others_are_shipped() {
    const NOTHING: u32 = 0o000;
    const LIST_ONLY: u32 = 0o400;
    for (closed, mode) in [
        ("pods/space_other_1", NOTHING),
        ("pods/space_other_1", LIST_ONLY),
        ("pods/space_other_1/main", NOTHING),
        ("pods/space_other_1/main", LIST_ONLY),
        ("pods/space_other_1/main/0.log", NOTHING),
    ] {
        let node = Node::new(&["pods"]);
        node.pod("0.log", "one");
        append(&node.path("pods/space_other_1/main/0.log"), &format!("{TIME} stdout F two\n"));
        fs::set_permissions(node.path(closed), fs::Permissions::from_mode(mode)).unwrap();
        // Root may read everything; without these two capabilities, only what the modes allow.
        let run = node.run_with(&["setpriv", "--bounding-set=-dac_override,-dac_read_search"], &[]);
        assert_eq!((run.messages(), run.code), (vec!["one"], Some(1)), "{closed}: {}", run.log);
        assert!(run.log.contains(closed) && run.log.contains("Permission denied"), "{}", run.log);
    }
}

#[test]
fn a_folder_that_a_link_leads_to_and_that_cannot_be_read_is_a_failure() {
    const NOTHING: u32 = 0o000;
    const OPEN_ONLY: u32 = 0o100;
    for (closed, mode, arrived) in
        [("docker", NOTHING, &[][..]), ("docker/aaaa", NOTHING, &[]), ("docker/aaaa", OPEN_ONLY, &["one"])]
    {
        let node = Node::new(&["pods"]);
        let file = node.docker("aaaa", "", "one");
        node.docker("aaaa", ".1", "rotated");
        let folder = node.path("pods").join(POD);
        fs::create_dir_all(&folder).unwrap();
        symlink(&file, folder.join("0.log")).unwrap();
        fs::set_permissions(node.path(closed), fs::Permissions::from_mode(mode)).unwrap();
        let run = node.run_with(&["setpriv", "--bounding-set=-dac_override,-dac_read_search"], &[]);
        assert_eq!((run.messages(), run.code), (arrived.to_vec(), Some(1)), "{closed}: {}", run.log);
        assert!(run.log.contains("docker/aaaa") && run.log.contains("Permission denied"), "{}", run.log);
    }
}
