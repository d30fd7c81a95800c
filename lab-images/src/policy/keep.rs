//! How many tags of each class are kept (`LAB_KEEP`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::tag::Class;

/// The default of `LAB_KEEP`.
pub const DEFAULT_KEEP: &str = "release=1,weekly=2,daily=3";

/// The most that may be kept of one class.
const MOST_KEPT: u32 = 1000;

/// How many of the newest tags of each class are kept. Classes that are not listed, or have 0, are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep(BTreeMap<Class, u32>);

/// Why `LAB_KEEP` is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeepError {
    /// Not `class=number`.
    #[error("{0:?} is not of the form class=number")]
    Form(String),
    /// Not a class.
    #[error("{0:?} is not a class that can be kept; use release, weekly, daily, candidate, experimental or unknown")]
    Class(String),
    /// Not a number.
    #[error("{0:?} is not a number of images to keep, from 0 to {MOST_KEPT}")]
    Number(String),
    /// The class is listed twice.
    #[error("{0} is listed twice")]
    Twice(Class),
}

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let mut keep = BTreeMap::new();
        for item in sidecar::settings::values::list(text) {
            let (word, number) = item.split_once('=').ok_or_else(|| KeepError::Form(item.to_owned()))?;
            let class = Class::of_word(word.trim()).filter(|class| *class != Class::Alias);
            let class = class.ok_or_else(|| KeepError::Class(word.trim().to_owned()))?;
            let number = number.trim();
            let count = number.parse().ok().filter(|count| *count <= MOST_KEPT);
            let count = count.ok_or_else(|| KeepError::Number(number.to_owned()))?;
            if keep.insert(class, count).is_some() {
                return Err(KeepError::Twice(class));
            }
        }
        Ok(Self(keep))
    }
}

impl Keep {
    /// How many are kept of a class.
    pub fn of(&self, class: Class) -> usize {
        self.0.get(&class).map_or(0, |count| *count as usize)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (class, count)) in self.0.iter().enumerate() {
            write!(f, "{}{class}={count}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_is_wrong_with_keep() {
        for (text, expected) in [
            ("weekly", "class=number"),
            ("weekly=x", "\"x\""),
            ("weekly=-1", "\"-1\""),
            ("weekly=1001", "1000"),
            ("monthly=1", "\"monthly\""),
            ("alias=1", "\"alias\""),
            ("weekly=1,weekly=2", "twice"),
        ] {
            let error = text.parse::<Keep>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn it_is_displayed_as_it_is_written() {
        assert_eq!(DEFAULT_KEEP.parse::<Keep>().unwrap().to_string(), DEFAULT_KEEP);
        assert_eq!("".parse::<Keep>().unwrap().to_string(), "nothing");
    }
}
