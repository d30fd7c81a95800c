//! Lines of CRI and Docker logs, and their events, which are always JSON, whatever the line contains.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use log_shipper::container::Container;
use log_shipper::encode::{Encoder, Event, ReadTime, Schema, Shipper};
use log_shipper::parse::{self, Text, json_text};

fuzz_target!(|input: &[u8]| {
    let line = parse::line(input);
    let (text, time) = match &line {
        Ok(line) => (line.text, Some(line.time)),
        Err(_) => (Text::Raw(input), None),
    };
    if let Text::Json(inside) = text {
        let mut plain = Vec::new();
        json_text::unescape(inside, &mut plain);
        let quoted: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
        assert_eq!(plain, quoted.as_bytes());
        let cut: String = serde_json::from_str(&format!("\"{}\"", json_text::cut(inside, 10))).unwrap();
        assert!(quoted.starts_with(&cut));
    }
    let name = || "name".to_owned();
    let shipper = Shipper { name: name(), hostname: name(), node: None, id: name(), ephemeral_id: name() };
    let container = Container::of_pod_folder(Path::new("/pods/space_pod_uid/main"), "0").unwrap();
    let event = Event {
        time,
        stream: line.as_ref().ok().map(|line| line.stream),
        text,
        start: 0,
        end: input.len() as u64,
        fields: None,
        too_large: false,
        attrs: None,
        truncated: false,
        unfinished: false,
        unparsed: line.as_ref().err().copied(),
    };
    let read = ReadTime::now();
    for schema in [Schema::Ecs, Schema::Legacy] {
        let mut out = Vec::new();
        Encoder::new(schema, &shipper).frame(&container, None, "/path").encode(&event, &read, &mut out);
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
    }
});
