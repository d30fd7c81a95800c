//! The lines that log-shipper and its peers lose when they are killed, or when their connection is cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::folder::Folder;
use testbed::proxy::TcpProxy;

use super::broker::Broker;
use super::logs::{self, Format};
use super::peers::{self, Shipper, Task};
use crate::Size;
use crate::measure::Subject;
use crate::table::Table;

const SHIPPERS: [Shipper; 4] = [Shipper::Own, Shipper::Rsyslog, Shipper::SyslogNg, Shipper::Telegraf];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9, and started again two seconds later with its state.
    Killed,
    /// Its connection is cut; the broker keeps running.
    Cut,
}

pub(crate) fn run(size: Size) -> Result<()> {
    let (lines, patience) = (size.choose(100_000, 20_000), Duration::from_secs(size.choose(40, 15)));
    let peers = peers::build()?;
    let (folder, broker) = (Folder::new("faults")?, Broker::start()?);
    let logs = folder.folder("pods")?;
    logs::write(&logs, Format::Cri, lines, 190)?;
    let proxy = TcpProxy::start(broker.address())?;
    let task = Task { logs, broker: proxy.address(), tls: broker.tls(), peers };
    let mut table = Table::new(&["shipper", "fault", "in the queue then", "lost", "twice", "s to the last line"]);
    for shipper in SHIPPERS {
        for fault in [Fault::Killed, Fault::Cut] {
            broker.empty_queue()?;
            let state = folder.join(&format!("{shipper:?}-{fault:?}"));
            let (at, took) = ship(shipper, fault, &task, &state, lines, &broker, &proxy, patience)?;
            let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
            broker.take_all(|body| *seen.entry(logs::number(body).unwrap_or(u64::MAX)).or_default() += 1)?;
            let lost = (0..lines).filter(|number| !seen.contains_key(number)).count();
            let twice: u32 = seen.values().map(|times| times - 1).sum();
            let fault = if fault == Fault::Killed { "kill -9" } else { "connection cut" };
            table.row([
                shipper.name().to_owned(),
                fault.to_owned(),
                at.to_string(),
                lost.to_string(),
                twice.to_string(),
                format!("{took:.0}"),
            ]);
        }
    }
    println!(
        "{table}\n{lines} lines in {} files; the fault comes after a third of them; one run each. Over when all lines are there, or when \
              nothing has come for {} s.",
        logs::FILES,
        patience.as_secs()
    );
    Ok(())
}

/// Ships with a fault in the middle. Returns the number of messages in the queue, and the seconds until the last one came.
#[allow(clippy::too_many_arguments, reason = "what one run is made of")]
fn ship(
    shipper: Shipper,
    fault: Fault,
    task: &Task,
    state: &Path,
    lines: u64,
    broker: &Broker,
    proxy: &TcpProxy,
    patience: Duration,
) -> Result<(u64, f64)> {
    let start = || Subject::start(shipper.name(), &shipper.command(task, state, false)?, &state.join("log"));
    let mut subject = start()?;
    let at =
        testbed::wait::until(Duration::from_secs(60), || broker.messages().ok().filter(|count| *count >= lines / 3))
            .unwrap_or(0);
    match fault {
        Fault::Killed => {
            subject.process().kill();
            std::thread::sleep(Duration::from_secs(2));
            subject = start()?;
        }
        Fault::Cut => proxy.cut(),
    }
    let begun = Instant::now();
    let (mut last, mut moved) = (at, begun);
    while moved.elapsed() < patience {
        let count = broker.messages()?;
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        // All lines have arrived, some perhaps twice; another moment shows whether more come.
        if count >= lines && moved.elapsed() > Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    subject.process().kill();
    Ok((at, (moved - begun).as_secs_f64()))
}
