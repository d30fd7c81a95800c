use super::*;
use sidecar::settings::{Environment, parse};
use std::ffi::OsString;

fn settings(command: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let environment: Environment = environment.iter().copied().collect();
    let arguments = parse(&environment, ["nfs-health", command].map(OsString::from)).unwrap();
    Settings::parse(&arguments).map_err(|problems| problems.to_string())
}

fn target_settings(environment: &[(&str, &str)]) -> Result<TargetSettings, String> {
    match settings("check", environment)? {
        Settings::Check(check) => Ok(check.target_settings),
        Settings::Run(run) => Ok(run.target_settings),
        Settings::Judge(judge) => Ok(judge.target_settings),
        Settings::Volumes(_) => panic!("check looks"),
    }
}

#[test]
fn servers_each_once_with_what_is_behind() {
    let target_settings = target_settings(&[
        ("NFS_SERVERS", "10.96.0.9/home, 10.96.0.9:2049/home,[fd00::1]/x"),
        ("NFS_BACKENDS", "10.96.0.9=10.244.1.7:12049"),
    ])
    .unwrap();
    assert_eq!(target_settings.servers.len(), 2);
    assert_eq!(target_settings.behind(&target_settings.servers[0]).unwrap().to_string(), "10.244.1.7:12049/home");
    assert_eq!(target_settings.behind(&target_settings.servers[1]), None);
    assert_eq!(target_settings.mountinfo, Some("/proc/self/mountinfo".into()));
}

#[test]
fn every_problem_is_named() {
    let problems = settings(
        "run",
        &[
            ("NFS_SERVERS", "/home"),
            ("NFS_BACKENDS", "a=b"),
            ("NFS_MOUNTS", "perhaps"),
            ("NFS_VERSION", "5"),
            ("NFS_MOUNT_PORT", "0"),
            ("NFS_TIMEOUT", "soon"),
            ("NFS_INTERVAL", "10ms"),
            ("NFS_ROUNDS", "0"),
            ("ADMIN_ADDR", "here"),
        ],
    )
    .unwrap_err();
    for name in ["SERVERS", "BACKENDS", "MOUNTS", "VERSION", "MOUNT_PORT", "TIMEOUT", "INTERVAL", "ROUNDS"] {
        assert!(problems.contains(&format!("NFS_{name}: ")), "{problems}");
    }
    assert!(problems.contains("ADMIN_ADDR: "), "{problems}");
}

#[test]
fn durations_are_neither_a_busy_loop_nor_an_overflow() {
    for (name, value) in
        [("NFS_TIMEOUT", "1ms"), ("NFS_TIMEOUT", "500000000000y"), ("NFS_INTERVAL", "999ms"), ("NFS_INTERVAL", "100y")]
    {
        assert!(settings("run", &[(name, value)]).unwrap_err().starts_with(&format!("{name}: ")), "{value}");
    }
    assert!(settings("run", &[("NFS_TIMEOUT", "100ms"), ("NFS_INTERVAL", "1d")]).is_ok());
}

#[test]
fn a_report_needs_the_nodes_name() {
    let place = [("NFS_REPORT_NAMESPACE", "labhands")];
    assert!(settings("run", &place).unwrap_err().contains("NODE_NAME: "));
    let Settings::Run(run) = settings("run", &[place[0], ("NODE_NAME", "n1")]).unwrap() else { panic!() };
    assert_eq!(run.report, Some(ReportPlace { namespace: "labhands".into(), node: "n1".into() }));
}

#[test]
fn the_judge_needs_nothing_and_has_no_mounts() {
    let Settings::Judge(judge) = settings("judge", &[]).unwrap() else { panic!() };
    assert_eq!((judge.namespace, judge.taint, judge.target_settings.mountinfo), (None, false, None));
    assert!(settings("judge", &[("NFS_TAINT", "maybe")]).unwrap_err().contains("NFS_TAINT: "));
}

#[test]
fn something_must_be_checked() {
    assert!(target_settings(&[("NFS_MOUNTS", "no")]).unwrap_err().contains("NFS_SERVERS: "));
    assert!(target_settings(&[]).unwrap().servers.is_empty());
}

#[test]
fn two_processes_are_two_clients() {
    let Settings::Run(run) = settings("run", &[("NODE_NAME", "n1")]).unwrap() else { panic!() };
    assert_eq!(run.target_settings.probing.owner, "labhands-nfs-health/n1");
    assert_ne!(target_settings(&[("NODE_NAME", "n1")]).unwrap().probing.owner, run.target_settings.probing.owner);
}

#[test]
fn thresholds_of_a_check_are_in_order_and_excluded_mounts_are_paths() {
    let arguments = |flags: &[&str]| {
        let flags = ["nfs-health", "check"].iter().chain(flags).map(OsString::from);
        Settings::parse(&parse(&Environment::default(), flags).unwrap()).map_err(|problems| problems.to_string())
    };
    let Settings::Check(check) = arguments(&["--output=nagios", "--warn=500ms", "--critical", "2s"]).unwrap() else {
        panic!()
    };
    assert_eq!((check.output, check.critical), (Output::Nagios, Some(Duration::from_secs(2))));
    assert!(arguments(&["--warn=3s", "--critical=2s"]).unwrap_err().contains("--warn: "));
    assert!(arguments(&["--warn=soon"]).unwrap_err().contains("--warn: "));
    assert!(target_settings(&[("NFS_MOUNTS_EXCLUDED", "/net,home")]).unwrap_err().contains("NFS_MOUNTS_EXCLUDED: "));
    assert_eq!(target_settings(&[("NFS_MOUNTS_EXCLUDED", "/net, */backup")]).unwrap().excluded, ["/net", "*/backup"]);
}
