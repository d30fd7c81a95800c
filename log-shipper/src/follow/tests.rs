//! A container's log as kubelet keeps it, in a real folder, read with restarts at any time.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::names::LogName;
use crate::plan::{self, Change};

const TIME: &str = "2026-11-22T10:00:00.5Z";

/// The writer's side: a folder, kubelet's rotation.
struct Writer {
    folder: TempDir,
    rotations: u32,
}

impl Writer {
    fn new() -> Self {
        let writer = Self { folder: tempfile::tempdir().unwrap(), rotations: 0 };
        writer.append("");
        writer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path("0.log")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn line(&self, text: &str) {
        self.append(&format!("{TIME} stdout F {text}\n"));
    }

    fn part(&self, stream: &str, tag: &str, text: &str) {
        self.append(&format!("{TIME} {stream} {tag} {text}\n"));
    }

    fn rotate(&mut self) -> String {
        self.rotations += 1;
        let name = format!("0.log.20261122-{:06}", self.rotations);
        fs::rename(self.path("0.log"), self.path(&name)).unwrap();
        self.append("");
        name
    }

    fn compress(&self, name: &str) {
        let content = fs::read(self.path(name)).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).unwrap();
        fs::write(self.path(&format!("{name}.tmp")), encoder.finish().unwrap()).unwrap();
        fs::rename(self.path(&format!("{name}.tmp")), self.path(&format!("{name}.gz"))).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn truncate(&self) {
        File::options().write(true).open(self.path("0.log")).unwrap().set_len(0).unwrap();
    }
}

/// The reader's side: one run of the shipper for one log.
struct Reader {
    log: Arc<ContainerLog>,
    reading: Reading,
    known: BTreeMap<FileKey, String>,
    slab: Slab,
    got: Vec<(String, Value)>,
    unconfirmed: Vec<u64>,
}

fn reading(max_line: usize, partial_bytes_max: usize) -> Reading {
    let name = || "s".to_owned();
    Reading {
        schema: Schema::Ecs,
        shipper: Shipper { name: name(), hostname: name(), node: None, id: name(), ephemeral_id: name() },
        pods: Arc::default(),
        opt_out: false,
        asks_labels: false,
        own_mark: None,
        json_lines: false,
        lines_per_second: None,
        exclude: Some(RegexSet::new(["^GET / "]).unwrap()),
        max_line,
        traces: Languages { python: true, ..Languages::default() },
        partial_bytes_max,
        quiet: Duration::from_secs(3600),
        until_idle: false,
        batching: None,
        budget: Budget::new(1 << 30),
        decoders: Decoders::default(),
        partial_bytes: Arc::default(),
        metrics: Metrics::default(),
    }
}

impl Reader {
    fn start(folder: &Path, saved: Vec<FileRecord>) -> Self {
        Self::with(folder, saved, reading(2000, 1 << 20))
    }

    fn with(folder: &Path, saved: Vec<FileRecord>, reading: Reading) -> Self {
        let container = Container::of_pod_folder(Path::new("/p/n_pod_uid/c"), "0").unwrap();
        let key = LogKey { folder: folder.into(), base: "0".into() };
        let log = Arc::new(ContainerLog::new(1, key, container, saved, false, reading.max_line, reading.traces));
        let (known, slab) = (BTreeMap::new(), Slab::default());
        let mut reader = Self { log, reading, known, slab, got: Vec::new(), unconfirmed: Vec::new() };
        reader.look();
        reader
    }

    fn look(&mut self) {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.log.key.folder).unwrap() {
            let metadata = entry.as_ref().unwrap().metadata().unwrap();
            let name = entry.unwrap().file_name().into_string().unwrap();
            if LogName::parse(&name).is_none() {
                continue;
            }
            listed.push((FileKey { device: metadata.dev(), inode: metadata.ino() }, name));
        }
        let mut news = Vec::new();
        let known: Vec<_> = self.known.clone().into_iter().collect();
        for change in plan::changes(&known, &listed) {
            match change {
                Change::Gone(key) => {
                    self.known.remove(&key);
                    news.push(News::Gone(key));
                }
                Change::Open(key, name) | Change::Rename(key, name) => {
                    let file = File::open(self.log.key.folder.join(&name)).unwrap();
                    self.known.insert(key, name.clone());
                    news.push(News::Opened(Opened { key, name, file }));
                }
            }
        }
        self.log.hand(news);
    }

