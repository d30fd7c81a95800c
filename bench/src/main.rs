//! `bench NAME [--quick]`: measures a daemon side by side with its peers and prints a table for `bench/README.md`.
//!
//! Each benchmark is a file with a `run(size)`, and a line in [`BENCHES`]. Each of them alternates with its peers in
//! the same run, because a machine's speed varies more from hour to hour than the programs differ.

mod measure;
mod nfs;
mod planner;
mod pull;
mod purger;
mod queue;
mod scan;
mod shipper;
mod table;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// The size of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// The size for the README's figures; it takes less than five minutes.
    Full,
    /// A short run that shows whether the benchmark works.
    Quick,
}

impl Size {
    fn choose<T>(self, full: T, quick: T) -> T {
        match self {
            Size::Full => full,
            Size::Quick => quick,
        }
    }
}

/// A benchmark: its name, what it measures, and how.
type Bench = (&'static str, &'static str, fn(Size) -> Result<()>);

const BENCHES: &[Bench] = &[
    ("scan", "prepuller scan of 10,000 tags, and the same HTTP requests without it", scan::run),
    ("pull", "prepuller pull of a 1 GB image, and ctr images pull", pull::run),
    ("queue", "prepuller pull of five images over a slow network, and ctr one after the other", queue::run),
    ("purger", "a round of imagepurger on a full node, and docuum's", purger::run),
    ("nfs", "nfs-health's rounds of 100 servers, one of them stopped, and idling", nfs::run),
    (
        "planner",
        "prepuller plan over 5,000 nodes, and a client that only writes and reads the same: memory, CPU",
        planner::run,
    ),
    (
        "shipper",
        "what an event costs log-shipper, a publisher on lapin, rsyslog, syslog-ng, Telegraf and amqp-publish",
        shipper::side_by_side,
    ),
    ("shipper-latency", "how long a line takes to a consumer, beside 500 idle files", shipper::latency),
    ("shipper-alone", "log-shipper's reading and encoding, batches, and idling", shipper::alone),
    (
        "shipper-faults",
        "what log-shipper, rsyslog, syslog-ng and Telegraf lose when killed or cut off",
        shipper::faults,
    ),
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    if let [command, logs, address] = words
        && command == shipper::LAPIN_COMMAND
    {
        return shipper::publish_by_lapin(std::path::Path::new(logs), address);
    }
    if let [command] = words
        && command == planner::bare::COMMAND
    {
        return planner::bare::run();
    }
    let size = if words.iter().any(|word| word == "--quick") { Size::Quick } else { Size::Full };
    let [name] = words.iter().filter(|word| *word != "--quick").collect::<Vec<_>>()[..] else {
        bail!("usage: bench/run NAME [--quick]\n{}", list());
    };
    let Some((_, _, bench)) = BENCHES.iter().find(|(known, ..)| known == name) else {
        bail!("there is no benchmark {name:?}\n{}", list());
    };
    println!("{}\n", measure::machine());
    bench(size)
}

fn list() -> String {
    BENCHES.iter().map(|(name, what, _)| format!("  {name:14} {what}\n")).collect()
}
