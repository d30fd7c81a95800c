//! A JSON object in a log line, as part of an event. It is checked, limited, and written again, so that no reader of
//! the event sees a number that does not fit, a duplicate member, or endless nesting. Numbers keep their text.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::IgnoredAny;

use super::json_text;

/// A longer object stays text, because each of its members may become a field of an index.
const MOST_BYTES: usize = 64 * 1024;

/// Elasticsearch accepts 20 levels (`index.mapping.depth.limit`), including those of the event.
const MOST_DEPTH: usize = 16;

/// Jackson, which Elasticsearch and Logstash read JSON with, refuses a document with a longer number.
const MOST_NUMBER_BYTES: usize = 1000;

/// The kind of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Not a JSON object.
    Not,
    /// An object that is too long or too deeply nested.
    TooLarge,
    /// An object.
    Is {
        /// Its JSON.
        json: Vec<u8>,
        /// Whether a number became a string, because 64 bits can't hold it.
        number_as_text: bool,
    },
}

/// Why a text is no object that is taken.
enum Flaw {
    Invalid,
    TooDeep,
}

/// What is still to be read, and what was written.
struct Copy<'a> {
    rest: &'a [u8],
    written: Vec<u8>,
    number_as_text: bool,
}

impl Object {
    /// Parses the text of a line, or a value that should be an object.
    pub fn of(text: &[u8]) -> Self {
        let text = text.trim_ascii();
        if !text.starts_with(b"{") || !text.ends_with(b"}") {
            return Self::Not;
        }
        if text.len() > MOST_BYTES {
            return Self::TooLarge;
        }
        let mut copy = Copy { rest: text, written: Vec::with_capacity(text.len()), number_as_text: false };
        match copy.value(MOST_DEPTH) {
            Ok(()) if copy.rest.is_empty() => Self::Is { json: copy.written, number_as_text: copy.number_as_text },
            Ok(()) | Err(Flaw::Invalid) => Self::Not,
            Err(Flaw::TooDeep) => Self::TooLarge,
        }
    }

    /// Its JSON.
    pub fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Is { json, .. } => Some(json),
            _ => None,
        }
    }

    /// Whether a number became a string.
    pub fn has_number_as_text(&self) -> bool {
        matches!(self, Self::Is { number_as_text: true, .. })
    }
}

impl<'a> Copy<'a> {
    /// Copies the next value, with at most this many levels.
    fn value(&mut self, levels: usize) -> Result<(), Flaw> {
        match self.rest.first() {
            Some(b'{' | b'[') if levels == 0 => Err(Flaw::TooDeep),
            Some(b'{') => self.object(levels - 1),
            Some(b'[') => self.array(levels - 1),
            Some(b'"') => {
                let text = self.string()?;
                self.quoted(text);
                Ok(())
            }
            _ => self.scalar(),
        }
    }

    fn object(&mut self, levels: usize) -> Result<(), Flaw> {
        // Of duplicate members the last one counts.
        let mut members = BTreeMap::<Vec<u8>, (&str, Range<usize>)>::new();
        let start = self.written.len();
        self.items(b'}', |copy| {
            let written = copy.string()?;
            let mut name = Vec::new();
            json_text::unescape(written, &mut name);
            copy.skip_space();
            copy.rest = copy.rest.strip_prefix(b":").ok_or(Flaw::Invalid)?;
            copy.skip_space();
            let begin = copy.written.len();
            copy.value(levels)?;
            members.insert(name, (written, begin..copy.written.len()));
            Ok(())
        })?;
        let values = self.written.split_off(start);
        let mut separator = b'{';
        for (name, value) in members.into_values() {
            self.written.push(separator);
            self.quoted(name);
            self.written.push(b':');
            self.written.extend_from_slice(&values[value.start - start..value.end - start]);
            separator = b',';
        }
        if separator == b'{' {
            self.written.push(b'{');
        }
        self.written.push(b'}');
        Ok(())
    }

    fn array(&mut self, levels: usize) -> Result<(), Flaw> {
        self.written.push(b'[');
        let empty = self.written.len();
        self.items(b']', |copy| {
            if copy.written.len() > empty {
                copy.written.push(b',');
            }
            copy.value(levels)
        })?;
        self.written.push(b']');
        Ok(())
    }

    /// Reads what is between the brackets, item by item.
    fn items(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.rest = &self.rest[1..];
        self.skip_space();
        if self.ends(end) {
            return Ok(());
        }
        loop {
            item(self)?;
            self.skip_space();
            if self.ends(end) {
                return Ok(());
            }
            self.rest = self.rest.strip_prefix(b",").ok_or(Flaw::Invalid)?;
            self.skip_space();
        }
    }

    fn ends(&mut self, end: u8) -> bool {
        let after = self.rest.strip_prefix(&[end]);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// The inside of the next string.
    fn string(&mut self) -> Result<&'a str, Flaw> {
        let taken = self.rest.strip_prefix(b"\"").and_then(json_text::take);
        let (text, rest) = taken.ok_or(Flaw::Invalid)?;
        self.rest = rest;
        Ok(text)
    }

