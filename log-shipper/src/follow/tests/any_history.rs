//! Whatever happens to the files of a log, each line arrives.

use super::*;

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
    /// Whether a line is written between the last scan and the truncation.
    Truncate(bool),
    Delete,
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

fn step_or_loss() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => any::<bool>().prop_map(Step::Truncate), 1 => Just(Step::Delete)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens in whatever order: every line arrives, in order within a run, and its copies have the same id.
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
                // kubelet compresses all rotated files but the newest.
                Step::Compress if rotated.len() > 1 => writer.compress(&rotated.remove(0)),
                Step::Compress => (),
                Step::Look => reader.look(),
                Step::Turn => drop(reader.turn()),
                Step::Confirm(count) => reader.confirm(count),
                Step::Truncate(_) | Step::Delete => unreachable!("not among these steps"),
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
        // After a run that confirmed everything, nothing is left for the next one.
        reader.confirm(usize::MAX);
        let mut last = Reader::start(writer.folder.path(), reader.saved());
        last.read_all();
        prop_assert_eq!(last.messages(), Vec::<&str>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Only content that was truncated or deleted may be lost, its loss is counted, and no line is joined with a part of
    /// another one.
    #[test]
    fn only_what_was_truncated_or_deleted_is_lost_and_counted(steps in proptest::collection::vec(step_or_loss(), 1..120)) {
        let mut writer = Writer::new();
        // Rotated files, their lines, and whether each ends within a line.
        let mut rotated: Vec<(String, BTreeSet<String>, bool)> = Vec::new();
        // All complete lines, those of them that are in the live file, and the parts of an incomplete one.
        let (mut written, mut live, mut open) = (BTreeSet::new(), BTreeSet::new(), String::new());
        let (mut lost, mut truncated) = (BTreeSet::new(), false);
        let (mut events, mut counted, mut unknown, mut unseen): (Vec<Value>, u64, u64, u64) = (Vec::new(), 0, 0, 0);
        let mut reader = Reader::start(writer.folder.path(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Line(length) if open.is_empty() => {
                    // The last 64 bytes before an offset must differ, as the times of real lines do.
                    let text = format!("{number} {} {number};", "x".repeat(length));
                    writer.line(&text);
                    live.insert(text.clone());
                    written.insert(text);
                }
                Step::Line(_) => (),
                Step::Part(_, whole) => {
                    let text = format!("{number},");
                    open.push_str(&text);
                    writer.part("stdout", if whole { "F" } else { "P" }, &text);
                    if whole {
                        live.insert(open.clone());
                        written.insert(std::mem::take(&mut open));
                    }
                }
                // kubelet does not rotate empty files.
                Step::Rotate if writer.is_empty() => (),
                Step::Rotate => {
                    // A truncation that was not seen before the file was renamed and compressed cannot be detected.
                    if std::mem::take(&mut truncated) {
                        reader.read_all();
                    }
                    rotated.push((writer.rotate(), std::mem::take(&mut live), !open.is_empty()));
                }
                Step::Compress if rotated.len() > 1 => writer.compress(&rotated.remove(0).0),
                Step::Compress => (),
                // What remains of a line whose beginning was deleted looks like a line.
                Step::Delete if rotated.len() > 1 && !rotated[0].2 => {
                    reader.look();
                    reader.log.maintain(&reader.reading);
                    let (name, mut lines, _) = rotated.remove(0);
                    fs::remove_file(writer.path(&name)).unwrap();
                    lost.append(&mut lines);
                }
                Step::Delete => (),
                Step::Look => reader.look(),
                Step::Turn => drop(reader.turn()),
                Step::Confirm(count) => reader.confirm(count),
                Step::Restart => {
                    let saved = reader.saved();
                    events.extend(reader.got.iter().map(|(_, event)| event.clone()));
                    let (bytes, more) = losses(&reader);
                    (counted, unknown) = (counted + bytes, unknown + more);
                    reader = Reader::start(writer.folder.path(), saved);
                }
                Step::Truncate(has_more) => {
                    // A file that was never seen with content cannot be known.
                    reader.look();
                    reader.log.maintain(&reader.reading);
                    if writer.is_empty() {
                        continue;
                    }
                    if has_more && open.is_empty() {
                        writer.line(&format!("{number} unseen"));
                        unseen += 1;
                    }
                    writer.truncate();
                    truncated = true;
                    lost.append(&mut live);
                    open.clear();
                }
            }
        }
        reader.look();
        reader.read_all();
        age_absence(&reader);
        events.extend(reader.got.iter().map(|(_, event)| event.clone()));
        let (bytes, more) = losses(&reader);
        (counted, unknown) = (counted + bytes, unknown + more);
        let mut arrived = BTreeSet::new();
        for event in &events {
            let text = event["message"].as_str().unwrap();
            let unfinished = event["log"]["flags"].to_string().contains("unfinished");
            prop_assert!(unfinished || written.contains(text), "{text:?} was never written: {events:?}");
            arrived.insert(text.to_owned());
        }
        for text in written.difference(&lost) {
            prop_assert!(arrived.contains(text), "{text:?} is missing");
        }
        // Lines in parts are left out: an open part may have arrived unfinished.
        let missing: Vec<&String> = lost.difference(&arrived).filter(|text| text.ends_with(';')).collect();
        let bytes: usize = missing.iter().map(|text| format!("{TIME} stdout F {text}\n").len()).sum();
        prop_assert!(counted >= bytes as u64, "{bytes} bytes are missing, {counted} were counted: {missing:?}");
        prop_assert!(unknown >= unseen, "{unseen} losses are unknown, {unknown} were counted");
    }
}

fn collect(ids: &mut BTreeMap<String, String>, reader: &Reader, first_run: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(losses(reader), (0, 0));
    for (id, event) in &reader.got {
        let text = event["message"].as_str().unwrap().to_owned();
        let known = ids.insert(text.clone(), id.clone());
        prop_assert!(known.is_none() || !first_run, "{} came twice in one run", text);
        prop_assert!(known.is_none_or(|known| known == *id), "{} has two ids", text);
    }
    Ok(())
}
