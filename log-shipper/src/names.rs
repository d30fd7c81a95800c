//! What a log file's name says: which restart it belongs to, how old it is among its siblings, whether it is compressed.
//!
//! kubelet: `0.log`, `0.log.20261122-100000`, `….gz`, and `….tmp` while it compresses. Docker: `<id>-json.log`, `.1`, `.2.gz`.

use std::cmp::Reverse;

/// A file's age among the files of one container; older ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Rotated, with a number that grows with age.
    Numbered(Reverse<u32>),
    /// Rotated, with the time of rotation.
    Stamped(String),
    /// The one that is written to.
    Live,
}

/// A log file's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName<'a> {
    /// The name up to `.log`.
    pub base: &'a str,
    /// Its age.
    pub age: Age,
    /// Whether it ends in `.gz`.
    pub gzip: bool,
}

impl<'a> LogName<'a> {
    /// Takes a name apart; `None` for files that are no logs or not ready to be read.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (plain, gzip) = name.strip_suffix(".gz").map_or((name, false), |plain| (plain, true));
        let at = plain.find(".log")?;
        let (base, rest) = (&plain[..at], &plain[at + ".log".len()..]);
        let age = match rest.strip_prefix('.') {
            None if rest.is_empty() && !gzip => Age::Live,
            None => return None,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
                return None;
            }
            Some(digits) => match digits.parse() {
                Ok(number) if digits.len() <= 4 => Age::Numbered(Reverse(number)),
                _ => Age::Stamped(digits.to_owned()),
            },
        };
        if base.is_empty() { None } else { Some(Self { base, age, gzip }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_by_key(|name| LogName::parse(name).unwrap().age);
        names
    }

    #[test]
    fn older_files_come_first() {
        let kubelet = sorted(vec!["0.log", "0.log.20261122-100001", "0.log.20261122-100000.gz"]);
        assert_eq!(kubelet, ["0.log.20261122-100000.gz", "0.log.20261122-100001", "0.log"]);
        let docker = sorted(vec!["a-json.log", "a-json.log.1", "a-json.log.10.gz", "a-json.log.2.gz"]);
        assert_eq!(docker, ["a-json.log.10.gz", "a-json.log.2.gz", "a-json.log.1", "a-json.log"]);
    }

    #[test]
    fn the_base_tells_the_restart() {
        let name = LogName::parse("12.log.20261122-100000.gz").unwrap();
        assert_eq!((name.base, name.gzip), ("12", true));
    }

    #[test]
    fn other_files_are_no_logs() {
        for other in ["0.log.20261122-100000.tmp", "config.v2.json", "0.log.gz", ".log", "0.log.", "0.logs", ""] {
            assert_eq!(LogName::parse(other), None, "{other}");
        }
    }
}
