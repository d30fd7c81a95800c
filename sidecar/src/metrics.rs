//! Metrics named `labhands_<daemon>_…` in base units, in the text format that the scraper asks for.

mod classic;
mod process;

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::sync::lock;

/// Creates counters of a family with zero. A counter that only appears with its first event hides that event from
/// Prometheus' `increase()`.
pub fn start_at_zero<L: Clone + Hash + Eq>(counters: &Family<L, Counter>, labels: impl IntoIterator<Item = L>) {
    for labels in labels {
        drop(counters.get_or_create(&labels));
    }
}

/// A format of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which every scraper and linter reads.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for: OpenMetrics only if it is named and no media type of the classic
    /// format is preferred (RFC 9110, section 12.5.1).
    pub fn accepted(accept: Option<&str>) -> Self {
        let (mut open, mut classic) = (0.0_f32, 0.0_f32);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters = parts.filter_map(|part| part.split_once('='));
            let (mut quality, mut known) = (1.0_f32, true);
            for (name, value) in parameters {
                match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                    ("q", value) => quality = value.parse().unwrap_or(0.0),
                    ("version", value) if kind == "application/openmetrics-text" => {
                        known = matches!(value, "1.0.0" | "0.0.1");
                    }
                    _ => {}
                }
            }
            match kind.as_str() {
                "application/openmetrics-text" if known => open = open.max(quality),
                "text/plain" | "text/*" => classic = classic.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic { Self::OpenMetrics } else { Self::Classic }
    }

    /// The answer's content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of one daemon; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    daemon: Arc<Mutex<Registry>>,
    /// Metrics without the daemon's prefix.
    process: Arc<Registry>,
}

impl Metrics {
    /// A set of metrics whose names begin with `labhands_<daemon>_`. It contains `build_info` and `process_*` from the
    /// start.
    pub fn new(daemon: &str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix(format!("labhands_{}", daemon.replace('-', "_")));
        registry.register("build", "Version of the running binary", Info::new([("version", version)]));
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process));
        Self { daemon: Arc::new(Mutex::new(registry)), process: Arc::new(process) }
    }

    /// Registers a family of metrics through `register`, which gets the prometheus-client registry.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut lock(&self.daemon))
    }

    /// All metrics as text.
    pub fn encode(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing to a String fails only if an encoder does. Then the partial text is served, and an OpenMetrics
        // scraper notices the missing end mark.
        let encoded = encode_registry(&mut text, &lock(&self.daemon))
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text));
        if let Err(error) = encoded {
            tracing::error!(%error, "cannot encode the metrics");
        }
        match format {
            Format::Classic => classic::of_open_metrics(&text),
            Format::OpenMetrics => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn names_have_the_daemons_prefix() {
        let metrics = Metrics::new("fs-keepalive", "1.2.3");
        let rounds = Counter::<u64>::default();
        metrics.register(|registry| registry.register("rounds", "Rounds done", rounds.clone()));
        rounds.inc();
        let text = metrics.encode(Format::OpenMetrics);
        assert!(text.contains("labhands_fs_keepalive_rounds_total 1"), "{text}");
        assert!(text.contains("labhands_fs_keepalive_build_info{version=\"1.2.3\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn what_the_process_uses_is_in_both_formats() {
        let metrics = Metrics::new("thing", "1");
        for (format, cpu) in
            [(Format::OpenMetrics, "process_cpu_seconds"), (Format::Classic, "process_cpu_seconds_total")]
        {
            let text = metrics.encode(format);
            let value = |name: &str| -> f64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
            };
            assert!(value("process_cpu_seconds_total") >= 0.0);
            assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
            assert!(value("process_resident_memory_bytes") > 1e5);
            assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
            assert!(value("process_threads") >= 1.0);
            let now = jiff::Timestamp::now().as_second() as f64;
            assert!((now - 3600.0..=now + 1.0).contains(&value("process_start_time_seconds")), "{text}");
            assert!(text.contains(&format!("# TYPE {cpu} counter")), "{text}");
        }
    }

    #[test]
    fn open_metrics_is_sent_only_on_request() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, open) in [
            (None, false),
            (Some(""), false),
            (Some("*/*"), false),
            (Some("text/plain"), false),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), false),
            (Some("application/openmetrics-text"), true),
            (Some("Application/OpenMetrics-Text; Version=1.0.0"), true),
            (Some("application/openmetrics-text;version=2.0.0, text/plain;q=0.1"), false),
            (Some("application/openmetrics-text;q=0"), false),
            (Some("application/openmetrics-text;q=0.3,text/plain;q=0.9"), false),
            (Some("text/plain;q=0.3,application/openmetrics-text;q=0.9"), true),
            (Some("application/openmetrics-text;q=nonsense"), false),
            (Some(prometheus_2), true),
            (Some(prometheus_3), true),
        ] {
            assert_eq!(Format::accepted(accept) == Format::OpenMetrics, open, "{accept:?}");
        }
    }
}
