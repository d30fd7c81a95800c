//! How lines are processed.

use super::*;

#[test]
fn a_line_in_parts_is_joined_across_a_rotation_and_holds_the_checkpoint() {
    let mut writer = Writer::new();
    writer.line("1");
    writer.part("stdout", "P", "a");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    writer.rotate();
    writer.part("stderr", "F", "x");
    reader.look();
    reader.read_all();
    reader.confirm(9);
    let mut again = Reader::start(writer.folder.path(), reader.saved());
    writer.part("stdout", "F", "b");
    for reader in [&mut reader, &mut again] {
        reader.read_all();
    }
    assert_eq!(reader.messages(), ["1", "x", "ab"]);
    // The checkpoint advances in files without a part of the open line.
    assert_eq!(again.messages(), ["ab"]);
    assert_eq!(reader.got[2].0, again.got[0].0);
}

#[test]
fn lines_that_are_not_understood_are_shipped_and_marked() {
    let writer = Writer::new();
    writer.append("what is this\n\n");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    assert_eq!(reader.messages(), ["what is this", ""]);
    assert_eq!(*reader.flags()[0], serde_json::json!(["unparsed"]));
}

#[test]
fn long_lines_are_cut_and_marked_and_the_next_is_whole() {
    let writer = Writer::new();
    writer.line(&"x".repeat(3000));
    writer.part("stdout", "P", &"y".repeat(1500));
    writer.part("stdout", "F", &"z".repeat(1500));
    writer.append(&"w".repeat(200_000));
    writer.append("\n");
    writer.line("next");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    let lengths: Vec<_> = reader.messages().iter().map(|message| message.len()).collect();
    assert_eq!(lengths, [2000, 2000, 2000, 4]);
    assert_eq!(*reader.flags()[2], serde_json::json!(["truncated", "unparsed"]));
}

#[test]
fn a_stack_trace_is_one_event_and_holds_the_checkpoint_until_it_is_over() {
    let writer = Writer::new();
    writer.line("before");
    writer.line("Traceback (most recent call last):");
    writer.line("  File \"a.py\", line 1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.turn();
    reader.confirm(9);
    let saved = reader.saved();
    writer.line("KeyError: 'a'");
    writer.line("after");
    let mut again = Reader::start(writer.folder.path(), saved);
    for reader in [&mut reader, &mut again] {
        reader.read_all();
    }
    let trace = "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'a'";
    assert_eq!(reader.messages(), ["before", trace, "after"]);
    assert_eq!(again.messages(), [trace, "after"]);
    assert_eq!(reader.got[1].0, again.got[0].0);
}

#[test]
fn excluded_lines_are_left_out_and_pass_the_checkpoint() {
    let writer = Writer::new();
    writer.line("GET / HTTP/1.1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    assert!(reader.messages().is_empty());
    let size = fs::metadata(writer.path("0.log")).unwrap().len();
    assert_eq!(reader.saved()[0].done.offset, size);
}

#[test]
fn our_own_output_is_left_out_even_if_nothing_shows_that_the_container_is_ours() {
    let writer = Writer::new();
    writer.line("theirs");
    writer.line("{\"message\":\"theirs\",\"agent\":{\"ephemeral_id\":\"this-run\"}}");
    let settings = Reading { own_mark: Some("this-run".into()), ..reading(2000, 1 << 20) };
    let mut reader = Reader::with(writer.folder.path(), Vec::new(), settings);
    reader.read_all();
    assert_eq!((reader.messages(), reader.reading.metrics.own_lines.get()), (vec!["theirs"], 1));
}

#[test]
fn every_event_has_a_time_however_it_was_made() {
    let valid = |value: &Value| value.as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
    for schema in [Schema::Ecs, Schema::Legacy] {
        let mut writer = Writer::new();
        writer.line("a whole line");
        writer.append("2026-13-22T10:00:00Z stdout F a time that there is not\nno line of a log\n");
        writer.line("Traceback (most recent call last):");
        let settings = Reading { encoder: encoder(schema), ..reading(2000, 1 << 20) };
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), settings);
        reader.turn();
        // Silence ends the trace, a rotation the torn line, and a deletion the parts.
        wait_for_trace(&mut reader);
        writer.append("torn");
        reader.turn();
        writer.rotate();
        writer.part("stderr", "P", "part");
        reader.look();
        reader.read_all();
        fs::remove_file(writer.path("0.log")).unwrap();
        reader.look();
        reader.read_all();
        assert_eq!(reader.got.len(), 6, "{:#?}", reader.got);
        for (_, event) in &reader.got {
            assert!(valid(&event["@timestamp"]), "{event}");
        }
    }
}

#[test]
fn a_turn_takes_from_the_budget_what_its_batch_returns() {
    let writer = Writer::new();
    writer.line("1");
    writer.line("2");
    for batching in [None, Some(Batching { events: 500, bytes: 1 << 18 })] {
        let settings = Reading { batching, ..reading(2000, 1 << 20) };
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), settings);
        let batch = reader.log.turn(&mut reader.buffer, &reader.reading).batch.unwrap();
        assert_eq!(reader.reading.budget.used(), batch.bytes.len());
    }
}
