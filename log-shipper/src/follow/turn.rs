//! One turn (time slice) of a reader: turns some bytes of one log into events.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use memchr::memchr;
use sidecar::sync::lock;

use super::lines::{CHUNK_BYTES, LineEnd, Work};
use super::nuls;
use super::opt_out::OptOut;
use super::rate::Rate;
use super::rest::{Next, SHORTEST_REST};
use super::segment::{Origin, Segment};
use super::unfinished::Rewound;
use super::{ContainerLog, Inner, Reading};
use crate::content::Chunk;
use crate::encode::ReadTime;
use crate::identity::Mark;
use crate::ledger::Step;
use crate::outgoing::{Batch, Builder};
use crate::parse;
use crate::source::Receipt;

/// How much of a log one turn reads at least while the broker refuses something.
const LEAST_CHUNK_BYTES: usize = 2 * 1024;

/// Events of short lines are about this many times as long as the lines.
const EVENT_GROWTH: usize = 8;

/// The pause before a log that cannot be read or is not to be shipped is checked again.
const AGAIN: Duration = Duration::from_secs(5);

/// A stack trace that has not grown for this long is complete.
const TRACE_WAIT: Duration = Duration::from_secs(1);

/// The size at which a turn ends even if it should continue because of open lines.
const MOST_BATCH_BYTES: usize = 1024 * 1024;

/// The buffer that a reader keeps from turn to turn.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    plain: Vec<u8>,
}

/// The result of a turn.
#[derive(Debug)]
pub struct Turn {
    /// Events, if there are any.
    pub batch: Option<Batch>,
    /// When the log needs its next turn.
    pub next: Next,
}

impl ContainerLog {
    /// Reads some bytes of the log and turns them into events.
    pub fn turn(&self, buffer: &mut ReadBuffer, reading: &Reading) -> Turn {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        self.drain_events(inner, reading);
        self.recognize_copies(inner);
        self.refresh(inner, reading);
        match self.opt_out(inner, reading) {
            OptOut::No => (),
            OptOut::Unknown => return Turn { batch: None, next: Next::Later(SHORTEST_REST) },
            OptOut::Yes => {
                self.pass_over(inner, reading);
                return Turn { batch: None, next: Next::Idle(AGAIN) };
            }
        }
        let share = reading.budget.share(self.ledger().is_held());
        if self.ledger().is_full(share) {
            return Turn { batch: None, next: Next::Later(SHORTEST_REST) };
        }
        let out = Builder::new(reading.batching);
        let rate = reading.lines_per_second.map(|_| {
            let rate = inner.rate.take();
            rate.unwrap_or_else(|| Box::new(Rate::new(Instant::now())))
        });
        let mut work = Work {
            log: self,
            reading,
            plain: &mut buffer.plain,
            now: ReadTime::now(),
            rate,
            chunk: chunk_bytes(share),
            out,
        };
        inner.allow_second_read(reading.quiet);
        let next = loop {
            if inner.has_read_its_share() {
                break work.rest(inner);
            }
            let Some(index) = inner.pick() else { break work.nothing_unread(inner) };
            inner.rest = SHORTEST_REST;
            match work.read(inner, index, &mut buffer.bytes) {
                Read::Some if work.must_go_on(inner) => (),
                Read::Some => break Next::Ready,
                Read::Busy => break Next::Later(SHORTEST_REST),
                Read::Broken => break Next::Later(AGAIN),
            }
        };
        work.finish_traces(inner, TRACE_WAIT);
        if let Some(rate) = &mut work.rate
            && let Some(lines) = rate.take_unlogged(Instant::now())
        {
            tracing::warn!(container = %self.container(), lines, "dropped lines: the container writes more than LINES_PER_SECOND");
        }
        inner.rate = work.rate;
        let out = work.out;
        inner.count_open_lines(reading);
        let steps = self.steps(inner);
        let batch = if out.is_empty() {
            if !steps.is_empty() {
                self.take_steps(steps);
            }
            None
        } else {
            let number = self.ledger().begin(steps, out.len());
            let batch = out.finish(Receipt { source: self.source.clone(), number });
            reading.budget.take(batch.bytes.len());
            Some(batch)
        };
        buffer.bytes.truncate(CHUNK_BYTES);
        buffer.bytes.shrink_to(2 * CHUNK_BYTES);
        Turn { batch, next }
    }

