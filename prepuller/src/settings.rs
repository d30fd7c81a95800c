//! Parses the environment and the flags into types.

mod ask;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lab_images::policy::{Choice, Keep, Policy};
use lab_images::registry::{CredentialSources, RegistryConfig};
use lab_images::runtime::{PullLimits, RuntimeEndpoint};
use lab_images::settings::{
    CredentialsArguments, DiskArguments, PolicyArguments, RegistryArguments, RuntimeArguments, Source, SourceArguments,
    TagArguments,
};
use lab_images::tag::TagScheme;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration_within, list};

pub use self::ask::{StatusArguments, StatusOutput, StatusSettings, WaitArguments, WaitSettings};
use crate::puller::{PullerSettings, Until};

/// The shortest time limit of a pull.
const SECOND: Duration = Duration::from_secs(1);

/// The longest time limit of a pull.
const DAY: Duration = Duration::from_secs(86_400);

/// `prepuller tags`
#[derive(Args, Debug)]
pub struct TagsArguments {
    #[command(flatten)]
    tags: TagArguments,
    /// Also show which tags this policy would keep
    #[arg(long, value_name = "CLASS=NUMBER,…")]
    keep: Option<String>,
    /// A tag that is an alias of another one, instead of the default aliases; may be repeated
    #[arg(long, value_name = "TAG")]
    alias: Vec<String>,
}

/// `prepuller scan`
#[derive(Args, Debug)]
pub struct ScanArguments {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json", "env"])]
    output: String,
    #[command(flatten)]
    catalogue: CatalogueArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// `prepuller pull`
#[derive(Args, Debug)]
pub struct PullArguments {
    #[command(flatten)]
    catalogue: CatalogueArguments,
    #[command(flatten)]
    pulls: PullsArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// `prepuller node`
#[derive(Args, Debug)]
pub struct NodeArguments {
    /// This node's name in Kubernetes; its NodeImages object has the same name
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    #[command(flatten)]
    pulls: PullsArguments,
    #[command(flatten)]
    credentials: CredentialsArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Debug)]
pub(crate) struct CatalogueArguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    policy: PolicyArguments,
    #[command(flatten)]
    registry: RegistryArguments,
    /// File of the catalogue; read if no repository or image is configured, else written after each complete scan
    #[arg(long, env = "CATALOGUE_FILE", value_name = "FILE", help_heading = "Catalogue")]
    catalogue_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Pulls")]
struct PullsArguments {
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    disk: DiskArguments,
    /// Maximum number of running pulls: one downloads, the others unpack
    #[arg(long, env = "PREPULLER_PARALLEL_IMAGES", value_name = "NUMBER", default_value = "2")]
    prepuller_parallel_images: String,
    /// A pull fails if no data arrives for this long during the download
    #[arg(long, env = "PULL_STALL_TIMEOUT", value_name = "DURATION", default_value = "5m")]
    pull_stall_timeout: String,
    /// A pull fails if it makes no progress for this long after the download
    #[arg(long, env = "UNPACK_TIMEOUT", value_name = "DURATION", default_value = "30m")]
    unpack_timeout: String,
    /// State directory: the learned unpack factor and the last orders
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/labhands/prepuller")]
    state_dir: PathBuf,
}

/// The settings of `prepuller tags`.
#[derive(Debug)]
pub struct TagsSettings {
    /// How to read tags.
    pub scheme: TagScheme,
    /// Which tags are considered.
    pub choice: Choice,
    /// Tags that are aliases of others.
    pub aliases: Vec<String>,
    /// What would be kept, if a policy was given.
    pub keep: Option<Keep>,
}

/// The output format of `prepuller scan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Human-readable.
    Table,
    /// The catalogue as JSON.
    Json,
    /// Shell assignments.
    Env,
}

/// The sources of the catalogue.
#[derive(Debug)]
pub struct CatalogueSettings {
    /// Repositories and images.
    pub source: Source,
    /// Which images are wanted.
    pub policy: Policy,
    /// How to access registries.
    pub registry: RegistryConfig,
    /// The file of the catalogue, if any.
    pub file: Option<PathBuf>,
}

/// The settings of `prepuller scan`.
#[derive(Debug)]
pub struct ScanSettings {
    /// The output format.
    pub output: Output,
    /// The sources of the catalogue.
    pub catalogue: CatalogueSettings,
    /// How to log.
    pub log: LogSettings,
}

/// The settings of `prepuller pull`.
#[derive(Debug)]
pub struct PullSettings {
    /// The sources of the catalogue.
    pub catalogue: CatalogueSettings,
    /// The runtime's endpoint; found automatically if unset.
    pub runtime: Option<RuntimeEndpoint>,
    /// How to pull images.
    pub puller: PullerSettings,
    /// How to log.
    pub log: LogSettings,
}

/// The settings of `prepuller node`.
#[derive(Debug)]
pub struct NodeSettings {
    /// The node's name.
    pub node: String,
    /// The runtime's endpoint; found automatically if unset.
    pub runtime: Option<RuntimeEndpoint>,
    /// How to pull images.
    pub puller: PullerSettings,
    /// The registries' credentials.
    pub credentials: CredentialSources,
    /// The folder of the last orders.
    pub state_dir: PathBuf,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

impl TagsArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<TagsSettings, Problems> {
        let mut problems = Problems::default();
        let tags = self.tags.settings(&mut problems);
        let keep = problems.parse_optional("--keep", self.keep.as_deref(), "weekly=2", str::parse);
        let aliases = match self.alias.as_slice() {
            [] => list(lab_images::policy::DEFAULT_ALIASES).map(str::to_owned).collect(),
            given => given.to_vec(),
        };
        let settings = || {
            let (scheme, choice) = tags?;
            Some(TagsSettings { scheme, choice, aliases, keep: keep? })
        };
        problems.finish(settings())
    }
}

