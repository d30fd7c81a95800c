//! Which settings are accepted, which are rejected, and with what messages.

use super::*;
use crate::kubelet::Source;
use sidecar::settings::{Environment, parse};
use std::ffi::OsString;

fn thresholds(high: u8, low: u8, source: Source) -> Kubelet {
    Ok(Thresholds { high, low, source })
}

fn run(environment: &[(&str, &str)], flags: &[&str]) -> Result<RunSettings, String> {
    run_with(&thresholds(85, 80, Source::Assumed("a test".into())), environment, flags)
}

fn run_with(kubelet: &Kubelet, environment: &[(&str, &str)], flags: &[&str]) -> Result<RunSettings, String> {
    let environment: Environment = environment.iter().copied().collect();
    let arguments = ["imagepurger", "run"].iter().chain(flags).map(OsString::from);
    let Command::Run(run) = parse(&environment, arguments).unwrap() else { panic!("not run") };
    run.settings(kubelet).map_err(|problems| problems.to_string())
}

const FILE: (&str, &str) = ("CATALOGUE_FILE", "/c.json");

#[test]
fn a_catalogue_file_is_enough_on_a_single_machine() {
    let settings = run(&[FILE], &[]).unwrap();
    assert_eq!(settings.node.mode, Mode::Host { catalogue_file: "/c.json".into() });
    assert_eq!(settings.node.watermarks, Watermarks { high: 75, low: 65 });
    assert_eq!(settings.node.rules.grace, SignedDuration::from_hours(24));
    assert_eq!(settings.node.rules.catalogue_max_age, SignedDuration::from_hours(6));
    assert_eq!((settings.limits.most, settings.limits.dry_run), (20, false));
    assert_eq!(settings.node.history_file, history_in(Path::new("/var/lib/labhands/imagepurger")));
}

#[test]
fn dry_run_is_a_bare_flag_and_a_variable() {
    assert!(run(&[FILE], &["--dry-run"]).unwrap().limits.dry_run);
    assert!(run(&[FILE], &["--purge-dry-run=yes"]).unwrap().limits.dry_run);
    assert!(run(&[FILE, ("PURGE_DRY_RUN", "true")], &[]).unwrap().limits.dry_run);
}

#[test]
fn a_node_needs_its_name() {
    let cluster = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let problems = run(&[FILE, cluster], &[]).unwrap_err();
    assert!(problems.starts_with("NODE_NAME: must be set in a cluster"), "{problems}");
    assert!(run(&[], &[]).unwrap_err().starts_with("CATALOGUE_FILE: must be set"));
    assert!(run(&[("NODE_NAME", "a,b")], &[]).unwrap_err().starts_with("NODE_NAME: "));
    let pod = [("NODE_NAME", "n1"), cluster, ("POD_NAME", "p"), ("POD_NAMESPACE", "ns")];
    let cluster = Cluster {
        node: "n1".into(),
        catalogue_namespace: "labhands".into(),
        pod: Some(("ns".into(), "p".into())),
        pod_uid: None,
    };
    assert_eq!(run(&pod, &[]).unwrap().node.mode, Mode::Node { cluster, catalogue_file: None });
}

