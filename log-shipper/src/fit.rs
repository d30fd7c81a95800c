//! Makes a message fit the broker's size limit: an array of events is split, and a single event is cut and marked.
//!
//! `MAX_LINE` limits a line's text, but its JSON can be six times as long, and only the broker knows its own limit.

use serde_json::{Map, Value};

/// The mark of an event that was cut, as the encoders write it.
const MARK: &str = "truncated";

/// A string shorter than this, in bytes of JSON, is not worth cutting.
const LEAST_CUT: usize = 64;

/// The replacement for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The messages that replace it, in order.
    pub bodies: Vec<Vec<u8>>,
    /// Whether something was cut off. A message that was only split is complete.
    pub cut: bool,
}

/// Messages of at most `limit` bytes that replace `body`; `None` if there is nothing to cut.
pub fn fit(body: &[u8], limit: usize) -> Option<Fitted> {
    if body.len() <= limit {
        return Some(Fitted { bodies: vec![body.to_vec()], cut: false });
    }
    let Some(elements) = elements(body) else {
        return cut(body, limit).map(|body| Fitted { bodies: vec![body], cut: true });
    };
    let mut fitted = Fitted { bodies: Vec::new(), cut: false };
    let mut open: Vec<u8> = Vec::new();
    for element in elements {
        if !open.is_empty() && open.len() + 1 + element.len() + 1 > limit {
            open.push(b']');
            fitted.bodies.push(std::mem::take(&mut open));
        }
        open.push(if open.is_empty() { b'[' } else { b',' });
        if element.len() + 2 <= limit {
            open.extend_from_slice(element);
        } else {
            open.extend_from_slice(&cut(element, limit.checked_sub(2)?)?);
            fitted.cut = true;
        }
    }
    open.push(b']');
    fitted.bodies.push(open);
    Some(fitted)
}

/// Splits an array into two, each with half of its events; `None` for anything else.
pub fn halves(body: &[u8]) -> Option<Fitted> {
    let elements = elements(body).filter(|elements| elements.len() > 1)?;
    let (first, second) = elements.split_at(elements.len() / 2);
    let array = |elements: &[&[u8]]| [b"[", elements.join(&b',').as_slice(), b"]"].concat();
    Some(Fitted { bodies: vec![array(first), array(second)], cut: false })
}

