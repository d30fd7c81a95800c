//! One file of a container's log: the same content may be there twice, plain and compressed, or as a copy.

mod copies;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::container::Container;
use crate::content::{self, Chunk, Decoders, GzipReader};
use crate::encode::Frame;
use crate::identity::{Head, Mark};
use crate::join::FileNumber;
use crate::names::Age;

pub(super) use self::copies::{Copy, age};

/// Size, and time of change in seconds and nanoseconds.
type Stat = (u64, i64, i64);

/// What comes next of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A line.
    Line,
    /// The rest of a line that began here and was cut.
    RestOf(Mark),
    /// Nothing, ever.
    Ended,
}

/// Whether a folder lists a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Listed,
    /// Not since then; it is kept for a while, in case it comes back under another name.
    Gone(Instant),
}

/// One file's content, and how far it was read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: FileNumber,
    pub(super) age: Age,
    /// What is listed or still open, the one to read first.
    pub(super) copies: Vec<Copy>,
    pub(super) frame: Frame,
    pub(super) head: Head,
    pub(super) file_id: Option<u128>,
    /// The next line begins here.
    pub(super) read: Mark,
    /// Bytes before this were seen; those after `read` are a line without its end so far.
    pub(super) looked: u64,
    /// The size it was last seen with, uncompressed.
    pub(super) size: u64,
    /// Size and time of change when it was last asked for, not checked to belong to the same content; and when it was read.
    asked: Stat,
    seen: Stat,
    phase: Phase,
    /// Whether this content came after a truncation: no line that is open in an older file goes on in it.
    pub(super) after_truncation: bool,
    /// Lines that end here or before were handed on already; they are read again for the sake of an open line.
    pub(super) replay_until: u64,
    /// NULs that were passed over: all of them, and those that were not said yet.
    nuls: (u64, u64),
    /// Few files are compressed.
    gzip: Option<Box<GzipReader>>,
    /// What was last said to the ledger.
    pub(super) told: Mark,
    pub(super) told_growth: (u64, Head),
    listing: Listing,
    /// Why it can't be read at present.
    failure: Option<Box<str>>,
    /// The size that it had when a run began that is to end by itself.
    bound: u64,
}

impl Segment {
    pub(super) fn new(number: FileNumber, age: Age, copy: Copy, frame: Frame) -> Self {
        Self {
            number,
            age,
            copies: vec![copy],
            frame,
            head: Head::default(),
            file_id: None,
            read: Mark::default(),
            looked: 0,
            size: 0,
            asked: Stat::default(),
            seen: Stat::default(),
            phase: Phase::Line,
            after_truncation: false,
            replay_until: 0,
            nuls: (0, 0),
            gzip: None,
            told: Mark::default(),
            told_growth: Default::default(),
            listing: Listing::Listed,
            failure: None,
            bound: 0,
        }
    }

    /// What it holds now is all that must be read.
    pub(super) fn bound(&mut self) {
        self.bound = self.plain_file().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
    }

    /// Whether all was read that it had when it was [`Segment::bound`].
    pub(super) fn has_read_its_share(&self) -> bool {
        self.is_ended() || !self.is_compressed() && self.looked >= self.bound
    }

    /// It can't be read; gives whether that is new.
    pub(super) fn fail(&mut self, error: &io::Error) -> bool {
        self.failure.replace(error.to_string().into()).is_none()
    }

