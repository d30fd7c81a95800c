//! Rotation, compression, truncation, deletion.

use super::*;

#[test]
fn lines_come_in_order_across_rotations_and_compression() {
    let mut writer = Writer::new();
    writer.line("1");
    let oldest = writer.rotate();
    writer.line("2");
    writer.rotate();
    writer.line("3");
    writer.compress(&oldest);
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    assert_eq!(reader.messages(), ["1", "2", "3"]);
}

#[test]
fn a_deleted_file_is_read_to_its_end_even_within_a_line() {
    let writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    writer.part("stderr", "P", "open");
    writer.append(&format!("{TIME} stdout F torn"));
    fs::remove_file(writer.path("0.log")).unwrap();
    reader.look();
    reader.read_all();
    assert_eq!(reader.messages(), ["1", "torn", "open"]);
    assert_eq!(*reader.flags()[2], serde_json::json!(["unfinished"]));
}

#[test]
fn a_file_that_is_rotated_and_compressed_between_two_scans_keeps_its_position() {
    let mut writer = Writer::new();
    writer.part("stdout", "P", "a");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.turn();
    writer.part("stdout", "F", "b");
    let first = writer.rotate();
    writer.line("2");
    writer.rotate();
    writer.compress(&first);
    reader.look();
    reader.read_all();
    assert_eq!(reader.messages(), ["ab", "2"]);
}

#[test]
fn housekeeping_finds_what_a_resting_log_has_unread() {
    let writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    assert!(reader.log.maintain(&reader.reading).unread);
    reader.read_all();
    assert!(!reader.log.maintain(&reader.reading).unread);
    writer.line("2");
    assert!(reader.log.maintain(&reader.reading).unread);
    reader.read_all();
    writer.truncate();
    assert!(reader.log.maintain(&reader.reading).unread);
    reader.read_all();
    assert!(!reader.log.maintain(&reader.reading).unread);
}

#[test]
fn new_content_in_a_truncated_file_is_read_and_what_was_lost_is_counted() {
    let writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    writer.line("never read");
    reader.log.maintain(&reader.reading);
    writer.truncate();
    writer.line("2 and longer than what was there before, by far and away");
    reader.read_all();
    assert_eq!(reader.messages(), ["1", "2 and longer than what was there before, by far and away"]);
    age_absence(&reader);
    assert_eq!(losses(&reader), (NEVER_READ, 1));
    reader.confirm(9);
    assert_eq!(reader.saved().len(), 1);
}

#[test]
fn what_is_written_between_two_truncations_is_lost_and_counted() {
    for (scanned, lost) in [(true, (NEVER_READ, 2)), (false, (0, 1))] {
        let writer = Writer::new();
        writer.line("1");
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        reader.read_all();
        // Meanwhile readers wait for the broker.
        writer.truncate();
        writer.line("never read");
        if scanned {
            reader.log.maintain(&reader.reading);
        }
        writer.truncate();
        writer.line("2 and longer than what was there before, by far and away");
        reader.log.maintain(&reader.reading);
        reader.read_all();
        assert_eq!(reader.messages(), ["1", "2 and longer than what was there before, by far and away"]);
        age_absence(&reader);
        assert_eq!(losses(&reader), lost, "scanned: {scanned}");
    }
}

#[test]
fn a_truncation_while_no_shipper_runs_is_a_loss_of_unknown_size() {
    let writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    reader.confirm(9);
    writer.line("never read");
    writer.truncate();
    writer.line("2");
    for lost in [(0, 1), (0, 0)] {
        reader = Reader::start(writer.folder.path(), reader.saved());
        reader.read_all();
        reader.confirm(9);
        assert_eq!(losses(&reader), lost);
    }
}

#[test]
fn a_line_does_not_continue_in_a_file_that_was_truncated_before_it_was_read() {
    for restarted in [false, true] {
        let mut writer = Writer::new();
        writer.line("1");
        writer.part("stdout", "P", "a");
        writer.rotate();
        writer.part("stdout", "F", "b");
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        reader.log.maintain(&reader.reading);
        writer.truncate();
        if restarted {
            reader = Reader::start(writer.folder.path(), reader.saved());
        }
        writer.line("2 and longer than what was there before, by far and away");
        reader.read_all();
        assert_eq!(reader.messages(), ["1", "a", "2 and longer than what was there before, by far and away"]);
        assert_eq!(reader.flags()[1], &serde_json::json!(["unfinished"]));
        // Nothing was confirmed, so the next runs read everything again, and recognize the files of this one.
        for _ in 0..2 {
            reader = Reader::start(writer.folder.path(), reader.saved());
            reader.read_all();
            assert_eq!(reader.messages(), ["1", "a", "2 and longer than what was there before, by far and away"]);
        }
    }
}

