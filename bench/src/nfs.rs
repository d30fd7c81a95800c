//! nfs-health's rounds of 100 servers, with and without a stopped one; and the resources of it and fs-keepalive in normal use.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::ganesha::{Ganesha, Setup};
use testbed::{command, wait};

use crate::Size;
use crate::measure::{on_cpu, program};
use crate::table::{Table, median, range};

const LIMIT: Duration = Duration::from_secs(120);
const SERVERS: u16 = 100;
const MEBI: f64 = 1_048_576.0;

/// The results of a run.
struct Seen {
    /// The mean duration of a round of each working server, in milliseconds.
    rounds: Vec<f64>,
    cpu_per_round: Duration,
    resident: f64,
}

pub(crate) fn run(size: Size) -> Result<()> {
    let (turns, rounds) = (size.choose(5, 1), size.choose(10, 2));
    let ganesha = Ganesha::start(Setup::default())?;
    let mut stopped = Ganesha::start(Setup::default())?;
    stopped.pause();
    let serving: Vec<String> =
        ganesha.more_addresses(SERVERS)?.iter().map(|address| format!("[{address}]/home")).collect();
    let with_stopped = [&serving[..], &[format!("{}/home", stopped.address())]].concat();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        without.push(watch(&serving, rounds)?);
        with.push(watch(&with_stopped, rounds)?);
    }
    let columns = ["servers", "round ms, median server", "slowest server", "ms CPU per round", "MiB resident"];
    let mut table = Table::new(&columns);
    for (name, seen) in [("100 working servers", &without), ("100 working servers, and one stopped", &with)] {
        table.row([
            name.to_owned(),
            format!("{:.2}", median(seen.iter().map(|seen| median(seen.rounds.iter().copied())))),
            format!("{:.2}", median(seen.iter().map(|seen| range(seen.rounds.iter().copied()).1))),
            format!("{:.2}", median(seen.iter().map(|seen| seen.cpu_per_round.as_secs_f64() * 1e3))),
            format!("{:.1}", median(seen.iter().map(|seen| seen.resident))),
        ]);
    }
    println!(
        "{table}\nA round per second of each, {rounds} rounds, NFS_TIMEOUT 10s, median of {turns} turns. Goal: no longer with the stopped one.\n"
    );
    idle(&ganesha, Duration::from_secs(size.choose(60, 5)))
}

/// Watches servers until each working one has had `rounds` rounds.
fn watch(servers: &[String], rounds: usize) -> Result<Seen> {
    let servers = servers.join(",");
    let settings = [("NFS_SERVERS", servers.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_MOUNTS", "no")];
    let mut daemon = Daemon::start(&program("nfs-health")?.display().to_string(), &["run"], &settings)?;
    let least = rounds as f64;
    let seen = wait::patiently(LIMIT, || {
        let (_, text) = daemon.get("/metrics")?;
        let counts = by_export(&text, "rounds_total", "verdict=\"ok\"");
        (counts.len() == usize::from(SERVERS) && counts.values().all(|count| *count >= least)).then_some((text, counts))
    });
    let (text, counts) = seen.context("not every server was looked at in time")?;
    let times = by_export(&text, "phase_duration_seconds_sum", "");
    let cpu = on_cpu(daemon.process().id())?;
    Ok(Seen {
        rounds: counts.iter().map(|(export, count)| times.get(export).copied().unwrap_or(0.0) * 1e3 / count).collect(),
        cpu_per_round: cpu.div_f64(counts.values().sum()),
        resident: daemon.resident().context("nfs-health has ended")? as f64 / MEBI,
    })
}

/// The sum of a metric for each export, of lines that contain `label`.
fn by_export(text: &str, metric: &str, label: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let beginning = format!("labhands_nfs_health_{metric}{{export=\"");
    for line in text.lines().filter(|line| line.contains(label)) {
        let Some((export, rest)) = line.strip_prefix(&beginning).and_then(|rest| rest.split_once('"')) else {
            continue;
        };
        let value: Option<f64> = rest.rsplit(' ').next().and_then(|value| value.parse().ok());
        *sums.entry(export.to_owned()).or_default() += value.unwrap_or(0.0);
    }
    sums
}

/// Runs both daemons with default settings and one healthy server or volume.
fn idle(ganesha: &Ganesha, time: Duration) -> Result<()> {
    let folder = Folder::new("idle")?;
    let home = folder.folder("home")?.display().to_string();
    command::run_args("mount", &["-t", "tmpfs", "tmpfs", &home])?;
    let server = format!("{}/home", ganesha.address());
    let rows = [
        idle_row("nfs-health", &[("NFS_SERVERS", &server), ("NFS_MOUNTS", "no")], time),
        idle_row("fs-keepalive", &[("KEEPALIVE_PATHS", &home)], time),
    ];
    command::run_args("umount", &[&home])?;
    let mut table = Table::new(&["idle", "MiB resident", "% of a core"]);
    for row in rows {
        table.row(row?);
    }
    println!("{table}\nOver {} s, default settings. Goal: below 6 MiB.", time.as_secs());
    Ok(())
}

fn idle_row(name: &str, settings: &[(&str, &str)], time: Duration) -> Result<[String; 3]> {
    let mut daemon = Daemon::start(&program(name)?.display().to_string(), &["run"], settings)?;
    daemon.until_ready(LIMIT, |status, _| status == 200).map_err(anyhow::Error::msg)?;
    let before = on_cpu(daemon.process().id())?;
    std::thread::sleep(time);
    let used = (on_cpu(daemon.process().id())? - before).as_secs_f64() / time.as_secs_f64();
    let resident = daemon.resident().context("the daemon has ended")? as f64 / MEBI;
    Ok([name.to_owned(), format!("{resident:.1}"), format!("{:.3}", used * 100.0)])
}
