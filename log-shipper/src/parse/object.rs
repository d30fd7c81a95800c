//! A JSON object in a log line, as part of an event. It is checked, limited, and written again, so that no reader of
//! the event sees a number that does not fit, a duplicate member, or endless nesting.

use serde_json::{Map, Value};

/// A longer object stays text, because each of its members may become a field of an index.
const MOST_BYTES: usize = 64 * 1024;

/// Elasticsearch accepts 20 levels (`index.mapping.depth.limit`), including those of the event.
const MOST_DEPTH: usize = 16;

/// The kind of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Not a JSON object.
    Not,
    /// An object that is too long or too deeply nested.
    TooLarge,
    /// An object, as JSON.
    Is(Vec<u8>),
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
        match serde_json::from_slice::<Map<String, Value>>(text) {
            Ok(object) if object.values().any(|value| depth(value) >= MOST_DEPTH) => Self::TooLarge,
            Ok(object) => Self::Is(Value::Object(object).to_string().into_bytes()),
            // The parser itself stops at 128 levels.
            Err(error) if error.to_string().contains("recursion limit") => Self::TooLarge,
            Err(_) => Self::Not,
        }
    }
}

impl Object {
    /// Its JSON.
    pub fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Is(json) => Some(json),
            _ => None,
        }
    }
}

/// How deeply objects and arrays are nested; below 128, because of the parser's limit.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn only_objects_within_the_limits_are_objects() {
        assert_eq!(Object::of(b" {\"b\":1, \"a\":\"x\", \"b\":2}\r"), Object::Is(b"{\"a\":\"x\",\"b\":2}".to_vec()));
        for other in ["", "text", "[1]", "1", "\"{}\"", "{\"a\":}", "{\"a\":1} {\"b\":2}", "{\"a\":1e999}", "{'a':1}"] {
            assert_eq!(Object::of(other.as_bytes()), Object::Not, "{other}");
        }
        assert!(matches!(Object::of(nested(MOST_DEPTH).as_bytes()), Object::Is(_)));
        for levels in [MOST_DEPTH + 1, 127, 128, 10_000] {
            assert_eq!(Object::of(nested(levels).as_bytes()), Object::TooLarge, "{levels}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_BYTES));
        assert_eq!(Object::of(long.as_bytes()), Object::TooLarge);
        assert_eq!(Object::of(b"{\"a\":\"\xff\"}"), Object::Not);
    }
}
