//! Parses the environment and the flags of `prepuller plan`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration_within, list};

use super::eligible::NodeRules;
use super::gate::GateRules;
use super::pull_pods::PullPodSettings;
use super::state::Rules;
use crate::overview::Mode;
use crate::settings::{CatalogueArguments, CatalogueSettings};

/// The shortest interval or time limit; anything shorter is only load.
const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// The longest interval or time limit; `Instant` can hold some multiples of it.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The longest time for which a node may count as new.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// `prepuller plan`
#[derive(Args, Debug)]
pub struct PlanArguments {
    #[command(flatten)]
    catalogue: CatalogueArguments,
    #[command(flatten)]
    nodes: NodesArguments,
    #[command(flatten)]
    mode: ModeArguments,
    #[command(flatten)]
    gate: GateArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Nodes and rollouts")]
struct NodesArguments {
    /// Time between two scans, plus or minus a tenth
    #[arg(long, env = "SCAN_INTERVAL", value_name = "DURATION", default_value = "5m")]
    scan_interval: String,
    /// Which nodes should have lab images; unset: those labeled hub.jupyter.org/node-purpose=user if there are any,
    /// else all
    #[arg(long, env = "LAB_NODE_SELECTOR", value_name = "LABEL=VALUE,…")]
    lab_node_selector: Option<String>,
    /// Taints that labs tolerate, in addition to those of Zero to JupyterHub's user nodes
    #[arg(long, env = "LAB_TOLERATIONS", value_name = "KEY[=VALUE][:EFFECT],…")]
    lab_tolerations: Option<String>,
    /// Maximum number of nodes that pull at a time, once the canary node has a new image
    #[arg(long, env = "PREPULLER_PARALLEL_NODES", value_name = "NUMBER", default_value = "10")]
    prepuller_parallel_nodes: String,
    /// A node younger than this is new: it gets all its images at once, without waiting for a slot
    #[arg(long, env = "PREPULLER_NEW_NODE_AGE", value_name = "DURATION", default_value = "1h")]
    prepuller_new_node_age: String,
    /// A node whose report does not change for this long counts as stalled and frees its slot
    #[arg(long, env = "PREPULLER_STALLED_AFTER", value_name = "DURATION", default_value = "2m")]
    prepuller_stalled_after: String,
    /// Time from a node's first orders to its agent's first report, after which the agent counts as missing; includes
    /// the pull of the agent's own image
    #[arg(long, env = "PREPULLER_AGENT_MISSING_AFTER", value_name = "DURATION", default_value = "5m")]
    prepuller_agent_missing_after: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "How images are pulled")]
struct ModeArguments {
    /// agents: an agent on each node; pods: a short-lived pod per image and node, without progress, stall limit or disk guard
    #[arg(long, env = "PREPULLER_MODE", value_name = "MODE", default_value = "agents")]
    prepuller_mode: String,
    /// Image of the prepuller itself, which pull pods start from; unset: the image of the planner's Deployment
    #[arg(long, env = "PULL_POD_IMAGE", value_name = "IMAGE")]
    pull_pod_image: Option<String>,
    /// Time limit for a pull pod
    #[arg(long, env = "PULL_POD_TIMEOUT", value_name = "DURATION", default_value = "4h")]
    pull_pod_timeout: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Gate of new nodes")]
struct GateArguments {
    /// Key of the startup taint that is removed from new nodes once they have their images
    #[arg(long, env = "GATE_TAINT", value_name = "KEY", default_value = "labhands.dev/images")]
    gate_taint: String,
    /// Maximum time that a new node keeps the taint
    #[arg(long, env = "GATE_TIMEOUT", value_name = "DURATION", default_value = "30m")]
    gate_timeout: String,
    /// Tags or images that a new node must have first; unset: all wanted images
    #[arg(long, env = "GATE_IMAGES", value_name = "TAG,…")]
    gate_images: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Cluster")]
struct ClusterArguments {
    /// Namespace of user pods: nodes with pending pods are served first, and starts are counted. Unset: pods are ignored
    #[arg(long, env = "LAB_NAMESPACE", value_name = "NAMESPACE")]
    lab_namespace: Option<String>,
    /// Namespace of the ConfigMap and the Lease lab-images, and of the planner's Deployment
    #[arg(long, env = "CATALOGUE_NAMESPACE", value_name = "NAMESPACE", default_value = "labhands")]
    catalogue_namespace: String,
    /// Namespace of the NodeImages and the node agents
    #[arg(long, env = "NODE_IMAGES_NAMESPACE", value_name = "NAMESPACE", default_value = "labhands-node")]
    node_images_namespace: String,
    /// This pod's name
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "prepuller-plan")]
    pod_name: String,
}

