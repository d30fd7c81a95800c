//! Joins partial lines, per stream: a line stays open until its last part arrives. If stack traces are joined, a trace
//! stays open until a line that does not belong to it, or silence.

use std::time::Instant;

use crate::identity::Mark;
use crate::parse::{Line, Stream, Text, cut, json_text};
use crate::traces::{Languages, Trace};

/// Identifies a file of one container while the process runs.
pub type FileNumber = u32;

/// The position where a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: FileNumber,
    /// The file's id in message ids.
    pub file_id: u128,
    /// The offset, and a hash of the bytes before it.
    pub mark: Mark,
}

/// A line of which some parts were read.
#[derive(Debug)]
pub struct OpenLine {
    text: Vec<u8>,
    json: bool,
    /// The time of its first part.
    pub time: String,
    /// Docker's `attrs` of its first part.
    pub attrs: Option<Box<[u8]>>,
    /// Its stream.
    pub stream: Stream,
    /// The beginning of its first part.
    pub start: Position,
    /// The position that names its event: the beginning of its first part, or of the last line of a trace, because a
    /// trace may be joined differently when it is read again.
    pub named_by: Position,
    /// The end of its last part.
    pub end: u64,
    /// The id of the file of its last part.
    pub last_file_id: u128,
    /// When its last part was read.
    grew: Instant,
    /// The trace, if it consists of complete lines and not of parts of one line.
    trace: Option<Trace>,
    /// Where a restart must read each file again: at its first part there, or at that of a line that it overlaps.
    first_in: Vec<(FileNumber, Mark)>,
    /// The order in which open lines began.
    order: u64,
    /// Whether it was cut at `MAX_LINE`.
    pub truncated: bool,
}

impl OpenLine {
    /// The available part of its text.
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

    fn append_line(&mut self, text: Text<'_>, max_line: usize) {
        self.append(if self.json { Text::Json("\\n") } else { Text::Raw(b"\n") }, max_line);
        self.append(text, max_line);
    }

    fn append(&mut self, text: Text<'_>, max_line: usize) {
        // Nothing may follow a cut, or a later and shorter part would be appended to it.
        if self.truncated {
            return;
        }
        let room = max_line.saturating_sub(self.text.len());
        match text {
            Text::Raw(bytes) => {
                // A part may end within a character; where to cut is decided on the whole text.
                self.text.extend_from_slice(&bytes[..bytes.len().min(room + 1)]);
                self.truncated = self.text.len() > max_line;
                self.text.truncate(cut(&self.text, max_line).len());
            }
            Text::Json(inside) => {
                let part = json_text::cut(inside, room);
                self.text.extend_from_slice(part.as_bytes());
                self.truncated = part.len() < inside.len();
            }
        }
    }
}

/// The result of adding a line of the file.
#[derive(Debug)]
pub struct Added {
    /// A trace that the line ended.
    pub before: Option<Box<OpenLine>>,
    /// The result for the line itself.
    pub joined: Joined,
}

/// The result of adding a part.
#[derive(Debug)]
pub enum Joined {
    /// It is a complete line.
    Alone,
    /// The line is still open.
    Open,
    /// It was the last part of this line.
    Done(Box<OpenLine>),
}

/// The open lines of one container, at most one per stream.
#[derive(Debug)]
pub struct Joiner {
    /// Boxed, because a node has many containers, and most have no open line.
    open: [Option<Box<OpenLine>>; 2],
    max_line: usize,
    traces: Languages,
    began: u64,
    /// A buffer for the unescaped text of JSON strings.
    plain: Vec<u8>,
}

impl Joiner {
    /// Cuts lines that are longer than `max_line` bytes, and joins the traces of these languages.
    pub fn new(max_line: usize, traces: Languages) -> Self {
        Self { open: [None, None], max_line, traces, began: 0, plain: Vec::new() }
    }

