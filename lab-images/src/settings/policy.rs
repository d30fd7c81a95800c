//! Which tags are wanted: scheme, numbers to keep, pins, aliases, patterns.

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::list;

use crate::policy::{Choice, Keep, Policy, TagPattern};
use crate::tag::TagScheme;

/// Flags and variables of the policy.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which images are wanted")]
pub struct PolicyArguments {
    /// How to read tags.
    #[command(flatten)]
    pub tags: TagArguments,
    /// Number of newest tags to keep of each class; 0 keeps none
    #[arg(long, env = "LAB_KEEP", value_name = "CLASS=NUMBER,…", default_value = "release=1,weekly=2,daily=3")]
    pub lab_keep: String,
    /// Tags that are always wanted
    #[arg(long, env = "LAB_PINNED", value_name = "TAG,…")]
    pub lab_pinned: Option<String>,
    /// Alias tags, such as recommended, which are always wanted; empty for none
    #[arg(
        long,
        env = "LAB_ALIASES",
        value_name = "TAG,…",
        default_value = "recommended,latest,latest_release,latest_weekly,latest_daily"
    )]
    pub lab_aliases: String,
}

/// Flags and variables about reading and choosing tags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which images are wanted")]
pub struct TagArguments {
    /// How to read tags: rubin, semver, calendar, or regex:<pattern with named groups>
    #[arg(long, env = "LAB_TAG_SCHEME", value_name = "SCHEME", default_value = "rubin")]
    pub lab_tag_scheme: String,
    /// Use only tags that match this regular expression, and those in LAB_PINNED and LAB_ALIASES
    #[arg(long, env = "LAB_TAGS", value_name = "REGEX")]
    pub lab_tags: Option<String>,
    /// Ignore tags that match this regular expression; signatures, attestations and SBOMs are always ignored
    #[arg(long, env = "LAB_TAGS_EXCLUDED", value_name = "REGEX")]
    pub lab_tags_excluded: Option<String>,
}

impl TagArguments {
    /// The scheme and the choice, or `None` with the problems recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<(TagScheme, Choice)> {
        let scheme = problems.parse("LAB_TAG_SCHEME", &self.lab_tag_scheme, "rubin", str::parse::<TagScheme>);
        let mut pattern = |setting, text: &Option<String>, example| {
            problems.parse_optional(setting, text.as_deref(), example, str::parse::<TagPattern>)
        };
        let only = pattern("LAB_TAGS", &self.lab_tags, "^w_2026");
        let excluded = pattern("LAB_TAGS_EXCLUDED", &self.lab_tags_excluded, "-(gpu|nosudo)$");
        Some((scheme?, Choice::new(only?, excluded?)))
    }
}

impl PolicyArguments {
    /// The policy, or `None` with the problems recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<Policy> {
        let tags = self.tags.settings(problems);
        let keep = problems.parse("LAB_KEEP", &self.lab_keep, "release=1,weekly=2,daily=3", str::parse::<Keep>);
        let names = |text: &str| list(text).map(str::to_owned).collect::<Vec<String>>();
        let (scheme, choice) = tags?;
        Some(Policy {
            scheme,
            keep: keep?,
            pinned: self.lab_pinned.as_deref().map(names).unwrap_or_default(),
            aliases: names(&self.lab_aliases),
            choice,
        })
    }
}
