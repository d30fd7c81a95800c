//! `nfs-health run`: rounds of every export again and again, each at its own pace, so that one that hangs delays no other.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use nfs_mounts::mountinfo::Mounts;
use sidecar::admin::{AdminServer, BindError};
use sidecar::metrics::Metrics;
use sidecar::readiness::{Health, Latch};
use sidecar::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::HealthMetrics;
use crate::server::Server;
use crate::settings::{Look, Run};
use crate::steady::{Change, Known, Steady};
use crate::targets::{Target, targets};
use crate::verdict::Verdict;
use crate::volume::{Round, Volume};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs until `shutdown`.
///
/// # Errors
///
/// [`BindError`] when the admin address can't be had.
pub async fn run(settings: Run, shutdown: Shutdown) -> Result<(), BindError> {
    let Run { look, interval, rounds, admin, log } = settings;
    sidecar::log::init(log);
    let servers: Vec<String> = look.servers.iter().map(ToString::to_string).collect();
    tracing::info!(
        version = VERSION,
        ?servers,
        mountinfo = ?look.mountinfo,
        interval_seconds = interval.as_secs_f64(),
        timeout_seconds = look.probing.limit.as_secs_f64(),
        rounds,
        "{NAME} starts"
    );
    let (health, metrics) = (Health::default(), Metrics::new(NAME, VERSION));
    let pulse = health.pulse("watch", interval * 2 + Duration::from_secs(60));
    let board = Board { latch: health.latch("exports"), exports: Mutex::default() };
    let watch = Arc::new(Watch { look, interval, rounds, metrics: HealthMetrics::new(&metrics), board });
    let server = AdminServer::bind(admin, health, metrics, Router::new()).await?;
    let serving = tokio::spawn(server.serve(shutdown.token()));
    shutdown.drain(watch.watch(pulse, shutdown.token())).await;
    serving.abort();
    Ok(())
}

#[derive(Debug)]
struct Watch {
    look: Look,
    interval: Duration,
    rounds: u32,
    metrics: HealthMetrics,
    board: Board,
}

impl Watch {
    /// Looks for exports, and starts rounds for those that are new.
    async fn watch(self: Arc<Self>, pulse: sidecar::readiness::Pulse, shutdown: CancellationToken) {
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            pulse.beat();
            for server in self.board.update(self.see_targets()) {
                running.spawn(self.clone().rounds(server, shutdown.clone()));
            }
            while running.try_join_next().is_some() {}
            if let Some(mountinfo) = &self.look.mountinfo {
                self.metrics.mounts(&mountinfo.with_file_name("mountstats"));
            }
            tokio::select! { () = tokio::time::sleep(self.interval) => (), () = shutdown.cancelled() => () }
        }
        // What hangs is left; children are killed with their rounds.
        running.shutdown().await;
    }

    fn see_targets(&self) -> BTreeMap<Server, Target> {
        let read = |path: &Path| {
            Mounts::read(path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot list the mounts");
                Mounts::default()
            })
        };
        let mounts = self.look.mountinfo.as_deref().map(read).unwrap_or_default();
        targets(&self.look.servers, &mounts)
    }

    /// Rounds of one export, until it is no longer a target.
    async fn rounds(self: Arc<Self>, server: Server, shutdown: CancellationToken) {
        let name = server.to_string();
        let mut volume = Volume::new(server.clone(), self.look.behind(&server), self.look.probing.clone());
        let (mut steady, mut known) = (Steady::new(self.rounds), Known::default());
        // Many exports of one server, and many nodes, do not all begin at once.
        let mut next = tokio::time::Instant::now() + self.interval.min(Duration::from_secs(1)).mul_f64(chance());
        loop {
            tokio::select! { () = tokio::time::sleep_until(next) => (), () = shutdown.cancelled() => return }
            next = tokio::time::Instant::now() + self.interval.mul_f64(0.9 + 0.2 * chance());
            let Some(target) = self.board.target(&server) else { break };
            let round = volume.round(&target).await;
            self.note(&name, &server, &round, &mut steady, &mut known);
        }
        tracing::info!(export = name, "no longer mounted here");
        self.metrics.forget(&name);
    }

    fn note(&self, name: &str, server: &Server, round: &Round, steady: &mut Steady, known: &mut Known) {
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
            let (verdict, before) = (shown.kind.name(), before.map_or("unknown", |kind| kind.name()));
            if shown.kind.is_healthy() {
                tracing::info!(export = name, verdict, before, "{}", shown.sentence);
            } else {
                tracing::warn!(export = name, verdict, before, phase = shown.phase, "{}", shown.sentence);
            }
        }
        self.metrics.round(name, round, shown.kind);
        self.board.show(server, shown);
    }
}

/// What is looked at, and what is thought of it: the source of readiness.
#[derive(Debug)]
struct Board {
    latch: Latch,
    exports: Mutex<BTreeMap<Server, (Target, Option<Verdict>)>>,
}

impl Board {
    /// Takes over the targets; gives back those that are new.
    fn update(&self, targets: BTreeMap<Server, Target>) -> Vec<Server> {
        let mut exports = self.exports();
        exports.retain(|server, _| targets.contains_key(server));
        let mut new = Vec::new();
        for (server, target) in targets {
            match exports.get_mut(&server) {
                Some((known, _)) => *known = target,
                None => {
                    new.push(server.clone());
                    exports.insert(server, (target, None));
                }
            }
        }
        self.tell(&exports);
        new
    }

    fn target(&self, server: &Server) -> Option<Target> {
        self.exports().get(server).map(|(target, _)| target.clone())
    }

    fn show(&self, server: &Server, verdict: &Verdict) {
        let mut exports = self.exports();
        if let Some((_, shown)) = exports.get_mut(server) {
            *shown = Some(verdict.clone());
        }
        self.tell(&exports);
    }

    fn tell(&self, exports: &BTreeMap<Server, (Target, Option<Verdict>)>) {
        let said = exports.iter().filter_map(|(server, (_, verdict))| match verdict {
            None => Some(format!("{server}: no verdict yet")),
            Some(verdict) if !verdict.kind.is_healthy() => Some(format!("{server}: {verdict}")),
            Some(_) => None,
        });
        let said: Vec<String> = said.collect();
        if said.is_empty() { self.latch.ready() } else { self.latch.not_ready(said.join("; ")) }
    }

    fn exports(&self) -> MutexGuard<'_, BTreeMap<Server, (Target, Option<Verdict>)>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random number from 0 to 1, good enough to spread rounds.
fn chance() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(random) / f64::from(u32::MAX)
}
