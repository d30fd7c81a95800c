//! One file of a container's log. Its content may exist twice: plain and compressed, or as a copy.

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

pub(super) use self::copies::Copy;

/// Size, and modification time in seconds and nanoseconds.
type Stat = (u64, i64, i64);

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A line.
    Line,
    /// The rest of a line that began here and was cut.
    RestOf(Mark),
    /// Nothing more.
    Ended,
}

/// Whether a segment's content was found elsewhere before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is no content yet.
    Unknown,
    /// It is being copied from another segment's file. Nothing of it is read.
    Copied,
    /// It is this segment's own.
    Own,
}

/// Whether a folder lists a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Listed,
    /// It has not been listed since then. It is kept for a while, in case it reappears under another name.
    Gone(Instant),
}

/// The content of one file, and how far it was read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: FileNumber,
    pub(super) age: Age,
    /// Copies that are listed or still open, the one to read first.
    pub(super) copies: Vec<Copy>,
    pub(super) frame: Frame,
    pub(super) head: Head,
    pub(super) file_id: Option<u128>,
    /// The beginning of the next line.
    pub(super) read: Mark,
    /// Bytes before this were examined. Those between `read` and this are a line whose end has not been found yet.
    pub(super) looked: u64,
    /// The last known size, uncompressed.
    pub(super) size: u64,
    /// Size and modification time at the last check, which may belong to other content, and at the last read.
    asked: Stat,
    seen: Stat,
    phase: Phase,
    /// Whether content before this one was truncated or deleted unread. An open line of an older file does not continue
    /// here.
    pub(super) after_loss: bool,
    /// Whether the checkpoint had its content.
    pub(super) was_recorded: bool,
    /// Lines that end up to here were shipped already, and are read again because of an open line.
    pub(super) replay_until: u64,
    /// How many NULs were skipped in total, and how many of them were not logged yet.
    nuls: (u64, u64),
    /// Boxed, because few files are compressed.
    gzip: Option<Box<GzipReader>>,
    /// The position that was last passed to the ledger.
    pub(super) recorded: Mark,
    pub(super) recorded_growth: (u64, Head),
    listing: Listing,
    pub(super) origin: Origin,
    /// Why it cannot be read at present.
    failure: Option<Box<str>>,
    /// The size that it had at the beginning of a run that should end on its own.
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
            after_loss: false,
            was_recorded: false,
            replay_until: 0,
            nuls: (0, 0),
            gzip: None,
            recorded: Mark::default(),
            recorded_growth: Default::default(),
            listing: Listing::Listed,
            origin: Origin::Own,
            failure: None,
            bound: 0,
        }
    }

    /// Limits reading to the current content.
    pub(super) fn bound(&mut self) {
        self.bound = self.plain_file().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
    }

    /// Whether everything up to [`Segment::bound`] was read.
    pub(super) fn has_read_its_share(&self) -> bool {
        self.is_ended() || self.origin == Origin::Copied || !self.is_compressed() && self.looked >= self.bound
    }

    /// Marks its content as its own, unless there is none yet. It was not found elsewhere.
    pub(super) fn mark_own_content(&mut self) {
        let is_empty = self.plain_file().and_then(|file| file.metadata().ok()).is_some_and(|file| file.len() == 0);
        self.origin = if is_empty { Origin::Unknown } else { Origin::Own };
    }

    /// Marks its content so far as that of another segment.
    pub(super) fn mark_copied(&mut self) {
        self.origin = Origin::Copied;
        self.seen = self.asked;
    }

    /// It cannot be read. Returns whether that is new.
    pub(super) fn fail(&mut self, error: &io::Error) -> bool {
        self.failure.replace(error.to_string().into()).is_none()
    }

    /// Why the rest cannot be read at present.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref().filter(|_| !self.is_ended())
    }

    /// Whether nothing more will be read from it.
    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The beginning of a line that was cut and whose end was not found yet.
    pub(super) fn cut_from(&self) -> Option<Mark> {
        match self.phase {
            Phase::RestOf(mark) => Some(mark),
            _ => None,
        }
    }

    /// Cuts the line that begins here: its rest is skipped.
    pub(super) fn cut(&mut self, from: Mark) {
        if !self.is_ended() {
            self.phase = Phase::RestOf(from);
        }
    }

    /// Handles the end of a line. Returns whether the line was cut.
    pub(super) fn end_line(&mut self) -> bool {
        let cut = self.cut_from().is_some();
        if cut {
            self.phase = Phase::Line;
        }
        cut
    }

    /// Whether its content was truncated and has no copy: it has lost its place among the others.
    pub(super) fn is_truncated(&self) -> bool {
        self.age == Age::OLDEST
    }

    /// Whether it is no longer listed in a folder.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.listing, Listing::Gone(_))
    }

    /// Whether it has not been listed for this long.
    pub(super) fn is_gone_for(&self, grace: Duration, now: Instant) -> bool {
        matches!(self.listing, Listing::Gone(since) if now.saturating_duration_since(since) >= grace)
    }

    /// It is listed again.
    pub(super) fn come_back(&mut self) {
        self.listing = Listing::Listed;
    }

    /// Makes it look as if it had been gone for longer.
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
        self.recorded = mark;
        self.looked = mark.offset;
        self.size = self.size.max(mark.offset);
    }

    /// Whether there are unread bytes. A file that shrank has only unread bytes.
    pub(super) fn has_unread(&mut self) -> bool {
        if self.is_ended() {
            return false;
        }
        match self.copies.first() {
            Some(Copy { gzip: true, file: Some(_), .. }) => true,
            Some(Copy { gzip: false, file: Some(file), .. }) => match file.metadata() {
                Ok(metadata) => {
                    self.asked = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
                    // The modification time reveals a file that was truncated and has grown to the same size.
                    self.origin == Origin::Own && (metadata.len() != self.looked || self.asked != self.seen)
                }
                // The read that follows reports the error.
                Err(_) => true,
            },
            _ => false,
        }
    }

    /// Records the size, to know how much may be lost. `false` if the file was truncated, and has other content now.
    pub(super) fn note_size(&mut self) -> bool {
        if !self.has_unread() || self.asked == self.seen || self.is_compressed() {
            return true;
        }
        let Some(file) = self.plain_file() else { return true };
        let mut bytes = Vec::new();
        // Before the first line there is no mark that reveals a truncation.
        let want = if self.read.offset == 0 { usize::from(self.head.length) } else { 0 };
        let same = match content::read_plain(file, self.read, want, &mut bytes) {
            Ok(Chunk::Data { .. }) => self.read.offset > 0 || self.head.begins(&bytes),
            Ok(_) => false,
            // It is unknown; the next read reports the error.
            Err(_) => return true,
        };
        if same {
            self.size = self.size.max(self.asked.0);
        }
        same
    }

    /// Whether the file had changed since it was read, at the last check.
    pub(super) fn has_grown(&self) -> bool {
        let is_read = matches!(self.copies.first(), Some(Copy { gzip: false, file: Some(_), .. }));
        is_read && !self.is_ended() && self.asked != self.seen
    }

    /// Reads the beginning of the file, as far as it is not known yet.
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
            // It was truncated; the next read handles that.
            return Ok(());
        }
        self.head = Head::of(&beginning);
        self.name_by(&beginning, container);
        Ok(())
    }

    /// Derives the file's id from its first line, if the line is complete and there is no id yet.
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

    /// Reads what follows `read` into `buffer`.
    pub(super) fn fill(&mut self, want: usize, buffer: &mut Vec<u8>, decoders: &Decoders) -> io::Result<Chunk> {
        let Some(Copy { gzip, file: Some(file), .. }) = self.copies.first() else {
            return Err(io::Error::other("the file is closed"));
        };
        if !gzip {
            let chunk = content::read_plain(file, self.read, want, buffer)?;
            self.failure = None;
            // Before the first line there is no mark that reveals a truncation. Less may have been read than is known
            // of the beginning.
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

    /// Advances to `mark`; bytes before `looked` were examined.
    pub(super) fn advance(&mut self, mark: Mark, looked: u64) {
        self.read = mark;
        self.looked = looked;
        self.seen = self.asked;
        self.size = self.size.max(looked).max(if self.is_compressed() { 0 } else { self.asked.0 });
        if let Some(reader) = &mut self.gzip {
            reader.consumed(mark.offset);
        }
    }

    /// Nothing more will be read from it.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.close();
    }

    /// Why a compressed file ends before its content does.
    pub(super) fn damage(&self) -> Option<&io::Error> {
        self.gzip.as_ref().and_then(|reader| reader.damage())
    }

    /// Skips this many NULs, which are not part of a line.
    pub(super) fn skip_nuls(&mut self, count: u64) {
        self.nuls = (self.nuls.0 + count, self.nuls.1 + count);
    }

    /// Returns the number of skipped NULs that were not logged yet, and resets it.
    pub(super) fn take_nuls(&mut self) -> u64 {
        std::mem::take(&mut self.nuls.1)
    }

    /// Whether there are only NULs before this offset.
    pub(super) fn has_only_nuls_before(&self, offset: u64) -> bool {
        self.nuls.0 == offset
    }

    /// The file's size at the last check.
    pub(super) fn asked_size(&self) -> u64 {
        if self.is_compressed() { self.size } else { self.asked.0 }
    }

    /// All readable content of a compressed file was read, so this is its size.
    pub(super) fn end_here(&mut self) {
        self.size = self.read.offset;
        self.end();
    }
}
