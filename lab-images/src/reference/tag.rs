//! Tags, by the OCI distribution specification.

use std::fmt;
use std::str::FromStr;

use super::{ReferenceError, wrong};

/// The length limit of a tag, by the specification.
const MOST_TAG_BYTES: usize = 128;

/// A valid tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagName(String);

impl TagName {
    /// The tag of a reference without one.
    pub(super) fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem: &'static str| wrong(text, "a tag", problem);
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > MOST_TAG_BYTES {
            return Err(wrong("it has more than 128 bytes"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !text.chars().all(fits) || text.starts_with(['.', '-']) {
            return Err(wrong("it may have letters, digits, _ . and -, and must not begin with . or -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TagName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
