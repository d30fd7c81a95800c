//! What becomes of the lines of a turn: whole ones are events at once, parts and traces when they end.

use std::time::Instant;

use memchr::memchr;

use super::segment::Segment;
use super::{ContainerLog, Inner, Reading};
use crate::content::first_line;
use crate::encode::{Event, ReadTime};
use crate::identity::Mark;
use crate::join::{Added, Joined, OpenLine, Place};
use crate::outgoing::{Builder, MessageId};
use crate::parse::{self, Line, Text, json_text};

/// One turn's work on one log.
pub(super) struct Work<'a> {
    pub(super) log: &'a ContainerLog,
    pub(super) reading: &'a Reading,
    pub(super) plain: &'a mut Vec<u8>,
    /// When this turn reads.
    pub(super) now: ReadTime,
    pub(super) out: Builder,
}

impl Work<'_> {
    /// Takes the whole lines of what was read; with `too_long` there is none, only the beginning of one.
    pub(super) fn lines(&mut self, inner: &mut Inner, index: usize, slab: &[u8], before: usize, too_long: bool) {
        let segment = &mut inner.segments[index];
        let base = segment.read.offset;
        if segment.file_id.is_none() && base == 0 {
            // Written since the beginning was looked at.
            segment.file_id = first_line(&slab[before..]).map(|line| self.log.container.file_id(line));
        }
        let mark = |at: usize| Mark::at(base + at as u64, &slab[..before + at]);
        let data = &slab[before..];
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &data[at..]) {
            let end = at + length + 1;
            if !inner.segments[index].end_line() {
                self.line(inner, index, &data[at..end - 1], || mark(at), base + at as u64, base + end as u64, false);
            }
            at = end;
        }
        if inner.segments[index].cut_from().is_some() {
            at = data.len();
        } else if too_long {
            inner.segments[index].cut(mark(0));
            let end = base + data.len() as u64;
            self.line(inner, index, &data[..self.reading.max_line.min(data.len())], || mark(0), base, end, true);
            at = data.len();
        }
        inner.segments[index].advance(mark(at), base + data.len() as u64);
    }

    /// Takes one line, from `start` to `end` in the file.
    #[expect(clippy::too_many_arguments, reason = "a line is these seven things, and there is one caller of each kind")]
    pub(super) fn line(
        &mut self,
        inner: &mut Inner,
        index: usize,
        line: &[u8],
        mark: impl Fn() -> Mark,
        start: u64,
        end: u64,
        cut: bool,
    ) {
        let segment = &inner.segments[index];
        let file_id = segment.file_id.unwrap_or_default();
        let id = MessageId { file: file_id, offset: start };
        let parsed = match parse::line(line) {
            Ok(parsed) => parsed,
            Err(reason) => {
                let limit = line.len().min(self.reading.max_line);
                let text = Text::Raw(&line[..limit]);
                let truncated = cut || limit < line.len();
                self.event(segment, id, Event { text, truncated, unparsed: Some(reason), ..event(None, start, end) });
                return;
            }
        };
        let replayed = end <= segment.replay_until && !inner.joiner.is_open(parsed.stream);
        if parsed.whole && (replayed || inner.joiner.stands_alone(parsed.stream)) {
            return self.whole_line(segment, id, &parsed, (start, end), cut);
        }
        let place = Place { file: segment.number, file_id, mark: mark() };
        let Added { before, joined } = inner.joiner.add(&parsed, place, end, Instant::now());
        let segment = &inner.segments[index];
        if let Some(trace) = before {
            self.trace(segment, &trace);
        }
        match joined {
            Joined::Alone => self.whole_line(segment, id, &parsed, (start, end), cut),
            Joined::Done(line) => self.joined(segment, &line, end),
            Joined::Open => (),
        }
    }

    fn whole_line(&mut self, segment: &Segment, id: MessageId, line: &Line<'_>, (start, end): (u64, u64), cut: bool) {
        let (text, shortened) = shorten(line.text, self.reading.max_line);
        let truncated = cut || shortened;
        self.event(
            segment,
            id,
            Event { text, stream: Some(line.stream), truncated, ..event(Some(line.time), start, end) },
        );
    }

    fn joined(&mut self, segment: &Segment, line: &OpenLine, end: u64) {
        let (id, event) = of_open(line, end);
        self.event(segment, id, event);
    }

    /// A line that is still open was never handed on, whatever was.
    pub(super) fn unfinished(&mut self, segment: &Segment, line: &OpenLine) {
        let (id, event) = of_open(line, line.end);
        self.add(segment, id, Event { unfinished: true, ..event });
    }

    /// Lines of a trace are never read again for the sake of another line.
    pub(super) fn trace(&mut self, segment: &Segment, trace: &OpenLine) {
        let (id, event) = of_open(trace, trace.end);
        self.add(segment, id, event);
    }

    fn event(&mut self, segment: &Segment, id: MessageId, event: Event<'_>) {
        if event.end > segment.replay_until {
            self.add(segment, id, event);
        }
    }

    fn add(&mut self, segment: &Segment, id: MessageId, event: Event<'_>) {
        let metrics = &self.reading.metrics;
        if let Some(exclude) = &self.reading.exclude {
            let text = match event.text {
                Text::Raw(bytes) => bytes,
                Text::Json(inside) => {
                    self.plain.clear();
                    json_text::unescape(inside, self.plain);
                    self.plain.as_slice()
                }
            };
            if exclude.is_match(text) {
                metrics.excluded.inc();
                return;
            }
        }
        if event.truncated {
            metrics.truncated.inc();
        }
        if event.unparsed.is_some() {
            metrics.unparsed.inc();
        }
        let now = &self.now;
        self.out.event(id, |out| segment.frame.encode(&event, now, out));
    }
}

fn of_open(line: &OpenLine, end: u64) -> (MessageId, Event<'_>) {
    let id = MessageId { file: line.named_by.file_id, offset: line.named_by.mark.offset };
    let event = event(Some(&line.time), line.start.mark.offset, end);
    (id, Event { text: line.text(), stream: Some(line.stream), truncated: line.truncated, ..event })
}

fn event(time: Option<&str>, start: u64, end: u64) -> Event<'_> {
    let text = Text::Raw(b"");
    Event { time, stream: None, text, start, end, truncated: false, unfinished: false, unparsed: None }
}

fn shorten(text: Text<'_>, limit: usize) -> (Text<'_>, bool) {
    match text {
        Text::Raw(bytes) if bytes.len() > limit => (Text::Raw(&bytes[..limit]), true),
        Text::Json(inside) if inside.len() > limit => (Text::Json(json_text::cut(inside, limit)), true),
        other => (other, false),
    }
}
