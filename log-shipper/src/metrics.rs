//! Metrics of log-shipper.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The shipper's metrics; clones share them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is registered with its help")]
pub struct Metrics {
    pub bytes_read: Counter,
    pub bytes_lost: Counter,
    pub losses_unknown: Counter,
    pub nul_bytes: Counter,
    pub unfinished: Counter,
    pub events_confirmed: Counter,
    pub messages_published: Counter,
    pub messages_confirmed: Counter,
    pub messages_returned: Counter,
    pub messages_refused: Counter,
    pub messages_dead_lettered: Counter,
    pub messages_cut: Counter,
    pub messages_given_up: Counter,
    pub excluded: Counter,
    pub limited: Counter,
    pub own_lines: Counter,
    pub truncated: Counter,
    pub unparsed: Counter,
    pub connections: Counter,
    pub connected: Gauge,
    pub blocked: Gauge,
    pub unconfirmed: Gauge,
    pub refused_containers: Gauge,
    pub pending_bytes: Gauge,
    pub pinned_bytes: Gauge,
    pub containers: Gauge,
    pub open_files: Gauge,
    pub unreadable: Gauge,
    pub unplaced_files: Gauge,
    pub pod_watch_errors: Counter,
    pub checkpoints: Counter,
    pub checkpoint_errors: Counter,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, metrics: &sidecar::metrics::Metrics) {
        let counters = [
            ("read_bytes", "Uncompressed bytes read from log files", &self.bytes_read),
            ("bytes_lost", "Bytes of log files that were deleted before they could be read", &self.bytes_lost),
            (
                "losses_unknown",
                "Losses whose size is not known, such as the end of a damaged gzip file or lines before a truncation",
                &self.losses_unknown,
            ),
            ("nul_bytes_skipped", "NUL bytes in log files that no container wrote", &self.nul_bytes),
            ("lines_unfinished", "Lines shipped incomplete because their end never came", &self.unfinished),
            ("events_confirmed", "Events that the broker confirmed", &self.events_confirmed),
            ("messages_published", "Messages published, including repetitions", &self.messages_published),
            ("messages_confirmed", "Messages that the broker confirmed", &self.messages_confirmed),
            ("messages_returned", "Messages that no queue was bound for", &self.messages_returned),
            ("messages_refused", "Messages that the broker refused", &self.messages_refused),
            ("messages_dead_lettered", "Messages sent to the dead letter exchange", &self.messages_dead_lettered),
            ("messages_cut", "Messages cut because they are too large for the broker", &self.messages_cut),
            ("messages_given_up", "Messages given up because the broker never accepted them", &self.messages_given_up),
            ("lines_excluded", "Lines dropped by EXCLUDE_LINES", &self.excluded),
            ("lines_limited", "Lines dropped by LINES_PER_SECOND", &self.limited),
            ("lines_own", "Lines skipped because they are log-shipper's own output", &self.own_lines),
            ("lines_truncated", "Lines cut at MAX_LINE", &self.truncated),
            ("lines_unparsed", "Lines shipped unchanged because they could not be parsed", &self.unparsed),
            ("connections", "Connections to a broker", &self.connections),
            ("pod_watch_errors", "Failures of the watch on this node's pods", &self.pod_watch_errors),
            ("checkpoints", "Checkpoints written", &self.checkpoints),
            ("checkpoint_errors", "Checkpoints that could not be written", &self.checkpoint_errors),
        ];
        let gauges = [
            ("connected", "1 while a broker is connected", &self.connected),
            ("blocked", "1 while the broker asks to stop publishing", &self.blocked),
            ("unconfirmed_messages", "Messages that wait for a confirm", &self.unconfirmed),
            (
                "refused_containers",
                "Containers that wait because the broker refuses their messages",
                &self.refused_containers,
            ),
            ("pending_bytes", "Bytes read and not confirmed", &self.pending_bytes),
            ("pinned_bytes", "Bytes of deleted files kept on disk until they are read", &self.pinned_bytes),
            ("containers", "Containers whose logs are followed", &self.containers),
            ("open_files", "Log files that are open", &self.open_files),
            ("unreadable", "Folders, files and links of logs that can't be read", &self.unreadable),
            ("unplaced_files", "Files next to logs that are not read because of their names", &self.unplaced_files),
        ];
        metrics.register(|registry| {
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
            for (name, help, gauge) in gauges {
                registry.register(name, help, gauge.clone());
            }
        });
    }
}
