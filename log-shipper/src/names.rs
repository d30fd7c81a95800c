//! Parses a log file's name: the log that it belongs to, its age among its siblings, and whether it is compressed.
//!
//! kubelet: `0.log`, `0.log.20261122-100000`, `….gz`, and `….tmp` while it compresses. Docker: `<id>-json.log`, `.1`,
//! `.2.gz`. logrotate: `.1`, or with `dateext` `-20261122`, `-2026112210` (hourly), `-1795348800` (`dateformat -%s`)
//! and whatever else its `dateformat` can write from the year on, with `extension .log` before the `.log`; each also
//! `.gz`.

use std::cmp::Reverse;

/// More digits are a date or a time; logrotate and Docker number their files with fewer.
const MOST_COUNT_DIGITS: usize = 7;

/// A file's age among the files of one container; older ones come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Rotated, with a number that increases with age.
    Numbered(Reverse<u32>),
    /// Rotated at this time (the digits from year to second), and what distinguishes files of the same time.
    Stamped(u64, Box<str>),
    /// Renamed to a name that says nothing. It belongs to a log only if its content did.
    Aside,
    /// The live file.
    Live,
}

/// The parts of a log file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName<'a> {
    /// The part that all files of a log share.
    pub base: &'a str,
    /// Its age.
    pub age: Age,
    /// Whether it ends in `.gz`.
    pub gzip: bool,
}

impl Age {
    /// Older than any other.
    pub const OLDEST: Self = Self::Numbered(Reverse(u32::MAX));
}

impl<'a> LogName<'a> {
    /// Parses a name, or the last component of a path; `None` for files that are not logs or not ready to be read.
    pub fn parse(path: &'a str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let (plain, gzip) = name.strip_suffix(".gz").map_or((name, false), |plain| (plain, true));
        let at = plain.find(".log")?;
        let (base, rest) = (&plain[..at], &plain[at + ".log".len()..]);
        if base.is_empty() {
            return None;
        }
        if rest.is_empty() {
            let dated = base.match_indices(['-', '.', '_']).find_map(|(at, _)| match age(&base[at + 1..])? {
                Age::Numbered(_) => None,
                age => Some(Self { base: &base[..at], age, gzip }),
            });
            let age = if gzip { Age::Aside } else { Age::Live };
            return Some(dated.unwrap_or(Self { base, age, gzip }));
        }
        let stamp = rest.strip_prefix(['.', '-', '_', '~'])?;
        if (stamp.is_empty() && !rest.starts_with('~')) || stamp.ends_with("tmp") || stamp.ends_with("swp") {
            return None;
        }
        Some(Self { base, age: age(stamp).unwrap_or(Age::Aside), gzip })
    }

    /// The age of any file that belongs to a log, and whether it is compressed.
    pub fn age_of(path: &str) -> (Age, bool) {
        LogName::parse(path).map_or((Age::Aside, path.ends_with(".gz")), |name| (name.age, name.gzip))
    }
}

/// The age according to a rotated file's suffix; `None` if it shows none.
fn age(stamp: &str) -> Option<Age> {
    // All files of a log have the same time zone.
    let time = stamp.strip_suffix('Z').unwrap_or(stamp);
    let time = time.split_once('+').map_or(time, |(time, _)| time);
    if !time.bytes().all(|byte| byte.is_ascii_digit() || b"-_.:TW".contains(&byte)) {
        return None;
    }
    if time == stamp
        && stamp.len() <= MOST_COUNT_DIGITS
        && !is_month_or_week(stamp)
        && let Ok(number) = stamp.parse()
    {
        return Some(Age::Numbered(Reverse(number)));
    }
    let groups: Vec<&str> = time.split(['-', '_', '.', ':', 'T', 'W']).filter(|group| !group.is_empty()).collect();
    let digits = groups.concat();
    let time = match *groups {
        [seconds] if seconds.len() == 10 && !is_day_and_hour(seconds) => of_epoch(seconds.parse().ok()?)?,
        [milliseconds] if milliseconds.len() == 13 => of_epoch(milliseconds.parse::<i64>().ok()? / 1000)?,
        [day, seconds] if day.len() == 8 && seconds.len() == 10 => of_epoch(seconds.parse().ok()?)?,
        _ if is_day(&digits) || is_month_or_week(&digits) => {
            let known = digits.len().min(14);
            digits[..known].parse::<u64>().ok()? * 10_u64.pow(14 - known as u32)
        }
        _ => return None,
    };
    Some(Age::Stamped(time, stamp.into()))
}

/// Whether the digits begin with year, month and day.
fn is_day(digits: &str) -> bool {
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<u32>().ok());
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    year.is_some_and(|year| (1970..2200).contains(&year))
        && month.is_some_and(|month| (1..=12).contains(&month))
        && day.is_some_and(|day| (1..=31).contains(&day))
}

