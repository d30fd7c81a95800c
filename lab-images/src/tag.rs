//! Tags of lab images: their class, their order, and their names in a menu.
//!
//! A [`TagScheme`] parses any text into a [`Tag`] and never fails: an unknown form is [`Class::Unknown`]. Each scheme has a
//! file (`rubin.rs`, `semantic.rs`, `calendar.rs`, `pattern.rs`); `version.rs`, `suffix.rs` and `architecture.rs` parse the
//! parts that schemes share, and `order.rs` is the order of a menu.

mod architecture;
mod calendar;
mod order;
mod pattern;
mod rubin;
mod semantic;
mod suffix;
mod version;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use pattern::{Pattern, PatternError};
pub use version::Version;

/// The kind of build that a tag names, in the order of a menu.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// An alias of another tag.
    Alias,
    /// A release.
    Release,
    /// A weekly build.
    Weekly,
    /// A daily build.
    Daily,
    /// A release candidate.
    Candidate,
    /// An experimental build.
    Experimental,
    /// Anything else.
    Unknown,
}

impl Class {
    /// Its name in settings and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alias => "alias",
            Self::Release => "release",
            Self::Weekly => "weekly",
            Self::Daily => "daily",
            Self::Candidate => "candidate",
            Self::Experimental => "experimental",
            Self::Unknown => "unknown",
        }
    }

    /// The class with this name.
    pub fn of_word(word: &str) -> Option<Self> {
        use Class::{Alias, Candidate, Daily, Experimental, Release, Unknown, Weekly};
        [Alias, Release, Weekly, Daily, Candidate, Experimental, Unknown].into_iter().find(|class| class.word() == word)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Alias | Self::Unknown => "",
            Self::Release => "Release ",
            Self::Weekly => "Weekly ",
            Self::Daily => "Daily ",
            Self::Candidate => "Release Candidate ",
            Self::Experimental => "Experimental ",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A number as a tag writes it: names show the digits, and comparisons use the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    digits: String,
    value: u64,
}

impl Number {
    /// Parses one to eighteen digits.
    fn parse(digits: &str) -> Option<Self> {
        let fits = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|digit| digit.is_ascii_digit());
        Some(Self { value: fits.then(|| digits.parse().ok())??, digits: digits.to_owned() })
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.value
    }
}

/// A cycle of the Rubin control software, with its build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The cycle.
    pub number: Number,
    /// The build within the cycle.
    pub build: Option<Number>,
}

/// A parsed tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The original text.
    pub text: String,
    /// Its class.
    pub class: Class,
    /// Its name in a menu.
    pub name: String,
    /// Its version, if it has one.
    pub version: Option<Version>,
    /// Its cycle.
    pub cycle: Option<Cycle>,
    /// The build of the science platform's image.
    pub rsp_build: Option<Number>,
    /// The text after the parts that the grammar knows.
    pub rest: Option<String>,
    /// Its architecture, if it is for only one.
    pub arch: Option<String>,
    /// The key by which tags without a version are ordered.
    base: String,
    /// Whether a tag without a rest comes before those with one.
    plain_first: bool,
}

impl Tag {
    /// A tag with this text in a scheme that orders the plain tag before its variants. The scheme fills in the other fields.
    fn plain_first(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            class: Class::Unknown,
            name: String::new(),
            version: None,
            cycle: None,
            rsp_build: None,
            rest: None,
            arch: None,
            base: text.to_owned(),
            plain_first: true,
        }
    }
}

/// Why a tag scheme is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SchemeError {
    /// There is no scheme with this name.
    #[error("{0:?} is not a tag scheme; use rubin, semver, calendar or regex:<pattern with named groups>")]
    Unknown(String),
    /// The pattern is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// How tags are parsed (`LAB_TAG_SCHEME`).
#[derive(Clone, Debug)]
pub enum TagScheme {
    /// The tags of the Rubin Science Platform (SQR-059).
    Rubin,
    /// Semantic versions: `4.2.1`, `v4.2.1-rc.1`, `5.0.0rc1`, `v4.2.1-py312`, `4.2`.
    Semver,
    /// Dates and calendar versions: `2026.11.22`, `2026-11-22`, `20261122`, `2026.11`, `2026.1.5`.
    Calendar,
    /// The operator's own pattern.
    Pattern(Box<Pattern>),
}

