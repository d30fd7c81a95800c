//! Lines of CRI logs: `<RFC3339Nano> <stdout|stderr> <tag[:tag…]> <message>`, the first tag `P` (partial) or `F` (full).
//! Format: Kubernetes design proposal "CRI: log management"; read by kubelet's `kuberuntime/logs`.

use memchr::memchr;

use super::{Line, Stream, Text, time};

/// Parses a CRI line.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (written, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    // A runtime may end an empty message right after the tag.
    let (tags, message) = word(rest).unwrap_or((rest, b""));
    let first_tag = tags.split(|byte| *byte == b':').next()?;
    let whole = match first_tag {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line { time: time(written)?, stream: Stream::parse(stream)?, whole, text: Text::Raw(message), attrs: None })
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_partial_lines() {
        let line = parse(b"2026-11-22T10:00:00.1Z stderr P:x  two  spaces ").unwrap();
        assert_eq!(line.time, "2026-11-22T10:00:00.1Z");
        assert_eq!((line.stream, line.whole), (Stream::Stderr, false));
        assert_eq!(line.text, Text::Raw(b" two  spaces "));
        assert!(parse(b"2026-11-22T10:00:00Z stdout F text").unwrap().whole);
    }

    #[test]
    fn an_empty_message_is_a_line() {
        assert_eq!(parse(b"2026-11-22T10:00:00Z stdout F ").unwrap().text, Text::Raw(b""));
        assert_eq!(parse(b"2026-11-22T10:00:00Z stdout F").unwrap().text, Text::Raw(b""));
    }

    #[test]
    fn other_lines_are_not_cri() {
        for other in
            ["", "text", "2026-11-22T10:00:00Z stdlog F x", "2026-11-22T10:00:00Z stdout Q x", "now stdout F x"]
        {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
