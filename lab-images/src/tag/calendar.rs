//! Tags that are dates: `2026.11.22`, `2026-11-22`, `20261122` are daily builds, `2026.11` is the release of a month. The
//! part after that (a variant, a build or a candidate) is parsed in `suffix.rs`.
//!
//! Three numbers separated by dots are dates in one repository and calendar versions (`YYYY.MM.MICRO`, also `YYYY.M.MICRO`) in
//! another. A single tag does not show which: `2025.11.10` may be the tenth of November or the eleventh release of that month.
//! If any of them in a repository is not a date with two digits for month and day, all of them are versions, which are releases.

use super::suffix::{self, Numbers};
use super::version::{Version, without_v};
use super::{Class, Number, Tag, architecture, name};

/// The meaning of three numbers separated by dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dotted {
    Dates,
    Versions,
}

impl Dotted {
    /// Their meaning in a repository with these tags.
    pub(super) fn of<T: AsRef<str>>(tags: &[T]) -> Self {
        let is_version = |tag: &T| {
            let (base, _) = architecture::split_loosely(tag.as_ref());
            let bare = without_v(base);
            full_date(bare).is_none() && version(bare).is_some_and(|(_, end)| may_follow(&bare[end..]))
        };
        if tags.iter().any(is_version) { Self::Versions } else { Self::Dates }
    }
}

/// Parses a date; `None` for anything else.
pub(super) fn parse(text: &str, dotted: Dotted) -> Option<Tag> {
    let (base, arch) = architecture::split_loosely(text);
    let bare = without_v(base);
    let versioned = |(numbers, end)| (Class::Release, numbers, end);
    let version = version(bare).filter(|_| dotted == Dotted::Versions).map(versioned);
    let (class, numbers, end) = version.or_else(|| full_date(bare)).or_else(|| month(bare))?;
    let suffix = suffix::read(&bare[end..], Numbers::AreBuilds)?;
    let class = if suffix.candidate.is_some() { Class::Candidate } else { class };
    let shown = &base[..base.len() - bare.len() + end + suffix.shown];
    Some(Tag {
        text: text.to_owned(),
        class,
        name: name(class, shown, None, None, suffix.rest, arch),
        version: Some(Version { numbers, candidate: suffix.candidate, post: suffix.post }),
        rest: suffix.rest.map(str::to_owned),
        arch: arch.map(str::to_owned),
        ..Tag::plain_first(text)
    })
}

/// The class, the numbers, and where the rest begins.
type Dated = (Class, Vec<u64>, usize);

fn full_date(text: &str) -> Option<Dated> {
    for (year, month, day, end) in [(0..4, 5..7, 8..10, 10), (0..4, 4..6, 6..8, 8)] {
        let separators_fit = match end {
            10 => {
                matches!((text.get(4..5), text.get(7..8)), (Some(a), Some(b)) if a == b && [".", "-", "_"].contains(&a))
            }
            _ => true,
        };
        let part = |range| text.get(range).and_then(Number::parse);
        let (Some(year), Some(month), Some(day), true) = (part(year), part(month), part(day), separators_fit) else {
            continue;
        };
        let ends = !text[end..].starts_with(|c: char| c.is_ascii_digit());
        if let Some(numbers) = date(&year, &month, &day).filter(|_| ends) {
            return Some((Class::Daily, numbers, end));
        }
    }
    None
}

/// `2026.1.5`: year, month, a number that counts within the month, and where the rest begins.
fn version(text: &str) -> Option<(Vec<u64>, usize)> {
    let mut parts = text.splitn(3, '.');
    let (year, month, after) = (parts.next()?, parts.next()?, parts.next()?);
    let micro = &after[..after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())];
    let end = text.len() - after.len() + micro.len();
    let (year, month, micro) = (year_of(year)?, month_of(month)?, Number::parse(micro)?);
    Some((vec![year, month, micro.value], end))
}

fn month(text: &str) -> Option<Dated> {
    let (year, after) = text.split_once('.')?;
    let digits = &after[..after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())];
    let numbers = vec![year_of(year)?, month_of(digits)?];
    let end = text.len() - after.len() + digits.len();
    let rest = &text[end..];
    // `2026.11.x` and `2026.11_22` are neither a month nor a day.
    let continues = |rest: &str| !rest.starts_with("dev") && !rest.starts_with("post");
    let is_day = rest.strip_prefix('.').is_some_and(continues)
        || rest.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (!is_day).then_some((Class::Release, numbers, end))
}

/// Whether this may follow a version.
fn may_follow(rest: &str) -> bool {
    suffix::read(rest, Numbers::AreBuilds).is_some()
}

fn year_of(digits: &str) -> Option<u64> {
    Number::parse(digits).filter(|year| digits.len() == 4 && year.value >= 1970).map(|year| year.value)
}

fn month_of(digits: &str) -> Option<u64> {
    Number::parse(digits).filter(|month| digits.len() <= 2 && (1..=12).contains(&month.value)).map(|month| month.value)
}

/// Year, month and day, if that day exists.
pub(super) fn date(year: &Number, month: &Number, day: &Number) -> Option<Vec<u64>> {
    let part = |number: &Number| i8::try_from(number.value).ok();
    let year_number = i16::try_from(year.value).ok().filter(|year| (1970..=9999).contains(year))?;
    jiff::civil::Date::new(year_number, part(month)?, part(day)?).ok()?;
    Some(vec![year.value, month.value, day.value])
}
