//! The CustomResourceDefinition in `manifests/` is the one that the code declares.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write as _;

use kube::CustomResourceExt;
use prepuller::node_images::NodeImages;
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/components/prepuller/crd.yaml");
const UPDATE: &str = "UPDATE_CRD=1 cargo test -p prepuller --test crd";

#[test]
fn the_manifest_is_up_to_date() {
    let definition = serde_json::to_value(NodeImages::crd()).unwrap();
    let mut text = format!("# Generated from prepuller/src/node_images.rs by: {UPDATE}\n");
    write_map(&mut text, &definition, 0);
    if std::env::var_os("UPDATE_CRD").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(written == text, "manifests/components/prepuller/crd.yaml is out of date; run: {UPDATE}");
}

/// YAML in block style. Strings stand as in JSON, which YAML reads alike.
fn write_map(text: &mut String, value: &Value, depth: usize) {
    for (key, value) in value.as_object().unwrap() {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(map) if !map.is_empty() => {
                writeln!(text, "{indent}{key}:").unwrap();
                write_map(text, value, depth + 1);
            }
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                writeln!(text, "{indent}{key}:").unwrap();
                for item in items {
                    let start = text.len();
                    write_map(text, item, depth + 1);
                    let dash = start + indent.len();
                    text.replace_range(dash..=dash, "-");
                }
            }
            plain => writeln!(text, "{indent}{key}: {plain}").unwrap(),
        }
    }
}
