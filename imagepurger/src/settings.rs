//! Parses the environment and the flags into types.

mod disk;
mod mode;
mod rules;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser};
use jiff::SignedDuration;
use lab_images::runtime::RuntimeEndpoint;
use lab_images::settings::RuntimeArguments;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration_within, switch};

use self::disk::WatermarkArguments;
use self::mode::ModeArguments;
pub use self::mode::{Cluster, Mode};
use self::rules::{RuleArguments, signed_duration};
use crate::kubelet::{InvalidField, Thresholds};
use crate::plan::Rules;
use crate::round::{Limits, Watermarks};

/// The name of the file in `STATE_DIR`.
const HISTORY: &str = "history.json";

/// The default of `PURGE_MAX_PER_ROUND` for the daemon.
const MOST_PER_ROUND: u32 = 20;
const MOST_AT_ALL: u32 = 10_000;

/// The limits of `PURGE_INTERVAL`.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The commands, with their names, strings and help.
#[derive(Debug, Parser)]
#[command(
    name = "imagepurger",
    version,
    about = "Removes lab images that are neither wanted nor in use, before the disk fills",
    after_help = "Every setting is an environment variable and a flag of the same name; the flag wins."
)]
pub enum Command {
    /// Remove images that are no longer wanted, at a regular interval and whenever the disk is full
    Run(Box<RunArguments>),
    /// Remove images that are no longer wanted once, and exit: with 0 if all of them are gone, with 1 if something
    /// prevented that
    Purge(Box<PurgeArguments>),
    /// Print for each image whether it is kept or to be removed, and why; remove nothing
    Plan(Box<PlanArguments>),
}

/// `imagepurger run`
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// `imagepurger purge`
#[derive(Args, Debug)]
pub struct PurgeArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// `imagepurger plan`
#[derive(Args, Debug)]
pub struct PlanArguments {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    output: String,
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Debug)]
struct NodeArguments {
    #[command(flatten)]
    rules: RuleArguments,
    #[command(flatten)]
    mode: ModeArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    disk: WatermarkArguments,
    /// Folder for the history of images: when each was first seen, last used and last wanted
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/labhands/imagepurger")]
    state_dir: PathBuf,
    /// Time between two rounds, plus or minus a tenth; a full disk starts a round sooner
    #[arg(long, env = "PURGE_INTERVAL", value_name = "DURATION", default_value = "15m")]
    purge_interval: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rounds")]
struct LimitArguments {
    /// Maximum number of images that one round removes [default: 20; imagepurger purge: no limit]
    #[arg(long, env = "PURGE_MAX_PER_ROUND", value_name = "NUMBER")]
    purge_max_per_round: Option<String>,
    /// Print what would be removed, and remove nothing
    #[arg(
        long = "dry-run",
        visible_alias = "purge-dry-run",
        env = "PURGE_DRY_RUN",
        value_name = "SWITCH",
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "true"
    )]
    purge_dry_run: String,
}

/// The settings of `imagepurger run`.
#[derive(Debug)]
pub struct RunSettings {
    /// What the rounds look at and decide by.
    pub node: NodeSettings,
    /// The limits of a round.
    pub limits: Limits,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// The settings of `imagepurger purge`.
#[derive(Debug)]
pub struct PurgeSettings {
    /// What the round looks at and decides by.
    pub node: NodeSettings,
    /// The limits of the round.
    pub limits: Limits,
    /// How to log.
    pub log: LogSettings,
}

/// The settings of `imagepurger plan`.
#[derive(Debug)]
pub struct PlanSettings {
    /// The output format.
    pub output: Output,
    /// What the plan looks at and decides by.
    pub node: NodeSettings,
    /// How to log.
    pub log: LogSettings,
}

/// The output format of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Human-readable.
    Table,
    /// JSON.
    Json,
}

