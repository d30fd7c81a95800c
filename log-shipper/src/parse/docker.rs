//! Lines of Docker's json-file driver: `{"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}`. A `log` without a newline at
//! its end is part of a line longer than 16 KiB. Format: moby, `daemon/logger/jsonfilelog/jsonlog`.

use super::{Line, Stream, Text, json_text, time};

/// Parses a Docker line.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (mut log, mut stream, mut written, mut attrs) = (None, None, None, None);
    let mut rest = trim(line.strip_prefix(b"{")?);
    loop {
        let (key, after) = json_text::take(rest.strip_prefix(b"\"")?)?;
        let value = trim(trim(after).strip_prefix(b":")?);
        rest = match value.first()? {
            b'"' => {
                let (text, after) = json_text::take(&value[1..])?;
                match key {
                    "log" => log = Some(text),
                    "stream" => stream = Some(text),
                    "time" => written = Some(text),
                    _ => (),
                }
                after
            }
            first => {
                let after = skip(value)?;
                if key == "attrs" && *first == b'{' {
                    attrs = Some(&value[..value.len() - after.len()]);
                }
                after
            }
        };
        rest = trim(rest);
        match rest.first()? {
            b',' => rest = trim(&rest[1..]),
            b'}' if trim(&rest[1..]).is_empty() => break,
            _ => return None,
        }
    }
    let log = log?;
    let (text, whole) = match log.strip_suffix("\\n") {
        // An escaped backslash before the n is not a newline.
        Some(text) if text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0 => (text, true),
        _ => (log, false),
    };
    let stream = Stream::parse(stream?.as_bytes())?;
    Some(Line { time: time(written?.as_bytes())?, stream, whole, text: Text::Json(text), attrs })
}

/// Skips a value that is not a string: a number, word, array or object. Only its strings are parsed.
fn skip(mut value: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    loop {
        match value.first()? {
            b'"' => {
                value = json_text::take(&value[1..])?.1;
                if depth == 0 {
                    return Some(value);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => return Some(value),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(&value[1..]);
                }
            }
            _ => (),
        }
        value = &value[1..];
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = r#""stream":"stdout","time":"2026-11-22T10:00:00.5Z"}"#;

    fn text_of(log: &str) -> Option<(String, bool)> {
        let line = format!("{{\"log\":\"{log}\",{REST}");
        let line = parse(line.as_bytes())?;
        let Text::Json(text) = line.text else { return None };
        Some((text.to_owned(), line.whole))
    }

    #[test]
    fn the_newline_at_the_end_makes_a_line_whole() {
        assert_eq!(text_of(r"a\tb\n"), Some((r"a\tb".into(), true)));
        assert_eq!(text_of("a"), Some(("a".into(), false)));
        assert_eq!(text_of(r"a\\n"), Some((r"a\\n".into(), false)));
        assert_eq!(text_of(r"a\\\n"), Some((r"a\\".into(), true)));
        assert_eq!(text_of(r"\n"), Some((String::new(), true)));
    }

    #[test]
    fn other_members_are_skipped() {
        let line = format!(r#"{{"log":"a\n","attrs":{{"x":"}}","y":[1,{{}}]}},"n":1,{REST}"#);
        let parsed = parse(line.as_bytes()).unwrap();
        assert!(parsed.whole);
        assert_eq!(parsed.attrs, Some(&br#"{"x":"}","y":[1,{}]}"#[..]));
    }

    #[test]
    fn torn_lines_are_refused() {
        let line = format!("{{\"log\":\"a\\n\",{REST}");
        for end in 0..line.len() {
            assert_eq!(parse(&line.as_bytes()[..end]), None, "{}", &line[..end]);
        }
        assert_eq!(parse(format!("{line}x").as_bytes()), None);
    }
}
