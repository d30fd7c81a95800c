//! Repeats rounds of every export, each with its own rate limit, so that one that hangs delays no other.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sidecar::readiness::Pulse;
use sidecar::schedule::{random, with_jitter};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::debounce::{Change, Debounced, Known};
use crate::agent::exports::ExportTable;
use crate::agent::metrics::HealthMetrics;
use crate::agent::round::{CheckedExport, Round};
use crate::probe::Probing;
use crate::probe::rate_limit::RateLimiter;
use crate::probe::verdict::Verdict;
use crate::server::Server;
use crate::targets::Target;

/// Lists what to check, before each pass.
pub trait Discover: Send {
    /// All targets; `None` if they are not known now.
    fn targets(&mut self) -> impl Future<Output = Option<BTreeMap<Server, Target>>> + Send;
}

/// Which exports are probed, and how.
pub struct Monitor {
    /// How to probe.
    pub probing: Probing,
    /// Time between two rounds of an export.
    pub interval: Duration,
    /// How many rounds must agree.
    pub rounds: u32,
    /// The metrics.
    pub metrics: HealthMetrics,
    /// Where verdicts are written.
    pub table: Arc<ExportTable>,
}

impl Monitor {
    /// How long a live monitor may go without a heartbeat.
    pub fn pulse_limit(interval: Duration) -> Duration {
        interval * 2 + Duration::from_secs(60)
    }

    /// Finds exports with `discover` and starts rounds for new ones, until `shutdown`. An export has only one task at a time,
    /// because two would be the same client to the server and end each other's sessions.
    pub async fn run(self, mut discover: impl Discover, pulse: Pulse, shutdown: CancellationToken) {
        let (this, limiter) = (Arc::new(self), Arc::new(RateLimiter::default()));
        let (mut running, mut tasks) = (JoinSet::new(), BTreeMap::<Server, AbortHandle>::new());
        while !shutdown.is_cancelled() {
            pulse.beat();
            while running.try_join_next().is_some() {}
            // If a task was cancelled but has not ended yet, the next pass starts its successor.
            tasks.retain(|_, task| !task.is_finished());
            let Some(targets) = shutdown.run_until_cancelled(discover.targets()).await else { break };
            let servers = match targets {
                Some(targets) => this.table.update(targets),
                None => this.table.exports().keys().cloned().collect(),
            };
            for server in servers {
                tasks
                    .entry(server.clone())
                    .or_insert_with(|| running.spawn(this.clone().rounds(server, limiter.clone(), shutdown.clone())));
            }
            tokio::select! { () = tokio::time::sleep(this.interval) => (), () = shutdown.cancelled() => () }
        }
        // Hanging calls are abandoned; children are killed with their rounds.
        running.shutdown().await;
    }

    /// Repeats rounds of one export until it is no longer a target.
    async fn rounds(self: Arc<Self>, server: Server, limiter: Arc<RateLimiter>, shutdown: CancellationToken) {
        let name = server.to_string();
        let mut export = CheckedExport::new(server.clone(), self.probing.clone());
        let (mut debounced, mut known) = (Debounced::new(self.rounds), Known::default());
        // The jitter keeps many nodes from starting at once.
        let mut next = Instant::now() + self.interval.min(Duration::from_secs(1)).mul_f64(random());
        loop {
            let next_start = async {
                tokio::time::sleep_until(next).await;
                tokio::time::sleep_until(limiter.next_start(&server, Instant::now())).await;
            };
            tokio::select! { () = next_start => (), () = shutdown.cancelled() => return }
            next = Instant::now() + with_jitter(self.interval);
            let Some(target) = self.table.target(&server) else { break };
            let round = export.round(&target).await;
            self.note(&name, &server, &round, &mut debounced, &mut known);
        }
        self.metrics.forget(&name);
        tracing::info!(export = name, "no longer mounted here");
    }

    fn note(&self, name: &str, server: &Server, round: &Round, debounced: &mut Debounced<Verdict>, known: &mut Known) {
        match round.front.identity.as_ref().and_then(|identity| known.take(identity)) {
            Some(change) => {
                self.metrics.change(name, change);
                match change {
                    Change::Restarted => tracing::warn!(export = name, "the server was restarted"),
                    Change::Replaced => tracing::warn!(export = name, "another server answers at the address"),
                }
            }
            None => tracing::debug!(export = name, "{}", round.verdict),
        }
        let changed = debounced.take(round.verdict.clone());
        let Some(shown) = debounced.shown() else { return };
        self.metrics.round(name, round, shown.kind);
        self.table.set_verdict(server, shown, round.front.location(server));
        if let Some(before) = changed {
            let (verdict, before) = (shown.kind.name(), before.map_or("unknown", |before| before.kind.name()));
            if shown.kind.is_healthy() {
                tracing::info!(export = name, verdict, before, "{}", shown.sentence);
            } else {
                tracing::warn!(export = name, verdict, before, phase = shown.phase, "{}", shown.sentence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sidecar::metrics::Metrics;
    use sidecar::readiness::Health;
    use tokio::net::TcpListener;

    use super::*;

    struct EverySecond {
        server: Server,
        passes: Arc<AtomicUsize>,
    }

    impl Discover for EverySecond {
        async fn targets(&mut self) -> Option<BTreeMap<Server, Target>> {
            Some(match self.passes.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => BTreeMap::from([(self.server.clone(), Target::default())]),
                _ => BTreeMap::new(),
            })
        }
    }

    #[tokio::test]
    async fn an_export_that_is_missing_in_one_pass_never_gets_a_second_task() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server: Server = format!("{}/home", listener.local_addr().unwrap()).parse().unwrap();
        let passes = Arc::new(AtomicUsize::new(0));
        let counted = passes.clone();
        // The export exists only in every second pass, and its round hangs.
        let discover = EverySecond { server, passes: counted };
        let metrics = HealthMetrics::new(&Metrics::new("nfs-health", "0"));
        let (interval, probing) = (Duration::from_millis(5), Probing::plain(Duration::from_secs(60)));
        let table = Arc::<ExportTable>::default();
        let monitor = Monitor { probing, interval, rounds: 1, metrics, table };
        let shutdown = CancellationToken::new();
        let pulse = Health::default().pulse("rounds", Duration::from_secs(60));
        let running = tokio::spawn(monitor.run(discover, pulse, shutdown.clone()));
        let mut connections = Vec::new();
        while connections.is_empty() || passes.load(Ordering::Relaxed) < 100 {
            tokio::select! {
                accepted = listener.accept() => connections.push(accepted.unwrap()),
                () = tokio::time::sleep(interval) => (),
            }
        }
        assert_eq!(connections.len(), 1);
        shutdown.cancel();
        running.await.unwrap();
    }
}
