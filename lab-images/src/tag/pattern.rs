//! Tags by the operator's own pattern: a regular expression that matches the whole tag and names its parts.
//!
//! Groups: `version` (numbers with anything between them), or any of `year`, `month`, `week`, `day`, `major`, `minor`, `patch`,
//! `build`, compared as numbers in this order; `class` (the name of a class; release if the group is missing), `candidate` (a
//! number, or words with numbers: makes it a release candidate), `rest`, `arch`.

use std::str::FromStr;

use regex::{Captures, Regex, RegexBuilder};
use thiserror::Error;

use super::version::{Candidate, Stage, Version, pieces};
use super::{Class, Number, Tag, name};

const PARTS: [&str; 8] = ["year", "month", "week", "day", "major", "minor", "patch", "build"];
const OTHERS: [&str; 5] = ["version", "class", "candidate", "rest", "arch"];

/// A pattern with known groups.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// As the operator wrote it.
    text: String,
}

/// Why a pattern is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// Not a regular expression.
    #[error("the pattern is not a regular expression: {0}")]
    Syntax(String),
    /// A group with another name.
    #[error(
        "the pattern has a group {0:?}; known are version, class, candidate, rest, arch and the parts year, month, week, day, major, minor, patch, build"
    )]
    Group(String),
    /// No group to compare by.
    #[error("the pattern has no group to compare by: name one (?P<version>…), or parts such as (?P<major>…)")]
    NoVersion,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        let compiled = RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(1 << 20).build();
        let regex = compiled.map_err(|error| PatternError::Syntax(error.to_string().replace('\n', " ")))?;
        let names: Vec<&str> = regex.capture_names().flatten().collect();
        if let Some(stranger) = names.iter().find(|name| !PARTS.contains(name) && !OTHERS.contains(name)) {
            return Err(PatternError::Group((*stranger).to_owned()));
        }
        if !names.iter().any(|name| *name == "version" || PARTS.contains(name)) {
            return Err(PatternError::NoVersion);
        }
        Ok(Self { regex, text: pattern.to_owned() })
    }
}

impl Pattern {
    /// The pattern as the operator wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Parses a tag; `None` if the pattern does not match it, or its parts are not numbers.
    pub(super) fn parse(&self, text: &str) -> Option<Tag> {
        let captures = self.regex.captures(text)?;
        let group = |name: &str| captures.name(name).map(|found| found.as_str()).filter(|found| !found.is_empty());
        let candidate = group("candidate");
        let candidate = candidate.map(|text| Candidate { stage: Stage::Candidate, pieces: pieces(text), dev: None });
        let class = match group("class") {
            Some(word) => Class::of_word(word).filter(|class| !matches!(class, Class::Alias | Class::Unknown))?,
            None if candidate.is_some() => Class::Candidate,
            None => Class::Release,
        };
        let (rest, arch) = (group("rest"), group("arch"));
        let shown = arch.and_then(|arch| text.strip_suffix(arch)).unwrap_or(text).trim_end_matches('-');
        Some(Tag {
            text: text.to_owned(),
            class,
            name: name(class, shown, None, None, None, arch),
            version: Some(Version { numbers: numbers(&captures)?, candidate, post: None }),
            rest: rest.map(str::to_owned),
            arch: arch.map(str::to_owned),
            ..Tag::plain_first(text)
        })
    }
}

fn numbers(captures: &Captures<'_>) -> Option<Vec<u64>> {
    let parsed = |digits: &str| Number::parse(digits).map(|number| number.value);
    let numbers: Option<Vec<u64>> = match captures.name("version") {
        Some(version) => {
            let digits = version.as_str().split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
            digits.map(parsed).collect()
        }
        None => PARTS.iter().filter_map(|part| captures.name(part)).map(|part| parsed(part.as_str())).collect(),
    };
    numbers.filter(|numbers| !numbers.is_empty())
}