impl fmt::Display for TagScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rubin => f.write_str("rubin"),
            Self::Semver => f.write_str("semver"),
            Self::Calendar => f.write_str("calendar"),
            Self::Pattern(pattern) => write!(f, "regex:{}", pattern.text()),
        }
    }
}

impl FromStr for TagScheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        match text {
            "rubin" => Ok(Self::Rubin),
            "semver" => Ok(Self::Semver),
            "calendar" => Ok(Self::Calendar),
            _ => match text.strip_prefix("regex:") {
                Some(pattern) => Ok(Self::Pattern(Box::new(pattern.parse()?))),
                None => Err(SchemeError::Unknown(text.to_owned())),
            },
        }
    }
}

/// What the other tags of a repository show about an ambiguous tag.
#[derive(Debug)]
struct Others {
    dotted: calendar::Dotted,
    series: semantic::Series,
}

impl Others {
    fn of<T: AsRef<str>>(scheme: &TagScheme, tags: &[T]) -> Self {
        let (mut dotted, mut series) = (calendar::Dotted::Dates, semantic::Series::default());
        match scheme {
            TagScheme::Semver => series = semantic::Series::of(tags),
            TagScheme::Calendar => dotted = calendar::Dotted::of(tags),
            TagScheme::Rubin | TagScheme::Pattern(_) => {}
        }
        Self { dotted, series }
    }
}

impl TagScheme {
    /// Parses a tag on its own. An empty one means `latest`.
    pub fn parse(&self, text: &str) -> Tag {
        self.read(text, &Others::of(self, &[text]))
    }

    /// Parses a tag, which is an alias if `aliases` contains it.
    pub fn parse_with_aliases(&self, text: &str, aliases: &[String]) -> Tag {
        if aliases.iter().any(|alias| alias == text) { rubin::alias(text) } else { self.parse(text) }
    }

    /// Parses the tags of one repository. Tags that are `chosen` resolve ambiguous ones.
    pub fn parse_all<T: AsRef<str>, C: AsRef<str>>(&self, texts: &[T], chosen: &[C], aliases: &[String]) -> Vec<Tag> {
        let others = Others::of(self, chosen);
        let parse = |text: &str| {
            if aliases.iter().any(|alias| alias == text) { rubin::alias(text) } else { self.read(text, &others) }
        };
        texts.iter().map(|text| parse(text.as_ref())).collect()
    }

    fn read(&self, text: &str, others: &Others) -> Tag {
        let text = if text.is_empty() { "latest" } else { text };
        // No registry can have an invalid tag, and the grammar's digits and dates must not see one.
        let known = if text.parse::<crate::reference::TagName>().is_ok() {
            match self {
                Self::Rubin => rubin::parse(text),
                Self::Semver => semantic::parse(text, &others.series),
                Self::Calendar => calendar::parse(text, others.dotted),
                Self::Pattern(pattern) => pattern.parse(text),
            }
        } else {
            None
        };
        known.unwrap_or_else(|| rubin::unknown(text))
    }
}

/// The name in a menu of a tag with these parts; `what` is the version with the tag's own digits.
fn name(
    class: Class,
    what: &str,
    cycle: Option<&Cycle>,
    rsp: Option<&Number>,
    rest: Option<&str>,
    arch: Option<&str>,
) -> String {
    let mut name = format!("{}{what}", class.title());
    match cycle {
        Some(Cycle { number, build: Some(build) }) => {
            name += &format!(" (SAL Cycle {}, Build {})", number.digits, build.digits);
        }
        Some(Cycle { number, build: None }) => name += &format!(" (SAL Cycle {})", number.digits),
        None => {}
    }
    if let Some(rsp) = rsp {
        name += &format!(" (RSP Build {})", rsp.digits);
    }
    for more in [rest, arch].into_iter().flatten() {
        name += &format!(" [{more}]");
    }
    name
}

#[cfg(test)]
mod tests;
