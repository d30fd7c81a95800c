//! The inside of JSON strings (RFC 8259, section 7): finds the end, cuts, and reads without building a tree.

use memchr::memchr2;

/// Checks the JSON string whose opening quote was just before `bytes`. Returns its inside, and what follows the closing
/// quote; `None` if the string is invalid.
pub fn take(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[at] == b'"' {
            break;
        }
        at += escape_length(&bytes[at..])?;
    }
    let inside = std::str::from_utf8(&bytes[..at]).ok()?;
    if inside.bytes().any(|byte| byte < 0x20) {
        return None;
    }
    Some((inside, &bytes[at + 1..]))
}

/// The length of the escape at the beginning of `bytes`. A surrogate pair is one escape.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => match hex(bytes.get(2..6)?)? {
            0xD800..=0xDBFF => {
                let second = bytes.get(6..12)?;
                let pair = second.starts_with(b"\\u") && matches!(hex(&second[2..])?, 0xDC00..=0xDFFF);
                if pair { Some(12) } else { None }
            }
            0xDC00..=0xDFFF => None,
            _ => Some(6),
        },
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// Cuts the checked inside of a string to at most `limit` bytes, neither within a character nor within an escape.
pub fn cut(inside: &str, limit: usize) -> &str {
    if inside.len() <= limit {
        return inside;
    }
    let bytes = inside.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..limit]) {
        let start = at + found;
        let end = start + escape_length(&bytes[start..]).unwrap_or(2);
        if end > limit {
            return &inside[..start];
        }
        at = end;
        if at == limit {
            break;
        }
    }
    &inside[..inside.floor_char_boundary(limit)]
}

/// Appends the text that the checked inside of a string encodes.
pub fn unescape(inside: &str, out: &mut Vec<u8>) {
    let bytes = inside.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        let start = at + found;
        out.extend_from_slice(&bytes[at..start]);
        let Some(length) = escape_length(&bytes[start..]) else { break };
        at = start + length;
        let plain = match bytes[start + 1] {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => unicode(&bytes[start..at]),
            other => char::from(other),
        };
        out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(&bytes[at..]);
}

fn unicode(escape: &[u8]) -> char {
    let unit = |from: usize| escape.get(from..from + 4).and_then(hex).unwrap_or(0xFFFD);
    let code = if escape.len() == 12 { 0x10000 + ((unit(2) - 0xD800) << 10) + (unit(8) - 0xDC00) } else { unit(2) };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn broken_strings_are_refused() {
        for broken in ["abc", "a\\", "a\\x\"", "\\u12\"", "\\ud800\"", "\\ud800\\u0041\"", "\\udc00\"", "a\nb\""] {
            assert_eq!(take(broken.as_bytes()), None, "{broken:?}");
        }
        assert_eq!(take(b"\xff\""), None);
    }

    #[test]
    fn a_cut_keeps_escapes_whole() {
        assert_eq!(cut("ab\\u0041c", 5), "ab");
        assert_eq!(cut("ab\\u0041c", 8), "ab\\u0041");
        assert_eq!(cut("\\ud83d\\ude00", 6), "");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("ab", 2), "ab");
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read_back(text in ".{0,60}", limit in 0usize..80) {
            let written = serde_json::to_string(&text).unwrap();
            let (inside, rest) = take(&written.as_bytes()[1..]).unwrap();
            prop_assert!(rest.is_empty());
            let mut plain = Vec::new();
            unescape(inside, &mut plain);
            prop_assert_eq!(&String::from_utf8(plain).unwrap(), &text);
            let cut: String = serde_json::from_str(&format!("\"{}\"", cut(inside, limit))).unwrap();
            prop_assert!(text.starts_with(&cut));
        }

        #[test]
        fn what_is_taken_is_json(inside in "[a\\\\u0dD8cCe\"n\n]{0,16}") {
            if let Some((inside, _)) = take(format!("{inside}\"").as_bytes()) {
                let text = serde_json::from_str::<String>(&format!("\"{inside}\"")).unwrap();
                let mut plain = Vec::new();
                unescape(inside, &mut plain);
                prop_assert_eq!(plain, text.into_bytes());
            }
        }
    }
}
