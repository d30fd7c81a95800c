//! Lines whose end is missing.

use super::*;

#[test]
fn the_memory_of_open_lines_is_released_however_they_end() {
    let writer = Writer::new();
    writer.part("stdout", "P", "open");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.turn();
    let taken = reader.reading.partial_bytes.clone();
    let now = || taken.load(std::sync::atomic::Ordering::Relaxed);
    assert!(now() > 0);
    reader.log.pass_over(&mut lock(&reader.log.inner), &reader.reading);
    assert_eq!(now(), 0);
    writer.part("stdout", "P", "again");
    reader.turn();
    assert!(now() > 0);
    drop(reader);
    assert_eq!(now(), 0);
}

#[test]
fn the_bound_on_open_lines_holds_and_they_are_read_again() {
    let writer = Writer::new();
    let mut reader = Reader::with(writer.folder.path(), Vec::new(), reading(100_000, 1000));
    writer.part("stdout", "P", &"a".repeat(5000));
    writer.part("stderr", "F", "between");
    reader.read_all();
    assert_eq!(lock(&reader.log.inner).joiner.bytes(), 0);
    writer.part("stdout", "F", "b");
    reader.read_all();
    let expected = format!("{}b", "a".repeat(5000));
    assert_eq!(reader.messages(), ["between", &expected]);
}

#[test]
fn unfinished_lines_are_shipped_after_silence_and_a_late_rest_is_a_separate_event() {
    type Write = fn(&Writer);
    let part: Write = |writer| writer.part("stderr", "P", "words");
    let torn: Write = |writer| writer.append(&format!("{TIME} stdout F words"));
    let both: Write = |writer| writer.append(&format!("{TIME} stdout P words"));
    for (name, write) in [("part", part), ("torn", torn), ("torn part", both)] {
        // Also if the text of open lines must not be kept.
        for most in [1 << 20, 0] {
            let writer = Writer::new();
            writer.line("working");
            write(&writer);
            let mut reader = Reader::with(writer.folder.path(), Vec::new(), impatient(most));
            reader.read_all();
            reader.read_all();
            assert_eq!(reader.messages(), ["working", "words"], "{name}, {most}");
            assert_eq!(*reader.flags()[1], serde_json::json!(["unfinished"]), "{name}");
            reader.confirm(9);
            let size = fs::metadata(writer.path("0.log")).unwrap().len();
            assert_eq!(reader.saved()[0].done.offset, size, "{name}");
            writer.append(if name == "part" { "2026-11-22T10:00:01Z stderr F more\n" } else { "more\n" });
            reader.read_all();
            assert_eq!(reader.messages()[2..], ["more"], "{name}");
            let ids: BTreeSet<_> = reader.got.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), 3);
            // Another run that finds the complete line gives it another id than its half had.
            let mut whole = Reader::with(writer.folder.path(), Vec::new(), reading(100_000, 1 << 20));
            whole.read_all();
            whole.reading.quiet = Duration::ZERO;
            whole.read_all();
            assert!(!ids.contains(&whole.got[1].0), "{name}");
        }
    }
}

#[test]
fn a_quiet_line_is_shipped_while_the_other_stream_continues() {
    let writer = Writer::new();
    writer.part("stderr", "P", "Password: ");
    let mut reader =
        Reader::with(writer.folder.path(), Vec::new(), Reading { quiet: Duration::from_millis(1), ..impatient(0) });
    reader.reading.partial_bytes_max = 1 << 20;
    let mut lines = 0;
    while !reader.messages().contains(&"Password: ") {
        writer.line("busy");
        lines += 1;
        assert!(lines < 10_000);
        reader.read_all();
    }
}

#[test]
fn the_rest_of_a_line_that_waited_in_the_file_still_belongs_to_it() {
    let mut writer = Writer::new();
    writer.part("stderr", "P", "first ");
    let settings = Reading { quiet: Duration::from_millis(1), ..impatient(1 << 20) };
    let mut reader = Reader::with(writer.folder.path(), Vec::new(), settings);
    reader.turn();
    // Meanwhile readers wait a long time for the broker.
    while lock(&reader.log.inner).grew.elapsed() < Duration::from_millis(2) {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        writer.line(&"x".repeat(50_000));
    }
    writer.rotate();
    writer.part("stderr", "F", "and last");
    reader.look();
    reader.read_all();
    assert!(reader.messages().contains(&"first and last"));
}