#[test]
fn unread_content_of_a_truncated_file_is_counted_although_newer_files_were_read() {
    let mut writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.log.maintain(&reader.reading);
    writer.truncate();
    writer.line("2 and longer than what was there before, by far and away");
    reader.turn();
    writer.rotate();
    writer.line("3");
    reader.look();
    reader.read_all();
    age_absence(&reader);
    assert_eq!(reader.messages()[1..], ["3"]);
    assert_eq!(reader.reading.metrics.bytes_lost.get(), format!("{TIME} stdout F 1\n").len() as u64);
}

#[test]
fn a_line_does_not_continue_in_a_deleted_file_after_a_truncation() {
    let mut writer = Writer::new();
    writer.part("stdout", "P", "a");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.turn();
    writer.part("stdout", "F", "b");
    reader.log.maintain(&reader.reading);
    writer.truncate();
    writer.line("2 and longer than what was there before, by far and away");
    reader.turn();
    let rotated = writer.rotate();
    reader.look();
    fs::remove_file(writer.path(&rotated)).unwrap();
    reader.look();
    reader.read_all();
    assert_eq!(reader.messages(), ["a", "2 and longer than what was there before, by far and away"]);
}

#[test]
fn a_line_does_not_continue_after_a_live_file_that_was_lost() {
    let mut writer = Writer::new();
    writer.part("stdout", "P", "a");
    writer.rotate();
    writer.part("stdout", "F", "b");
    let reader = Reader::start(writer.folder.path(), Vec::new());
    reader.log.maintain(&reader.reading);
    let saved = reader.saved();
    drop(reader);
    let lost = writer.rotate();
    fs::remove_file(writer.path(&lost)).unwrap();
    writer.line("2");
    let rotated = writer.rotate();
    writer.compress(&rotated);
    let mut reader = Reader::start(writer.folder.path(), saved);
    reader.read_all();
    assert_eq!(reader.messages(), ["a", "2"]);
}

#[test]
fn a_copy_made_before_a_truncation_loses_nothing() {
    let writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    writer.line("2");
    fs::copy(writer.path("0.log"), writer.path("0.log.1")).unwrap();
    writer.truncate();
    writer.line("3");
    reader.look();
    reader.read_all();
    age_absence(&reader);
    assert_eq!((reader.messages(), losses(&reader)), (vec!["1", "2", "3"], (0, 0)));
}

#[test]
fn a_copy_that_was_found_while_it_was_written_repeats_and_loses_nothing() {
    for (seen, reads) in [(0, true), (0, false), (30, true), (30, false), (90, true), (90, false)] {
        let writer = Writer::new();
        writer.line("1");
        writer.line("2");
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        reader.read_all();
        writer.line("3");
        let content = fs::read(writer.path("0.log")).unwrap();
        fs::write(writer.path("0.log.1"), &content[..seen]).unwrap();
        reader.look();
        // Otherwise readers wait for the broker.
        if reads {
            reader.read_all();
        }
        reader.log.maintain(&reader.reading);
        let mut copy = File::options().append(true).open(writer.path("0.log.1")).unwrap();
        copy.write_all(&content[seen..]).unwrap();
        writer.truncate();
        writer.line("4");
        reader.log.maintain(&reader.reading);
        reader.read_all();
        age_absence(&reader);
        assert_eq!((reader.messages(), losses(&reader)), (vec!["1", "2", "3", "4"], (0, 0)), "{seen} {reads}");
    }
}

#[test]
fn an_old_copy_of_the_live_file_hides_nothing_and_is_not_read_again() {
    let writer = Writer::new();
    writer.line("1");
    fs::copy(writer.path("0.log"), writer.path("0.log.1")).unwrap();
    writer.line("2");
    let mut saved = Vec::new();
    for expected in [vec!["1", "2"], vec!["3"], vec!["3"]] {
        let mut reader = Reader::start(writer.folder.path(), saved);
        reader.read_all();
        assert_eq!((reader.messages(), losses(&reader)), (expected, (0, 0)));
        reader.confirm(9);
        saved = reader.saved();
        writer.line("3");
    }
}