/// What a purger looks at and decides by.
#[derive(Debug)]
pub struct NodeSettings {
    /// Which images are removed and which are kept.
    pub rules: Rules,
    /// Where early removal starts and ends.
    pub watermarks: Watermarks,
    /// The thresholds of kubelet's own garbage collection.
    pub kubelet: Thresholds,
    /// `PURGE_INTERVAL`
    pub interval: Duration,
    /// The sources of the catalogue and of the pods.
    pub mode: Mode,
    /// The runtime's endpoint; found automatically if unset.
    pub endpoint: Option<RuntimeEndpoint>,
    /// The file of the history.
    pub history_file: PathBuf,
}

/// The thresholds from kubelet's files, which are read before the settings are checked against them.
pub type Kubelet = Result<Thresholds, Vec<InvalidField>>;

impl RunArguments {
    /// Reads kubelet's files.
    pub async fn kubelet(&self) -> Kubelet {
        self.node.disk.kubelet().await
    }

    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self, kubelet: &Kubelet) -> Result<RunSettings, Problems> {
        let mut problems = Problems::default();
        let node = self.node.settings(kubelet, &mut problems);
        let limits = self.limits.settings(MOST_PER_ROUND, &mut problems);
        let (admin, log) = (self.admin.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| Some(RunSettings { node: node?, limits: limits?, admin: admin?, log: log? }))())
    }
}

impl PurgeArguments {
    /// Reads kubelet's files.
    pub async fn kubelet(&self) -> Kubelet {
        self.node.disk.kubelet().await
    }

    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self, kubelet: &Kubelet) -> Result<PurgeSettings, Problems> {
        let mut problems = Problems::default();
        let mut node = self.node.settings(kubelet, &mut problems);
        // A single round does not retry.
        node.iter_mut().for_each(|node| node.rules.retry = SignedDuration::ZERO);
        let limits = self.limits.settings(MOST_AT_ALL, &mut problems);
        let log = self.log.settings(&mut problems);
        problems.finish((|| Some(PurgeSettings { node: node?, limits: limits?, log: log? }))())
    }
}

impl PlanArguments {
    /// Reads kubelet's files.
    pub async fn kubelet(&self) -> Kubelet {
        self.node.disk.kubelet().await
    }

    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self, kubelet: &Kubelet) -> Result<PlanSettings, Problems> {
        let mut problems = Problems::default();
        let output = if self.output == "json" { Output::Json } else { Output::Table };
        let (node, log) = (self.node.settings(kubelet, &mut problems), self.log.settings(&mut problems));
        problems.finish((|| Some(PlanSettings { output, node: node?, log: log? }))())
    }
}

impl LimitArguments {
    fn settings(&self, most: u32, problems: &mut Problems) -> Option<Limits> {
        let set = self.purge_max_per_round.as_deref();
        let set = problems.parse_optional("PURGE_MAX_PER_ROUND", set, "20", |text| count(text, 1, MOST_AT_ALL));
        let dry_run = problems.parse("PURGE_DRY_RUN", &self.purge_dry_run, "true", switch);
        Some(Limits { most: set?.unwrap_or(most) as usize, dry_run: dry_run? })
    }
}

impl NodeArguments {
    fn settings(&self, kubelet: &Kubelet, problems: &mut Problems) -> Option<NodeSettings> {
        let max_age = &self.mode.catalogue_max_age;
        let catalogue_max_age = problems.parse("CATALOGUE_MAX_AGE", max_age, "6h", signed_duration);
        let interval = problems.parse("PURGE_INTERVAL", &self.purge_interval, "15m", |text| {
            duration_within(text, SHORTEST_INTERVAL, LONGEST_INTERVAL)
        });
        let rules = self.rules.settings(problems);
        let mode = self.mode.settings(problems);
        let endpoint = self.runtime.settings(problems);
        let (watermarks, kubelet) = self.disk.settings(kubelet, problems).unzip();
        let interval = interval?;
        let retry = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
        Some(NodeSettings {
            rules: Rules { catalogue_max_age: catalogue_max_age?, retry, ..rules? },
            watermarks: watermarks?,
            kubelet: kubelet?,
            interval,
            mode: mode?,
            endpoint: endpoint?,
            history_file: self.state_dir.join(HISTORY),
        })
    }
}

/// The file of the history in a folder.
pub fn history_in(folder: &Path) -> PathBuf {
    folder.join(HISTORY)
}

#[cfg(test)]
mod tests;