#[test]
fn dropped_open_lines_are_read_again_across_files_and_before_their_end() {
    let long = "a".repeat(5000);
    let open = |writer: &mut Writer| {
        writer.part("stdout", "P", &"a".repeat(5000));
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), reading(100_000, 1000));
        reader.read_all();
        assert_eq!(lock(&reader.log.inner).joiner.bytes(), 0);
        reader
    };
    let mut writer = Writer::new();
    let mut reader = open(&mut writer);
    writer.rotate();
    writer.part("stdout", "F", "b");
    reader.look();
    reader.read_all();
    assert_eq!(reader.messages(), [format!("{long}b")]);
    let mut writer = Writer::new();
    let mut reader = open(&mut writer);
    fs::remove_file(writer.path("0.log")).unwrap();
    reader.look();
    reader.read_all();
    assert_eq!((reader.messages(), reader.reading.metrics.bytes_lost.get()), (vec![long.as_str()], 0));
}

#[test]
fn a_bounded_log_is_read_as_far_as_it_was_and_to_the_end_of_a_line_that_was_open() {
    let writer = Writer::new();
    writer.line("1");
    writer.append(&format!("{TIME} stdout F 2"));
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.log.maintain(&reader.reading);
    reader.log.bound();
    reader.turn();
    assert_eq!(reader.messages(), ["1"]);
    writer.append(", the end\n");
    writer.line("3");
    reader.read_all();
    assert_eq!(reader.messages(), ["1", "2, the end", "3"]);
    writer.line("4");
    assert!(matches!(reader.turn(), Next::Idle(_)));
    assert_eq!(reader.messages().len(), 3);
}

#[test]
fn an_open_line_does_not_swallow_the_next_one_behind_a_loss() {
    for newer_is_known in [false, true] {
        for (holder_is_gone, forgotten) in [(false, false), (false, true), (true, true)] {
            let mut writer = Writer::new();
            writer.part("stdout", "P", "open");
            let mut reader = Reader::start(writer.folder.path(), Vec::new());
            reader.read_all();
            let holder = writer.rotate();
            writer.line("lost");
            let lost = writer.rotate();
            reader.look();
            reader.log.maintain(&reader.reading);
            if holder_is_gone {
                fs::remove_file(writer.path(&holder)).unwrap();
            }
            fs::remove_file(writer.path(&lost)).unwrap();
            if newer_is_known {
                writer.line("next");
            } else {
                fs::remove_file(writer.path("0.log")).unwrap();
            }
            reader.look();
            reader.log.maintain(&reader.reading);
            // The readers wait for the broker meanwhile.
            while reader.log.unpin_oldest(&reader.reading) > 0 {}
            if forgotten {
                age_absence(&reader);
            }
            if !newer_is_known {
                writer.line("next");
            }
            reader.look();
            reader.read_all();
            let case = (newer_is_known, holder_is_gone, forgotten);
            assert_eq!(reader.messages(), ["open", "next"], "{case:?}");
            assert_eq!(*reader.flags()[0], serde_json::json!(["unfinished"]), "{case:?}");
            assert!(reader.reading.metrics.bytes_lost.get() > 0);
        }
    }
}

#[test]
fn an_open_line_ends_with_what_is_left_of_a_damaged_file() {
    let mut writer = Writer::new();
    writer.part("stdout", "P", "open");
    let damaged = writer.rotate();
    writer.compress(&damaged);
    let compressed = File::options().write(true).open(writer.path(&format!("{damaged}.gz"))).unwrap();
    compressed.set_len(compressed.metadata().unwrap().len() - 1).unwrap();
    writer.line("next");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    assert_eq!(reader.messages(), ["open", "next"]);
    assert_eq!(*reader.flags()[0], serde_json::json!(["unfinished"]));
}
