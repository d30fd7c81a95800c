//! Processes the lines of a turn: complete lines become events at once, partial lines and traces when they end.

use std::time::Instant;

use memchr::memchr;

use super::nuls;
use super::rate::Rate;
use super::segment::Segment;
use super::{ContainerLog, Inner, Reading};
use crate::content::first_line;
use crate::encode::{Event, ReadTime};
use crate::identity::Mark;
use crate::join::{Added, Joined, OpenLine, Position};
use crate::outgoing::{Builder, MessageId};
use crate::parse::object::Object;
use crate::parse::{self, Line, Text, Unparsed, json_text};

/// How much of a log one turn (one time slice of a reader) reads.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// With a newline.
    Newline,
    /// Cut at `MAX_LINE`.
    Cut,
    /// Without a newline, and nothing follows.
    Missing,
}

/// The work of one turn on one log.
pub(super) struct Work<'a> {
    pub(super) log: &'a ContainerLog,
    pub(super) reading: &'a Reading,
    pub(super) plain: &'a mut Vec<u8>,
    /// The line rate of this log, with `LINES_PER_SECOND`.
    pub(super) rate: Option<Box<Rate>>,
    /// How many bytes are read at a time.
    pub(super) chunk: usize,
    /// The time of this turn.
    pub(super) now: ReadTime,
    pub(super) out: Builder,
}

