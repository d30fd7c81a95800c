//! Tags that are semantic versions (Semantic Versioning 2.0): `4.2.1`, `v4.2.1-rc.1`. A suffix whose first word does not say
//! that the version is still to come (alpha, beta, rc, dev, pre, a, b) names a variant, as `v4.2.1-py312` does: it is the rest.
//! `4` and `4.2` move, so they are no versions but aliases, known by their digest.

use super::{Class, Piece, Tag, Version, name, split_arch};

const STILL_TO_COME: [&str; 9] = ["a", "alpha", "b", "beta", "c", "dev", "pre", "preview", "rc"];

/// Reads a version; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Tag> {
    let (base, arch) = split_arch(text);
    let bare = base.strip_prefix('v').unwrap_or(base);
    let (numbers, suffix) = match bare.split_once('-') {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (bare, None),
    };
    // The crate decides what a version is (no leading zeros, no overflow); a suffix is judged here.
    let parsed =
        semver::Version::parse(numbers).ok().filter(|version| version.pre.is_empty() && version.build.is_empty())?;
    let pieces = suffix.map(pieces);
    let to_come = matches!(pieces.as_deref(), Some([Piece::Word(word), ..]) if STILL_TO_COME.contains(&word.to_ascii_lowercase().as_str()));
    let to_come = to_come || matches!(pieces.as_deref(), Some([Piece::Number(_), ..]));
    let (class, candidate, rest) = if to_come {
        (Class::Candidate, pieces, None)
    } else {
        (Class::Release, None, suffix.filter(|rest| !rest.is_empty()))
    };
    let shown = if to_come { base } else { base.split('-').next().unwrap_or(base) };
    Some(Tag {
        text: text.to_owned(),
        class,
        name: name(class, shown, None, None, rest, arch),
        version: Some(Version { numbers: vec![parsed.major, parsed.minor, parsed.patch], candidate }),
        cycle: None,
        rsp_build: None,
        rest: rest.map(str::to_owned),
        arch: arch.map(str::to_owned),
        base: text.to_owned(),
    })
}

/// `rc.2` and `rc2` are both the word `rc` and the number 2, so that 10 comes after 2.
fn pieces(suffix: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut left = suffix;
    while let Some(first) = left.bytes().next() {
        let is_digit = first.is_ascii_digit();
        let same_kind = |byte: u8| byte.is_ascii_digit() == is_digit && byte != b'.' && byte != b'-';
        let end = left.bytes().position(|byte| !same_kind(byte)).unwrap_or(left.len());
        let (piece, after) = left.split_at(end);
        match piece.parse() {
            Ok(number) if is_digit => pieces.push(Piece::Number(number)),
            _ if piece.is_empty() => {}
            _ => pieces.push(Piece::Word(piece.to_owned())),
        }
        left = after.strip_prefix(['.', '-']).unwrap_or(after);
    }
    pieces
}