#[test]
fn the_open_line_of_a_deleted_log_waits_for_a_reader() {
    type Write = fn(&Writer);
    let part: Write = |writer| writer.part("stderr", "P", "panic: out of luck");
    let trace: Write = |writer| writer.line("Traceback (most recent call last):");
    let torn: Write = |writer| writer.append(&format!("{TIME} stdout F torn"));
    let open_lines = ["panic: out of luck", "Traceback (most recent call last):", "torn"];
    for (write, open_line) in [part, trace, torn].into_iter().zip(open_lines) {
        for rotated in [false, true] {
            let mut writer = Writer::new();
            writer.line("1");
            write(&writer);
            let mut reader = Reader::start(writer.folder.path(), Vec::new());
            reader.turn();
            if rotated {
                let rotated = writer.rotate();
                reader.look();
                reader.turn();
                fs::remove_file(writer.path(&rotated)).unwrap();
            }
            fs::remove_file(writer.path("0.log")).unwrap();
            reader.look();
            reader.log.maintain(&reader.reading);
            // Meanwhile readers wait for the broker.
            age_absence(&reader);
            assert!(!reader.log.is_over());
            reader.read_all();
            assert_eq!(reader.messages(), ["1", open_line], "rotated: {rotated}");
            reader.confirm(9);
            age_absence(&reader);
            assert!(reader.log.is_over(), "{open_line}");
            assert_eq!(reader.reading.metrics.bytes_lost.get(), 0);
        }
    }
}

#[test]
fn a_deleted_file_pins_all_of_itself_however_much_was_read() {
    let writer = Writer::new();
    writer.line(&"x".repeat(100_000));
    writer.line(&"x".repeat(100_000));
    let mut reader = Reader::with(writer.folder.path(), Vec::new(), reading(200_000, 1 << 20));
    reader.turn();
    let size = fs::metadata(writer.path("0.log")).unwrap().len();
    fs::remove_file(writer.path("0.log")).unwrap();
    reader.look();
    let pinned = reader.log.maintain(&reader.reading).pinned;
    assert_eq!(pinned, size);
    assert_eq!(reader.log.unpin_oldest(&reader.reading), size);
    assert_eq!(reader.log.maintain(&reader.reading).pinned, 0);
}

#[test]
fn a_renamed_file_belongs_to_the_log_if_its_content_did() {
    for copied in [false, true] {
        for name in ["0.log.old", "0.log~", "0.log.before-the-move"] {
            let writer = Writer::new();
            writer.line("1");
            let mut reader = Reader::start(writer.folder.path(), Vec::new());
            reader.read_all();
            reader.confirm(9);
            writer.line("2");
            // While no shipper is running.
            let saved = reader.saved();
            if copied {
                fs::copy(writer.path("0.log"), writer.path(name)).unwrap();
                writer.truncate();
            } else {
                fs::rename(writer.path("0.log"), writer.path(name)).unwrap();
            }
            writer.append(&format!("{TIME} stdout F 3\n"));
            fs::write(writer.path("0.log.unrelated"), "another thing, and longer than what is enough to know it\n")
                .unwrap();
            let mut again = Reader::start(writer.folder.path(), saved);
            again.read_all();
            assert_eq!(again.messages(), ["2", "3"], "{name}");
            let housekeeping = again.log.maintain(&again.reading);
            assert_eq!(housekeeping.unplaced, [writer.path("0.log.unrelated")]);
        }
    }
}

#[test]
fn an_open_file_that_gets_an_unlisted_name_is_read_to_its_end() {
    let writer = Writer::new();
    let elsewhere = tempfile::tempdir_in(writer.folder.path().parent().unwrap()).unwrap();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    let file = File::options().append(true).open(writer.path("0.log")).unwrap();
    fs::rename(writer.path("0.log"), elsewhere.path().join("kept")).unwrap();
    reader.look();
    reader.log.maintain(&reader.reading);
    age_absence(&reader);
    (&file).write_all(format!("{TIME} stdout F 2\n").as_bytes()).unwrap();
    reader.read_all();
    assert_eq!(reader.messages(), ["1", "2"]);
}