/// Whether the digits are a year and its month or week: `dateformat -%Y%m` or `-%Y%V`.
fn is_month_or_week(digits: &str) -> bool {
    let Some((year, part)) = digits.split_at_checked(4).filter(|_| digits.len() == 6) else { return false };
    year.parse().is_ok_and(|year: u32| (1970..2200).contains(&year))
        && part.parse().is_ok_and(|part: u32| (1..=53).contains(&part))
}

/// Whether ten digits are a day and an hour. Seconds since 1970 look like that only after 2033.
fn is_day_and_hour(digits: &str) -> bool {
    is_day(digits) && digits[8..].parse::<u32>().is_ok_and(|hour| hour < 24)
}

/// The digits of this time, in the form of other stamps.
fn of_epoch(seconds: i64) -> Option<u64> {
    jiff::Timestamp::from_second(seconds).ok()?.strftime("%Y%m%d%H%M%S").to_string().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_by_key(|name| LogName::parse(name).unwrap().age);
        names
    }

    #[test]
    fn older_files_come_first() {
        let orders: [&[&str]; 13] = [
            &["0.log.20261122-100000.gz", "0.log.20261122-100001", "0.log"],
            &["a-json.log.10.gz", "a-json.log.2.gz", "a-json.log.1", "a-json.log"],
            &["a-json.log-20261031.gz", "a-json.log-20261101", "a-json.log"],
            &["a-json.log-2026112309.gz", "a-json.log-2026112310.gz", "a-json.log-20261124", "a-json.log"],
            &["a-json.log-1795348800.gz", "a-json.log-1795435200", "a-json.log"],
            &["a-json.log-20261122-1795348800", "a-json.log-20261123-1795435200", "a-json.log.old", "a-json.log"],
            &["a-json.log-2026-11-22", "a-json.log-2026-11-23.gz", "a-json.log_2026-11-23T10:00:00", "a-json.log"],
            &["a-json-20261122.log.gz", "a-json-20261123.log", "a-json.log"],
            &["a-json.log-202610.gz", "a-json.log-202611", "a-json.log-202701", "a-json.log"],
            &["a-json.log-2026-10.gz", "a-json.log-2026-11", "a-json.log"],
            &["a-json.log-2026-W47.gz", "a-json.log-2026-W48", "a-json.log-2027-W01", "a-json.log"],
            &["a-json.log.2026-11-22T10:00:00Z", "a-json.log.2026-11-22T10:00:01.5Z.gz", "a-json.log"],
            &["a-json.log-20261122+0100", "a-json.log-20261123+0100.gz", "a-json.log"],
        ];
        for order in orders {
            let shuffled: Vec<_> = order.iter().rev().copied().collect();
            assert_eq!(sorted(shuffled), order);
            let bases: Vec<_> = order.iter().map(|name| LogName::parse(name).unwrap().base).collect();
            assert!(bases.iter().all(|base| *base == bases[0]), "{bases:?}");
        }
    }

    #[test]
    fn a_stamp_of_seconds_and_one_of_digits_can_be_compared() {
        let age = |name| LogName::parse(name).unwrap().age;
        // 1795348800 is 2026-11-22T12:00:00Z.
        assert!(age("0.log-1795348800") < age("0.log.20261122-120001"));
        assert!(age("0.log-1795348800") > age("0.log.20261122-115959"));
        assert!(age("0.log-1795348800000") > age("0.log-2026112211"));
    }

    #[test]
    fn the_base_tells_the_restart() {
        let name = LogName::parse("/pods/a_b_c/main/12.log.20261122-100000.gz").unwrap();
        assert_eq!((name.base, name.gzip), ("12", true));
    }

    #[test]
    fn a_name_that_says_nothing_is_aside() {
        for name in [
            "0.log.old",
            "0.log~",
            "0.log-99999999",
            "0.log-2026-54",
            "0.log-22Nov2026",
            "0.log.+1",
            "0.log.Z",
            "0.log.1.bz2",
            "0.log.20261122.zst",
            "0.log.gz",
        ] {
            assert_eq!(LogName::parse(name).unwrap().age, Age::Aside, "{name}");
        }
        assert_eq!(LogName::age_of("/x/other"), (Age::Aside, false));
    }

    #[test]
    fn other_files_are_no_logs() {
        for other in ["0.log.20261122-100000.tmp", "0.log.1.gz.tmp", "config.v2.json", ".log", "0.log.", "0.logs", ""] {
            assert_eq!(LogName::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_the_parser_panic(name in "[0-9a-zé./_~-]{0,12}(\\.log)?[0-9TZé:._~-]{0,20}(\\.gz)?") {
            let _ = LogName::parse(&name);
        }
    }
}
