//! Versions and their order.

use std::cmp::Ordering;
use std::fmt;

/// A version: its numbers, and whether it comes before or after their release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub(super) numbers: Vec<u64>,
    /// The mark of a version that is not released yet.
    pub(super) candidate: Option<Candidate>,
    /// The number of a post-release (PEP 440): a release that follows the one with these numbers.
    pub(super) post: Option<Digits>,
}

/// The mark of a version that is not a release, from the oldest to the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) stage: Stage,
    /// Words and numbers: `rc` and 2.
    pub(super) pieces: Vec<Piece>,
    /// The number of a development build before this one (PEP 440: `a1.dev2` comes before `a1`).
    pub(super) dev: Option<Digits>,
}

/// The stage of a candidate before its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A development build before all others (PEP 440: `.dev3`).
    Development,
    /// alpha, beta, rc and the like.
    Candidate,
    /// A build of commits after the release (chartpress: `-n221.h84f79652`).
    Commits,
}

/// A number of any length: its digits without leading zeros, compared by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digits(String);

impl Digits {
    /// From digits, which are not checked again.
    pub(super) fn new(digits: &str) -> Self {
        let digits = digits.trim_start_matches('0');
        Self(if digits.is_empty() { "0" } else { digits }.to_owned())
    }
}

impl Ord for Digits {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Digits {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A word or a number of a tag. Numbers sort below words (Semantic Versioning 2.0, section 11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Number(Digits),
    Word(String),
}

impl Piece {
    fn lower(&self) -> Self {
        match self {
            Self::Number(number) => Self::Number(number.clone()),
            Self::Word(word) => Self::Word(word.to_lowercase()),
        }
    }
}

/// A version without the `v` or `V` that some write before it.
pub(super) fn without_v(text: &str) -> &str {
    text.strip_prefix(['v', 'V']).unwrap_or(text)
}

/// Divides a text into words and numbers: `rc.2` and `rc2` are both the word `rc` and the number 2, so that 10 comes after 2.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for part in text.split(['.', '-', '_']) {
        let mut left = part;
        while let Some(first) = left.chars().next() {
            let is_digit = first.is_ascii_digit();
            let end = left.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(left.len());
            let (piece, after) = left.split_at(end);
            pieces.push(if is_digit { Piece::Number(Digits::new(piece)) } else { Piece::Word(piece.to_owned()) });
            left = after;
        }
    }
    pieces
}

impl Version {
    /// A release with these numbers.
    pub(super) fn of(numbers: Vec<u64>) -> Self {
        Self { numbers, ..Self::default() }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let dev = |candidate: &Self| (candidate.dev.is_none(), candidate.dev.clone());
        // `RC1` and `rc1` are the same stage, and come after `beta2`.
        let lower = || self.pieces.iter().map(Piece::lower).cmp(other.pieces.iter().map(Piece::lower));
        self.stage
            .cmp(&other.stage)
            .then_with(lower)
            .then_with(|| self.pieces.cmp(&other.pieces))
            .then_with(|| dev(self).cmp(&dev(other)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// By the numbers (a missing one is the lowest); for the same numbers: candidates, their release, builds of commits after
    /// it, and post-releases.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |version: &Self| match &version.candidate {
            Some(candidate) if candidate.stage == Stage::Commits => 2,
            Some(_) => 0,
            None => 1,
        };
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| self.post.cmp(&other.post))
            .then_with(|| place(self).cmp(&place(other)))
            .then_with(|| self.candidate.cmp(&other.candidate))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.numbers.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { "" } else { "." })?;
        }
        let Some(candidate) = &self.candidate else {
            return self.post.as_ref().map_or(Ok(()), |post| write!(f, ".post{}", post.0));
        };
        for (index, piece) in candidate.pieces.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "" })?;
            match piece {
                Piece::Number(number) => f.write_str(&number.0)?,
                Piece::Word(word) => f.write_str(word)?,
            }
        }
        candidate.dev.as_ref().map_or(Ok(()), |dev| write!(f, ".dev{}", dev.0))
    }
}
