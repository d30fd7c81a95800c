//! One line of a log file, taken apart by slices: nothing is copied and no tree is built.

mod cri;
mod docker;
pub mod json_text;

use thiserror::Error;

/// Which of its two streams a container wrote to.
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

/// What a container wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// As it wrote it; may not be UTF-8.
    Raw(&'a [u8]),
    /// As the inside of a JSON string that has been checked.
    Json(&'a str),
}

/// A line that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When the runtime read it from the container: RFC 3339, as written in the file.
    pub time: &'a str,
    /// Where the container wrote it.
    pub stream: Stream,
    /// Whether the container's line ends here; if not, the next line of this stream goes on with it.
    pub whole: bool,
    /// Without its newline.
    pub text: Text<'a>,
}

/// Why a line was not understood. It is shipped as it is, with this mark.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unparsed {
    /// Not `<time> <stream> <tags> <message>`.
    #[error("not a line of a CRI log")]
    Cri,
    /// Not an object with `log`, `stream` and `time`.
    #[error("not a line of a Docker JSON log")]
    Docker,
}

/// Takes one line apart; `line` comes without its newline. A Docker line begins with a brace, a CRI line with a digit.
///
/// # Errors
///
/// [`Unparsed`] when it is neither.
pub fn line(line: &[u8]) -> Result<Line<'_>, Unparsed> {
    match line.first() {
        Some(b'{') => docker::parse(line).ok_or(Unparsed::Docker),
        _ => cri::parse(line).ok_or(Unparsed::Cri),
    }
}

/// Whether this looks like RFC 3339 and can stand in a JSON string as it is.
fn time(text: &[u8]) -> Option<&str> {
    let digit = |at: usize| text[at].is_ascii_digit();
    let shape = (20..=40).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_digit() || b"-+:.TZ".contains(byte))
        && [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].into_iter().all(digit)
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].into_iter().all(|(at, byte)| text[at] == byte);
    if shape { std::str::from_utf8(text).ok() } else { None }
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
        for bad in ["", "2026-11-22", "2026-11-22 10:00:00Z", "2026-11-22T10:00:00\"Z", "x026-11-22T10:00:00Z"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
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