    /// Adds the next line of a file, which ends at `end`.
    pub fn add(&mut self, line: &Line<'_>, position: Position, end: u64, now: Instant) -> Added {
        if self.traces.is_empty() {
            return Added { before: None, joined: self.add_part(line, position, end, now) };
        }
        let trace = self.open[slot(line.stream)].as_ref().and_then(|open| open.trace);
        if line.whole && (trace.is_some() || !self.is_open(line.stream)) {
            let text = match line.text {
                Text::Raw(bytes) => bytes,
                Text::Json(inside) => {
                    self.plain.clear();
                    json_text::unescape(inside, &mut self.plain);
                    &self.plain
                }
            };
            let goes_on = trace.and_then(|trace| trace.goes_on(text));
            if let (Some(next), Some(open)) = (goes_on, &mut self.open[slot(line.stream)]) {
                open.append_line(line.text, self.max_line);
                open.hold_at(&[(position.file, position.mark)]);
                (open.named_by, open.end, open.trace) = (position, end, Some(next));
                (open.last_file_id, open.grew) = (position.file_id, now);
                return Added { before: None, joined: Joined::Open };
            }
            let begins = self.traces.begins(text);
            let before = trace.and_then(|_| self.finish(line.stream));
            let Some(begins) = begins else { return Added { before, joined: Joined::Alone } };
            // It is added as a part, because more lines may follow.
            self.add_part(&Line { whole: false, ..*line }, position, end, now);
            if let Some(open) = &mut self.open[slot(line.stream)] {
                open.trace = Some(begins);
            }
            return Added { before, joined: Joined::Open };
        }
        // A line in parts is too long to belong to a trace.
        let before = trace.and_then(|_| self.finish(line.stream));
        Added { before, joined: self.add_part(line, position, end, now) }
    }

    fn finish(&mut self, stream: Stream) -> Option<Box<OpenLine>> {
        let [stdout, stderr] = &mut self.open;
        let (this, other) = match stream {
            Stream::Stdout => (stdout, stderr),
            Stream::Stderr => (stderr, stdout),
        };
        let done = this.take()?;
        if let Some(other) = other {
            // A reader that reads the other line's parts again must read either all parts of this line, too, or none.
            other.hold_at(&done.first_in);
        }
        Some(done)
    }

    /// Whether any line is open.
    pub fn is_any_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// Whether a trace is open.
    pub fn has_trace(&self) -> bool {
        self.open.iter().flatten().any(|open| open.trace.is_some())
    }

    /// Whether this complete line may be shipped as it is.
    pub fn stands_alone(&self, stream: Stream) -> bool {
        self.traces.is_empty() && !self.is_open(stream)
    }

    /// Ends traces that have not grown since `then`.
    pub fn finish_traces(&mut self, then: Instant) -> Vec<OpenLine> {
        self.finish_where(|open| open.trace.is_some() && open.grew <= then)
    }

    /// Ends partial lines that have not grown since `then`: their end may never come.
    pub fn finish_quiet(&mut self, then: Instant) -> Vec<OpenLine> {
        self.finish_where(|open| open.trace.is_none() && open.grew <= then)
    }

    fn finish_where(&mut self, over: impl Fn(&OpenLine) -> bool) -> Vec<OpenLine> {
        let streams: Vec<_> = self.open.iter().flatten().filter(|open| over(open)).map(|open| open.stream).collect();
        streams.into_iter().filter_map(|stream| self.finish(stream)).map(|line| *line).collect()
    }

    /// Adds the next part in its order.
    fn add_part(&mut self, line: &Line<'_>, position: Position, end: u64, now: Instant) -> Joined {
        let Self { open: [stdout, stderr], began, max_line, .. } = self;
        let slot = match line.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        if slot.is_none() && line.whole {
            return Joined::Alone;
        }
        let json = matches!(line.text, Text::Json(_));
        let begin = || OpenLine {
            text: Vec::new(),
            json,
            time: line.time.to_owned(),
            attrs: line.attrs.map(Box::from),
            stream: line.stream,
            start: position,
            named_by: position,
            end,
            last_file_id: position.file_id,
            grew: now,
            trace: None,
            first_in: Vec::new(),
            order: *began,
            truncated: false,
        };
        let open = slot.get_or_insert_with(|| Box::new(begin()));
        *began += 1;
        open.json &= json;
        (open.end, open.last_file_id, open.grew) = (end, position.file_id, now);
        open.hold_at(&[(position.file, position.mark)]);
        open.append(line.text, *max_line);
        if !line.whole {
            return Joined::Open;
        }
        self.finish(line.stream).map_or(Joined::Alone, Joined::Done)
    }

    /// Whether a line of this stream is open.
    pub fn is_open(&self, stream: Stream) -> bool {
        self.open[slot(stream)].is_some()
    }

    /// Where a checkpoint of `file` must stop, if an open line has a part in it.
    pub fn holds(&self, file: FileNumber) -> Option<Mark> {
        let held = self.open.iter().flatten().flat_map(|open| &open.first_in);
        held.filter(|(in_file, _)| *in_file == file).map(|(_, mark)| *mark).min_by_key(|mark| mark.offset)
    }

    /// How many bytes open lines use.
    pub fn bytes(&self) -> usize {
        self.open.iter().flatten().map(|open| open.text.capacity()).sum()
    }

    /// Ends all open lines, in the order in which they began.
    pub fn close(&mut self) -> Vec<OpenLine> {
        let mut open: Vec<OpenLine> = self.open.iter_mut().filter_map(Option::take).map(|line| *line).collect();
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
mod tests;
