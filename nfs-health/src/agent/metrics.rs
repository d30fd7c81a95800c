//! Metrics of the exports and of this node's mounts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use nfs_mounts::mountstats::MountStatistics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use sidecar::metrics::{Metrics, start_at_zero};

use crate::agent::debounce::Change;
use crate::agent::round::Round;
use crate::probe::mount::{MountSeen, STATES};
use crate::probe::result::{PHASES, Phase};
use crate::probe::verdict::{KINDS, Kind};
use crate::targets::{LEFT_OUT, LeftOut};

/// The upper bounds of the phases' histogram, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Export {
    export: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportVerdict {
    export: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportPhase {
    export: String,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportState {
    export: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MountLabel {
    mount: String,
    source: String,
}

type Float = Gauge<f64, AtomicU64>;

/// The metrics of all exports; clones share them.
#[derive(Clone, Debug)]
pub struct HealthMetrics {
    verdict: Family<ExportVerdict, Gauge>,
    healthy: Family<Export, Gauge>,
    rounds: Family<ExportVerdict, Counter>,
    phases: Family<ExportPhase, Histogram, fn() -> Histogram>,
    lease: Family<Export, Float>,
    available: Family<Export, Gauge>,
    total: Family<Export, Gauge>,
    restarts: Family<Export, Counter>,
    replacements: Family<Export, Counter>,
    stuck: Family<Export, Float>,
    states: Family<ExportState, Gauge>,
    left_out: Family<Reason, Gauge>,
    retransmissions: Family<MountLabel, Gauge>,
    timeouts: Family<MountLabel, Gauge>,
    operations: Family<MountLabel, Gauge>,
    connects: Family<MountLabel, Gauge>,
}

impl HealthMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self {
            verdict: Family::default(),
            healthy: Family::default(),
            rounds: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            lease: Family::default(),
            available: Family::default(),
            total: Family::default(),
            restarts: Family::default(),
            replacements: Family::default(),
            stuck: Family::default(),
            states: Family::default(),
            left_out: Family::default(),
            retransmissions: Family::default(),
            timeouts: Family::default(),
            operations: Family::default(),
            connects: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("verdict", "1 for the current verdict, 0 for the others", this.verdict.clone());
            registry.register("healthy", "1 while the verdict is ok or grace", this.healthy.clone());
            registry.register("rounds", "Rounds by verdict", this.rounds.clone());
            registry.register("phase_duration_seconds", "Duration of each step", this.phases.clone());
            registry.register(
                "lease_seconds",
                "Lease time: how long the server remembers a silent client",
                this.lease.clone(),
            );
            registry.register("available_bytes", "Space that is left on the export", this.available.clone());
            registry.register("size_bytes", "Size of the export", this.total.clone());
            registry.register("server_restarts", "Restarts of the server", this.restarts.clone());
            let help = "Times that a different server answered at the address";
            registry.register("server_replacements", help, this.replacements.clone());
            let help = "How long a process that cannot be killed has been hanging on a mount; 0 if there is none";
            registry.register("mount_stuck_seconds", help, this.stuck.clone());
            let help = "Mounts of an export by state; nothing is known about those that are unknown";
            registry.register("mounts", help, this.states.clone());
            let help = "Mounts of this node that are not checked, by reason";
            registry.register("mounts_left_out", help, this.left_out.clone());
            let help = "Calls that the kernel's client retransmitted since the mount";
            registry.register("mount_retransmissions", help, this.retransmissions.clone());
            let help = "Calls of the kernel's client that timed out since the mount";
            registry.register("mount_timeouts", help, this.timeouts.clone());
            registry.register(
                "mount_operations",
                "Calls of the kernel's client since the mount",
                this.operations.clone(),
            );
            let help = "Connections that the kernel's client opened since the mount";
            registry.register("mount_connects", help, this.connects.clone());
        });
        this
    }

    /// Records a round, and the verdict that is shown after it.
    pub fn round(&self, name: &str, round: &Round, shown: Kind) {
        let export = Export { export: name.to_owned() };
        for step in &round.front.steps {
            let labels = ExportPhase { export: name.to_owned(), phase: step.phase.name() };
            self.phases.get_or_create(&labels).observe(step.time.as_secs_f64());
        }
        for (_, seen) in &round.mounts {
            if let MountSeen::Answers { time, .. } = seen {
                let labels = ExportPhase { export: name.to_owned(), phase: nfs_mounts::Phase::Stat.name() };
                self.phases.get_or_create(&labels).observe(time.as_secs_f64());
            }
        }
        let seen = ExportVerdict { export: name.to_owned(), verdict: round.verdict.kind.name() };
        self.rounds.get_or_create(&seen).inc();
        for kind in KINDS {
            let labels = ExportVerdict { export: name.to_owned(), verdict: kind.name() };
            self.verdict.get_or_create(&labels).set(i64::from(kind == shown));
            start_at_zero(&self.rounds, [labels]);
        }
        self.healthy.get_or_create(&export).set(i64::from(shown.is_healthy()));
        if let Some(lease) = round.front.lease {
            self.lease.get_or_create(&export).set(lease.as_secs_f64());
        }
        if let Some(space) = round.front.space {
            self.available.get_or_create(&export).set(space.available.try_into().unwrap_or(i64::MAX));
            self.total.get_or_create(&export).set(space.total.try_into().unwrap_or(i64::MAX));
        }
        let stuck = round.stuck_for().map_or(0.0, |time| time.as_secs_f64());
        self.stuck.get_or_create(&export).set(stuck);
        for state in STATES {
            let count = round.mounts.iter().filter(|(_, seen)| seen.name() == state).count();
            let labels = ExportState { export: name.to_owned(), state };
            self.states.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets how many mounts are not checked.
    pub fn left_out(&self, counts: &BTreeMap<LeftOut, usize>) {
        for why in LEFT_OUT {
            let count = counts.get(&why).copied().unwrap_or(0);
            let labels = Reason { reason: why.name() };
            self.left_out.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a change of the server.
    pub fn change(&self, name: &str, change: Change) {
        let export = Export { export: name.to_owned() };
        match change {
            Change::Restarted => self.restarts.get_or_create(&export).inc(),
            Change::Replaced => self.replacements.get_or_create(&export).inc(),
        };
    }

    /// Forgets an export that is no longer checked.
    pub fn forget(&self, name: &str) {
        let export = Export { export: name.to_owned() };
        for kind in KINDS {
            let labels = ExportVerdict { export: name.to_owned(), verdict: kind.name() };
            self.verdict.remove(&labels);
            self.rounds.remove(&labels);
        }
        let phases = PHASES.map(Phase::name);
        for phase in phases.into_iter().chain([nfs_mounts::Phase::Stat.name()]) {
            self.phases.remove(&ExportPhase { export: name.to_owned(), phase });
        }
        self.healthy.remove(&export);
        self.lease.remove(&export);
        self.available.remove(&export);
        self.total.remove(&export);
        self.restarts.remove(&export);
        self.replacements.remove(&export);
        self.stuck.remove(&export);
        for state in STATES {
            self.states.remove(&ExportState { export: name.to_owned(), state });
        }
    }

    /// Sets the kernel's counters of each NFS mount, and forgets mounts that are gone.
    pub fn mounts(&self, statistics: Vec<MountStatistics>) {
        for family in [&self.retransmissions, &self.timeouts, &self.operations, &self.connects] {
            family.clear();
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for mount in statistics {
            let labels = MountLabel { mount: mount.mount_point.display().to_string(), source: mount.source.clone() };
            self.retransmissions.get_or_create(&labels).set(number(mount.retransmissions()));
            self.timeouts.get_or_create(&labels).set(number(mount.timeouts));
            self.operations.get_or_create(&labels).set(number(mount.operations));
            self.connects.get_or_create(&labels).set(number(mount.connects));
        }
    }
}
