//! Holes, damaged files, and what is lost.

use super::*;

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
fn a_hole_is_skipped_and_lines_before_and_after_it_keep_their_ids() {
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
fn all_that_can_be_decompressed_is_shipped_and_the_rest_is_logged_once() {
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
fn files_of_the_checkpoint_that_are_not_found_are_lost() {
    let mut writer = Writer::new();
    writer.line("1");
    let mut reader = Reader::start(writer.folder.path(), Vec::new());
    reader.read_all();
    reader.confirm(9);
    writer.line("never read");
    reader.log.maintain(&reader.reading);
    let mut inner = lock(&reader.log.inner);
    for segment in &mut inner.segments {
        reader.log.record(segment);
    }
    drop(inner);
    let rotated = writer.rotate();
    fs::remove_file(writer.path(&rotated)).unwrap();
    writer.line("2");
    let mut again = Reader::start(writer.folder.path(), reader.saved());
    again.read_all();
    assert_eq!(again.messages(), ["2"]);
    assert_eq!(losses(&again), (NEVER_READ, 1));
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
    // It is read nevertheless, because it is open.
    reader.look();
    reader.read_all();
    assert_eq!((reader.got.len(), reader.reading.metrics.bytes_lost.get()), (2, 0));
}
