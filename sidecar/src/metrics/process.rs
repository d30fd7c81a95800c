//! `process_*`: the resources that this process uses, named as the Prometheus client libraries name them, without the
//! daemon's prefix.
//!
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>; read from `/proc/self` (proc(5)) at
//! each scrape. Values that cannot be read are left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct Process;

/// The fields of `/proc/self/stat` that are used.
#[derive(Debug, PartialEq)]
struct Stat {
    /// User and system time, in clock ticks.
    cpu_ticks: u64,
    threads: u64,
    /// Time of the start after boot, in clock ticks.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: Option<f64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)
            }
            None => Ok(()),
        };
        let (open, most) =
            (fs::read_dir("/proc/self/fd").ok().map(Iterator::count), getrlimit(Resource::Nofile).current);
        gauge("process_open_fds", "Number of open file descriptors.", None, open.map(|open| open as f64))?;
        gauge("process_max_fds", "Maximum number of open file descriptors.", None, most.map(|most| most as f64))?;
        let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Stat::parse(&stat)) else {
            return Ok(());
        };
        let (tick, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
        let resident = stat.resident_pages as f64 * page;
        gauge("process_resident_memory", "Resident memory size.", Some(Unit::Bytes), Some(resident))?;
        gauge("process_virtual_memory", "Virtual memory size.", Some(Unit::Bytes), Some(stat.virtual_bytes as f64))?;
        gauge("process_threads", "Threads.", None, Some(stat.threads as f64))?;
        let booted = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
        let started = booted.map(|booted| booted as f64 + stat.start_ticks as f64 / tick);
        gauge("process_start_time", "Start time of the process since the Unix epoch.", Some(Unit::Seconds), started)?;
        let cpu = ConstCounter::new(stat.cpu_ticks as f64 / tick);
        let help = "Total user and system CPU time spent.";
        cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)
    }
}

impl Stat {
    /// proc(5): the command's name is in parentheses and may contain any character.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // The manual's third field is the first one after the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// The time of boot, in seconds since the epoch.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1234 8192 5 18446744073709551615 1";
        let expected = Stat { cpu_ticks: 200, threads: 3, start_ticks: 1234, virtual_bytes: 8192, resident_pages: 5 };
        assert_eq!(Stat::parse(stat), Some(expected));
        for broken in ["", "7 (a) S", "7 (a) S 1 x"] {
            assert_eq!(Stat::parse(broken), None);
        }
        assert_eq!(boot_time("cpu 1\nbtime 1764000000\nprocesses 3\n"), Some(1_764_000_000));
    }
}
