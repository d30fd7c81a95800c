//! Tags that are semantic versions (Semantic Versioning 2.0, and PEP 440): `4.2.1`, `v4.2.1-rc.1`, `5.0.0rc1`, `4.2`. The
//! part after the numbers is parsed in `suffix.rs`. Unless it marks a pre-release, it names a variant or a build, as in
//! `v4.2.1-py312` and `4.2.1_build.7`, and is the rest.
//!
//! Two numbers are a release in one repository (`1.9`, `1.10`) and a moving tag for the newest `4.2.N` in another. A single tag
//! does not show which: if the repository has a release `4.2.N` of the same variant, `4.2` is a moving tag. Then it is not a
//! version but an alias, whose target is found by its digest. `4` is always a moving tag.

use std::collections::BTreeSet;

use super::suffix::{self, Numbers, Suffix};
use super::version::{Version, without_v};
use super::{Class, Number, Tag, architecture, name};

/// The series (`4.2`) of which a repository has releases with three numbers (`4.2.1`), each with its variant.
#[derive(Debug, Default)]
pub(super) struct Series(BTreeSet<(u64, u64, Option<String>)>);

impl Series {
    /// The series in a repository with these tags.
    pub(super) fn of<T: AsRef<str>>(tags: &[T]) -> Self {
        let series = |tag: &T| {
            let read = Read::of(tag.as_ref()).filter(Read::is_plain_release)?;
            let [major, minor, _] = read.numbers[..] else { return None };
            Some((major, minor, read.suffix.rest.map(str::to_owned)))
        };
        Self(tags.iter().filter_map(series).collect())
    }

    /// Whether a tag is a moving tag for the newest release of its series.
    fn moves(&self, read: &Read<'_>) -> bool {
        let [major, minor] = read.numbers[..] else { return false };
        // `4.2rc1` and `4.2.post1` do not move.
        read.is_plain_release() && self.0.contains(&(major, minor, read.suffix.rest.map(str::to_owned)))
    }
}

/// Parses a version of a repository with these series; `None` for anything else.
pub(super) fn parse(text: &str, series: &Series) -> Option<Tag> {
    let read = Read::of(text).filter(|read| !series.moves(read))?;
    let Read { numbers, suffix, shown, arch } = read;
    let class = if suffix.candidate.is_some() { Class::Candidate } else { Class::Release };
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

/// A parsed version.
struct Read<'a> {
    /// Two or three numbers.
    numbers: Vec<u64>,
    suffix: Suffix<'a>,
    /// The version as a name shows it.
    shown: &'a str,
    arch: Option<&'a str>,
}

impl<'a> Read<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (base, arch) = architecture::split_loosely(text);
        let bare = without_v(base);
        let end = numbers_end(bare);
        let numbers = numbers(&bare[..end])?;
        let suffix = suffix::read(&bare[end..], Numbers::AreCandidates)?;
        let shown = &base[..base.len() - bare.len() + end + suffix.shown];
        Some(Self { numbers, suffix, shown, arch })
    }

    fn is_plain_release(&self) -> bool {
        self.suffix.candidate.is_none() && self.suffix.post.is_none()
    }
}

/// Where `4.2.1` ends: up to three numbers separated by dots.
fn numbers_end(text: &str) -> usize {
    let mut end = 0;
    for number in 0..3 {
        let after = if number == 0 { Some(text) } else { text[end..].strip_prefix('.') };
        let Some(after) = after.filter(|after| after.starts_with(|c: char| c.is_ascii_digit())) else { return end };
        end = text.len() - after.len() + after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    }
    end
}

/// Two or three numbers. `24.04` is as common as `24.10`, and `2026.01.3` as `2026.10.3`, so zeros in front are read, or the other
/// one would seem newest.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let numbers: Vec<Number> = text.split('.').map(Number::parse).collect::<Option<_>>()?;
    let major = &numbers.first()?.digits;
    let fits = numbers.len() >= 2 && (major == "0" || !major.starts_with('0'));
    fits.then(|| numbers.iter().map(Number::value).collect())
}
