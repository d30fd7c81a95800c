//! Settings of `nfs-health check`.

use std::time::Duration;

use clap::Args;
use sidecar::settings::{Problems, values};

use super::{MountArguments, ServerArguments, target_settings};
use crate::targets::TargetSettings;

#[derive(Args, Clone, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    servers: ServerArguments,
    #[command(flatten)]
    mounts: MountArguments,
    /// Output format: a table, JSON, or the line of a Nagios plugin with perfdata and its exit code
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json", "nagios"])]
    output: String,
    /// Duration of a round above which an export is slow: a warning
    #[arg(long, value_name = "DURATION")]
    warn: Option<String>,
    /// Duration of a round above which an export is too slow: it counts as unhealthy
    #[arg(long, value_name = "DURATION")]
    critical: Option<String>,
}

/// Settings of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What to check.
    pub target_settings: TargetSettings,
    /// The output format.
    pub output: Output,
    /// The duration of a round from which an export is slow.
    pub warn: Option<Duration>,
    /// The duration of a round from which it is too slow.
    pub critical: Option<Duration>,
}

/// The output format of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A human-readable table.
    Table,
    /// JSON.
    Json,
    /// The format of Nagios plugins.
    Nagios,
}

impl CheckArguments {
    pub(super) fn settings(&self, problems: &mut Problems) -> Option<Check> {
        let owner = format!("labhands-nfs-health-check-{}", std::process::id());
        let target_settings = target_settings(&self.servers, &self.mounts, problems, &owner);
        let warn = problems.parse_optional("--warn", self.warn.as_deref(), "500ms", values::duration)?;
        let critical = problems.parse_optional("--critical", self.critical.as_deref(), "2s", values::duration)?;
        if let (Some(warn), Some(critical)) = (warn, critical)
            && warn > critical
        {
            problems.add(
                "--warn",
                "is longer than --critical, so nothing would ever be a warning",
                "--warn=500ms --critical=2s",
            );
        }
        let output = match self.output.as_str() {
            "json" => Output::Json,
            "nagios" => Output::Nagios,
            _ => Output::Table,
        };
        Some(Check { target_settings: target_settings?, output, warn, critical })
    }
}
