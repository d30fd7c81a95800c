//! The `legacy` schema: what Filebeat 5.4 sent to Logstash 5, in the form that Logstash's json codec published.

use serde_json::{Map, Value};

use super::{Event, Frame, ReadTime, Shipper, json, marks, member, text};

/// The version of Filebeat whose events are reproduced.
const BEAT_VERSION: &str = "5.4.0";

pub(super) fn encode(frame: &Frame, event: &Event<'_>, read: &ReadTime, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"@timestamp\":\"");
    out.extend_from_slice(read.text().as_bytes());
    out.extend_from_slice(b"\",\"json\":{");
    if let Some(reason) = event.unparsed {
        out.extend_from_slice(b"\"json_error\":");
        json::string(&reason.to_string(), out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"log\":\"");
    text(event.text, out);
    out.push(b'"');
    if let Some(stream) = event.stream {
        out.extend_from_slice(b",\"stream\":\"");
        out.extend_from_slice(stream.name().as_bytes());
        out.push(b'"');
    }
    if let Some(time) = event.time {
        out.extend_from_slice(b",\"time\":\"");
        out.extend_from_slice(time.as_bytes());
        out.push(b'"');
    }
    member("attrs", event.attrs, out);
    member("fields", event.fields, out);
    out.extend_from_slice(b"},\"offset\":");
    json::number(event.end, out);
    out.extend_from_slice(b",\"source\":");
    out.extend_from_slice(&frame.path);
    out.extend_from_slice(b",\"tags\":[\"beats_input_raw_event\"");
    for mark in marks(event) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(mark.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// The members that all events share.
pub(super) fn common(shipper: &Shipper) -> Map<String, Value> {
    let beat = serde_json::json!({"hostname": shipper.hostname, "name": shipper.name, "version": BEAT_VERSION});
    let mut members = Map::new();
    members.insert("@version".into(), "1".into());
    members.insert("beat".into(), beat);
    members.insert("host".into(), shipper.hostname.as_str().into());
    members.insert("input_type".into(), "log".into());
    members.insert("type".into(), "filebeat-docker-logs".into());
    members
}