    /// The position up to which each file is processed once this turn's events are confirmed.
    pub(super) fn steps(&self, inner: &mut Inner) -> Vec<Step> {
        let mut steps = Vec::new();
        for segment in &mut inner.segments {
            let held = inner.joiner.holds(segment.number).into_iter().chain(segment.cut_from());
            let mark = held.chain([segment.read]).min_by_key(|mark| mark.offset).unwrap_or(segment.read);
            if mark != segment.recorded {
                segment.recorded = mark;
                steps.push(Step::Done(segment.number, mark));
            }
            self.record_growth(segment);
        }
        steps
    }
}

impl Inner {
    /// Updates this log's share of the memory for open lines.
    pub(super) fn count_open_lines(&mut self, reading: &Reading) {
        self.partial_bytes.set(&reading.partial_bytes, self.joiner.bytes());
    }

    /// Whether everything up to the limit of a bounded log was read. A line that is open then is read to its end.
    fn has_read_its_share(&self) -> bool {
        self.bounded && !self.has_open_line() && self.segments.iter().all(Segment::has_read_its_share)
    }

    /// Whether a file after the open lines, up to this one, had other content before, so that the lines cannot continue
    /// here. Content that was truncated itself has lost its position among the others.
    fn open_lines_end_before(&self, index: usize) -> bool {
        if !self.joiner.is_any_open() {
            return false;
        }
        let last = self.segments[..=index].iter().rposition(|segment| self.joiner.holds(segment.number).is_some());
        last.is_some_and(|last| {
            self.segments[last + 1..=index].iter().any(|segment| segment.after_loss && !segment.is_truncated())
        })
    }

    /// The oldest segment with unread bytes. The newest is checked first: if it has unread bytes, the older ones are
    /// complete, so that nothing is read out of order.
    pub(super) fn pick(&mut self) -> Option<usize> {
        let mut oldest = None;
        for (index, segment) in self.segments.iter_mut().enumerate().rev() {
            if segment.has_unread() {
                oldest = Some(index);
            }
        }
        oldest
    }
}

/// How much of a log one turn reads if its events may use `share` bytes.
fn chunk_bytes(share: usize) -> usize {
    (share / EVENT_GROWTH).clamp(LEAST_CHUNK_BYTES, CHUNK_BYTES)
}

enum Read {
    Some,
    Busy,
    Broken,
}

