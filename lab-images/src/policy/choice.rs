//! Decides which tags are considered, whatever their class (`LAB_TAGS`, `LAB_TAGS_EXCLUDED`).

use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// The largest compiled pattern. A larger one was not written by an operator.
const MOST_PATTERN_BYTES: usize = 1 << 20;

/// Tags of artifacts that are attached to images: cosign's signatures, attestations and SBOMs, and the referrers' tags
/// of the OCI distribution specification 1.1 ("Referrers Tag Schema").
const ATTACHED: &str = r"^sha(256|512)-[0-9a-f]{32,}|\.(sig|att|sbom)$";

/// A regular expression for tags. It may match any part of a tag.
#[derive(Clone, Debug)]
pub struct TagPattern(Regex);

/// Why a pattern is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("it is not a regular expression: {0}")]
pub struct TagPatternError(String);

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(text: &str) -> Result<Self, TagPatternError> {
        let compiled = RegexBuilder::new(text).size_limit(MOST_PATTERN_BYTES).build();
        compiled.map(Self).map_err(|error| TagPatternError(error.to_string().replace('\n', " ")))
    }
}

/// Which tags are considered.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Only tags that match (`LAB_TAGS`).
    only: Option<TagPattern>,
    /// No tags that match (`LAB_TAGS_EXCLUDED`).
    excluded: Option<TagPattern>,
    attached: Regex,
}

impl Choice {
    /// Tags that match `only` and do not match `excluded`. Attached artifacts are never included.
    pub fn new(only: Option<TagPattern>, excluded: Option<TagPattern>) -> Self {
        let attached = Regex::new(ATTACHED).expect("the constant is a regular expression, which a test compiles");
        Self { only, excluded, attached }
    }

    /// Why a tag is ignored, if it is.
    pub fn leaves_out(&self, tag: &str) -> Option<&'static str> {
        let is_chosen = self.only.as_ref().is_none_or(|TagPattern(regex)| regex.is_match(tag));
        if self.excludes(tag) {
            Some("excluded by LAB_TAGS_EXCLUDED")
        } else if self.attached.is_match(tag) {
            Some("a signature, attestation or SBOM of another image")
        } else {
            (!is_chosen).then_some("does not match LAB_TAGS")
        }
    }

    /// Whether a tag is ignored by `excluded`, and not just missing in `only`.
    pub(super) fn excludes(&self, tag: &str) -> bool {
        self.excluded.as_ref().is_some_and(|TagPattern(regex)| regex.is_match(tag))
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self::new(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn attached_artifacts_are_left_out() {
        let choice = Choice::default();
        for end in ["", ".sig", ".att", ".sbom", ".0a1b2c3d4e"] {
            assert!(choice.leaves_out(&format!("sha256-{HEX}{end}")).is_some(), "{end}");
        }
        assert!(choice.leaves_out("w_2026_47.sig").is_some());
        for tag in ["w_2026_47", "sha-abc1234", "sig", "4.2.1-att", "latest"] {
            assert_eq!(choice.leaves_out(tag), None, "{tag}");
        }
    }

    #[test]
    fn two_patterns_choose_and_exclude() {
        let choice = Choice::new(Some("^w_".parse().unwrap()), Some("nosudo".parse().unwrap()));
        assert_eq!(choice.leaves_out("w_2026_47"), None);
        assert_eq!(choice.leaves_out("d_2026_11_22"), Some("does not match LAB_TAGS"));
        assert_eq!(choice.leaves_out("w_2026_47_nosudo"), Some("excluded by LAB_TAGS_EXCLUDED"));
        assert!("(".parse::<TagPattern>().unwrap_err().to_string().contains("not a regular expression"));
    }
}