impl Work<'_> {
    /// Processes the complete lines of what was read. With `too_long` there is only the beginning of a line.
    pub(super) fn lines(&mut self, inner: &mut Inner, index: usize, buffer: &[u8], before: usize, too_long: bool) {
        let segment = &mut inner.segments[index];
        let base = segment.read.offset;
        let data = &buffer[before..];
        if segment.file_id.is_none() && segment.has_only_nuls_before(base) {
            // These bytes were written after the beginning was read.
            segment.file_id = first_line(data).map(|line| self.log.container().file_id(line));
        }
        let has_nuls = memchr(0, data).is_some();
        let mark = |at: usize| Mark::at(base + at as u64, &buffer[..before + at]);
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &data[at..]) {
            let end = at + length + 1;
            if inner.segments[index].end_line() {
                at = end;
                continue;
            }
            let mut from = at;
            if has_nuls {
                for piece in nuls::pieces(&data[at..end - 1]) {
                    let (start, end) = (at + piece.torn.start, at + piece.torn.end);
                    if start < end {
                        let places = (base + start as u64, base + end as u64);
                        self.line(inner, index, &data[start..end], || mark(start), places, LineEnd::Missing);
                    }
                    inner.segments[index].skip_nuls((piece.next - piece.torn.end) as u64);
                    from = at + piece.next;
                }
            }
            // NULs alone are not followed by a line.
            if from < end - 1 || from == at {
                let places = (base + from as u64, base + end as u64);
                self.line(inner, index, &data[from..end - 1], || mark(from), places, LineEnd::Newline);
            }
            at = end;
        }
        if inner.segments[index].cut_from().is_some() {
            at = data.len();
        } else if too_long {
            inner.segments[index].cut(mark(0));
            let places = (base, base + data.len() as u64);
            self.line(inner, index, parse::cut(data, self.reading.max_line), || mark(0), places, LineEnd::Cut);
            at = data.len();
        }
        inner.segments[index].advance(mark(at), base + data.len() as u64);
    }

    /// Processes one line, from `start` to `end` in the file.
    pub(super) fn line(
        &mut self,
        inner: &mut Inner,
        index: usize,
        line: &[u8],
        mark: impl Fn() -> Mark,
        (start, end): (u64, u64),
        ending: LineEnd,
    ) {
        let segment = &inner.segments[index];
        let file_id = segment.file_id.unwrap_or_default();
        let offset = if ending == LineEnd::Missing { unfinished_offset(end) } else { start };
        let id = MessageId { file: file_id, offset };
        let parsed = match parse::line(line) {
            Ok(parsed) => parsed,
            Err(reason) => {
                let text = parse::cut(line, self.reading.max_line);
                let event = Event {
                    text: Text::Raw(text),
                    truncated: ending == LineEnd::Cut || text.len() < line.len(),
                    unfinished: ending == LineEnd::Missing,
                    unparsed: Some(if self.log.container().docker.is_some() { Unparsed::Docker } else { reason }),
                    ..event(None, start, end)
                };
                return self.event(segment, id, event);
            }
        };
        let replayed = end <= segment.replay_until && !inner.joiner.is_open(parsed.stream);
        if parsed.whole && (replayed || inner.joiner.stands_alone(parsed.stream)) {
            return self.whole_line(segment, id, &parsed, (start, end), ending);
        }
        let position = Position { file: segment.number, file_id, mark: mark() };
        let Added { before, joined } = inner.joiner.add(&parsed, position, end, Instant::now());
        let segment = &inner.segments[index];
        if let Some(trace) = before {
            self.trace(segment, &trace);
        }
        match joined {
            Joined::Alone => self.whole_line(segment, id, &parsed, (start, end), ending),
            Joined::Done(line) => self.joined(segment, &line, end, ending),
            Joined::Open => (),
        }
    }

    fn whole_line(
        &mut self,
        segment: &Segment,
        id: MessageId,
        line: &Line<'_>,
        (start, end): (u64, u64),
        ending: LineEnd,
    ) {
        let (text, shortened) = shorten(line.text, self.reading.max_line);
        let event = Event {
            text,
            stream: Some(line.stream),
            attrs: line.attrs,
            truncated: ending == LineEnd::Cut || shortened,
            unfinished: ending == LineEnd::Missing,
            ..event(Some(line.time), start, end)
        };
        self.event(segment, id, event);
    }

    fn joined(&mut self, segment: &Segment, line: &OpenLine, end: u64, ending: LineEnd) {
        let (id, event) = of_open(line, end);
        self.event(segment, id, Event { unfinished: ending == LineEnd::Missing, ..event });
    }

    /// Ships an open line, of which nothing was shipped before. Its rest may still come as a separate event, and both
    /// may be read again as one. So its id has an offset at which no line begins.
    pub(super) fn unfinished(&mut self, segment: &Segment, line: &OpenLine) {
        let (_, event) = of_open(line, line.end);
        let id = MessageId { file: line.last_file_id, offset: unfinished_offset(line.end) };
        self.add(segment, id, Event { unfinished: true, ..event });
    }

    /// Ships a trace. The lines of a trace are never read again because of another line.
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
        if let Some(mark) = &self.reading.own_mark {
            let text = match event.text {
                Text::Raw(bytes) => bytes,
                Text::Json(inside) => inside.as_bytes(),
            };
            if memchr::memmem::find(text, mark.as_bytes()).is_some() {
                if metrics.own_lines.inc() == 0 {
                    tracing::warn!(
                        file = %self.log.path_of(segment).display(),
                        "this log contains log-shipper's own output, which is skipped: set POD_UID, or use an OUTPUT other than stdout"
                    );
                }
                return;
            }
        }
        let asks_fields = self.reading.json_lines && !event.truncated && !event.unfinished && event.unparsed.is_none();
        let mut fields = Object::Not;
        if self.reading.exclude.is_some() || asks_fields {
            let text = match event.text {
                Text::Raw(bytes) => bytes,
                Text::Json(inside) => {
                    self.plain.clear();
                    json_text::unescape(inside, self.plain);
                    self.plain.as_slice()
                }
            };
            if self.reading.exclude.as_ref().is_some_and(|exclude| exclude.is_match(text)) {
                metrics.excluded.inc();
                return;
            }
            if asks_fields {
                fields = Object::of(text);
            }
        }
        if let (Some(rate), Some(limit)) = (&mut self.rate, self.reading.lines_per_second)
            && !rate.takes(event.time, Instant::now(), limit)
        {
            metrics.limited.inc();
            return;
        }
        let attrs = event.attrs.map_or(Object::Not, Object::of);
        let event = Event {
            fields: fields.json(),
            too_large: fields == Object::TooLarge,
            number_as_text: fields.has_number_as_text(),
            attrs: attrs.json(),
            attrs_left_out: event.attrs.is_some() && attrs.json().is_none(),
            ..event
        };
        if event.truncated {
            metrics.truncated.inc();
        }
        if event.unfinished {
            metrics.unfinished.inc();
        }
        if event.unparsed.is_some() {
            metrics.unparsed.inc();
        }
        let now = &self.now;
        self.out.event(id, |out| segment.frame.encode(&event, now, out));
    }
}

/// The offset for an unfinished line: its last byte.
fn unfinished_offset(end: u64) -> u64 {
    end.saturating_sub(1)
}

fn of_open(line: &OpenLine, end: u64) -> (MessageId, Event<'_>) {
    let id = MessageId { file: line.named_by.file_id, offset: line.named_by.mark.offset };
    let event = event(Some(&line.time), line.start.mark.offset, end);
    let (text, attrs) = (line.text(), line.attrs.as_deref());
    (id, Event { text, stream: Some(line.stream), attrs, truncated: line.truncated, ..event })
}

fn event(time: Option<&str>, start: u64, end: u64) -> Event<'_> {
    let text = Text::Raw(b"");
    Event {
        time,
        stream: None,
        text,
        start,
        end,
        fields: None,
        too_large: false,
        number_as_text: false,
        attrs: None,
        attrs_left_out: false,
        truncated: false,
        unfinished: false,
        unparsed: None,
    }
}

fn shorten(text: Text<'_>, limit: usize) -> (Text<'_>, bool) {
    match text {
        Text::Raw(bytes) if bytes.len() > limit => (Text::Raw(parse::cut(bytes, limit)), true),
        Text::Json(inside) if inside.len() > limit => (Text::Json(json_text::cut(inside, limit)), true),
        other => (other, false),
    }
}
