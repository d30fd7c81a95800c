//! CustomResourceDefinitions: the manifest in the repository must be what the code declares.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

/// Compares the manifest `file` (below `manifests/`) with what the code of `package` declares. Writes it again if the
/// variable `UPDATE_CRD` is set.
///
/// # Errors
/// If they differ; the error has the command that updates the manifest.
pub fn up_to_date(file: &str, definition: &Value, package: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").join(file);
    let update = format!("UPDATE_CRD=1 cargo test -p {package} --test crd");
    let mut text = format!("# Generated from the code by: {update}\n");
    if let Value::Object(map) = definition {
        write_map(&mut text, map, 0);
    }
    if std::env::var_os("UPDATE_CRD").is_some() {
        std::fs::write(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let same = std::fs::read_to_string(&path).is_ok_and(|written| written == text);
    if same { Ok(()) } else { Err(format!("manifests/{file} is out of date; run: {update}")) }
}

/// YAML in block style. Strings are written as in JSON, which YAML reads in the same way.
fn write_map(text: &mut String, map: &Map<String, Value>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (key, value) in map {
        // Writing to a String does not fail.
        let _ = match value {
            Value::Object(map) if !map.is_empty() => {
                let written = writeln!(text, "{indent}{key}:");
                write_map(text, map, depth + 1);
                written
            }
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                let written = writeln!(text, "{indent}{key}:");
                for item in items.iter().filter_map(Value::as_object) {
                    let start = text.len();
                    write_map(text, item, depth + 1);
                    let dash = start + indent.len();
                    text.replace_range(dash..=dash, "-");
                }
                written
            }
            plain => writeln!(text, "{indent}{key}: {plain}"),
        };
    }
}