    fn turn(&mut self) -> Next {
        let turn = self.log.turn(&mut self.slab, &self.reading);
        if let Some(batch) = turn.batch {
            for (index, message) in batch.messages.iter().enumerate() {
                self.got.push((message.id.text(), serde_json::from_slice(batch.body(index)).unwrap()));
            }
            self.unconfirmed.push(batch.number);
        }
        turn.next
    }

    fn read_all(&mut self) {
        while !matches!(self.turn(), Next::Idle(_)) {}
    }

    fn confirm(&mut self, count: usize) {
        for number in self.unconfirmed.drain(..count.min(self.unconfirmed.len())) {
            self.log.ledger().finish(number);
        }
    }

    /// What a checkpoint would hold now.
    fn saved(&self) -> Vec<FileRecord> {
        self.log.ledger().records().cloned().collect()
    }

    fn messages(&self) -> Vec<&str> {
        self.got.iter().map(|(_, event)| event["message"].as_str().unwrap()).collect()
    }

    fn flags(&self) -> Vec<&Value> {
        self.got.iter().map(|(_, event)| &event["log"]["flags"]).collect()
    }
}

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
    // Where the open line has no part, the checkpoint goes on.
    assert_eq!(again.messages(), ["ab"]);
    assert_eq!(reader.got[2].0, again.got[0].0);
}

#[test]
fn a_file_that_is_rotated_and_compressed_between_two_looks_keeps_its_place() {
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
fn upkeep_tells_what_a_resting_log_has_unread() {
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
    assert_eq!(reader.reading.metrics.bytes_lost.get(), format!("{TIME} stdout F never read\n").len() as u64);
    reader.confirm(9);
    assert_eq!(reader.saved().len(), 1);
}

#[test]
fn a_line_does_not_go_on_in_a_file_that_was_truncated_before_it_was_read() {
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
    }
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
    assert_eq!(reader.messages(), ["1", "2", "3"]);
}

/// Ages what no folder lists, as the discovery's looks would.
fn age_absence(reader: &Reader) {
    for segment in &mut lock(&reader.log.inner).segments {
        segment.age_absence(GONE_GRACE);
    }
    reader.log.maintain(&reader.reading);
}

#[test]
fn the_open_line_of_a_deleted_log_waits_for_a_reader() {
    type Write = fn(&Writer);
    let part: Write = |writer| writer.part("stderr", "P", "panic: out of luck");
    let trace: Write = |writer| writer.line("Traceback (most recent call last):");
    let torn: Write = |writer| writer.append(&format!("{TIME} stdout F torn"));
    let said = ["panic: out of luck", "Traceback (most recent call last):", "torn"];
    for (write, said) in [part, trace, torn].into_iter().zip(said) {
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
            // Readers wait for the broker meanwhile.
            age_absence(&reader);
            assert!(!reader.log.is_over());
            reader.read_all();
            assert_eq!(reader.messages(), ["1", said], "rotated: {rotated}");
            reader.confirm(9);
            age_absence(&reader);
            assert!(reader.log.is_over(), "{said}");
            assert_eq!(reader.reading.metrics.bytes_lost.get(), 0);
        }
    }
}

#[test]
fn what_open_lines_take_is_given_back_however_they_end() {
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
fn our_own_output_is_left_out_even_where_nothing_tells_that_the_container_is_ours() {
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
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), Reading { schema, ..reading(2000, 1 << 20) });
        reader.turn();
        // Silence ends the trace, a rotation the torn line, a deletion the parts.
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

