//! Metrics in the OpenMetrics text format, named `labhands_<daemon>_…` in base units.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::encode`] (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one daemon; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Metrics whose names begin with `labhands_<daemon>_`; `build_info` is there from the start.
    pub fn new(daemon: &str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix(format!("labhands_{}", daemon.replace('-', "_")));
        registry.register("build", "Version of the running binary", Info::new([("version", version)]));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers a family of metrics through `register`, which gets the prometheus-client registry.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String fails only if an encoder does: then what was written is served, and the scraper notices the
        // missing end mark.
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "cannot encode the metrics");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn names_bear_the_daemons_prefix() {
        let metrics = Metrics::new("fs-keepalive", "1.2.3");
        let rounds = Counter::<u64>::default();
        metrics.register(|registry| registry.register("rounds", "Rounds done", rounds.clone()));
        rounds.inc();
        let text = metrics.encode();
        assert!(text.contains("labhands_fs_keepalive_rounds_total 1"), "{text}");
        assert!(text.contains("labhands_fs_keepalive_build_info{version=\"1.2.3\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
