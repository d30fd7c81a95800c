//! Tags that are dates: `2026.11.22`, `2026-11-22`, `20261122` are daily builds, `2026.11` is the release of a month. What
//! follows a dash is the rest, or an architecture.

use super::{Class, Number, Tag, Version, name, split_arch};

/// Reads a date; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Tag> {
    let (base, arch) = split_arch(text);
    let (class, numbers, shown, rest) = full_date(base).or_else(|| month(base))?;
    let rest = match rest {
        "" => None,
        rest => Some(rest.strip_prefix(['-', '.', '_']).filter(|rest| !rest.is_empty())?.to_owned()),
    };
    Some(Tag {
        text: text.to_owned(),
        class,
        name: name(class, shown, None, None, rest.as_deref(), arch),
        version: Some(Version { numbers, candidate: None }),
        cycle: None,
        rsp_build: None,
        rest,
        arch: arch.map(str::to_owned),
        base: text.to_owned(),
    })
}

type Dated<'a> = (Class, Vec<u64>, &'a str, &'a str);

fn full_date(text: &str) -> Option<Dated<'_>> {
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
        let rest = &text[end..];
        if let Some(numbers) = date(&year, &month, &day).filter(|_| !rest.starts_with(|c: char| c.is_ascii_digit())) {
            return Some((Class::Daily, numbers, &text[..end], rest));
        }
    }
    None
}

fn month(text: &str) -> Option<Dated<'_>> {
    let (year, month) = (Number::parse(text.get(..4)?)?, Number::parse(text.get(5..7)?)?);
    let rest = &text[7..];
    let fits = text.as_bytes()[4] == b'.'
        && (1..=12).contains(&month.value)
        && year.value >= 1970
        && !rest.starts_with(['.', '_']);
    let fits = fits && !rest.starts_with(|c: char| c.is_ascii_digit());
    fits.then_some((Class::Release, vec![year.value, month.value], &text[..7], rest))
}

/// Year, month and day, if the calendar has that day.
pub(super) fn date(year: &Number, month: &Number, day: &Number) -> Option<Vec<u64>> {
    let part = |number: &Number| i8::try_from(number.value).ok();
    let year_number = i16::try_from(year.value).ok().filter(|year| (1970..=9999).contains(year))?;
    jiff::civil::Date::new(year_number, part(month)?, part(day)?).ok()?;
    Some(vec![year.value, month.value, day.value])
}