fn wait_for_trace(reader: &mut Reader) {
    while lock(&reader.log.inner).joiner.has_trace() {
        reader.turn();
        std::thread::yield_now();
    }
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

/// A shipper that takes every line for over whose end is not there at once.
fn impatient(partial_bytes_max: usize) -> Reading {
    Reading { quiet: Duration::ZERO, ..reading(100_000, partial_bytes_max) }
}

#[test]
fn last_words_are_shipped_when_nothing_comes_and_what_comes_after_all_is_an_event_of_its_own() {
    type Write = fn(&Writer);
    let part: Write = |writer| writer.part("stderr", "P", "words");
    let torn: Write = |writer| writer.append(&format!("{TIME} stdout F words"));
    let both: Write = |writer| writer.append(&format!("{TIME} stdout P words"));
    for (name, write) in [("part", part), ("torn", torn), ("torn part", both)] {
        // Also when the text of open lines may not be kept.
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
            let ids: std::collections::BTreeSet<_> = reader.got.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), 3);
            // Another run that finds the whole line gives it another id than its half had.
            let mut whole = Reader::with(writer.folder.path(), Vec::new(), reading(100_000, 1 << 20));
            whole.read_all();
            whole.reading.quiet = Duration::ZERO;
            whole.read_all();
            assert!(!ids.contains(&whole.got[1].0), "{name}");
        }
    }
}

#[test]
fn a_quiet_line_is_shipped_while_the_other_stream_goes_on() {
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
    // Readers wait for the broker, for long.
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
fn open_lines_that_were_let_go_are_read_again_across_files_and_before_their_end() {
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
fn nuls_that_no_container_wrote_cost_nothing_wherever_they_are() {
    let nuls = |count: usize| "\0".repeat(count);
    let line = |text: &str| format!("{TIME} stdout F {text}\n");
    let torn = format!("{TIME} stdout F torn");
    let cases: [(&str, Vec<String>, &[&str]); 6] = [
        ("before a line", vec![line("1"), nuls(77), line("2"), line("3")], &["1", "2", "3"]),
        ("at the beginning", vec![nuls(200_000), line("1"), line("2")], &["1", "2"]),
        ("behind a torn line", vec![line("1"), torn.clone(), nuls(900), line("2")], &["1", "torn", "2"]),
        ("many behind a torn line", vec![line("1"), torn.clone(), nuls(3_000_000), line("2")], &["1", "torn", "2"]),
        ("at the end", vec![line("1"), nuls(500_000)], &["1"]),
        ("behind torn last words", vec![line("1"), torn, nuls(500)], &["1", "torn"]),
    ];
    for (name, content, expected) in cases {
        let writer = Writer::new();
        let content = content.concat();
        writer.append(&content);
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), impatient(1 << 20));
        reader.read_all();
        reader.read_all();
        assert_eq!(reader.messages(), expected, "{name}");
        let count = content.bytes().filter(|byte| *byte == 0).count() as u64;
        assert_eq!(reader.reading.metrics.nul_bytes.get(), count, "{name}");
        reader.confirm(99);
        let saved = reader.saved();
        assert_eq!(saved[0].done.offset, content.len() as u64, "{name}");
        let mut again = Reader::with(writer.folder.path(), saved, impatient(1 << 20));
        writer.line("later");
        again.read_all();
        assert_eq!(again.messages(), ["later"], "{name}");
    }
}

#[test]
fn a_hole_is_passed_over_and_lines_before_and_behind_it_keep_their_ids() {
    use std::os::unix::fs::FileExt;
    let writer = Writer::new();
    let file = File::options().write(true).open(writer.path("0.log")).unwrap();
    let text = |number: u32| format!("{TIME} stdout F {number}\n");
    file.write_all_at(text(1).as_bytes(), 300 << 20).unwrap();
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    assert_eq!(reader.messages(), ["1"]);
    assert_eq!(reader.reading.metrics.nul_bytes.get(), 300 << 20);
    assert!(reader.reading.metrics.bytes_read.get() < 1 << 20);
    file.write_all_at(text(2).as_bytes(), 600 << 20).unwrap();
    reader.read_all();
    let mut again = Reader::start(writer.folder.path(), Vec::new());
    again.read_all();
    assert_eq!(again.messages(), ["1", "2"]);
    assert_eq!(again.got, reader.got);
}