    /// Why what is still to be read can't be read at present.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref().filter(|_| !self.is_ended())
    }

    /// Whether nothing more will be read.
    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Where a line began that was cut and whose end is still looked for.
    pub(super) fn cut_from(&self) -> Option<Mark> {
        match self.phase {
            Phase::RestOf(mark) => Some(mark),
            _ => None,
        }
    }

    /// The line that begins here is cut: its rest is passed over.
    pub(super) fn cut(&mut self, from: Mark) {
        if !self.is_ended() {
            self.phase = Phase::RestOf(from);
        }
    }

    /// The end of a line was met: gives whether the line was cut.
    pub(super) fn end_line(&mut self) -> bool {
        let cut = self.cut_from().is_some();
        if cut {
            self.phase = Phase::Line;
        }
        cut
    }

    /// Whether no folder lists it.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.listing, Listing::Gone(_))
    }

    /// Whether no folder has listed it for so long.
    pub(super) fn is_gone_for(&self, grace: Duration, now: Instant) -> bool {
        matches!(self.listing, Listing::Gone(since) if now.saturating_duration_since(since) >= grace)
    }

    /// A folder lists it again.
    pub(super) fn come_back(&mut self) {
        self.listing = Listing::Listed;
    }

    /// As if it had been gone for longer.
    #[cfg(test)]
    pub(super) fn age_absence(&mut self, by: Duration) {
        if let Listing::Gone(since) = &mut self.listing
            && let Some(earlier) = since.checked_sub(by)
        {
            *since = earlier;
        }
    }

    /// Starts at a mark instead of the beginning.
    pub(super) fn start_at(&mut self, mark: Mark) {
        self.read = mark;
        self.told = mark;
        self.looked = mark.offset;
        self.size = self.size.max(mark.offset);
    }

    /// Whether there are bytes that were not seen yet. A file that shrank has some, too: all of them.
    pub(super) fn has_unread(&mut self) -> bool {
        if self.is_ended() {
            return false;
        }
        match self.copies.first() {
            Some(Copy { gzip: true, file: Some(_), .. }) => true,
            Some(Copy { gzip: false, file: Some(file), .. }) => match file.metadata() {
                Ok(metadata) => {
                    self.asked = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
                    // The time tells a file that was truncated and has grown to the same size.
                    metadata.len() != self.looked || self.asked != self.seen
                }
                // The read that follows says what is wrong.
                Err(_) => true,
            },
            _ => false,
        }
    }

    /// Remembers the size, for what may be lost, if the content is still the same.
    pub(super) fn note_size(&mut self) {
        if !self.has_unread() || self.asked == self.seen || self.is_compressed() {
            return;
        }
        let Some(Copy { file: Some(file), .. }) = self.copies.first() else { return };
        if matches!(content::read_plain(file, self.read, 0, &mut Vec::new()), Ok(Chunk::Data { .. })) {
            self.size = self.size.max(self.asked.0);
        }
    }

    /// Whether the file was not as it was read when it was last looked at.
    pub(super) fn has_grown(&self) -> bool {
        let is_read = matches!(self.copies.first(), Some(Copy { gzip: false, file: Some(_), .. }));
        is_read && !self.is_ended() && self.asked != self.seen
    }

    /// Learns how the file begins, as far as that is not known yet.
    pub(super) fn learn_beginning(&mut self, container: &Container) -> io::Result<()> {
        let grown = self.head.is_growing() && self.size > u64::from(self.head.length);
        if !grown && self.file_id.is_some() {
            return Ok(());
        }
        let beginning = match self.copies.first() {
            Some(Copy { gzip, file: Some(file), .. }) => content::beginning(file, *gzip)?,
            _ => return Ok(()),
        };
        self.failure = None;
        if !self.head.begins(&beginning) {
            // It was truncated, as reading will tell.
            return Ok(());
        }
        self.head = Head::of(&beginning);
        self.name_by(&beginning, container);
        Ok(())
    }

    /// Names the file by its first line, if that is there and the file has no name yet.
    pub(super) fn name_by(&mut self, beginning: &[u8], container: &Container) {
        if self.file_id.is_some() {
            return;
        }
        let only_nuls = !beginning.is_empty() && content::leading_nuls(beginning) == beginning.len();
        self.file_id = match self.plain_file().filter(|_| only_nuls) {
            Some(file) => content::first_line_after_nuls(file).map(|line| container.file_id(&line)),
            None => content::first_line(beginning).map(|line| container.file_id(line)),
        };
    }

    /// Reads what comes after `read` into `buffer`.
    pub(super) fn fill(&mut self, want: usize, buffer: &mut Vec<u8>, decoders: &Decoders) -> io::Result<Chunk> {
        let Some(Copy { gzip, file: Some(file), .. }) = self.copies.first() else {
            return Err(io::Error::other("the file is closed"));
        };
        if !gzip {
            let chunk = content::read_plain(file, self.read, want, buffer)?;
            self.failure = None;
            // Before the first line no mark tells a truncation. What was read may be less than is known of the beginning.
            let whole_head =
                buffer.len() >= usize::from(self.head.length) || matches!(chunk, Chunk::Data { end: true, .. });
            let other = self.read.offset == 0 && whole_head && !self.head.begins(buffer);
            return Ok(if other { Chunk::Truncated } else { chunk });
        }
        if self.gzip.as_ref().is_some_and(|reader| !reader.can_reach(self.read)) {
            self.gzip = None;
        }
        if self.gzip.is_none() {
            self.gzip = GzipReader::open(file, decoders)?.map(Box::new);
        }
        match &mut self.gzip {
            Some(reader) => reader.read(self.read, want, buffer),
            None => Ok(Chunk::Busy),
        }
    }

    /// Moves to `mark`; bytes before `looked` were seen.
    pub(super) fn advance(&mut self, mark: Mark, looked: u64) {
        self.read = mark;
        self.looked = looked;
        self.seen = self.asked;
        self.size = self.size.max(looked).max(if self.is_compressed() { 0 } else { self.asked.0 });
        if let Some(reader) = &mut self.gzip {
            reader.consumed(mark.offset);
        }
    }

    /// Nothing more will be read.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.close();
    }

    /// Why a compressed file ends before its content does.
    pub(super) fn damage(&self) -> Option<&io::Error> {
        self.gzip.as_ref().and_then(|reader| reader.damage())
    }

    /// So many NULs are no part of a line.
    pub(super) fn skip_nuls(&mut self, count: u64) {
        self.nuls = (self.nuls.0 + count, self.nuls.1 + count);
    }

    /// The NULs that were passed over and not said.
    pub(super) fn take_nuls(&mut self) -> u64 {
        std::mem::take(&mut self.nuls.1)
    }

    /// Whether nothing but NULs comes before this offset.
    pub(super) fn has_only_nuls_before(&self, offset: u64) -> bool {
        self.nuls.0 == offset
    }

    /// The size that the file had when it was last asked for.
    pub(super) fn asked_size(&self) -> u64 {
        if self.is_compressed() { self.size } else { self.asked.0 }
    }

    /// All of a compressed file was read, or all that can be: this is its size.
    pub(super) fn end_here(&mut self) {
        self.size = self.read.offset;
        self.end();
    }
}