/// The settings of `prepuller plan`.
#[derive(Debug)]
pub struct PlanSettings {
    /// The sources of the catalogue.
    pub catalogue: CatalogueSettings,
    /// `SCAN_INTERVAL`
    pub scan_interval: Duration,
    /// The rules of decisions.
    pub rules: Rules,
    /// How pull pods are created, if they are used.
    pub pull_pods: Option<PullPodSettings>,
    /// `LAB_NAMESPACE`
    pub lab_namespace: Option<String>,
    /// `CATALOGUE_NAMESPACE`
    pub catalogue_namespace: String,
    /// `NODE_IMAGES_NAMESPACE`
    pub node_images_namespace: String,
    /// `POD_NAME`
    pub pod_name: String,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

impl PlanArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<PlanSettings, Problems> {
        let mut problems = Problems::default();
        let catalogue = self.catalogue.settings(&mut problems);
        if catalogue.as_ref().is_some_and(|catalogue| catalogue.source.is_empty() && catalogue.file.is_none()) {
            let reason =
                "set LAB_REPOSITORIES or LAB_INFRASTRUCTURE_IMAGES: neither a repository nor an image is named";
            problems.add("LAB_REPOSITORIES", reason, "registry.example.org/owner/lab");
        }
        let interval = problems
            .parse("SCAN_INTERVAL", &self.nodes.scan_interval, "5m", |text| duration_within(text, SECOND, WEEK));
        let pull_pods = self.mode.settings(&mut problems);
        let rules = self.rules(&mut problems);
        for (setting, name, example) in [
            ("LAB_NAMESPACE", self.cluster.lab_namespace.as_deref().unwrap_or_default(), "jupyterhub"),
            ("CATALOGUE_NAMESPACE", &self.cluster.catalogue_namespace, "labhands"),
            ("NODE_IMAGES_NAMESPACE", &self.cluster.node_images_namespace, "labhands-node"),
        ] {
            // They become part of the API server's paths.
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                problems.add(setting, format!("{name:?} is not a namespace"), example);
            }
        }
        let (admin, log) = (self.admin.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| {
            Some(PlanSettings {
                catalogue: catalogue?,
                scan_interval: interval?,
                rules: Rules { mode: if pull_pods.as_ref()?.is_some() { Mode::Pods } else { Mode::Agents }, ..rules? },
                pull_pods: pull_pods?,
                lab_namespace: self.cluster.lab_namespace.clone(),
                catalogue_namespace: self.cluster.catalogue_namespace.clone(),
                node_images_namespace: self.cluster.node_images_namespace.clone(),
                pod_name: self.cluster.pod_name.clone(),
                admin: admin?,
                log: log?,
            })
        })())
    }

    /// Builds the rules. The mode is still to be filled in.
    fn rules(&self, problems: &mut Problems) -> Option<Rules> {
        let NodesArguments { lab_node_selector, lab_tolerations, .. } = &self.nodes;
        let example = "hub.jupyter.org/node-purpose=user";
        let selector = problems.parse_optional("LAB_NODE_SELECTOR", lab_node_selector.as_deref(), example, str::parse);
        let tolerations = lab_tolerations.as_deref().unwrap_or_default();
        let tolerated = problems.parse("LAB_TOLERATIONS", tolerations, "nvidia.com/gpu:NoSchedule", |text| {
            list(text).map(str::parse).collect::<Result<Vec<_>, _>>()
        });
        let parallel = &self.nodes.prepuller_parallel_nodes;
        let parallel = problems.parse("PREPULLER_PARALLEL_NODES", parallel, "10", |text| count(text, 1, 100_000));
        let new_for = problems.parse("PREPULLER_NEW_NODE_AGE", &self.nodes.prepuller_new_node_age, "1h", |text| {
            // A duration so short that no node is new is allowed.
            duration_within(text, Duration::from_millis(1), YEAR)
        });
        let stalled = &self.nodes.prepuller_stalled_after;
        let stalled_after =
            problems.parse("PREPULLER_STALLED_AFTER", stalled, "2m", |text| duration_within(text, SECOND, DAY));
        let missing = &self.nodes.prepuller_agent_missing_after;
        let agent_missing_after =
            problems.parse("PREPULLER_AGENT_MISSING_AFTER", missing, "5m", |text| duration_within(text, SECOND, DAY));
        let timeout =
            problems.parse("GATE_TIMEOUT", &self.gate.gate_timeout, "30m", |text| duration_within(text, SECOND, WEEK));
        let images = list(self.gate.gate_images.as_deref().unwrap_or_default()).map(str::to_owned).collect();
        Some(Rules {
            nodes: NodeRules { selector: selector?, tolerated: tolerated?, gate_taint: self.gate.gate_taint.clone() },
            parallel: parallel? as usize,
            new_for: new_for?,
            stalled_after: stalled_after?,
            agent_missing_after: agent_missing_after?,
            gate: GateRules { timeout: timeout?, images },
            mode: Mode::Agents,
        })
    }
}

impl ModeArguments {
    /// How pull pods are created; `Some(None)` if agents pull.
    fn settings(&self, problems: &mut Problems) -> Option<Option<PullPodSettings>> {
        let deadline = problems
            .parse("PULL_POD_TIMEOUT", &self.pull_pod_timeout, "4h", |text| duration_within(text, SECOND, WEEK));
        match self.prepuller_mode.as_str() {
            "agents" => deadline.map(|_| None),
            "pods" => Some(Some(PullPodSettings { image: self.pull_pod_image.clone(), deadline: deadline? })),
            other => {
                problems.add("PREPULLER_MODE", format!("{other:?} is neither agents nor pods"), "agents");
                None
            }
        }
    }
}
