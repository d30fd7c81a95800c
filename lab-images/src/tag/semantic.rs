//! Tags that are semantic versions (Semantic Versioning 2.0, and PEP 440 with three numbers): `4.2.1`, `v4.2.1-rc.1`,
//! `5.0.0rc1`. What follows the numbers is read in `suffix.rs`; what does not say that the version is still to come names a
//! variant or a build, as `v4.2.1-py312` and `4.2.1_build.7` do: it is the rest.
//! `4` and `4.2` move, so they are no versions but aliases, known by their digest.

use super::suffix::{self, Numbers};
use super::version::Version;
use super::{Class, Tag, architecture, name};

/// Reads a version; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Tag> {
    let (base, arch) = architecture::split_loosely(text);
    let bare = base.strip_prefix('v').unwrap_or(base);
    let end = numbers_end(bare);
    // The crate decides what numbers a version has: no leading zeros, no overflow.
    let parsed = semver::Version::parse(&bare[..end]).ok()?;
    let suffix = suffix::read(&bare[end..], Numbers::AreCandidates)?;
    let class = if suffix.candidate.is_some() { Class::Candidate } else { Class::Release };
    let shown = &base[..base.len() - bare.len() + end + suffix.shown];
    Some(Tag {
        text: text.to_owned(),
        class,
        name: name(class, shown, None, None, suffix.rest, arch),
        version: Some(Version {
            numbers: vec![parsed.major, parsed.minor, parsed.patch],
            candidate: suffix.candidate,
            post: suffix.post,
        }),
        rest: suffix.rest.map(str::to_owned),
        arch: arch.map(str::to_owned),
        ..Tag::plain_first(text)
    })
}

/// Where `4.2.1` ends: three numbers with dots between.
fn numbers_end(text: &str) -> usize {
    let mut end = 0;
    for number in 0..3 {
        let after = if number == 0 { Some(text) } else { text[end..].strip_prefix('.') };
        let Some(after) = after else { return end };
        end = text.len() - after.len() + after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    }
    end
}
