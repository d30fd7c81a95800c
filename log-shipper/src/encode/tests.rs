use serde_json::{Value, json};

use super::*;
use crate::container::{Docker, Pod};

fn encoder(schema: Schema) -> Encoder {
    let shipper = Shipper {
        name: "site-a".into(),
        hostname: "shipper-x".into(),
        node: Some("node-1".into()),
        id: "id-1".into(),
        ephemeral_id: "run-1".into(),
    };
    Encoder::new(schema, &shipper)
}

fn in_pod() -> Container {
    let pod =
        Pod { namespace: "jhub".into(), name: "jupyter-a".into(), uid: "u-1".into(), container: "notebook".into() };
    Container { pod: Some(pod), docker: None, restart: "0".into() }
}

fn in_docker() -> Container {
    let docker = Docker { id: "abc".into(), name: Some("web".into()), image: Some("nginx:1".into()) };
    Container { pod: None, docker: Some(docker.into()), restart: "".into() }
}

fn event(text: Text<'_>) -> Event<'_> {
    Event {
        time: Some("2017-06-07T20:15:02.98Z"),
        stream: Some(Stream::Stdout),
        text,
        start: 12300,
        end: 12345,
        fields: None,
        too_large: false,
        number_as_text: false,
        attrs: None,
        attrs_left_out: false,
        truncated: false,
        unfinished: false,
        unparsed: None,
    }
}

fn unparsed() -> Event<'static> {
    Event { time: None, stream: None, unparsed: Some(Unparsed::Docker), ..event(Text::Raw(b"{\"log\":\xff")) }
}

fn encoded(frame: &Frame, event: &Event<'_>) -> String {
    let mut out = Vec::new();
    frame.encode(event, &ReadTime("2017-06-07T20:15:03.123Z".into()), &mut out);
    String::from_utf8(out).unwrap()
}

/// Compared as JSON, because the order of members does not matter.
#[test]
fn events_are_as_in_the_golden_files() {
    let pods = "/var/log/pods/jhub_jupyter-a_u-1/notebook/0.log";
    let docker = "/containerlogs/abc/abc-json.log";
    let ecs = encoder(Schema::Ecs).frame(&in_pod(), None, pods);
    let ecs_docker = encoder(Schema::Ecs).frame(&in_docker(), None, docker);
    let legacy = encoder(Schema::Legacy).frame(&in_docker(), None, docker);
    let cut = Event { truncated: true, unfinished: true, ..event(Text::Raw(b"cut")) };
    let lines = [
        encoded(&ecs, &event(Text::Raw(b"say \"hi\"\t\\ \x1b"))),
        encoded(&ecs, &cut),
        encoded(&ecs, &unparsed()),
        encoded(&ecs_docker, &event(Text::Json("line\\u0041"))),
        encoded(&legacy, &event(Text::Json("line"))),
        encoded(&legacy, &cut),
        encoded(&legacy, &unparsed()),
    ];
    let golden = include_str!("golden.jsonl").replace("$VERSION", env!("CARGO_PKG_VERSION"));
    for (written, expected) in lines.iter().zip(golden.lines()) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(written), parse(expected), "{written}");
    }
    assert_eq!(lines.len(), golden.lines().count());
}

#[test]
fn legacy_has_the_members_that_its_readers_know() {
    let frame = encoder(Schema::Legacy).frame(&in_docker(), None, "/containerlogs/abc/abc-json.log");
    let expected = json!({
        "@timestamp": "2017-06-07T20:15:03.123Z", "@version": "1",
        "beat": {"hostname": "shipper-x", "name": "site-a", "version": "5.4.0"},
        "host": "shipper-x", "input_type": "log",
        "json": {"log": "line", "stream": "stdout", "time": "2017-06-07T20:15:02.98Z"},
        "offset": 12345, "source": "/containerlogs/abc/abc-json.log",
        "tags": ["beats_input_raw_event"], "type": "filebeat-docker-logs",
    });
    let written: Value = serde_json::from_str(&encoded(&frame, &event(Text::Json("line")))).unwrap();
    assert_eq!(written, expected);
}

#[test]
fn fields_and_attrs_are_objects_of_their_own_in_both_schemas() {
    let event = Event {
        fields: Some(b"{\"level\":\"info\"}"),
        attrs: Some(b"{\"tag\":\"web/x\"}"),
        too_large: true,
        number_as_text: true,
        ..event(Text::Raw(b"x"))
    };
    let with = |schema| -> Value {
        let frame = encoder(schema).frame(&in_docker(), None, "/containerlogs/abc/abc-json.log");
        serde_json::from_str(&encoded(&frame, &event)).unwrap()
    };
    let ecs = with(Schema::Ecs);
    assert_eq!((&ecs["json"], &ecs["docker"]["attrs"]), (&json!({"level": "info"}), &json!({"tag": "web/x"})));
    assert_eq!(ecs["log"]["flags"], json!(["json_too_large", "json_number_as_text"]));
    let legacy = with(Schema::Legacy);
    assert_eq!((&legacy["json"]["fields"], &legacy["json"]["attrs"]), (&ecs["json"], &ecs["docker"]["attrs"]));
    assert_eq!(legacy["json"]["log"], "x");
}
