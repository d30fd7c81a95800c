//! Events: the JSON that readers get for each line, in one of two schemas.
//!
//! Members that are the same for all lines of a file are rendered once into a [`Frame`]; a line then costs a few
//! copies.

mod ecs;
pub mod json;
mod legacy;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::container::Container;
use crate::parse::{Stream, Text, Unparsed};
use crate::pods::PodInfo;

/// The schema of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Elastic Common Schema with Kubernetes fields, as a current Filebeat writes it.
    Ecs,
    /// What Filebeat 5 and Logstash 5 wrote.
    Legacy,
}

/// The shipper's identity, which is the same in every event.
#[derive(Clone, Debug)]
pub struct Shipper {
    /// `SHIPPER_NAME`.
    pub name: String,
    /// The host or pod that the shipper runs in.
    pub hostname: String,
    /// The Kubernetes node, if known.
    pub node: Option<String>,
    /// The same for all runs on this host.
    pub id: String,
    /// A new one for each run.
    pub ephemeral_id: String,
}

/// Encodes the events of this process.
#[derive(Clone, Debug)]
pub struct Encoder {
    schema: Schema,
    node: Option<String>,
    /// The members that all events share, rendered.
    common: Arc<[u8]>,
}

/// The members that all events of one file share, rendered.
#[derive(Clone, Debug)]
pub struct Frame {
    schema: Schema,
    /// The file's path as a JSON string.
    path: Box<[u8]>,
    /// As [`Encoder::common`].
    common: Arc<[u8]>,
    /// The members about the container.
    container: Box<[u8]>,
}

/// When a line was read: RFC 3339 in UTC with milliseconds. It cannot be empty, because readers refuse an event without
/// a time.
#[derive(Clone, Debug)]
pub struct ReadTime(String);

impl ReadTime {
    /// The current time.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The input of one event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When the container wrote it; `None` for a line that could not be parsed.
    pub time: Option<&'a str>,
    /// The stream of the line, if known.
    pub stream: Option<Stream>,
    /// The message.
    pub text: Text<'a>,
    /// The offset of the line's beginning in the uncompressed file, in bytes.
    pub start: u64,
    /// The offset of its end, including the newline.
    pub end: u64,
    /// The fields of a line that is a JSON object, as a JSON object (`JSON_LINES`).
    pub fields: Option<&'a [u8]>,
    /// Whether the line is an object that is too long or too deeply nested to become fields.
    pub too_large: bool,
    /// Whether a number in the fields became a string, because readers could not hold it.
    pub number_as_text: bool,
    /// Docker's `attrs`, a JSON object.
    pub attrs: Option<&'a [u8]>,
    /// Whether they are left out because they are too long, too deeply nested or no JSON object.
    pub attrs_left_out: bool,
    /// Whether the message was cut at `MAX_LINE`.
    pub truncated: bool,
    /// Whether the container's line never ended, because its file disappeared first.
    pub unfinished: bool,
    /// Why the line could not be parsed.
    pub unparsed: Option<Unparsed>,
}

impl Encoder {
    /// Renders what all events share.
    pub fn new(schema: Schema, shipper: &Shipper) -> Self {
        let common = match schema {
            Schema::Ecs => ecs::common(shipper),
            Schema::Legacy => legacy::common(shipper),
        };
        Self { schema, node: shipper.node.clone(), common: rendered(common).into() }
    }

    /// Renders what the events of `container` in the file at `path` share; `pod` is the pod's metadata, if known.
    pub fn frame(&self, container: &Container, pod: Option<&PodInfo>, path: &str) -> Frame {
        let mut escaped = Vec::new();
        json::string(path, &mut escaped);
        let members = match self.schema {
            Schema::Ecs => ecs::of_container(self.node.as_deref(), container, pod),
            Schema::Legacy => Map::new(),
        };
        // This is kept in memory for each file of the node, so unused capacity is dropped.
        let (path, container) = (escaped.into(), rendered(members).into());
        Frame { schema: self.schema, path, common: self.common.clone(), container }
    }
}

impl Frame {
    /// Appends the event as one JSON object; `read` is the time at which it was read.
    pub fn encode(&self, event: &Event<'_>, read: &ReadTime, out: &mut Vec<u8>) {
        match self.schema {
            Schema::Ecs => ecs::encode(self, event, read, out),
            Schema::Legacy => legacy::encode(self, event, read, out),
        }
        out.extend_from_slice(&self.common);
        out.extend_from_slice(&self.container);
        out.push(b'}');
    }
}

fn text(text: Text<'_>, out: &mut Vec<u8>) {
    match text {
        Text::Raw(bytes) => json::escape(bytes, out),
        Text::Json(inside) => out.extend_from_slice(inside.as_bytes()),
    }
}

/// The marks of an event, with the names that both schemas use.
fn marks(event: &Event<'_>) -> impl Iterator<Item = &'static str> {
    let marks = [
        (event.truncated, "truncated"),
        (event.unfinished, "unfinished"),
        (event.unparsed.is_some(), "unparsed"),
        (event.too_large, "json_too_large"),
        (event.number_as_text, "json_number_as_text"),
        (event.attrs_left_out, "attrs_left_out"),
    ];
    marks.into_iter().filter_map(|(holds, name)| holds.then_some(name))
}

/// The members of an object, to be appended to others.
fn rendered(members: Map<String, Value>) -> Vec<u8> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut object = Value::Object(members).to_string().into_bytes();
    object[0] = b',';
    object.pop();
    object
}

/// Appends a member whose value is already JSON.
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
