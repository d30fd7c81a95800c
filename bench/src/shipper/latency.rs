//! How long a line takes from its write to a consumer: a few lines a second, beside many idle files.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::daemon::Daemon;
use testbed::folder::Folder;

use super::broker::{Broker, PASSWORD, USER};
use crate::Size;
use crate::measure::program;
use crate::table::{Table, median};

const IDLE_FILES: usize = 500;
const PER_SECOND: u32 = 100;

pub(crate) fn run(size: Size) -> Result<()> {
    let (lines, turns) = (300, size.choose(3, 1));
    let mut table = Table::new(&["from the write to a consumer", "median ms", "99 % ms", "most ms"]);
    for over_tls in [false, true] {
        let runs = (0..turns).map(|_| delays(lines, over_tls)).collect::<Result<Vec<_>>>()?;
        let at = |share: f64| {
            median(runs.iter().map(|delays| delays[((delays.len() as f64 * share) as usize).min(delays.len() - 1)]))
        };
        table.row([
            format!("log-shipper, {}", if over_tls { "TLS" } else { "without TLS" }),
            format!("{:.0}", at(0.5)),
            format!("{:.0}", at(0.99)),
            format!("{:.0}", at(1.0)),
        ]);
    }
    println!(
        "{table}\n{lines} lines, {PER_SECOND} a second, to one file beside {IDLE_FILES} idle ones; median of {turns}."
    );
    Ok(())
}

/// In milliseconds, sorted.
fn delays(lines: u32, over_tls: bool) -> Result<Vec<f64>> {
    let (broker, folder) = (Broker::start()?, Folder::new("latency")?);
    broker.empty_queue()?;
    let pods = folder.folder("pods")?;
    let open = |index: usize| -> Result<File> {
        let container = pods.join(format!("space_pod-{index}_uid-{index:06}/main"));
        std::fs::create_dir_all(&container)?;
        Ok(File::options().create(true).append(true).open(container.join("0.log"))?)
    };
    for index in 0..IDLE_FILES {
        open(index)?.write_all(b"2026-11-22T10:00:00Z stdout F idle\n")?;
    }
    let mut busy = open(IDLE_FILES)?;
    let url = if over_tls {
        format!("amqps://localhost:{}/%2f", broker.tls().port)
    } else {
        format!("amqp://{}/%2f", broker.address())
    };
    let [pods, state, authority] =
        [pods, folder.folder("state")?, broker.tls().authority].map(|path| path.display().to_string());
    let settings = [
        ("LOG_PATHS", pods.as_str()),
        ("STATE_DIR", &state),
        ("AMQP_URL", &url),
        ("AMQP_USERNAME", USER),
        ("AMQP_PASSWORD", PASSWORD),
        ("SSL_CERT_FILE", &authority),
    ];
    let shipper = Daemon::start(&program("log-shipper")?.display().to_string(), &["run"], &settings)?;
    let confirmed = "labhands_log_shipper_events_confirmed_total";
    testbed::wait::until(Duration::from_secs(60), || {
        shipper.metric(confirmed).filter(|count| *count >= IDLE_FILES as f64)
    })
    .context("log-shipper does not ship the lines that are there")?;
    let writing = std::thread::spawn(move || -> std::io::Result<()> {
        for line in 0..lines {
            std::thread::sleep(Duration::from_secs(1) / PER_SECOND);
            writeln!(busy, "{} stdout F seq={line:08}", jiff::Timestamp::now())?;
        }
        Ok(())
    });
    let mut delays = Vec::new();
    broker.take(IDLE_FILES + lines as usize, |body| {
        let now = jiff::Timestamp::now();
        let event: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let time = event["@timestamp"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        if let Some(time) = time.filter(|_| event["message"] != "idle") {
            delays.push(now.duration_since(time).as_secs_f64() * 1000.0);
        }
    })?;
    writing.join().ok().context("the writer panicked")??;
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}
