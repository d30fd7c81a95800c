//! Which tags are wanted: scheme, numbers to keep, pins, aliases.

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::list;

use crate::policy::{Keep, Policy};
use crate::tag::TagScheme;

/// Flags and variables of the policy.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which images are wanted")]
pub struct PolicyArguments {
    /// How tags are read: rubin, semver, calendar, or regex:<pattern with named groups>
    #[arg(long, env = "LAB_TAG_SCHEME", value_name = "SCHEME", default_value = "rubin")]
    pub lab_tag_scheme: String,
    /// How many of the newest to keep of each class; 0 keeps none
    #[arg(long, env = "LAB_KEEP", value_name = "CLASS=NUMBER,…", default_value = "release=1,weekly=2,daily=3")]
    pub lab_keep: String,
    /// Tags that are always kept
    #[arg(long, env = "LAB_PINNED", value_name = "TAG,…")]
    pub lab_pinned: Option<String>,
    /// Tags that stand for another one and are always wanted
    #[arg(
        long,
        env = "LAB_ALIASES",
        value_name = "TAG,…",
        default_value = "recommended,latest,latest_release,latest_weekly,latest_daily"
    )]
    pub lab_aliases: String,
}

impl PolicyArguments {
    /// The policy, or `None` with the problems noted.
    pub fn settings(&self, problems: &mut Problems) -> Option<Policy> {
        let scheme = problems.parse("LAB_TAG_SCHEME", &self.lab_tag_scheme, "rubin", str::parse::<TagScheme>);
        let keep = problems.parse("LAB_KEEP", &self.lab_keep, "release=1,weekly=2,daily=3", str::parse::<Keep>);
        let tags = |text: &str| list(text).map(str::to_owned).collect::<Vec<String>>();
        Some(Policy {
            scheme: scheme?,
            keep: keep?,
            pinned: self.lab_pinned.as_deref().map(tags).unwrap_or_default(),
            aliases: tags(&self.lab_aliases),
        })
    }
}
