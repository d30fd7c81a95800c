//! Parses the part after the numbers of a version: whether it is a candidate, and which variant or build it names.
//!
//! Known forms: Semantic Versioning 2.0 (`-rc.1`; `+build.7`, which a tag writes as `_build.7`), PEP 440 (`rc1`, `b3`,
//! `.dev4`, `.post1`), chartpress (`-n221.h84f79652`, `-0.dev.git.221.h84f79652`), `git describe` (`-5-gabcdef0`), and variants
//! (`-py312`, `-gpu`, `-ubuntu`).

use super::version::{Candidate, Digits, Piece, Stage, pieces};

/// Words that mark a pre-release, wherever they are.
const STILL_TO_COME: [&str; 18] = [
    "alpha",
    "beta",
    "canary",
    "cr",
    "dev",
    "ea",
    "edge",
    "experimental",
    "milestone",
    "next",
    "nightly",
    "pre",
    "prerelease",
    "preview",
    "rc",
    "snapshot",
    "unstable",
    "wip",
];

/// Letters that mark a pre-release directly after the numbers, if a number follows.
const LETTERS: [&str; 4] = ["a", "b", "c", "m"];

const SEPARATORS: [char; 3] = ['-', '.', '_'];

/// The part after the numbers of a version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Suffix<'a> {
    pub(super) candidate: Option<Candidate>,
    pub(super) post: Option<Digits>,
    /// The variant or build, without the separator before it.
    pub(super) rest: Option<&'a str>,
    /// How much of the text a name shows with the version: all except the rest and the separator before it.
    pub(super) shown: usize,
}

/// Whether a number directly after the separator `-` marks a candidate (Semantic Versioning), or a build of that date.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    AreCandidates,
    AreBuilds,
}

/// Parses it. `None` if it is not empty and begins neither with a separator nor with a word of PEP 440.
pub(super) fn read(text: &str, numbers: Numbers) -> Option<Suffix<'_>> {
    let Some(first) = text.chars().next() else { return Some(Suffix::default()) };
    let body = text.strip_prefix(SEPARATORS).unwrap_or(text);
    if body.is_empty() || body.starts_with(SEPARATORS) {
        return None;
    }
    if let Some(suffix) = python(text, body, first) {
        return Some(suffix);
    }
    // `1.2.3.4` is not a semantic version.
    if !SEPARATORS.contains(&first) || (first == '.' && numbers == Numbers::AreCandidates) {
        return None;
    }
    let candidate = |stage, end: usize| {
        let candidate = Candidate { stage, pieces: pieces(&body[..end]), dev: None };
        Some(Suffix::after(text, &body[end..], Some(candidate)))
    };
    if let Some(end) = commits_end(body) {
        return candidate(Stage::Commits, end);
    }
    let (word, after) = word(body);
    let word = word.to_ascii_lowercase();
    let is_number = word.is_empty() && numbers == Numbers::AreCandidates;
    // `-m6g` and `-m` are variants.
    let (number, after) = digits(after.strip_prefix('.').unwrap_or(after));
    let is_letter =
        LETTERS.contains(&word.as_str()) && !number.is_empty() && (after.is_empty() || after.starts_with(SEPARATORS));
    if STILL_TO_COME.contains(&word.as_str()) || (first == '-' && (is_number || is_letter)) {
        return candidate(Stage::Candidate, candidate_end(body));
    }
    // A variant of a candidate: `-gpu-rc1`.
    let later = body.split(SEPARATORS).skip(1).find(|token| is_marker(token));
    let later = later.map(|token| Candidate { stage: Stage::Candidate, pieces: pieces(token), dev: None });
    Some(Suffix { candidate: later, post: None, rest: Some(body), shown: 0 })
}

impl<'a> Suffix<'a> {
    /// A suffix whose variant is `after`, the end of `text`.
    fn after(text: &'a str, after: &'a str, candidate: Option<Candidate>) -> Self {
        let rest = after.trim_start_matches(SEPARATORS);
        let rest = (!rest.is_empty()).then_some(rest);
        Self { candidate, post: None, rest, shown: text.len() - after.len() }
    }
}

/// PEP 440: `a1`, `b2`, `rc3`, each also as `a1.dev4`, `.dev4`, `.post5`. After a dash, the text is parsed as Semantic Versioning.
fn python<'a>(text: &'a str, body: &'a str, first: char) -> Option<Suffix<'a>> {
    let (word, after) = word(body);
    let (number, after) = digits(after);
    if !after.is_empty() && !after.starts_with(SEPARATORS) {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    // After `_` a single letter names a build.
    let may_be = first != '-' && !number.is_empty() && (first != '_' || lower.len() > 1);
    let of = |stage, word: &str| Candidate {
        stage,
        pieces: vec![Piece::Word(word.to_owned()), Piece::Number(Digits::new(number))],
        dev: None,
    };
    let candidate = match lower.as_str() {
        "post" => {
            let suffix = Suffix::after(text, after, None);
            return Some(Suffix { post: Some(Digits::new(number)), ..suffix });
        }
        "dev" if may_be => Candidate { stage: Stage::Development, pieces: Vec::new(), dev: Some(Digits::new(number)) },
        "a" | "alpha" if may_be => of(Stage::Candidate, "alpha"),
        "b" | "beta" if may_be => of(Stage::Candidate, "beta"),
        "c" | "rc" | "pre" | "preview" if may_be => of(Stage::Candidate, "rc"),
        _ => return None,
    };
    let (dev, after) = if candidate.dev.is_none() { development(after) } else { (candidate.dev.clone(), after) };
    Some(Suffix::after(text, after, Some(Candidate { dev, ..candidate })))
}

/// `.dev4` after a candidate.
fn development(after: &str) -> (Option<Digits>, &str) {
    let Some(rest) = after.strip_prefix('.').and_then(|rest| rest.strip_prefix("dev")) else { return (None, after) };
    let (number, rest) = digits(rest);
    if number.is_empty() { (None, after) } else { (Some(Digits::new(number)), rest) }
}

/// chartpress: where `n221.h84f79652` ends.
fn commits_end(body: &str) -> Option<usize> {
    let (number, after) = digits(body.strip_prefix('n')?);
    let hash = after.strip_prefix(".h").or_else(|| after.strip_prefix("-h"))?;
    let hash = &hash[..hash.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hash.len())];
    let end = body.len() - after.len() + 2 + hash.len();
    let ends = body.len() == end || body[end..].starts_with(SEPARATORS);
    (!number.is_empty() && hash.len() >= 4 && ends).then_some(end)
}

/// Where a candidate ends: after its word, one number directly after it, and parts added with dots. A dash begins a variant.
fn candidate_end(body: &str) -> usize {
    let bare_word = |text: &str| !text.bytes().any(|byte| byte.is_ascii_digit());
    let mut end = body.find(['-', '_']).unwrap_or(body.len());
    // `rc-1`
    if bare_word(&body[..end])
        && let Some(after) = body[end..].strip_prefix('-')
    {
        let (number, rest) = digits(after);
        if !number.is_empty() && (rest.is_empty() || rest.starts_with(SEPARATORS)) {
            end = body.len() - rest.len();
        }
    }
    end
}

/// `rc1`, `beta`: a word that marks a pre-release, and at most one number.
fn is_marker(token: &str) -> bool {
    let (word, after) = word(token);
    STILL_TO_COME.contains(&word.to_ascii_lowercase().as_str()) && digits(after).1.is_empty()
}

/// The letters at the beginning, and the text after them.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

/// The digits at the beginning, and the text after them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}
