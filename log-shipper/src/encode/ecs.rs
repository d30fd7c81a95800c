//! The `ecs` schema: fields of the Elastic Common Schema 8 and of Filebeat's container input, nested.

use serde_json::{Map, Value};

use super::{Event, Frame, ReadTime, Shipper, json, marks, member, text};
use crate::container::{Container, Pod};
use crate::pods::PodInfo;

/// The version of the Elastic Common Schema whose field names are used.
const ECS_VERSION: &str = "8.11.0";

pub(super) fn encode(frame: &Frame, event: &Event<'_>, read: &ReadTime, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"@timestamp\":\"");
    out.extend_from_slice(event.time.unwrap_or(read.text()).as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    text(event.text, out);
    if let Some(stream) = event.stream {
        out.extend_from_slice(b"\",\"stream\":\"");
        out.extend_from_slice(stream.name().as_bytes());
    }
    out.extend_from_slice(b"\",\"log\":{\"offset\":");
    json::number(event.start, out);
    out.extend_from_slice(b",\"file\":{\"path\":");
    out.extend_from_slice(&frame.path);
    out.push(b'}');
    let mut separator = ",\"flags\":[\"";
    for mark in marks(event) {
        out.extend_from_slice(separator.as_bytes());
        out.extend_from_slice(mark.as_bytes());
        out.push(b'"');
        separator = ",\"";
    }
    if separator.len() == 2 {
        out.push(b']');
    }
    out.push(b'}');
    if let Some(reason) = event.unparsed {
        out.extend_from_slice(b",\"error\":{\"message\":");
        json::string(&reason.to_string(), out);
        out.push(b'}');
    }
    member("json", event.fields, out);
    if let Some(attrs) = event.attrs {
        out.extend_from_slice(b",\"docker\":{\"attrs\":");
        out.extend_from_slice(attrs);
        out.push(b'}');
    }
}

/// The members that all events share.
pub(super) fn common(shipper: &Shipper) -> Map<String, Value> {
    let agent = serde_json::json!({
        "id": shipper.id,
        "name": shipper.name,
        "type": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "ephemeral_id": shipper.ephemeral_id,
    });
    let mut members = Map::new();
    members.insert("input".into(), serde_json::json!({"type": "container"}));
    members.insert("ecs".into(), serde_json::json!({"version": ECS_VERSION}));
    members.insert("agent".into(), agent);
    members
}

/// The members about a container.
pub(super) fn of_container(node: Option<&str>, container: &Container, info: Option<&PodInfo>) -> Map<String, Value> {
    let mut members = Map::new();
    if let Some(docker) = &container.docker {
        let mut fields = serde_json::json!({"id": docker.id, "runtime": "docker"});
        if let Some(image) = &docker.image {
            fields["image"] = serde_json::json!({"name": image});
        }
        if let Some(name) = &docker.name {
            fields["name"] = serde_json::json!(name);
        }
        members.insert("container".into(), fields);
    }
    if let Some(pod) = &container.pod {
        let mut fields = serde_json::json!({
            "namespace": pod.namespace,
            "pod": {"name": pod.name, "uid": pod.uid},
            "container": {"name": pod.container},
        });
        if let Some(node) = node {
            fields["node"] = serde_json::json!({"name": node});
        }
        if let Some(info) = info {
            add(info, &mut fields);
            if let Some(container) = run_of(info, pod, &container.restart) {
                members.insert("container".into(), container);
            }
        }
        members.insert("kubernetes".into(), fields);
    }
    members
}

/// Adds the pod's metadata.
fn add(info: &PodInfo, fields: &mut Value) {
    for (name, map) in [("labels", &info.labels), ("annotations", &info.annotations)] {
        if !map.is_empty() {
            fields[name] = serde_json::json!(map);
        }
    }
    if let Some(ip) = &info.ip {
        fields["pod"]["ip"] = serde_json::json!(ip);
    }
    for (kind, name) in &info.owners {
        fields[*kind] = serde_json::json!({"name": name});
    }
}

/// The container in the status of its pod.
fn run_of(info: &PodInfo, pod: &Pod, restart: &str) -> Option<Value> {
    let container = info.containers.get(&pod.container)?;
    let mut fields = serde_json::json!({"image": {"name": container.image}});
    if !container.runtime.is_empty() {
        fields["runtime"] = serde_json::json!(container.runtime);
    }
    if let Some(id) = container.ids.get(restart) {
        fields["id"] = serde_json::json!(id);
    }
    Some(fields)
}
