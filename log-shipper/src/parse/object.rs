//! A JSON object within a log line, as part of an event: checked, bounded, and written again, so that no reader of the event meets
//! a number that does not fit, a member twice, or nesting without end.

use serde_json::{Map, Value};

/// A longer one stays text: each of its members may become a field of an index.
const MOST_BYTES: usize = 64 * 1024;

/// Elasticsearch takes 20 levels (`index.mapping.depth.limit`), those of the event included.
const MOST_DEPTH: usize = 16;

/// What some text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// No JSON object.
    Not,
    /// One that is too long or too deep.
    TooLarge,
    /// This one, as JSON.
    Is(Vec<u8>),
}

impl Object {
    /// Looks at the text of a line, or at what should be an object.
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
            // The parser itself gives up at 128 levels.
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

/// How many objects and arrays are within each other; below 128, as the parser has seen to.
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
