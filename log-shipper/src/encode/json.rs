//! Writes JSON strings (RFC 8259, section 7) as bytes.

/// Bytes that must be escaped in a JSON string.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Appends these bytes as the inside of a JSON string. Invalid UTF-8 becomes U+FFFD.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    // Checking everything first is several times as fast as going chunk by chunk.
    if std::str::from_utf8(bytes).is_ok() {
        return escape_text(bytes, out);
    }
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(byte) = rest.get(plain) else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(other >> 4), digit(*other)]);
            }
        }
        rest = &rest[plain + 1..];
    }
}

/// How many bytes at the beginning need no escape. Compares eight at a time, then one by one.
fn plain_prefix(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut length = 0;
    for eight in bytes.as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let special = has_zero(word ^ (LOW * b'"' as u64)) | has_zero(word ^ (LOW * b'\\' as u64));
        if control | special != 0 {
            break;
        }
        length += 8;
    }
    length + bytes[length..].iter().take_while(|byte| !ESCAPED[usize::from(**byte)]).count()
}

/// Appends a whole JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape_text(text.as_bytes(), out);
    out.push(b'"');
}

/// Appends a number.
pub fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_become_the_string_that_lossy_conversion_gives(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut out = vec![b'"'];
            escape(&bytes, &mut out);
            out.push(b'"');
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn text_with_what_needs_escapes(text in "[a-z\"\\\\\n\r\t\u{0}-\u{1f}é😀]{0,60}") {
            let mut out = Vec::new();
            string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn numbers(value: u64) {
            let mut out = Vec::new();
            number(value, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
