//! The tags of the Rubin Science Platform (SQR-059): `w_2026_47_c0020.001_rsp19_rest-amd64` and the like.

use super::version::{Candidate, Stage, Version, pieces};
use super::{Class, Cycle, Number, Tag, architecture, name};

/// The part before the optional parts.
struct Head {
    class: Class,
    version: Version,
    /// The version as a name shows it.
    shown: String,
}

/// The optional parts after the head.
#[derive(Default)]
struct Options {
    cycle: Option<Cycle>,
    rsp_build: Option<Number>,
    rest: Option<String>,
}

/// Parses a tag of any class except alias; `None` for an unknown one.
pub(super) fn parse(text: &str) -> Option<Tag> {
    if let Some(inner) = text.strip_prefix("exp_").filter(|inner| !inner.is_empty()) {
        return Some(experimental(text, inner));
    }
    if let Some(old) = old_release(text) {
        return Some(tag(text, old, Options::default(), None));
    }
    let (base, arch) = architecture::split(text);
    let (head, rest) = head(base)?;
    Some(tag(text, head, options(rest)?, arch))
}

fn tag(text: &str, head: Head, options: Options, arch: Option<&str>) -> Tag {
    let Options { cycle, rsp_build, rest } = options;
    Tag {
        text: text.to_owned(),
        class: head.class,
        name: name(head.class, &head.shown, cycle.as_ref(), rsp_build.as_ref(), rest.as_deref(), arch),
        version: Some(head.version),
        cycle,
        rsp_build,
        rest,
        arch: arch.map(str::to_owned),
        base: text.to_owned(),
        plain_first: false,
    }
}

/// `exp_` adopts the fields of the tag inside it.
fn experimental(text: &str, inner: &str) -> Tag {
    // Only one level: `exp_exp_x` is an experiment named `exp_x`.
    let known = if inner.starts_with("exp_") { None } else { parse(inner) };
    let tag = known.unwrap_or_else(|| unknown(inner));
    let name = format!("{}{}", Class::Experimental.title(), tag.name);
    Tag { text: text.to_owned(), class: Class::Experimental, name, ..tag }
}

/// A tag of an unknown form, which may still have a cycle and an architecture.
pub(super) fn unknown(text: &str) -> Tag {
    let (base, cycle, arch) = loose_parts(text);
    let shown: String = base.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Tag {
        text: text.to_owned(),
        class: Class::Unknown,
        name: name(Class::Unknown, &shown, cycle.as_ref(), None, None, arch),
        version: None,
        rsp_build: None,
        rest: None,
        arch: arch.map(str::to_owned),
        base: base.to_owned(),
        cycle,
        plain_first: false,
    }
}

/// A tag that is configured as an alias: `latest_weekly_c0046` is "Latest Weekly (SAL Cycle 0046)".
pub(super) fn alias(text: &str) -> Tag {
    let tag = unknown(text);
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    };
    let words: Vec<String> = tag.base.split('_').map(capital).collect();
    let name = name(Class::Alias, &words.join(" "), tag.cycle.as_ref(), None, None, tag.arch.as_deref());
    Tag { class: Class::Alias, name, ..tag }
}

/// The base, the cycle and the architecture of a tag of an unknown form.
fn loose_parts(text: &str) -> (&str, Option<Cycle>, Option<&str>) {
    let (base, arch) = architecture::split(text);
    match base.rsplit_once("_c").and_then(|(before, after)| Some((before, cycle(after)?))) {
        Some((before, cycle)) if !before.is_empty() => (before, Some(cycle), arch),
        _ => (base, None, arch),
    }
}

/// `0020` or `0020.001`
fn cycle(text: &str) -> Option<Cycle> {
    match text.split_once('.') {
        Some((number, build)) => Some(Cycle { number: Number::parse(number)?, build: Some(Number::parse(build)?) }),
        None => Some(Cycle { number: Number::parse(text)?, build: None }),
    }
}

/// `r170`: 17.0.0, without any option.
fn old_release(text: &str) -> Option<Head> {
    let digits = text.strip_prefix('r').filter(|digits| digits.len() == 3)?;
    let value = Number::parse(digits)?.value;
    let numbers = vec![value / 10, value % 10, 0];
    let shown = format!("r{}.{}.0", numbers[0], numbers[1]);
    Some(Head { class: Class::Release, version: Version::of(numbers), shown })
}

/// The head of a tag, and the text after it.
fn head(base: &str) -> Option<(Head, &str)> {
    let (letter, rest) = (base.get(..1)?, base.get(1..)?);
    match letter {
        "r" => {
            let (major, rest) = number(rest)?;
            let (minor, rest) = number(rest.strip_prefix('_')?)?;
            let (patch, rest) = number(rest.strip_prefix('_')?)?;
            let numbers = vec![major.value, minor.value, patch.value];
            let shown = format!("r{}.{}.{}", major.value, minor.value, patch.value);
            let candidate = rest.strip_prefix("_rc").and_then(number);
            if let Some((candidate, rest)) = candidate.filter(|(_, rest)| ends_here(rest)) {
                let shown = format!("{shown}-rc{}", candidate.digits);
                let pieces = pieces(&format!("rc{}", candidate.value));
                let candidate = Some(Candidate { stage: Stage::Candidate, pieces, dev: None });
                let version = Version { numbers, candidate, post: None };
                return Some((Head { class: Class::Candidate, version, shown }, rest));
            }
            let version = Version::of(numbers);
            Some((Head { class: Class::Release, version, shown }, rest))
        }
        "w" => {
            let (year, rest) = year(rest)?;
            let (week, rest) = short_number(rest.strip_prefix('_')?)?;
            let is_week = (1..=53).contains(&week.value);
            let version = Version::of(vec![year.value, week.value]);
            let shown = format!("{}_{}", year.digits, week.digits);
            is_week.then_some((Head { class: Class::Weekly, version, shown }, rest))
        }
        "d" => {
            let (year, rest) = year(rest)?;
            let (month, rest) = short_number(rest.strip_prefix('_')?)?;
            let (day, rest) = short_number(rest.strip_prefix('_')?)?;
            let version = Version::of(super::calendar::date(&year, &month, &day)?);
            let shown = format!("{}_{}_{}", year.digits, month.digits, day.digits);
            Some((Head { class: Class::Daily, version, shown }, rest))
        }
        _ => None,
    }
}

fn ends_here(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('_')
}

/// The digits at the beginning, and the text after them.
fn number(text: &str) -> Option<(Number, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    Some((Number::parse(&text[..end])?, &text[end..]))
}

fn year(text: &str) -> Option<(Number, &str)> {
    number(text.strip_prefix('_')?).filter(|(year, _)| year.digits.len() == 4)
}

fn short_number(text: &str) -> Option<(Number, &str)> {
    number(text).filter(|(number, _)| number.digits.len() <= 2)
}

/// The parts after the head: a cycle and an RSP build in either order, once each, then the rest.
fn options(text: &str) -> Option<Options> {
    let mut options = Options::default();
    let mut left = text;
    while !left.is_empty() {
        left = left.strip_prefix('_').filter(|left| !left.is_empty())?;
        let (part, after) = left.split_at(left.find('_').unwrap_or(left.len()));
        if let (None, Some(cycle)) = (&options.cycle, part.strip_prefix('c').and_then(cycle)) {
            options.cycle = Some(cycle);
        } else if let (None, Some(build)) = (&options.rsp_build, part.strip_prefix("rsp").and_then(Number::parse)) {
            options.rsp_build = Some(build);
        } else {
            options.rest = Some(left.to_owned());
            break;
        }
        left = after;
    }
    Some(options)
}
