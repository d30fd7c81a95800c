//! Long lines come in parts, which belong together per stream; a line stays open until its last part is there.

use crate::identity::Mark;
use crate::parse::{Line, Stream, Text, json_text};

/// Tells the files of one container from each other while the process runs.
pub type FileNumber = u32;

/// Where a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: FileNumber,
    /// What names the file in message ids.
    pub file_id: u128,
    /// The offset, and what comes before it.
    pub mark: Mark,
}

/// A line of which parts are there.
#[derive(Debug)]
pub struct OpenLine {
    text: Vec<u8>,
    json: bool,
    /// When its first part was written.
    pub time: String,
    /// The stream it belongs to.
    pub stream: Stream,
    /// Where its first part begins.
    pub start: Place,
    /// Where a restart must read each file again: its first part there, or that of a line it overlaps.
    first_in: Vec<(FileNumber, Mark)>,
    /// Which of two open lines began first.
    order: u64,
    /// Whether it was cut at `MAX_LINE`.
    pub truncated: bool,
}

impl OpenLine {
    /// What is there of it.
    pub fn text(&self) -> Text<'_> {
        match std::str::from_utf8(&self.text) {
            // Only checked insides of JSON strings were appended.
            Ok(inside) if self.json => Text::Json(inside),
            _ => Text::Raw(&self.text),
        }
    }

    fn hold_at(&mut self, marks: &[(FileNumber, Mark)]) {
        for (file, mark) in marks {
            match self.first_in.iter_mut().find(|(in_file, _)| in_file == file) {
                Some((_, held)) if held.offset <= mark.offset => (),
                Some((_, held)) => *held = *mark,
                None => self.first_in.push((*file, *mark)),
            }
        }
    }

    fn append(&mut self, text: Text<'_>, max_line: usize) {
        let room = max_line.saturating_sub(self.text.len());
        let (part, whole) = match text {
            Text::Raw(bytes) => (&bytes[..bytes.len().min(room)], bytes.len()),
            Text::Json(inside) => (json_text::cut(inside, room).as_bytes(), inside.len()),
        };
        // After a cut nothing may follow, or a later and shorter part would close up to it.
        if !self.truncated {
            self.text.extend_from_slice(part);
            self.truncated = part.len() < whole;
        }
    }
}

/// What became of a part.
#[derive(Debug)]
pub enum Joined {
    /// It is a whole line by itself.
    Alone,
    /// The line is still open.
    Open,
    /// It was the last part of this line.
    Done(OpenLine),
}

/// The open lines of one container, at most one per stream.
#[derive(Debug)]
pub struct Joiner {
    open: [Option<OpenLine>; 2],
    max_line: usize,
    began: u64,
}

impl Joiner {
    /// Cuts lines that are longer than `max_line` bytes.
    pub fn new(max_line: usize) -> Self {
        Self { open: [None, None], max_line, began: 0 }
    }

    /// Takes the next part in its order.
    pub fn add(&mut self, line: &Line<'_>, place: Place) -> Joined {
        let Self { open: [stdout, stderr], began, max_line } = self;
        let (slot, other) = match line.stream {
            Stream::Stdout => (stdout, stderr),
            Stream::Stderr => (stderr, stdout),
        };
        if slot.is_none() && line.whole {
            return Joined::Alone;
        }
        let json = matches!(line.text, Text::Json(_));
        let open = slot.get_or_insert_with(|| OpenLine {
            text: Vec::new(),
            json,
            time: line.time.to_owned(),
            stream: line.stream,
            start: place,
            first_in: Vec::new(),
            order: *began,
            truncated: false,
        });
        *began += 1;
        open.json &= json;
        open.hold_at(&[(place.file, place.mark)]);
        open.append(line.text, *max_line);
        if !line.whole {
            return Joined::Open;
        }
        let Some(done) = slot.take() else { return Joined::Alone };
        if let Some(other) = other {
            // Whoever reads the other's parts again must meet all parts of this line, too, or none.
            other.hold_at(&done.first_in);
        }
        Joined::Done(done)
    }

    /// Whether a line of this stream is open.
    pub fn is_open(&self, stream: Stream) -> bool {
        self.open[slot(stream)].is_some()
    }

    /// Where a checkpoint of `file` must stop, if an open line has a part in it.
    pub fn holds(&self, file: FileNumber) -> Option<Mark> {
        let first = |open: &OpenLine| open.first_in.iter().find(|(in_file, _)| *in_file == file).map(|(_, mark)| *mark);
        self.open.iter().flatten().filter_map(first).min_by_key(|mark| mark.offset)
    }

    /// How many bytes open lines take.
    pub fn bytes(&self) -> usize {
        self.open.iter().flatten().map(|open| open.text.capacity()).sum()
    }

    /// Gives up waiting for the rest of what is open, in the order in which it began.
    pub fn close(&mut self) -> Vec<OpenLine> {
        let mut open: Vec<_> = self.open.iter_mut().filter_map(Option::take).collect();
        open.sort_by_key(|line| line.order);
        open
    }
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(stream: Stream, text: &str, whole: bool) -> Line<'_> {
        Line { time: "t", stream, whole, text: Text::Raw(text.as_bytes()) }
    }

    fn place(file: FileNumber, offset: u64) -> Place {
        Place { file, file_id: 7, mark: Mark { offset, tail: 0 } }
    }

    fn text(joined: Joined) -> (String, bool) {
        let Joined::Done(line) = joined else { panic!("the line is not done: {joined:?}") };
        let Text::Raw(text) = line.text() else { panic!("raw parts make a raw line") };
        (String::from_utf8(text.to_owned()).unwrap(), line.truncated)
    }

    #[test]
    fn streams_do_not_mix_and_files_do() {
        let mut joiner = Joiner::new(100);
        assert!(matches!(joiner.add(&part(Stream::Stdout, "a", false), place(1, 10)), Joined::Open));
        assert!(matches!(joiner.add(&part(Stream::Stderr, "x", true), place(1, 20)), Joined::Alone));
        assert!(matches!(joiner.add(&part(Stream::Stderr, "y", false), place(1, 30)), Joined::Open));
        assert_eq!(joiner.holds(1).unwrap().offset, 10);
        assert_eq!(joiner.holds(2), None);
        assert_eq!(text(joiner.add(&part(Stream::Stdout, "b", true), place(2, 0))), ("ab".into(), false));
        // Read again from 30 on, the line of the other stream would be without its beginning.
        assert_eq!(joiner.holds(1).unwrap().offset, 10);
        assert_eq!(text(joiner.add(&part(Stream::Stderr, "z", true), place(2, 40))), ("yz".into(), false));
        assert_eq!((joiner.holds(1), joiner.bytes()), (None, 0));
    }

    #[test]
    fn a_long_line_is_cut_once_and_marked() {
        let mut joiner = Joiner::new(5);
        joiner.add(&part(Stream::Stdout, "abc", false), place(1, 0));
        joiner.add(&part(Stream::Stdout, "def", false), place(1, 3));
        assert_eq!(text(joiner.add(&part(Stream::Stdout, "g", true), place(1, 6))), ("abcde".into(), true));
    }

    #[test]
    fn what_never_ends_is_given_up_in_order() {
        let mut joiner = Joiner::new(100);
        joiner.add(&part(Stream::Stderr, "first", false), place(1, 0));
        joiner.add(&part(Stream::Stdout, "second", false), place(1, 5));
        let starts: Vec<_> = joiner.close().iter().map(|line| line.start.mark.offset).collect();
        assert_eq!(starts, [0, 5]);
        assert_eq!(joiner.holds(1), None);
    }
}