/// The elements of a JSON array as they are written; `None` if it is not an array.
fn elements(body: &[u8]) -> Option<Vec<&[u8]>> {
    let inside = body.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (mut elements, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in inside.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => (),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                elements.push(&inside[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    elements.push(&inside[start..]);
    Some(elements)
}

/// The event with its longest strings cut, and marked.
fn cut(body: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut event: Value = serde_json::from_slice(body).ok()?;
    mark(event.as_object_mut()?);
    let mut size = event.to_string().len();
    while size > limit {
        let longest = longest(&mut event)?;
        let length = escaped(longest);
        if length < LEAST_CUT {
            return None;
        }
        shorten(longest, size - limit);
        size = event.to_string().len();
    }
    Some(event.to_string().into_bytes())
}

/// Both schemas have a list of marks.
fn mark(event: &mut Map<String, Value>) {
    let marks = match event.get_mut("log") {
        Some(Value::Object(log)) => log.entry("flags"),
        _ => event.entry("tags"),
    };
    if let Value::Array(marks) = marks.or_insert_with(|| Value::Array(Vec::new()))
        && !marks.iter().any(|mark| mark == MARK)
    {
        marks.push(MARK.into());
    }
}

/// The longest string anywhere in a value, without keys.
fn longest(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(values) => values.iter_mut().filter_map(longest).max_by_key(|text| text.len()),
        Value::Object(members) => members.values_mut().filter_map(longest).max_by_key(|text| text.len()),
        _ => None,
    }
}

/// Cuts at least `excess` bytes of JSON off the end of a string, or all of it.
fn shorten(text: &mut String, excess: usize) {
    let mut taken = 0;
    while taken < excess
        && let Some(last) = text.pop()
    {
        taken += escaped_char(last);
    }
}

fn escaped(text: &str) -> usize {
    text.chars().map(escaped_char).sum()
}

/// How many bytes a character takes in JSON (RFC 8259, section 7) as `serde_json` writes it.
fn escaped_char(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        char if char < ' ' => 6,
        char => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(message: &str) -> Value {
        json!({"message": message, "log": {"offset": 7, "file": {"path": "/var/log/pods/a_b_c/d/0.log"}}})
    }

    fn parse(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn an_event_is_cut_before_a_character_and_marked_in_both_schemas() {
        let legacy = json!({"json": {"log": "é".repeat(500)}, "offset": 1, "tags": ["beats_input_raw_event"]});
        for (event, text, marks) in
            [(event(&"é".repeat(500)), "/message", "/log/flags"), (legacy, "/json/log", "/tags")]
        {
            let fitted = fit(event.to_string().as_bytes(), 400).unwrap();
            assert!(fitted.cut && fitted.bodies.len() == 1 && fitted.bodies[0].len() <= 400);
            let cut = parse(&fitted.bodies[0]);
            let message = cut.pointer(text).unwrap().as_str().unwrap();
            assert!(message.len() > 200 && message.chars().all(|char| char == 'é'), "{message}");
            assert!(cut.pointer(marks).unwrap().as_array().unwrap().contains(&json!("truncated")), "{cut}");
        }
    }

    #[test]
    fn an_array_is_split_and_only_an_event_that_is_too_long_alone_is_cut() {
        let events: Vec<_> = (0..10).map(|index| event(&format!("{index} ],{{\"[ \\"))).collect();
        let fitted = fit(Value::from(events.clone()).to_string().as_bytes(), 300).unwrap();
        assert!(!fitted.cut && fitted.bodies.len() > 2);
        let back: Vec<_> = fitted.bodies.iter().flat_map(|body| parse(body).as_array().unwrap().clone()).collect();
        assert_eq!(back, events);
        let long = json!([event("short"), event(&"x".repeat(1000)), event("short")]);
        let fitted = fit(long.to_string().as_bytes(), 300).unwrap();
        let back: Vec<_> = fitted.bodies.iter().flat_map(|body| parse(body).as_array().unwrap().clone()).collect();
        assert!(fitted.cut && back.len() == 3 && back[0] == event("short") && back[2] == event("short"));
    }

    #[test]
    fn an_array_has_halves() {
        let fitted = halves(b"[1,[2,3],\"]\"]").unwrap();
        assert_eq!(fitted.bodies, [b"[1]".to_vec(), b"[[2,3],\"]\"]".to_vec()]);
        assert_eq!((halves(b"[1]"), halves(b"{}")), (None, None));
    }

    #[test]
    fn messages_that_cannot_be_cut_are_reported() {
        assert_eq!(fit(event("short").to_string().as_bytes(), 20), None);
        assert_eq!(fit(&[b'x'; 100], 20), None);
    }

    proptest! {
        #[test]
        fn whatever_fits_is_json_below_the_limit(texts in prop::collection::vec("[a-z\"\\\\\u{0}-\u{1f}é😀]{0,200}", 1..5), limit in 0usize..900, array: bool) {
            let events: Vec<_> = texts.iter().map(|text| event(text)).collect();
            let body = if array { Value::from(events) } else { events[0].clone() }.to_string();
            if let Some(fitted) = fit(body.as_bytes(), limit) {
                for body in &fitted.bodies {
                    prop_assert!(body.len() <= limit);
                    let back = parse(body);
                    prop_assert_eq!(back.is_array(), array);
                }
                let whole: usize = fitted.bodies.iter().map(|body| parse(body).as_array().map_or(1, Vec::len)).sum();
                prop_assert_eq!(whole, if array { texts.len() } else { 1 });
            } else {
                prop_assert!(limit < 300, "an event without its text is shorter than {limit}");
            }
        }
    }
}
