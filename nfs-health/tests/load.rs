//! Many servers, one of them stopped: the others are not delayed, and memory does not grow.

use testbed::daemon::Daemon;
use testbed::ganesha::{Ganesha, Setup};
use testbed::wait::{self, LIMIT};

const SERVERS: u16 = 100;

/// Rounds of all exports together, and of the export with the fewest, without the stopped one.
fn rounds(daemon: &Daemon, stopped: &str) -> Option<(f64, f64)> {
    let (_, text) = daemon.get("/metrics")?;
    let counts = text.lines().filter(|line| {
        line.starts_with("labhands_nfs_health_rounds_total")
            && line.contains("verdict=\"ok\"")
            && !line.contains(stopped)
    });
    let counts: Vec<f64> = counts.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (counts.len() == usize::from(SERVERS))
        .then(|| (counts.iter().sum(), counts.iter().copied().fold(f64::MAX, f64::min)))
}

#[test]
fn a_stopped_server_delays_no_other_and_a_thousand_rounds_take_no_memory() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let mut stopped = Ganesha::start(Setup::default()).unwrap();
    stopped.pause();
    let mut servers: Vec<String> =
        ganesha.more_addresses(SERVERS).unwrap().iter().map(|address| format!("[{address}]/home")).collect();
    let address = stopped.address().to_string();
    servers.push(format!("{address}/home"));
    let settings = [
        ("NFS_SERVERS", servers.join(",")),
        ("NFS_INTERVAL", "1s".to_owned()),
        ("NFS_TIMEOUT", "10m".to_owned()),
        ("NFS_MOUNTS", "no".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();

    let until = |total: f64, fewest: f64| {
        let has_come = |(all, least): &(f64, f64)| *all >= total && *least >= fewest;
        assert!(wait::until(LIMIT, || rounds(&daemon, &address).filter(has_come)).is_some(), "{}", daemon.log());
    };
    // Each goes at its own pace while the first round of the stopped one still waits.
    until(500.0, 3.0);
    let (_, body) = daemon.get("/exports").unwrap();
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    let waiting = page["exports"].as_array().unwrap().iter().find(|export| export["verdict"].is_null()).unwrap();
    assert_eq!(waiting["export"], format!("{address}/home"));
    let before = daemon.resident().unwrap();
    until(1500.0, 3.0);
    let grown = daemon.resident().unwrap().saturating_sub(before);
    assert!(grown < 512 * 1024, "{grown} bytes more after 1000 rounds than {before} before");
    println!("resident {} KiB, grown by {} KiB", before / 1024, grown / 1024);
}
