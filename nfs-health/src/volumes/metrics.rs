//! Metrics of `nfs-health volumes`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sidecar::metrics::Metrics;

use super::wanted::Named;

/// `NAMESPACE/NAME`: a scrape replaces a label `namespace` with that of the daemon's own pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Claim {
    claim: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClaimStep {
    claim: String,
    step: &'static str,
}

/// Clones share them.
#[derive(Clone, Debug, Default)]
pub struct VolumesMetrics {
    bound: Family<Claim, Gauge>,
    trouble: Family<Claim, Gauge>,
    steps: Family<ClaimStep, Counter>,
}

impl VolumesMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            let help = "1 while the claim is bound to a volume of the Service";
            registry.register("volumes_bound", help, this.bound.clone());
            let help = "1 while the claim needs an administrator: see its Events";
            registry.register("volumes_trouble", help, this.trouble.clone());
            registry.register("volumes_steps", "Changes made to the cluster", this.steps.clone());
        });
        this
    }

    /// Records the state of a claim.
    pub fn set_state(&self, claim: &Named, bound: bool, trouble: bool) {
        let labels = Claim { claim: claim.to_string() };
        self.bound.get_or_create(&labels).set(bound.into());
        self.trouble.get_or_create(&labels).set(trouble.into());
    }

    /// Counts a step.
    pub fn step(&self, claim: &Named, step: &'static str) {
        let labels = ClaimStep { claim: claim.to_string(), step };
        self.steps.get_or_create(&labels).inc();
    }
}
