//! The shippers' logs, and whether they explain every line that is missing or came twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Logs;
use crate::support::consumer::Seen;

/// One log entry of a shipper about lost bytes of a file.
#[derive(Clone, Debug)]
struct Lost {
    file: String,
    from: u64,
    to: u64,
}

/// The logs of all shippers of a run.
#[derive(Default)]
pub struct ShipperLogs {
    lost: Vec<Lost>,
    /// Shippers that lost a connection or a channel.
    reconnected: BTreeSet<String>,
    pub trouble: Vec<String>,
}

impl ShipperLogs {
    /// Reads the log of one shipper. Returns how many bytes it reports as lost.
    pub fn read(&mut self, shipper: &str, log: &str) -> u64 {
        let mut lost = 0;
        for line in log.lines() {
            // The last line of a killed process may be torn.
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else {
                if line.contains("panicked") {
                    self.trouble.push(format!("{shipper}: {line}"));
                }
                continue;
            };
            let message = entry["message"].as_str().unwrap_or_default();
            let number = |name: &str| entry[name].as_u64().unwrap_or_default();
            if message.starts_with("lost log lines") {
                let file = entry["file"].as_str().unwrap_or_default().to_owned();
                self.lost.push(Lost { file, from: number("from"), to: number("to") });
                lost += number("bytes");
            } else if message == "no connection to the broker"
                || message == "the broker refused a message and closed the channel"
            {
                self.reconnected.insert(shipper.to_owned());
            } else if message.contains("can't be") || message.contains("broken") {
                self.trouble.push(format!("{shipper}: {line}"));
            }
        }
        lost
    }

    pub fn lost_ranges(&self) -> usize {
        self.lost.len()
    }

    /// Missing numbers that no log entry covers.
    pub fn unaccounted(&self, logs: &Logs, seen: &Seen) -> Vec<String> {
        let mut by_file: BTreeMap<&str, Vec<&Lost>> = BTreeMap::new();
        for lost in &self.lost {
            by_file.entry(&lost.file).or_default().push(lost);
        }
        let mut missing: BTreeMap<u64, (bool, Vec<String>)> = BTreeMap::new();
        for container in &logs.containers {
            for generation in container.generations() {
                let paths: Vec<String> = generation
                    .names
                    .iter()
                    .map(|name| container.folder().join(name).display().to_string())
                    .flat_map(|path| [format!("{path}.gz"), path])
                    .collect();
                for written in generation.written.iter().filter(|written| seen.of(written.number).is_none()) {
                    let ranges = paths.iter().filter_map(|path| by_file.get(path.as_str())).flatten();
                    let covered = ranges.clone().any(|lost| lost.from <= written.start && written.end <= lost.to);
                    let entry = missing.entry(written.number).or_default();
                    entry.0 |= covered && !generation.on_disk;
                    entry.1.push(format!(
                        "{} {}-{} on_disk={}",
                        paths.join(" "),
                        written.start,
                        written.end,
                        generation.on_disk
                    ));
                }
            }
        }
        let open = missing.into_iter().filter(|(_, (accounted, _))| !accounted);
        open.map(|(number, (_, places))| format!("{number}: {}", places.join("; "))).collect()
    }

    /// Lines that came more often than restarts and reconnects explain, or with another id.
    pub fn unexplained(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, arrivals) in seen.all() {
            let distinct: BTreeSet<_> = arrivals.shippers.iter().collect();
            let twice_from_one = arrivals.shippers.len() > distinct.len();
            let by_reconnect = distinct.iter().any(|shipper| self.reconnected.contains(&***shipper));
            if arrivals.several_ids || (twice_from_one && !by_reconnect) {
                wrong.push(format!("{number}: {arrivals:?}"));
            }
        }
        wrong
    }
}
