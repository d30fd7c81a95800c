//! What the environment and the flags say, parsed once into types.

mod disk;
mod place;
mod rules;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lab_images::runtime::RuntimeEndpoint;
use lab_images::settings::RuntimeArguments;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::Problems;
use sidecar::settings::values::{count, duration, switch};

use self::disk::WatermarkArguments;
use self::place::PlaceArguments;
pub use self::place::{Cluster, Place};
use self::rules::{PurgeArguments, signed_duration};
use crate::plan::Rules;
use crate::round::{Limits, Watermarks};

/// The file in `STATE_DIR`.
const HISTORY: &str = "history.json";

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
    /// Print for each image whether it is kept or to go, and why; remove nothing
    Plan(Box<PlanArguments>),
}

/// `imagepurger run`
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    rounds: RoundArguments,
    #[command(flatten)]
    admin: AdminArguments,
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
    purge: PurgeArguments,
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    disk: WatermarkArguments,
    /// Where is kept when each image was first seen and last used
    #[arg(long, env = "STATE_DIR", value_name = "FOLDER", default_value = "/var/lib/labhands/imagepurger")]
    state_dir: PathBuf,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Rounds")]
struct RoundArguments {
    /// Time between two rounds, a tenth more or less; a full disk begins one sooner
    #[arg(long, env = "PURGE_INTERVAL", value_name = "DURATION", default_value = "15m")]
    purge_interval: String,
    /// How many images one round removes at most
    #[arg(long, env = "PURGE_MAX_PER_ROUND", value_name = "NUMBER", default_value = "20")]
    purge_max_per_round: String,
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
    /// `PURGE_INTERVAL`
    pub interval: Duration,
    /// What a round may do.
    pub limits: Limits,
    /// Where the admin server listens.
    pub admin: SocketAddr,
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
    /// Where the catalogue and the pods are seen.
    pub place: Place,
    /// The runtime, found by itself where unset.
    pub endpoint: Option<RuntimeEndpoint>,
    /// Where the history is kept.
    pub history_file: PathBuf,
}

impl RunArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<RunSettings, Problems> {
        let mut problems = Problems::default();
        let node = self.node.settings(&mut problems);
        let rounds = &self.rounds;
        let interval = problems.parse("PURGE_INTERVAL", &rounds.purge_interval, "15m", duration);
        let most =
            problems.parse("PURGE_MAX_PER_ROUND", &rounds.purge_max_per_round, "20", |text| count(text, 1, 10_000));
        let dry_run = problems.parse("PURGE_DRY_RUN", &rounds.purge_dry_run, "true", switch);
        let (admin, log) = (self.admin.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| {
            let limits = Limits { most: most? as usize, dry_run: dry_run? };
            Some(RunSettings { node: node?, interval: interval?, limits, admin: admin?, log: log? })
        })())
    }
}

impl PlanArguments {
    /// # Errors
    ///
    /// All problems at once.
    pub fn settings(&self) -> Result<PlanSettings, Problems> {
        let mut problems = Problems::default();
        let output = if self.output == "json" { Output::Json } else { Output::Table };
        let (node, log) = (self.node.settings(&mut problems), self.log.settings(&mut problems));
        problems.finish((|| Some(PlanSettings { output, node: node?, log: log? }))())
    }
}

impl NodeArguments {
    fn settings(&self, problems: &mut Problems) -> Option<NodeSettings> {
        let max_age = &self.place.catalogue_max_age;
        let catalogue_max_age = problems.parse("CATALOGUE_MAX_AGE", max_age, "6h", signed_duration);
        let rules = self.purge.settings(problems);
        let place = self.place.settings(problems);
        let endpoint = self.runtime.settings(problems);
        let watermarks = self.disk.settings(problems);
        Some(NodeSettings {
            rules: Rules { catalogue_max_age: catalogue_max_age?, ..rules? },
            watermarks: watermarks?,
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
