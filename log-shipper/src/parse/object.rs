//! A JSON object in a log line, as part of an event. It is checked, limited, and written again, so that no reader of
//! the event sees a number that does not fit, a duplicate member, or endless nesting. Numbers keep their text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

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
        /// Whether a number became a string, because readers could not hold it.
        number_as_text: bool,
    },
}

/// Why a text is not taken as an object.
enum Flaw {
    Invalid,
    TooDeep,
}

impl From<serde_json::Error> for Flaw {
    fn from(_: serde_json::Error) -> Self {
        Self::Invalid
    }
}

/// What was written.
#[derive(Default)]
struct Copy {
    json: Vec<u8>,
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
        let mut copy = Copy::default();
        let copied = serde_json::from_slice(text).map_err(Flaw::from).and_then(|value| copy.value(value, MOST_DEPTH));
        match copied {
            Ok(()) => Self::Is { json: copy.json, number_as_text: copy.number_as_text },
            Err(Flaw::Invalid) => Self::Not,
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

impl Copy {
    /// Writes a value with at most this many levels.
    fn value(&mut self, value: &RawValue, levels: usize) -> Result<(), Flaw> {
        let text = value.get();
        match text.as_bytes() {
            [b'{' | b'[', ..] if levels == 0 => Err(Flaw::TooDeep),
            [b'{', ..] => self.object(serde_json::from_str(text)?, levels - 1),
            [b'[', ..] => self.array(serde_json::from_str(text)?, levels - 1),
            [b'"', ..] => {
                // A raw value may contain half of a surrogate pair.
                serde_json::from_str::<Cow<'_, str>>(text)?;
                self.json.extend_from_slice(text.as_bytes());
                Ok(())
            }
            [b'-' | b'0'..=b'9', ..] if !fits(text) => {
                self.number_as_text = true;
                self.json.extend([b"\"", text.as_bytes(), b"\""].concat());
                Ok(())
            }
            number_or_word => {
                self.json.extend_from_slice(number_or_word);
                Ok(())
            }
        }
    }

    /// Of duplicate members the last one counts.
    fn object(&mut self, members: BTreeMap<String, &RawValue>, levels: usize) -> Result<(), Flaw> {
        self.json.push(b'{');
        for (index, (name, value)) in members.into_iter().enumerate() {
            self.separate(index);
            serde_json::to_writer(&mut self.json, &name)?;
            self.json.push(b':');
            self.value(value, levels)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    fn array(&mut self, items: Vec<&RawValue>, levels: usize) -> Result<(), Flaw> {
        self.json.push(b'[');
        for (index, value) in items.into_iter().enumerate() {
            self.separate(index);
            self.value(value, levels)?;
        }
        self.json.push(b']');
        Ok(())
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.json.push(b',');
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
        for other in [
            "",
            "text",
            "[1]",
            "1",
            "\"{}\"",
            "{\"a\":}",
            "{\"a\":1} {\"b\":2}",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":\"\\ud800\"}",
        ] {
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