impl Work<'_> {
    /// Reads a chunk of a segment and processes its lines.
    fn read(&mut self, inner: &mut Inner, index: usize, buffer: &mut Vec<u8>) -> Read {
        self.now = ReadTime::now();
        if inner.open_lines_end_before(index) {
            self.close_open_lines(inner, index);
        }
        let segment = &mut inner.segments[index];
        let most = self.reading.max_line + CHUNK_BYTES;
        let mut want = self.chunk;
        loop {
            let chunk = segment
                .learn_beginning(self.log.container())
                .and_then(|()| segment.fill(want, buffer, &self.reading.decoders));
            let (mut before, end) = match chunk {
                Ok(Chunk::Data { before, end }) => (before, end),
                Ok(Chunk::Busy) => return Read::Busy,
                Ok(Chunk::Truncated) => {
                    self.log.truncated(inner, index);
                    return Read::Some;
                }
                Err(error) => return self.broken(inner, index, &error),
            };
            if segment.read.offset + (buffer.len() - before) as u64 > segment.looked {
                inner.grew = Instant::now();
            }
            let passed = segment.pass_nuls(buffer, before, false);
            let last = end && segment.is_compressed();
            if passed > 0 && passed == buffer.len() - before && !last {
                return Read::Some;
            }
            before += passed;
            let data = &buffer[before..];
            let has_line = memchr(b'\n', data).is_some();
            let grown = want > self.chunk || want >= most;
            if !has_line
                && grown
                && segment.cut_from().is_none()
                && let Some(torn) = nuls::torn_before_hole(data)
            {
                let (read, end) = (segment.read, segment.read.offset + torn as u64);
                self.line(
                    inner,
                    index,
                    parse::cut(&data[..torn], self.reading.max_line),
                    || read,
                    (read.offset, end),
                    LineEnd::Missing,
                );
                inner.segments[index].advance(Mark::at(end, &buffer[..before + torn]), end);
                return Read::Some;
            }
            if !end && !has_line && want < most && segment.cut_from().is_none() {
                want = (4 * want).min(most);
                continue;
            }
            self.reading.metrics.bytes_read.inc_by((buffer.len() - before) as u64);
            self.lines(inner, index, buffer, before, !has_line && want >= most);
            self.log_nuls(&mut inner.segments[index]);
            if last {
                self.tail(inner, index, buffer, before);
                self.end_compressed(inner, index);
            }
            return Read::Some;
        }
    }

    /// A compressed file was read as far as possible.
    fn end_compressed(&self, inner: &mut Inner, index: usize) {
        match inner.segments[index].damage().map(ToString::to_string) {
            Some(error) => self.damaged(inner, index, &error),
            None => inner.segments[index].end_here(),
        }
    }

    /// Logs once that the end of a compressed file is lost. Its size is unknown.
    fn damaged(&self, inner: &mut Inner, index: usize, error: &str) {
        let segment = &mut inner.segments[index];
        self.reading.metrics.losses_unknown.inc();
        tracing::error!(
            file = %self.log.path_of(segment).display(), container = %self.log.container(), %error, read = segment.read.offset,
            "a compressed log file is damaged: log-shipper ships what can be decompressed and loses the rest"
        );
        segment.end_here();
        self.log.end_lines_after(inner, index);
    }

    fn broken(&mut self, inner: &mut Inner, index: usize, error: &std::io::Error) -> Read {
        let segment = &mut inner.segments[index];
        if segment.is_compressed() {
            self.damaged(inner, index, &error.to_string());
            return Read::Some;
        }
        self.log.unreadable(segment, error);
        Read::Broken
    }

    /// Everything was read. Files that will not grow end here, even within a line.
    fn nothing_unread(&mut self, inner: &mut Inner) -> Next {
        let count = inner.segments.len();
        if matches!(inner.rewound, Rewound::Since(_)) {
            return self.rest(inner);
        }
        for index in 0..count {
            let newer_has_lines = inner.segments[index + 1..].iter().any(|segment| segment.looked > 0);
            let segment = &mut inner.segments[index];
            let deleted = segment.is_gone() && segment.is_deleted();
            // A segment without an open file may find a copy, until its unread part is given up and counted.
            let will_not_grow = deleted || (newer_has_lines && segment.origin == Origin::Own);
            if segment.is_ended() || !segment.has_file() || !will_not_grow {
                continue;
            }
            if segment.looked > segment.read.offset && segment.cut_from().is_none() {
                self.read_tail(inner, index);
            }
            let segment = &mut inner.segments[index];
            // The file that was rotated last may still be written to, and keeping it open costs little.
            if deleted || index + 2 < count {
                segment.end();
            }
        }
        // A file that was closed or given up meanwhile cannot continue, either.
        if inner.segments.last().is_some_and(|last| last.is_ended() && last.is_gone()) {
            self.close_open_lines(inner, count - 1);
        }
        self.ship_unfinished(inner);
        self.quiet_lines(inner);
        if inner.joiner.bytes() > 0 && self.over_partial_budget(inner) {
            self.finish_traces(inner, Duration::ZERO);
            if inner.rewound == Rewound::Closing || !inner.rewind() {
                self.close_open_lines(inner, count - 1);
            }
        }
        if inner.rewound == Rewound::Closing {
            inner.rewound = Rewound::No;
            if count > 0 {
                self.close_open_lines(inner, count - 1);
            }
        }
        self.rest(inner)
    }

    /// Ships traces that have not grown for this long.
    fn finish_traces(&mut self, inner: &mut Inner, quiet: Duration) {
        if !inner.joiner.has_trace() {
            return;
        }
        let now = Instant::now();
        let Some(segment) = inner.segments.last() else { return };
        for trace in inner.joiner.finish_traces(now.checked_sub(quiet).unwrap_or(now)) {
            self.trace(segment, &trace);
        }
    }

    /// Ships the available part of lines whose end will never come.
    pub(super) fn close_open_lines(&mut self, inner: &mut Inner, index: usize) {
        self.finish_traces(inner, Duration::ZERO);
        for line in inner.joiner.close() {
            let began = inner.segments.iter().find(|segment| segment.number == line.start.file);
            self.unfinished(began.unwrap_or(&inner.segments[index]), &line);
        }
    }

    /// Whether this turn must not end yet: open lines of all logs use too much memory, and further reading may complete
    /// this log's.
    fn must_go_on(&self, inner: &Inner) -> bool {
        inner.joiner.bytes() > 0 && self.over_partial_budget(inner) && self.out.len() < MOST_BATCH_BYTES
    }

    fn over_partial_budget(&self, inner: &Inner) -> bool {
        let counted = self.reading.partial_bytes.load(Ordering::Relaxed);
        (counted + inner.joiner.bytes()).saturating_sub(inner.partial_bytes.bytes()) > self.reading.partial_bytes_max
    }
}