#[test]
fn all_that_can_be_decompressed_is_shipped_and_the_rest_is_said_once() {
    let lines: Vec<String> = (0..3000).map(|number| format!("number {number} {}", number * 7919)).collect();
    let content: String = lines.iter().map(|text| format!("{TIME} stdout F {text}\n")).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let third = whole.len() * 2 / 3;
    let cases: [(&str, Vec<u8>, bool); 5] = [
        ("sound", whole.clone(), false),
        ("without its last byte", whole[..whole.len() - 1].to_vec(), true),
        ("without its last third", whole[..third].to_vec(), true),
        ("with a size that is wrong", [&whole[..whole.len() - 4], &[0xff, 0xff, 0xff, 0x12]].concat(), true),
        ("no gzip at all", b"no gzip at all, but a name that says so".to_vec(), true),
    ];
    for (name, bytes, damaged) in cases {
        let writer = Writer::new();
        fs::write(writer.path("0.log.20261122-000001.gz"), &bytes).unwrap();
        writer.line("live");
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        reader.read_all();
        let mut zcat = Vec::new();
        let _ = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut zcat);
        let expected = String::from_utf8(zcat).unwrap().matches('\n').count();
        let got = reader.messages();
        let (last, read) = got.split_last().unwrap();
        assert_eq!(*last, "live", "{name}");
        assert!(read.len() >= expected && read.len() <= expected + 1, "{name}: {} of {expected}", read.len());
        assert!(read[..expected].iter().zip(&lines).all(|(read, line)| *read == line.as_str()), "{name}");
        let metrics = &reader.reading.metrics;
        assert_eq!((metrics.losses_unknown.get(), metrics.bytes_lost.get()), (u64::from(damaged), 0), "{name}");
        reader.confirm(usize::MAX);
        let mut again = Reader::start(writer.folder.path(), reader.saved());
        again.read_all();
        assert!(again.got.is_empty(), "{name}");
        let metrics = &again.reading.metrics;
        assert_eq!((metrics.losses_unknown.get(), metrics.bytes_lost.get()), (0, 0), "{name}");
    }
}

#[test]
fn a_file_put_aside_is_the_logs_if_its_content_was() {
    for copied in [false, true] {
        for name in ["0.log.old", "0.log~", "0.log.before-the-move"] {
            let writer = Writer::new();
            writer.line("1");
            let mut reader = Reader::start(writer.folder.path(), Vec::new());
            reader.read_all();
            reader.confirm(9);
            writer.line("2");
            // While nothing runs here.
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
            let upkeep = again.log.maintain(&again.reading);
            assert_eq!(upkeep.unplaced, [writer.path("0.log.unrelated")]);
        }
    }
}

