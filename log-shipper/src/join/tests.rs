use super::*;

fn part(stream: Stream, text: &str, whole: bool) -> Line<'_> {
    Line { time: "t", stream, whole, text: Text::Raw(text.as_bytes()), attrs: None }
}

fn position(file: FileNumber, offset: u64) -> Position {
    Position { file, file_id: 7, mark: Mark { offset, tail: 0 } }
}

fn text(joined: Joined) -> (String, bool) {
    let Joined::Done(line) = joined else { panic!("the line is not done: {joined:?}") };
    let Text::Raw(text) = line.text() else { panic!("raw parts make a raw line") };
    (String::from_utf8(text.to_owned()).unwrap(), line.truncated)
}

#[test]
fn streams_do_not_mix_and_files_do() {
    let mut joiner = Joiner::new(100, Languages::default());
    assert!(matches!(
        joiner.add_part(&part(Stream::Stdout, "a", false), position(1, 10), 0, Instant::now()),
        Joined::Open
    ));
    assert!(matches!(
        joiner.add_part(&part(Stream::Stderr, "x", true), position(1, 20), 0, Instant::now()),
        Joined::Alone
    ));
    assert!(matches!(
        joiner.add_part(&part(Stream::Stderr, "y", false), position(1, 30), 0, Instant::now()),
        Joined::Open
    ));
    assert_eq!(joiner.holds(1).unwrap().offset, 10);
    assert_eq!(joiner.holds(2), None);
    assert_eq!(
        text(joiner.add_part(&part(Stream::Stdout, "b", true), position(2, 0), 0, Instant::now())),
        ("ab".into(), false)
    );
    // If it were read again from 30 on, the line of the other stream would lack its beginning.
    assert_eq!(joiner.holds(1).unwrap().offset, 10);
    assert_eq!(
        text(joiner.add_part(&part(Stream::Stderr, "z", true), position(2, 40), 0, Instant::now())),
        ("yz".into(), false)
    );
    assert_eq!((joiner.holds(1), joiner.bytes()), (None, 0));
}

#[test]
fn a_long_line_is_cut_once_and_marked() {
    let mut joiner = Joiner::new(5, Languages::default());
    joiner.add_part(&part(Stream::Stdout, "abc", false), position(1, 0), 0, Instant::now());
    joiner.add_part(&part(Stream::Stdout, "def", false), position(1, 3), 0, Instant::now());
    assert_eq!(
        text(joiner.add_part(&part(Stream::Stdout, "g", true), position(1, 6), 0, Instant::now())),
        ("abcde".into(), true)
    );
}

#[test]
fn a_line_in_parts_is_cut_before_a_character_wherever_the_parts_end() {
    let text = "é".repeat(10);
    for split in 1..9 {
        let mut joiner = Joiner::new(9, Languages::default());
        let (first, second) = text.as_bytes().split_at(split);
        let line = |text, whole| Line { time: "t", stream: Stream::Stdout, whole, text: Text::Raw(text), attrs: None };
        joiner.add_part(&line(first, false), position(1, 0), 0, Instant::now());
        let joined = joiner.add_part(&line(second, true), position(1, 9), 0, Instant::now());
        let Joined::Done(line) = joined else { panic!("{joined:?}") };
        assert_eq!((line.text(), line.truncated), (Text::Raw("éééé".as_bytes()), true), "{split}");
    }
}

#[test]
fn what_does_not_grow_is_finished_alone() {
    let mut joiner = Joiner::new(100, Languages::default());
    let now = Instant::now();
    let later = now + std::time::Duration::from_secs(5);
    joiner.add_part(&part(Stream::Stderr, "quiet", false), position(1, 10), 20, now);
    joiner.add_part(&part(Stream::Stdout, "busy", false), position(1, 20), 30, later);
    assert_eq!(joiner.finish_quiet(now).len(), 1);
    // A reader that reads the open line again must not read half of the finished one.
    assert_eq!(joiner.holds(1).unwrap().offset, 10);
    assert!(joiner.finish_quiet(now).is_empty());
    assert_eq!(joiner.finish_quiet(later).len(), 1);
    assert_eq!(joiner.holds(1), None);
}

#[test]
fn what_never_ends_is_given_up_in_order() {
    let mut joiner = Joiner::new(100, Languages::default());
    joiner.add_part(&part(Stream::Stderr, "first", false), position(1, 0), 0, Instant::now());
    joiner.add_part(&part(Stream::Stdout, "second", false), position(1, 5), 0, Instant::now());
    let starts: Vec<_> = joiner.close().iter().map(|line| line.start.mark.offset).collect();
    assert_eq!(starts, [0, 5]);
    assert_eq!(joiner.holds(1), None);
}

#[test]
fn a_trace_is_one_line_until_another_comes_or_nothing() {
    let mut joiner = Joiner::new(100, Languages { java: true, ..Languages::default() });
    let now = Instant::now();
    let mut add =
        |text: &str, offset: u64| joiner.add(&part(Stream::Stdout, text, true), position(1, offset), offset + 9, now);
    assert!(matches!(add("hello", 0), Added { before: None, joined: Joined::Alone }));
    assert!(matches!(add("an Exception", 10), Added { before: None, joined: Joined::Open }));
    assert!(matches!(add("\tat x", 20), Added { before: None, joined: Joined::Open }));
    let Added { before: Some(trace), joined: Joined::Alone } = add("next", 30) else { panic!("the trace goes on") };
    assert_eq!(trace.text(), Text::Raw(b"an Exception\n\tat x"));
    assert_eq!((trace.start.mark.offset, trace.named_by.mark.offset, trace.end), (10, 20, 29));
    add("an Error", 40);
    assert_eq!(joiner.holds(1).unwrap().offset, 40);
    assert!(joiner.finish_traces(now - std::time::Duration::from_secs(1)).is_empty());
    assert_eq!(joiner.finish_traces(now).len(), 1);
    assert_eq!(joiner.holds(1), None);
}
