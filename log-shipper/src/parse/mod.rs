//! Parses one line of a log file into slices, without copies and without a tree.

mod cri;
mod docker;
pub mod json_text;
pub mod object;

use thiserror::Error;

/// One of the two streams of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name as log files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// The text that a container wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// As it was written; may not be UTF-8.
    Raw(&'a [u8]),
    /// As the inside of a checked JSON string.
    Json(&'a str),
}

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When the runtime read it from the container: RFC 3339, as written in the file.
    pub time: &'a str,
    /// The stream.
    pub stream: Stream,
    /// Whether the container's line ends here. If not, the next line of this stream continues it.
    pub whole: bool,
    /// The text without its newline.
    pub text: Text<'a>,
    /// Docker's `attrs`: an unchecked object, as it is in the file.
    pub attrs: Option<&'a [u8]>,
}

/// Why a line could not be parsed. It is shipped unchanged, with this mark.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unparsed {
    /// Not `<time> <stream> <tags> <message>`.
    #[error("not a line of a CRI log")]
    Cri,
    /// Not an object with `log`, `stream` and `time`.
    #[error("not a line of a Docker JSON log")]
    Docker,
}

/// Parses one line without its newline. A Docker line begins with a brace, a CRI line with a digit.
///
/// # Errors
///
/// [`Unparsed`] if it is neither.
pub fn line(line: &[u8]) -> Result<Line<'_>, Unparsed> {
    match line.first() {
        Some(b'{') => docker::parse(line).ok_or(Unparsed::Docker),
        _ => cri::parse(line).ok_or(Unparsed::Cri),
    }
}

/// Cuts the text of a container to at most `limit` bytes, before a character rather than within it.
pub fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    let Some(beginning) = bytes.get(..limit) else { return bytes };
    // A character has up to four bytes, and all but its first begin with the bits 10 (RFC 3629, section 3).
    let length = |first: u8| match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    for back in 1..=beginning.len().min(3) {
        let byte = beginning[limit - back];
        if byte & 0b1100_0000 != 0b1000_0000 {
            return &beginning[..if length(byte) > back { limit - back } else { limit }];
        }
    }
    beginning
}

/// The time, if every reader of RFC 3339 (section 5.6) accepts it: an existing day, and no leap second. It can then be
/// copied into a JSON string.
fn time(text: &[u8]) -> Option<&str> {
    let number = |at: usize, length: usize| {
        text.get(at..at + length)?
            .iter()
            .try_fold(0_u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let days = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let clock = number(11, 2)? < 24 && number(14, 2)? < 60 && number(17, 2)? < 60;
    let marks = is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':');
    if !(1..=days).contains(&day) || !clock || !marks {
        return None;
    }
    let mut at = 19;
    if is(at, b'.') {
        let digits = text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        at += 1 + digits;
    }
    let zone = match text.get(at)? {
        b'Z' => text.len() == at + 1,
        b'+' | b'-' => text.len() == at + 6 && number(at + 1, 2)? < 24 && is(at + 3, b':') && number(at + 4, 2)? < 60,
        _ => false,
    };
    if zone { std::str::from_utf8(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times() {
        for good in ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.1+01:00"] {
            assert_eq!(time(good.as_bytes()), Some(good));
        }
        let bad = ["", "2026-11-22", "2026-11-22 10:00:00Z", "2026-11-22T10:00:00\"Z", "x026-11-22T10:00:00Z"];
        let no_such_time =
            ["2026-13-22T10:00:00Z", "2026-02-29T10:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T10:00:60Z"];
        let torn =
            ["2026-11-22T10:00:00", "2026-11-22T10:00:00.", "2026-11-22T10:00:00.1+01", "2026-11-22T10:00:00---"];
        assert!(time(b"2024-02-29T10:00:00-05:30").is_some());
        for bad in [&bad[..], &no_such_time, &torn].concat() {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_of_text_is_text_and_as_long_as_can_be(text in ".{0,40}", limit in 0_usize..60) {
            let cut = cut(text.as_bytes(), limit);
            prop_assert_eq!(cut, &text.as_bytes()[..text.floor_char_boundary(limit)]);
        }

        #[test]
        fn a_cut_of_any_bytes_drops_less_than_a_character(bytes in proptest::collection::vec(any::<u8>(), 0..40), limit in 0_usize..50) {
            let cut = cut(&bytes, limit);
            prop_assert!(cut.len() <= limit && bytes.starts_with(cut));
            prop_assert!(cut.len() + 3 >= limit.min(bytes.len()));
        }

        #[test]
        fn no_line_makes_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = line(&bytes);
        }

        #[test]
        fn what_docker_writes_is_understood(text in ".{0,80}", newline: bool) {
            let whole = if newline { format!("{text}\n") } else { text };
            let written = serde_json::json!({"log": whole, "stream": "stderr", "time": "2026-11-22T10:00:00.5Z"}).to_string();
            let line = line(written.as_bytes()).unwrap();
            prop_assert_eq!(line.whole, whole.ends_with('\n'));
            let Text::Json(inside) = line.text else { panic!("a Docker line has JSON text") };
            let back: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            prop_assert_eq!(back, whole.strip_suffix('\n').unwrap_or(&whole));
        }

        #[test]
        fn what_is_taken_as_docker_is_json_to_others_too(bytes in "\\{\"log\":\"[a\\\\nu0D\"]{0,12}\",\"stream\":\"stdout\",\"time\":\"2026-11-22T10:00:00Z\"\\}") {
            if line(bytes.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&bytes).is_ok());
            }
        }

        #[test]
        fn what_a_cri_runtime_writes_is_understood(text in proptest::collection::vec(any::<u8>(), 0..80), whole: bool) {
            prop_assume!(!text.contains(&b'\n'));
            let mut written = format!("2026-11-22T10:00:00.5Z stdout {} ", if whole { 'F' } else { 'P' }).into_bytes();
            written.extend_from_slice(&text);
            let line = line(&written).unwrap();
            prop_assert_eq!((line.whole, line.text), (whole, Text::Raw(&text)));
        }
    }
}
