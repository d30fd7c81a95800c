//! What the environment and the flags say, parsed once into types.

mod disk;
mod place;
mod rules;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use lab_images::runtime::RuntimeEndpoint;
use lab_images::settings::RuntimeArguments;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration, switch};

use self::disk::WatermarkArguments;
use self::place::PlaceArguments;
pub use self::place::{Cluster, Place};
use self::rules::{RuleArguments, signed_duration};
use crate::kubelet::{Thresholds, Wrong};
use crate::plan::Rules;
use crate::round::{Limits, Watermarks};

/// The file in `STATE_DIR`.
const HISTORY: &str = "history.json";

/// `PURGE_MAX_PER_ROUND` of the daemon, and the most that it can be.
const MOST_PER_ROUND: u32 = 20;
const MOST_AT_ALL: u32 = 10_000;

/// Names, strings and help.
#[derive(Debug, Parser)]
#[command(
    name = "imagepurger",
    version,
    about = "Removes lab images that nobody wants and nobody uses, before the disk fills",
    after_help = "Every setting is an environment variable and a flag of the same name; the flag wins."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: CommandArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CommandArguments {
    /// Remove, by the clock and when the disk is full, what is no longer wanted
    Run(Box<RunArguments>),
    /// Remove once what is no longer wanted, and end; exit code 0 when all of it is gone, 1 when something was in the way
    Purge(Box<PurgeArguments>),
    /// Print for each image whether it is kept or to go, and why; remove nothing
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
    /// What to print
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
    place: PlaceArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    disk: WatermarkArguments,
    /// Where is kept when each image was first seen, last used and last wanted
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/labhands/imagepurger")]
    state_dir: PathBuf,
    /// Time between two rounds, a tenth more or less; a full disk begins one sooner
    #[arg(long, env = "PURGE_INTERVAL", value_name = "DURATION", default_value = "15m")]
    purge_interval: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rounds")]
struct LimitArguments {
    /// How many images one round removes at most [default: 20; imagepurger purge: all]
    #[arg(long, env = "PURGE_MAX_PER_ROUND", value_name = "NUMBER")]
    purge_max_per_round: Option<String>,
    /// Say what would go and remove nothing
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

/// What `imagepurger run` does.
#[derive(Debug)]
pub struct RunSettings {
    /// What is decided by.
    pub node: NodeSettings,
    /// What a round may do.
    pub limits: Limits,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

/// What `imagepurger purge` does.
#[derive(Debug)]
pub struct PurgeSettings {
    /// What is decided by.
    pub node: NodeSettings,
    /// What the round may do.
    pub limits: Limits,
    /// How to log.
    pub log: LogSettings,
}

/// What `imagepurger plan` does.
#[derive(Debug)]
pub struct PlanSettings {
    /// What to print.
    pub output: Output,
    /// What is decided by.
    pub node: NodeSettings,
    /// How to log.
    pub log: LogSettings,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What is seen and decided by on this node.
#[derive(Debug)]
pub struct NodeSettings {
    /// What goes and what stays.
    pub rules: Rules,
    /// Where early removal begins and ends.
    pub watermarks: Watermarks,
    /// Where kubelet's begins and ends.
    pub kubelet: Thresholds,
    /// `PURGE_INTERVAL`
    pub interval: Duration,
    /// Where the catalogue and the pods are seen.
    pub place: Place,
    /// The runtime, found by itself where unset.
    pub endpoint: Option<RuntimeEndpoint>,
    /// Where the history is kept.
    pub history_file: PathBuf,
}

/// What kubelet's files say, read before the settings are judged by it.
pub type Kubelet = Result<Thresholds, Vec<Wrong>>;

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
        // Nobody is asked again and again by one round.
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
        let max_age = &self.place.catalogue_max_age;
        let catalogue_max_age = problems.parse("CATALOGUE_MAX_AGE", max_age, "6h", signed_duration);
        let interval = problems.parse("PURGE_INTERVAL", &self.purge_interval, "15m", duration);
        let rules = self.rules.settings(problems);
        let place = self.place.settings(problems);
        let endpoint = self.runtime.settings(problems);
        let (watermarks, kubelet) = self.disk.settings(kubelet, problems).unzip();
        let interval = interval?;
        let retry = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
        Some(NodeSettings {
            rules: Rules { catalogue_max_age: catalogue_max_age?, retry, ..rules? },
            watermarks: watermarks?,
            kubelet: kubelet?,
            interval,
            place: place?,
            endpoint: endpoint?,
            history_file: self.state_dir.join(HISTORY),
        })
    }
}

/// Where the history is kept in a folder.
pub fn history_in(folder: &Path) -> PathBuf {
    folder.join(HISTORY)
}

#[cfg(test)]
mod tests;
