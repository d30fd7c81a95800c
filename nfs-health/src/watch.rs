//! Rounds of every export again and again, each at its own pace, so that one that hangs delays no other.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use sidecar::readiness::{Latch, Pulse};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::metrics::HealthMetrics;
use crate::pace::Pace;
use crate::probe::Probing;
use crate::server::Server;
use crate::steady::{Change, Known, Steady};
use crate::targets::Target;
use crate::verdict::Verdict;
use crate::volume::{Round, Volume};

/// Says what there is to look at; asked again before each pass.
pub type See = Box<dyn Fn() -> BTreeMap<Server, Target> + Send + Sync>;

/// What is watched and how.
pub struct Watch {
    /// Says what there is to look at.
    pub see: See,
    /// How to probe.
    pub probing: Probing,
    /// Time between two rounds of an export.
    pub interval: Duration,
    /// Rounds that must agree.
    pub rounds: u32,
    /// What is counted.
    pub metrics: HealthMetrics,
    /// Where verdicts go.
    pub board: Arc<Board>,
    /// Ready while every export is well, where readiness shall tell.
    pub latch: Option<Latch>,
}

impl Watch {
    /// How long nothing may be seen of a watch that is alive.
    pub fn pulse_limit(interval: Duration) -> Duration {
        interval * 2 + Duration::from_secs(60)
    }

    /// Looks for exports, and starts rounds for those that are new, until `shutdown`.
    pub async fn watch(self, pulse: Pulse, shutdown: CancellationToken) {
        let (this, pace) = (Arc::new(self), Arc::new(Pace::default()));
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            pulse.beat();
            for server in this.board.update((this.see)()) {
                running.spawn(this.clone().rounds(server, pace.clone(), shutdown.clone()));
            }
            this.tell();
            while running.try_join_next().is_some() {}
            tokio::select! { () = tokio::time::sleep(this.interval) => (), () = shutdown.cancelled() => () }
        }
        // What hangs is left; children are killed with their rounds.
        running.shutdown().await;
    }

    /// Rounds of one export, until it is no longer a target.
    async fn rounds(self: Arc<Self>, server: Server, pace: Arc<Pace>, shutdown: CancellationToken) {
        let name = server.to_string();
        let mut volume = Volume::new(server.clone(), self.probing.clone());
        let (mut steady, mut known) = (Steady::new(self.rounds), Known::default());
        // Many nodes do not all begin at once.
        let mut next = Instant::now() + self.interval.min(Duration::from_secs(1)).mul_f64(chance());
        loop {
            let turn = async {
                tokio::time::sleep_until(next).await;
                tokio::time::sleep_until(pace.turn(&server, Instant::now())).await;
            };
            tokio::select! { () = turn => (), () = shutdown.cancelled() => return }
            next = Instant::now() + self.interval.mul_f64(0.9 + 0.2 * chance());
            let Some(target) = self.board.target(&server) else { break };
            let round = volume.round(&target).await;
            self.note(&name, &server, &round, &mut steady, &mut known);
        }
        tracing::info!(export = name, "no longer mounted here");
        self.metrics.forget(&name);
    }

    fn note(&self, name: &str, server: &Server, round: &Round, steady: &mut Steady<Verdict>, known: &mut Known) {
        match round.front.identity.as_ref().and_then(|identity| known.take(identity)) {
            Some(change) => {
                self.metrics.change(name, change);
                match change {
                    Change::Restarted => tracing::warn!(export = name, "the server was started again"),
                    Change::Replaced => tracing::warn!(export = name, "another server answers at the address"),
                }
            }
            None => tracing::debug!(export = name, "{}", round.verdict),
        }
        let changed = steady.take(round.verdict.clone());
        let Some(shown) = steady.shown() else { return };
        if let Some(before) = changed {
            let (verdict, before) = (shown.kind.name(), before.map_or("unknown", |before| before.kind.name()));
            if shown.kind.is_healthy() {
                tracing::info!(export = name, verdict, before, "{}", shown.sentence);
            } else {
                tracing::warn!(export = name, verdict, before, phase = shown.phase, "{}", shown.sentence);
            }
        }
        self.metrics.round(name, round, shown.kind);
        self.board.show(server, shown);
        self.tell();
    }

    fn tell(&self) {
        let Some(latch) = &self.latch else { return };
        match self.board.not_ready() {
            None => latch.ready(),
            Some(why) => latch.not_ready(why),
        }
    }
}

/// A random number from 0 to 1, good enough to spread rounds.
fn chance() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(random) / f64::from(u32::MAX)
}
