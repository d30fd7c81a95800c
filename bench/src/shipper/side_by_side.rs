//! The cost of an event in log-shipper and its peers, in turns with the same files, broker and queue.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testbed::folder::Folder;

use super::broker::Broker;
use super::logs::{self, Format};
use super::peers::{self, Shipper, Task};
use crate::Size;
use crate::measure::{Subject, Taken};
use crate::table::{Table, median, range};

const LIMIT: Duration = Duration::from_secs(300);

/// The length of a line's message, in bytes.
const LENGTH: usize = 190;

pub(crate) fn run(size: Size) -> Result<()> {
    let (lines, turns) = (size.choose(200_000, 20_000), size.choose(5, 1));
    let peers = peers::build()?;
    let (folder, broker) = (Folder::new("shippers")?, Broker::start()?);
    let logs = folder.folder("pods")?;
    let (_, bytes) = logs::write(&logs, Format::Cri, lines, LENGTH)?;
    let task = Task { logs, broker: broker.address(), tls: broker.tls(), peers };
    let mut results: Vec<(Shipper, Vec<(Taken, u64)>)> = peers::ALL.map(|shipper| (shipper, Vec::new())).into();
    for turn in 0..turns {
        for (shipper, taken) in &mut results {
            broker.empty_queue()?;
            let state = folder.join(&format!("state-{shipper:?}-{turn}"));
            taken.push(ship(*shipper, &task, &state, lines, &broker)?);
            std::fs::remove_dir_all(state)?;
        }
    }
    let micros = |taken: &Taken| taken.cpu.as_secs_f64() * 1e6 / lines as f64;
    let cost = |shipper: Shipper| {
        let (_, taken) = results.iter().find(|(known, _)| *known == shipper).expect("all were measured");
        median(taken.iter().map(|(taken, _)| micros(taken)))
    };
    let best_peer =
        [Shipper::Rsyslog, Shipper::SyslogNg, Shipper::Telegraf].map(cost).into_iter().fold(f64::INFINITY, f64::min);
    let mut table = Table::new(&[
        "shipper",
        "µs CPU per event",
        "least to most",
        "of the best peer",
        "events/s",
        "peak MiB",
        "arrived",
        "confirms",
    ]);
    for (shipper, taken) in &results {
        let (least, most) = range(taken.iter().map(|(taken, _)| micros(taken)));
        let rate = median(taken.iter().map(|(taken, _)| lines as f64 / taken.time.as_secs_f64()));
        let peak = median(taken.iter().map(|(taken, _)| taken.peak as f64)) / f64::from(1 << 20);
        let arrived = taken.iter().map(|(_, arrived)| *arrived).min().unwrap_or(0);
        table.row([
            shipper.name().to_owned(),
            format!("{:.2}", cost(*shipper)),
            format!("{least:.2} – {most:.2}"),
            format!("{:.2}", cost(*shipper) / best_peer),
            format!("{rate:.0}"),
            // For a pipeline only the shell's own time is visible.
            if *shipper == Shipper::AmqpPublish { "-".to_owned() } else { format!("{peak:.1}") },
            format!("{arrived}"),
            if shipper.confirms() { "all" } else { "none" }.to_owned(),
        ]);
    }
    println!(
        "{table}\n{lines} lines ({} MB) in {} files, one persistent message per line into one durable queue; median of {turns}, in turns.",
        bytes / 1_000_000,
        logs::FILES
    );
    println!(
        "With TLS log-shipper takes {:.2} of rsyslog's CPU without. Goals: log-shipper at most 0.20 of the best peer's, everything \
         included; over TLS at most 0.35 of rsyslog's without.",
        cost(Shipper::OwnTls) / cost(Shipper::Rsyslog)
    );
    Ok(())
}

/// Ships all lines. Returns the resources used until the last was in the queue, and how many arrived.
fn ship(shipper: Shipper, task: &Task, state: &std::path::Path, lines: u64, broker: &Broker) -> Result<(Taken, u64)> {
    let command = shipper.command(task, state, true)?;
    let mut subject = Subject::start(shipper.name(), &command, &state.join("log"))?;
    if shipper.ends() {
        let taken = subject.until_end(LIMIT)?;
        // A program that does not wait for confirms ends before the broker has all lines.
        testbed::wait::until(Duration::from_secs(10), || {
            broker.messages().is_ok_and(|count| count >= lines).then_some(())
        })
        .or_else(|| shipper.confirms().then_some(()));
        let mut arrived = broker.messages()?;
        if shipper == Shipper::OwnBatch {
            arrived = 0;
            broker.take_all(|body| arrived += memchr::memmem::find_iter(body, b"seq=").count() as u64)?;
        }
        return Ok((taken, arrived));
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let (taken, arrived) = (subject.taken(), broker.messages()?);
        if arrived >= lines {
            subject.process().kill();
            return Ok((taken, arrived));
        }
        if Instant::now() > deadline || !subject.process().is_running() {
            bail!("{} shipped {arrived} of {lines}; the end of its log:\n{}", shipper.name(), subject.log_end());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