impl ScanArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<ScanSettings, Problems> {
        let mut problems = Problems::default();
        let output = match self.output.as_str() {
            "json" => Output::Json,
            "env" => Output::Env,
            _ => Output::Table,
        };
        let catalogue = self.catalogue.settings(&mut problems);
        if catalogue.as_ref().is_some_and(|catalogue| catalogue.source.is_empty()) {
            problems.add("LAB_REPOSITORIES", "no repository is configured", "registry.example.org/owner/lab");
        }
        let log = self.log.settings(&mut problems);
        problems.finish((|| Some(ScanSettings { output, catalogue: catalogue?, log: log? }))())
    }
}

impl PullArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<PullSettings, Problems> {
        let mut problems = Problems::default();
        let catalogue = self.catalogue.settings(&mut problems);
        if catalogue.as_ref().is_some_and(|catalogue| catalogue.source.is_empty() && catalogue.file.is_none()) {
            let reason = "neither a repository nor CATALOGUE_FILE is named";
            problems.add("LAB_REPOSITORIES", reason, "registry.example.org/owner/lab");
        }
        let runtime = self.pulls.runtime.settings(&mut problems);
        let puller = self.pulls.settings(&mut problems, Until::Settled);
        let log = self.log.settings(&mut problems);
        problems
            .finish((|| Some(PullSettings { catalogue: catalogue?, runtime: runtime?, puller: puller?, log: log? }))())
    }
}

impl NodeArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<NodeSettings, Problems> {
        let mut problems = Problems::default();
        if self.node_name.is_none() {
            problems.add("NODE_NAME", "must be set: in a pod, from the field spec.nodeName", "node1");
        }
        let runtime = self.pulls.runtime.settings(&mut problems);
        let puller = self.pulls.settings(&mut problems, Until::Shutdown);
        let admin = self.admin.settings(&mut problems);
        let log = self.log.settings(&mut problems);
        let settings = || {
            Some(NodeSettings {
                node: self.node_name.clone()?,
                runtime: runtime?,
                puller: puller?,
                credentials: self.credentials.sources(),
                state_dir: self.pulls.state_dir.clone(),
                admin: admin?,
                log: log?,
            })
        };
        problems.finish(settings())
    }
}

impl CatalogueArguments {
    pub(crate) fn settings(&self, problems: &mut Problems) -> Option<CatalogueSettings> {
        let source = self.source.settings(problems);
        let policy = self.policy.settings(problems);
        let registry = self.registry.settings(problems);
        Some(CatalogueSettings {
            source: source?,
            policy: policy?,
            registry: registry?,
            file: self.catalogue_file.clone(),
        })
    }
}

impl PullsArguments {
    fn settings(&self, problems: &mut Problems, until: Until) -> Option<PullerSettings> {
        let disk_high = self.disk.settings(problems);
        let parallel = problems
            .parse("PREPULLER_PARALLEL_IMAGES", &self.prepuller_parallel_images, "2", |text| count(text, 1, 16));
        let stall = problems
            .parse("PULL_STALL_TIMEOUT", &self.pull_stall_timeout, "5m", |text| duration_within(text, SECOND, DAY));
        let unpack =
            problems.parse("UNPACK_TIMEOUT", &self.unpack_timeout, "30m", |text| duration_within(text, SECOND, DAY));
        Some(PullerSettings {
            durations: None,
            limits: PullLimits { stall: stall?, unpack: unpack? },
            parallel: parallel? as usize,
            disk_high: disk_high?,
            factor_file: Some(self.state_dir.join("unpack-factor")),
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Command;

    fn problems(command: &str, setting: &str, value: &str) -> String {
        let environment = [(setting, value), ("LAB_REPOSITORIES", "registry.example.org/lab"), ("NODE_NAME", "node1")];
        let environment = environment.into_iter().collect();
        let arguments = ["prepuller", command].map(Into::into).into_iter();
        let problems = match sidecar::settings::parse(&environment, arguments).unwrap() {
            Command::Plan(arguments) => arguments.settings().err(),
            Command::Node(arguments) => arguments.settings().err(),
            Command::Wait(arguments) => arguments.settings().err(),
            _ => panic!("another command"),
        };
        problems.map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_duration_has_a_floor_and_a_ceiling() {
        for (command, setting, short) in [
            ("plan", "SCAN_INTERVAL", "999ms"),
            ("plan", "PREPULLER_NEW_NODE_AGE", "999us"),
            ("plan", "PREPULLER_STALLED_AFTER", "999ms"),
            ("plan", "PREPULLER_AGENT_MISSING_AFTER", "999ms"),
            ("plan", "GATE_TIMEOUT", "999ms"),
            ("plan", "PULL_POD_TIMEOUT", "999ms"),
            ("node", "PULL_STALL_TIMEOUT", "999ms"),
            ("node", "UNPACK_TIMEOUT", "999ms"),
            ("wait", "WAIT_TIMEOUT", "999ms"),
        ] {
            for value in [short, "1000y"] {
                let problems = problems(command, setting, value);
                assert!(problems.starts_with(&format!("{setting}: {value:?} is not from ")), "{problems:?}");
            }
            assert_eq!(problems(command, setting, "1s"), "", "{setting}");
        }
    }
}