#[test]
fn an_open_file_that_goes_to_a_name_nobody_lists_is_read_to_its_end() {
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

#[test]
fn a_turn_takes_from_the_budget_what_its_batch_gives_back() {
    let writer = Writer::new();
    writer.line("1");
    writer.line("2");
    for batching in [None, Some(Batching { events: 500, bytes: 1 << 18 })] {
        let settings = Reading { batching, ..reading(2000, 1 << 20) };
        let mut reader = Reader::with(writer.folder.path(), Vec::new(), settings);
        let batch = reader.log.turn(&mut reader.slab, &reader.reading).batch.unwrap();
        assert_eq!(reader.reading.budget.used(), batch.bytes.len());
    }
}

#[test]
fn what_the_checkpoint_names_and_nobody_finds_is_lost() {
    let mut writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    reader.confirm(9);
    writer.line("never read");
    reader.log.maintain(&reader.reading);
    let mut inner = lock(&reader.log.inner);
    for segment in &mut inner.segments {
        reader.log.tell(segment);
    }
    drop(inner);
    let rotated = writer.rotate();
    fs::remove_file(writer.path(&rotated)).unwrap();
    writer.line("2");
    let mut again = Reader::start(writer.folder.path(), reader.saved());
    again.read_all();
    assert_eq!(again.messages(), ["2"]);
    assert_eq!(again.reading.metrics.bytes_lost.get(), format!("{TIME} stdout F never read\n").len() as u64);
    assert_eq!(again.saved().len(), 1);
}

#[test]
fn a_compressed_file_that_is_gone_before_it_was_read_is_lost_by_its_uncompressed_size() {
    let mut writer = Writer::new();
    writer.line(&"never read".repeat(100));
    let rotated = writer.rotate();
    let lost = fs::metadata(writer.path(&rotated)).unwrap().len();
    writer.compress(&rotated);
    writer.line("2");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.log.maintain(&reader.reading);
    fs::remove_file(writer.path(&format!("{rotated}.gz"))).unwrap();
    let mut again = Reader::start(writer.folder.path(), reader.saved());
    again.read_all();
    assert_eq!((again.messages(), again.reading.metrics.bytes_lost.get()), (vec!["2"], lost));
    // Held open it is read all the same.
    reader.look();
    reader.read_all();
    assert_eq!((reader.got.len(), reader.reading.metrics.bytes_lost.get()), (2, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Line(usize),
    Part(bool, bool),
    Rotate,
    Compress,
    Look,
    Turn,
    Confirm(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..200).prop_map(Step::Line),
        3 => any::<(bool, bool)>().prop_map(|(stderr, whole)| Step::Part(stderr, whole)),
        1 => Just(Step::Rotate),
        1 => Just(Step::Compress),
        2 => Just(Step::Look),
        4 => Just(Step::Turn),
        3 => (0usize..3).prop_map(Step::Confirm),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens in whatever order: every line arrives, in order within a run, and its copies bear the same id.
    #[test]
    fn every_line_arrives_at_least_once_with_one_id(steps in proptest::collection::vec(step(), 1..120)) {
        let mut writer = Writer::new();
        let mut rotated: Vec<String> = Vec::new();
        let mut expected = Vec::new();
        let mut open = [String::new(), String::new()];
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        let mut restarts = 0;
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        let end = [Step::Part(false, true), Step::Part(true, true), Step::Look];
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Line(length) => {
                    let text = format!("{} {}", expected.len(), "x".repeat(length));
                    if open[0].is_empty() {
                        writer.line(&text);
                        expected.push(text);
                    }
                }
                Step::Part(stderr, whole) => {
                    let open = &mut open[usize::from(stderr)];
                    let text = format!("{}.{};", expected.len(), open.len());
                    open.push_str(&text);
                    writer.part(if stderr { "stderr" } else { "stdout" }, if whole { "F" } else { "P" }, &text);
                    if whole {
                        expected.push(std::mem::take(open));
                    }
                }
                Step::Rotate => rotated.push(writer.rotate()),
                // kubelet compresses all but the newest.
                Step::Compress if rotated.len() > 1 => writer.compress(&rotated.remove(0)),
                Step::Compress => (),
                Step::Look => reader.look(),
                Step::Turn => drop(reader.turn()),
                Step::Confirm(count) => reader.confirm(count),
                Step::Restart => {
                    restarts += 1;
                    let saved = reader.saved();
                    collect(&mut ids, &reader, restarts == 1)?;
                    reader = Reader::start(writer.folder.path(), saved);
                }
            }
        }
        reader.read_all();
        collect(&mut ids, &reader, restarts == 0)?;
        for text in &expected {
            prop_assert!(ids.contains_key(text), "{text:?} is missing");
        }
        prop_assert_eq!(ids.len(), expected.len());
        prop_assert_eq!(reader.reading.metrics.bytes_lost.get(), 0);
        // A run that has confirmed all leaves nothing to the next.
        reader.confirm(usize::MAX);
        let mut last = Reader::start(writer.folder.path(), reader.saved());
        last.read_all();
        prop_assert_eq!(last.messages(), Vec::<&str>::new());
    }
}

fn collect(ids: &mut BTreeMap<String, String>, reader: &Reader, first_run: bool) -> Result<(), TestCaseError> {
    for (id, event) in &reader.got {
        let text = event["message"].as_str().unwrap().to_owned();
        let known = ids.insert(text.clone(), id.clone());
        prop_assert!(known.is_none() || !first_run, "{} came twice in one run", text);
        prop_assert!(known.is_none_or(|known| known == *id), "{} has two ids", text);
    }
    Ok(())
}
