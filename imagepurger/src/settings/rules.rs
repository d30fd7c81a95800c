//! Parses which images are removed and which are kept.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use lab_images::reference::{Reference, ReferenceError};
use lab_images::tag::TagScheme;
use sidecar::settings::Problems;
use sidecar::settings::values::{duration_within, list, switch};

use crate::pattern::{PatternError, is_digest};
use crate::plan::{Rules, Scope};

/// Longer than anybody waits for an image to be unused.
const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);

#[derive(Args, Debug)]
#[command(next_help_heading = "Which images are removed")]
pub(super) struct RuleArguments {
    /// catalogue: remove images of the catalogue's repositories that are no longer wanted; all: while the disk is full, also any other
    /// unused image
    #[arg(long, env = "PURGE_SCOPE", value_name = "SCOPE", default_value = "catalogue")]
    purge_scope: String,
    /// How long an image stays after it was last used, last wanted or first seen; at most an hour while the disk is
    /// full
    #[arg(long, env = "PURGE_GRACE", value_name = "DURATION", default_value = "24h")]
    purge_grace: String,
    /// Names that are never removed: a full name, a repository, or a pattern with * for any text; Docker Hub names may
    /// be short
    #[arg(long, env = "PURGE_ALLOW", value_name = "PATTERN,…")]
    purge_allow: Option<String>,
    /// Names that are removed although no catalogue lists them, unless they are in use, wanted or pinned
    #[arg(long, env = "PURGE_DENY", value_name = "PATTERN,…")]
    purge_deny: Option<String>,
    /// Accept a catalogue that wants less than half of the images that it wanted before
    #[arg(long, env = "PURGE_FORCE_SHRINK", value_name = "SWITCH", default_value = "false")]
    purge_force_shrink: String,
    /// How to read tags, as for the prepuller: rubin, semver, calendar, or regex:<pattern with named groups>
    #[arg(long, env = "LAB_TAG_SCHEME", value_name = "SCHEME", default_value = "rubin")]
    lab_tag_scheme: String,
    /// Images that are never removed
    #[arg(long, env = "LAB_PINNED", value_name = "TAG,…")]
    lab_pinned: Option<String>,
    /// Images that are always kept
    #[arg(long, env = "LAB_INFRASTRUCTURE_IMAGES", value_name = "IMAGE,…")]
    lab_infrastructure_images: Option<String>,
}

impl RuleArguments {
    /// Builds the rules. The maximum age of the catalogue and the retry time are still to be filled in.
    pub(super) fn settings(&self, problems: &mut Problems) -> Option<Rules> {
        let scope = problems.parse("PURGE_SCOPE", &self.purge_scope, "catalogue", |text| match text {
            "catalogue" => Ok(Scope::Catalogue),
            "all" => Ok(Scope::All),
            _ => Err(format!("{text:?} is neither catalogue nor all")),
        });
        let grace = problems.parse("PURGE_GRACE", &self.purge_grace, "24h", signed_duration);
        let allow = all(problems, "PURGE_ALLOW", self.purge_allow.as_deref(), "registry.example.org/owner/*");
        let deny = all(problems, "PURGE_DENY", self.purge_deny.as_deref(), "*:exp_*");
        let force_shrink = problems.parse("PURGE_FORCE_SHRINK", &self.purge_force_shrink, "true", switch);
        let tag_scheme = problems.parse("LAB_TAG_SCHEME", &self.lab_tag_scheme, "rubin", str::parse::<TagScheme>);
        let images = self.lab_infrastructure_images.as_deref();
        let pinned_images =
            all::<Name>(problems, "LAB_INFRASTRUCTURE_IMAGES", images, "registry.example.org/owner/hub:1.0");
        let pinned_images = pinned_images.map(|images| images.into_iter().map(|Name(image)| image).collect());
        let pinned_tags: BTreeSet<String> =
            list(self.lab_pinned.as_deref().unwrap_or_default()).map(str::to_owned).collect();
        Some(Rules {
            scope: scope?,
            grace: grace?,
            catalogue_max_age: SignedDuration::ZERO,
            force_shrink: force_shrink?,
            pinned_tags,
            pinned_images: pinned_images?,
            allow: allow?,
            deny: deny?,
            tag_scheme: tag_scheme?,
            retry: SignedDuration::ZERO,
        })
    }
}

/// The name of an image, and not only its id.
struct Name(Reference);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_digest(text) {
            return Err(PatternError::Digest(text.to_owned()).to_string());
        }
        text.parse().map(Self).map_err(|error: ReferenceError| error.to_string())
    }
}

fn all<T: FromStr<Err: fmt::Display>>(
    problems: &mut Problems,
    setting: &'static str,
    text: Option<&str>,
    example: &'static str,
) -> Option<Vec<T>> {
    problems
        .parse(setting, text.unwrap_or_default(), example, |text| list(text).map(str::parse).collect::<Result<_, _>>())
}

pub(super) fn signed_duration(text: &str) -> Result<SignedDuration, String> {
    let duration = duration_within(text, Duration::from_millis(1), CENTURY).map_err(|error| error.to_string())?;
    SignedDuration::try_from(duration).map_err(|error| error.to_string())
}
