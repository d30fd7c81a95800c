//! Handles lines that do not end. Runtimes may write the last line of a container without a newline. Such lines are
//! shipped and marked after a while without new data.

use std::time::{Duration, Instant};

use super::Inner;
use super::lines::{CHUNK_BYTES, LineEnd, Work};
use super::segment::Segment;
use crate::content::Chunk;
use crate::identity::Mark;

/// Whether the text of open lines was dropped, because all logs together used too much memory. The files are read again
/// from the beginning of these lines when there is more data, or none for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewound {
    No,
    Since(Instant),
    /// They are read again, to be shipped as far as they are complete.
    Closing,
}

impl Inner {
    /// Drops the text of open lines. `false` if a file is no longer open.
    pub(super) fn rewind(&mut self) -> bool {
        let holds = |segment: &Segment| self.joiner.holds(segment.number);
        if self.segments.iter().any(|segment| segment.is_ended() && holds(segment).is_some()) {
            return false;
        }
        for segment in &mut self.segments {
            if let Some(mark) = self.joiner.holds(segment.number) {
                segment.replay_until = segment.replay_until.max(segment.read.offset);
                segment.read = mark;
                segment.end_line();
            }
        }
        self.joiner.close();
        self.rewound = Rewound::Since(Instant::now());
        true
    }

    /// Allows the files of dropped lines to be read again, if it is time.
    pub(super) fn allow_second_read(&mut self, quiet: Duration) {
        let Rewound::Since(since) = self.rewound else { return };
        let ended = self.segments.last().is_some_and(|last| last.is_gone() && last.is_deleted());
        let over = ended || since.elapsed() >= quiet;
        if over || self.pick().is_some() {
            for segment in self.segments.iter_mut().filter(|segment| !segment.is_ended()) {
                segment.looked = segment.read.offset;
            }
            self.rewound = if over { Rewound::Closing } else { Rewound::No };
        }
    }

    /// Whether there is a line without an end.
    pub(super) fn has_open_line(&self) -> bool {
        let open = |segment: &Segment| segment.looked > segment.read.offset || segment.cut_from().is_some();
        let in_file = self.segments.iter().any(|segment| !segment.is_ended() && open(segment));
        self.joiner.is_any_open() || in_file || self.rewound != Rewound::No
    }
}

impl Work<'_> {
    /// Ships all lines without an end, if there was no new data for too long.
    pub(super) fn ship_unfinished(&mut self, inner: &mut Inner) {
        if inner.grew.elapsed() < self.reading.quiet {
            return;
        }
        for index in 0..inner.segments.len() {
            let segment = &mut inner.segments[index];
            // The rest of a line that was cut may also never come.
            if !segment.is_ended() && !segment.end_line() && segment.looked > segment.read.offset {
                self.read_tail(inner, index);
            }
        }
        if !inner.segments.is_empty() && inner.joiner.is_any_open() {
            self.close_open_lines(inner, inner.segments.len() - 1);
        }
    }

    /// Ships partial lines that have not grown for too long, whatever arrives on the other stream. This happens only if
    /// everything was read, because their rest may have waited in the file while the broker was down.
    pub(super) fn quiet_lines(&mut self, inner: &mut Inner) {
        let Some(then) = Instant::now().checked_sub(self.reading.quiet) else { return };
        for line in inner.joiner.finish_quiet(then) {
            let began = inner.segments.iter().find(|segment| segment.number == line.start.file);
            if let Some(segment) = began.or(inner.segments.last()) {
                self.unfinished(segment, &line);
            }
        }
    }

    /// Ships what follows the last newline of a file.
    pub(super) fn read_tail(&mut self, inner: &mut Inner, index: usize) {
        let mut buffer = Vec::new();
        loop {
            let segment = &mut inner.segments[index];
            let want = (segment.looked - segment.read.offset).min(self.reading.max_line as u64 + CHUNK_BYTES as u64);
            let Ok(Chunk::Data { before, .. }) = segment.fill(want as usize, &mut buffer, &self.reading.decoders)
            else {
                return;
            };
            let passed = segment.pass_nuls(&buffer, before, true);
            if passed == 0 {
                return self.tail(inner, index, &buffer, before);
            }
            if segment.looked <= segment.read.offset {
                return self.log_nuls(segment);
            }
        }
    }

    pub(super) fn tail(&mut self, inner: &mut Inner, index: usize, buffer: &[u8], before: usize) {
        let data = &buffer[before..];
        let begin = memchr::memrchr(b'\n', data).map_or(0, |newline| newline + 1);
        let segment = &mut inner.segments[index];
        if begin == data.len() || segment.cut_from().is_some() {
            return;
        }
        let rest = &data[begin..];
        let (read, end) = (segment.read, segment.read.offset + rest.len() as u64);
        let line = &rest[..rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
        segment.skip_nuls((rest.len() - line.len()) as u64);
        if !line.is_empty() {
            if segment.file_id.is_none() {
                // The file has not a single complete line.
                segment.file_id = Some(self.log.container().file_id(line));
            }
            let places = (read.offset, read.offset + line.len() as u64);
            self.line(inner, index, line, || read, places, LineEnd::Missing);
        }
        let segment = &mut inner.segments[index];
        segment.advance(Mark::at(end, buffer), end);
        self.log_nuls(segment);
    }

    /// Logs and counts the NULs that were skipped.
    pub(super) fn log_nuls(&self, segment: &mut Segment) {
        let bytes = segment.take_nuls();
        if bytes > 0 {
            self.reading.metrics.nul_bytes.inc_by(bytes);
            let to = segment.read.offset;
            tracing::warn!(
                file = %self.log.path_of(segment).display(), bytes, to,
                "skipped NUL bytes in a log file that no container wrote: a hole in the file, or the result of a machine crash"
            );
        }
    }
}