    /// Copies a number or a word. A number that a reader with 64 bits can't hold becomes a string with its digits.
    fn scalar(&mut self) -> Result<(), Flaw> {
        let is_end = |byte: &u8| b",]} \t\r\n".contains(byte);
        let (scalar, rest) = self.rest.split_at(self.rest.iter().position(is_end).unwrap_or(self.rest.len()));
        let scalar = str::from_utf8(scalar).map_err(|_| Flaw::Invalid)?;
        // This checks the syntax and not whether a number fits.
        serde_json::from_str::<IgnoredAny>(scalar).map_err(|_| Flaw::Invalid)?;
        self.rest = rest;
        if scalar.starts_with(char::is_alphabetic) || fits(scalar) {
            self.written.extend_from_slice(scalar.as_bytes());
        } else {
            self.number_as_text = true;
            self.quoted(scalar);
        }
        Ok(())
    }

    fn quoted(&mut self, text: &str) {
        self.written.push(b'"');
        self.written.extend_from_slice(text.as_bytes());
        self.written.push(b'"');
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// Whether a reader with 64-bit numbers can read it, if perhaps not with all of its digits.
fn fits(number: &str) -> bool {
    let is_whole = !number.contains(['.', 'e', 'E']);
    let in_range = if is_whole {
        number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok()
    } else {
        number.parse::<f64>().is_ok_and(f64::is_finite)
    };
    in_range && number.len() <= MOST_NUMBER_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
    }

    fn json(text: &str) -> Option<String> {
        Object::of(text.as_bytes()).json().map(|json| String::from_utf8(json.to_vec()).unwrap())
    }

    #[test]
    fn only_objects_within_the_limits_are_objects() {
        assert_eq!(json(" {\"b\":1, \"a\":\"x\", \"b\":2}\r").as_deref(), Some("{\"a\":\"x\",\"b\":2}"));
        for other in ["", "text", "[1]", "1", "\"{}\"", "{\"a\":}", "{\"a\":1} {\"b\":2}", "{'a':1}", "{\"a\":1,}"] {
            assert_eq!(Object::of(other.as_bytes()), Object::Not, "{other}");
        }
        assert!(json(&nested(MOST_DEPTH)).is_some());
        assert!(json(&format!("{{\"a\":{}1{}}}", "[".repeat(MOST_DEPTH - 1), "]".repeat(MOST_DEPTH - 1))).is_some());
        for levels in [MOST_DEPTH + 1, 127, 128, 10_000] {
            assert_eq!(Object::of(nested(levels).as_bytes()), Object::TooLarge, "{levels}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_BYTES));
        assert_eq!(Object::of(long.as_bytes()), Object::TooLarge);
        assert_eq!(Object::of(b"{\"a\":\"\xff\"}"), Object::Not);
    }

    #[test]
    fn numbers_keep_their_digits() {
        for number in [
            "0",
            "-0",
            "-0.0",
            "1E5",
            "1e+05",
            "1.10",
            "0.1234567890123456789012",
            "18446744073709551615",
            "-9223372036854775808",
            "1e308",
            "1e-400",
        ] {
            let text = format!("{{\"a\":[{number}]}}");
            assert_eq!(json(&text).as_ref(), Some(&text));
            assert!(!Object::of(text.as_bytes()).has_number_as_text());
        }
        let long = format!("0.{}", "1".repeat(MOST_NUMBER_BYTES));
        for number in ["18446744073709551616", "-9223372036854775809", "1e400", "-1.5E+309", &long] {
            let object = Object::of(format!("{{\"a\":{number},\"b\":1}}").as_bytes());
            assert_eq!(object.json(), Some(format!("{{\"a\":\"{number}\",\"b\":1}}").as_bytes()));
            assert!(object.has_number_as_text());
        }
        for number in ["01", "1.", ".5", "+1", "1e", "0x10", "NaN", "Infinity", "1_000", "--1", "tru", "nulll"] {
            assert_eq!(Object::of(format!("{{\"a\":{number}}}").as_bytes()), Object::Not, "{number}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,10}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            let members = proptest::collection::btree_map("[a-c\"\\\\é]{0,3}", inner.clone(), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(Value::from),
                members.prop_map(|members| Value::Object(Map::from_iter(members))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_copied(value in value(), pretty: bool) {
            let value = serde_json::json!({"a": value});
            let compact = value.to_string();
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { compact.clone() };
            prop_assert_eq!(json(&text), Some(compact));
        }

        #[test]
        fn what_is_copied_is_what_serde_reads(inside in "[{}\\[\\],:\"\\\\ a1e.u-]{0,20}") {
            let text = format!("{{{inside}}}");
            let read = serde_json::from_str::<Map<String, Value>>(&text).ok();
            let object = Object::of(text.as_bytes());
            // serde_json refuses a number that does not fit.
            if !object.has_number_as_text() {
                let copied = object.json().map(|json| serde_json::from_slice::<Map<String, Value>>(json).unwrap());
                prop_assert_eq!(copied, read);
            }
        }
    }
}