#[test]
fn both_watermarks_stay_below_both_of_kubelets() {
    let table = [
        ("75", "65", ""),
        ("79", "78", ""),
        ("80", "65", "DISK_HIGH"),
        ("95", "85", "DISK_HIGH"),
        ("85", "80", "DISK_LOW"),
    ];
    for (high, low, named) in table {
        let problems = run(&[FILE, ("DISK_HIGH", high), ("DISK_LOW", low)], &[]).map(drop).err().unwrap_or_default();
        assert_eq!(problems.is_empty(), named.is_empty(), "{high} {low}: {problems}");
        assert!(
            named.is_empty()
                || problems.contains(&format!("{named}: {}", if named == "DISK_LOW" { low } else { high })),
            "{problems}"
        );
    }
    let problems = run(&[FILE, ("DISK_LOW", "75")], &[]).unwrap_err();
    assert!(problems.contains("75 % is not below DISK_HIGH (75 %)"), "{problems}");

    let read = thresholds(70, 60, Source::Read(vec!["/var/lib/kubelet/config.yaml".into()]));
    let problems = run_with(&read, &[FILE], &[]).unwrap_err();
    let words =
        "DISK_HIGH: 75 % is not below kubelet's own thresholds (70 % and 60 %), read from /var/lib/kubelet/config.yaml";
    assert!(problems.contains(words), "{problems}");
    // The examples would be valid.
    assert!(
        problems.contains("(example: DISK_HIGH=55%)") && problems.contains("(example: DISK_LOW=45%)"),
        "{problems}"
    );
    assert!(run_with(&read, &[FILE, ("DISK_HIGH", "55%"), ("DISK_LOW", "45%")], &[]).is_ok());
    // With 100 % kubelet removes no images, whatever its other threshold is.
    let off = thresholds(100, 80, Source::Read(vec!["/var/lib/kubelet/config.yaml".into()]));
    assert!(run_with(&off, &[FILE, ("DISK_HIGH", "90%"), ("DISK_LOW", "80%")], &[]).is_ok());
    let problems = run(&[FILE, ("DISK_HIGH", "90%")], &[]).unwrap_err();
    assert!(problems.contains("(85 % and 80 %), assumed, because a test;"), "{problems}");
    let problems =
        run_with(&Err(vec![("KUBELET_CONFIG_FILE", "/k: there is no such file".into())]), &[FILE], &[]).unwrap_err();
    assert!(problems.starts_with("KUBELET_CONFIG_FILE: /k: there is no such file"), "{problems}");
}

#[test]
fn the_daemon_limits_a_round_and_purge_does_not() {
    let purge = |environment: &[(&str, &str)]| {
        let environment: Environment = environment.iter().copied().collect();
        let arguments = ["imagepurger", "purge", "--dry-run"].map(OsString::from);
        let Command::Purge(purge) = parse(&environment, arguments).unwrap() else { panic!("not purge") };
        purge.settings(&thresholds(85, 80, Source::Assumed("a test".into()))).unwrap()
    };
    assert_eq!((purge(&[FILE]).limits.most, purge(&[FILE]).limits.dry_run), (10_000, true));
    assert_eq!(purge(&[FILE, ("PURGE_MAX_PER_ROUND", "3")]).limits.most, 3);
    assert!(purge(&[FILE]).node.rules.retry.is_zero());
    let run = run(&[FILE, ("PURGE_INTERVAL", "1m")], &[]).unwrap();
    assert_eq!((run.limits.most, run.node.rules.retry), (20, SignedDuration::from_mins(1)));
}

#[test]
fn rounds_are_neither_a_busy_loop_nor_an_overflow() {
    for interval in ["1ms", "400000000000y"] {
        assert!(run(&[FILE, ("PURGE_INTERVAL", interval)], &[]).unwrap_err().starts_with("PURGE_INTERVAL: "));
    }
    assert!(run(&[FILE, ("PURGE_INTERVAL", "1s")], &[]).is_ok());
}

#[test]
fn an_id_is_no_name_of_an_image() {
    let (digest, hex) = (format!("sha256:{:064}", 1), format!("{:064}", 1));
    for setting in ["PURGE_ALLOW", "PURGE_DENY", "LAB_INFRASTRUCTURE_IMAGES"] {
        for id in [&digest, &hex] {
            let problems = run(&[FILE, (setting, id)], &[]).unwrap_err();
            assert!(problems.starts_with(&format!("{setting}: ")) && problems.contains("digest"), "{problems}");
        }
    }
}

#[test]
fn every_problem_is_named() {
    let bad = [
        ("PURGE_SCOPE", "some"),
        ("PURGE_GRACE", "0s"),
        ("PURGE_ALLOW", "*"),
        ("PURGE_DENY", "UPPER"),
        ("PURGE_FORCE_SHRINK", "perhaps"),
        ("LAB_INFRASTRUCTURE_IMAGES", "a b"),
        ("LAB_TAG_SCHEME", "roman"),
        ("CATALOGUE_MAX_AGE", "x"),
        ("PURGE_INTERVAL", "x"),
        ("PURGE_MAX_PER_ROUND", "0"),
        ("PURGE_DRY_RUN", "perhaps"),
        ("DISK_LOW", "0"),
        ("RUNTIME_ENDPOINT", "tcp://x"),
        ("ADMIN_ADDR", "x"),
    ];
    let problems = run(&bad, &[]).unwrap_err();
    for (name, _) in bad {
        assert!(problems.contains(&format!("{name}: ")), "{name} in {problems}");
    }
}
