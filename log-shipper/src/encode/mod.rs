//! Events: the JSON that downstream readers get for each line, in one of two schemas.
//!
//! What is the same for all lines of a file is rendered once into a [`Frame`]; a line then costs a few copies.

mod ecs;
pub mod json;
mod legacy;

use crate::container::Container;
use crate::parse::{Stream, Text, Unparsed};
use crate::pods::PodInfo;

/// Which JSON readers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Elastic Common Schema with Kubernetes fields, as a Filebeat of today writes it.
    Ecs,
    /// What Filebeat 5 and Logstash 5 wrote.
    Legacy,
}

/// Who ships: the same in every event.
#[derive(Clone, Debug)]
pub struct Shipper {
    /// `SHIPPER_NAME`.
    pub name: String,
    /// The host or pod that the shipper runs in.
    pub hostname: String,
    /// The Kubernetes node, where known.
    pub node: Option<String>,
    /// The same for all runs on this host.
    pub id: String,
    /// Another one for each run.
    pub ephemeral_id: String,
}

/// What all events of one file have in common, rendered.
#[derive(Clone, Debug)]
pub struct Frame {
    schema: Schema,
    /// The file's path as a JSON string.
    path: Box<[u8]>,
    /// The members of every event that come after those of the line.
    tail: Box<[u8]>,
}

/// When a line was read: RFC 3339 in UTC with milliseconds. It can't be empty: an event without a time is refused by its readers.
#[derive(Clone, Debug)]
pub struct ReadTime(String);

impl ReadTime {
    /// This moment.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// One event to be.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When the container wrote it; `None` for a line that was not understood.
    pub time: Option<&'a str>,
    /// Which stream it came from, where known.
    pub stream: Option<Stream>,
    /// The message.
    pub text: Text<'a>,
    /// Where the line begins in the uncompressed file, in bytes.
    pub start: u64,
    /// Where it ends, its newline included.
    pub end: u64,
    /// The fields of a line that is a JSON object, as one (`JSON_LINES`).
    pub fields: Option<&'a [u8]>,
    /// Whether it is one that is too long or too deep to become fields.
    pub too_large: bool,
    /// Docker's `attrs`, a JSON object.
    pub attrs: Option<&'a [u8]>,
    /// Whether the message was cut at `MAX_LINE`.
    pub truncated: bool,
    /// Whether the container's line never ended: its file was gone first.
    pub unfinished: bool,
    /// Why the line was not understood.
    pub unparsed: Option<Unparsed>,
}

impl Frame {
    /// Renders what the events of `container` in the file at `path` share; `pod` is what Kubernetes says, where known.
    pub fn new(schema: Schema, shipper: &Shipper, container: &Container, pod: Option<&PodInfo>, path: &str) -> Self {
        let mut escaped = Vec::new();
        json::string(path, &mut escaped);
        let tail = match schema {
            Schema::Ecs => ecs::tail(shipper, container, pod),
            Schema::Legacy => legacy::tail(shipper),
        };
        // Kept for each file of the node.
        Self { schema, path: escaped.into(), tail: tail.into() }
    }

    /// Appends the event, which was read at `read`, as one JSON object.
    pub fn encode(&self, event: &Event<'_>, read: &ReadTime, out: &mut Vec<u8>) {
        match self.schema {
            Schema::Ecs => ecs::encode(self, event, read, out),
            Schema::Legacy => legacy::encode(self, event, read, out),
        }
    }
}

fn text(text: Text<'_>, out: &mut Vec<u8>) {
    match text {
        Text::Raw(bytes) => json::escape(bytes, out),
        Text::Json(inside) => out.extend_from_slice(inside.as_bytes()),
    }
}

/// The marks of an event, by the names that both schemas use.
fn marks(event: &Event<'_>) -> impl Iterator<Item = &'static str> {
    let marks = [
        (event.truncated, "truncated"),
        (event.unfinished, "unfinished"),
        (event.unparsed.is_some(), "unparsed"),
        (event.too_large, "json_too_large"),
    ];
    marks.into_iter().filter_map(|(holds, name)| holds.then_some(name))
}

/// Appends a member whose value is JSON already.
fn member(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.push(b',');
        json::string(name, out);
        out.push(b':');
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
