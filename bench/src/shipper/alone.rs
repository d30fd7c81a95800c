//! log-shipper alone: reading, parsing and encoding without a broker; batches; and its resources when idle.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::daemon::Daemon;
use testbed::folder::Folder;

use super::broker::{Broker, PASSWORD, USER};
use super::logs::{self, Format};
use super::peers::{Shipper, Task};
use crate::Size;
use crate::measure::{Subject, command, on_cpu, program};
use crate::table::{Table, median};

const LIMIT: Duration = Duration::from_secs(300);

/// Lines of 200 bytes, including the part that the runtime writes before the message.
const LENGTH: usize = 155;

pub(crate) fn run(size: Size) -> Result<()> {
    let (lines, turns) = (size.choose(2_000_000, 100_000), size.choose(5, 1));
    let folder = Folder::new("alone")?;
    let mut table = Table::new(&["to a null sink", "MB/s per core", "µs CPU per event", "peak MiB"]);
    for (format, schema) in
        [(Format::Cri, "ecs"), (Format::Cri, "legacy"), (Format::Docker, "ecs"), (Format::Docker, "legacy")]
    {
        let logs = folder.folder(&format!("{format:?}"))?;
        let (_, bytes) = logs::write(&logs, format, lines, LENGTH)?;
        let taken = (0..turns).map(|_| null(&folder, &logs, schema)).collect::<Result<Vec<_>>>()?;
        let cpu = median(taken.iter().map(|taken| taken.cpu.as_secs_f64()));
        let peak = median(taken.iter().map(|taken| taken.peak as f64));
        table.row([
            format!("{format:?} lines, {schema} events"),
            format!("{:.0}", bytes as f64 / 1e6 / cpu),
            format!("{:.2}", cpu * 1e6 / lines as f64),
            format!("{:.1}", peak / f64::from(1 << 20)),
        ]);
    }
    println!(
        "{table}\n{lines} lines of about 200 bytes in {} files, page cache warm, median of {turns}. Goal: 500 MB/s per core.\n",
        logs::FILES
    );
    batches(&folder, lines, turns)?;
    idle(&folder, "null", size.choose(60, 5))?;
    idle(&folder, "amqp", size.choose(60, 5))
}

/// Reads, parses and encodes all lines, and discards the result.
fn null(folder: &Folder, logs: &Path, schema: &str) -> Result<crate::measure::Taken> {
    let state = folder.folder("state")?;
    let (logs, state_text) = (logs.display().to_string(), state.display().to_string());
    let settings =
        [("LOG_PATHS", logs.as_str()), ("STATE_DIR", &state_text), ("EVENT_SCHEMA", schema), ("OUTPUT", "null")];
    let command = command(program("log-shipper")?, &["run", "--until-idle"], &settings);
    let taken = Subject::start("log-shipper", &command, &folder.join("log"))?.until_end(LIMIT)?;
    std::fs::remove_dir_all(state)?;
    Ok(taken)
}

fn batches(folder: &Folder, lines: u64, turns: usize) -> Result<()> {
    let broker = Broker::start()?;
    let task =
        Task { logs: folder.join("Cri"), broker: broker.address(), tls: broker.tls(), peers: folder.join("none") };
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        broker.empty_queue()?;
        let state = folder.folder("state")?;
        let command = Shipper::OwnBatch.command(&task, &state, true)?;
        let taken = Subject::start("log-shipper", &command, &folder.join("log"))?.until_end(LIMIT)?;
        std::fs::remove_dir_all(state)?;
        rates.push(lines as f64 / taken.time.as_secs_f64());
        costs.push(taken.cpu.as_secs_f64() * 1e6 / lines as f64);
    }
    println!(
        "BATCH=on into a real RabbitMQ on the same machine, confirmed: {:.0} events/s, {:.2} µs CPU per event, median of {turns}. Goal: 200,000 events/s.\n",
        median(rates),
        median(costs)
    );
    Ok(())
}

/// An idle shipper: 500 open files, an output (a connected broker, or none), and nothing to do.
fn idle(folder: &Folder, output: &str, seconds: u64) -> Result<()> {
    let (broker, logs) = (Broker::start()?, folder.folder(&format!("idle-{output}"))?);
    broker.empty_queue()?;
    for index in 0..500 {
        let container = logs.join(format!("space_pod-{index}_uid-{index:06}/main"));
        std::fs::create_dir_all(&container)?;
        std::fs::write(container.join("0.log"), "2026-11-22T10:00:00Z stdout F seq=00000000 started\n".repeat(20))?;
    }
    let (address, state) = (format!("amqp://{}/%2f", broker.address()), folder.folder(&format!("state-{output}"))?);
    let (logs, state) = (logs.display().to_string(), state.display().to_string());
    let settings = [
        ("LOG_PATHS", logs.as_str()),
        ("STATE_DIR", &state),
        ("OUTPUT", output),
        ("AMQP_URL", &address),
        ("AMQP_USERNAME", USER),
        ("AMQP_PASSWORD", PASSWORD),
    ];
    let binary = program("log-shipper")?.display().to_string();
    let mut shipper = Daemon::start(&binary, &["run"], &settings)?;
    let confirmed = "labhands_log_shipper_events_confirmed_total";
    testbed::wait::until(Duration::from_secs(30), || shipper.metric(confirmed).filter(|count| *count >= 10_000.0))
        .context("log-shipper does not ship the lines that are there")?;
    let process = shipper.process().id();
    let mib = |name: &str| -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("log-shipper has ended")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    // After the first pause the memory for shipping them has been released; during the second, logs have reached their
    // longest rest.
    for pause in [5, 6 * seconds] {
        std::thread::sleep(Duration::from_secs(pause));
        let before = on_cpu(process)?;
        std::thread::sleep(Duration::from_secs(seconds));
        let used = (on_cpu(process)? - before).as_secs_f64() / seconds as f64;
        let (resident, binary) = (mib("VmRSS:")?, mib("RssFile:")?);
        println!(
            "Idle with 500 open files, OUTPUT={output}, {pause} s later: {resident:.1} MiB resident, {binary:.1} of them pages of its binary; {:.3} % of \
             a core over {seconds} s. Goals: 8.4 MiB to a null sink, 0.1 %.",
            used * 100.0
        );
    }
    Ok(())
}
