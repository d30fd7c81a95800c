//! The log of one container: its files from the oldest to the live one, read as one stream of lines.
//!
//! The discovery hands over opened files and renames ([`ContainerLog::hand`]); a reader takes a turn
//! ([`ContainerLog::turn`]); a confirm moves the ledger. Files are known again by content: see [`crate::identity`].

mod adopt;
mod last_words;
mod lines;
mod nuls;
mod opt_out;
mod rate;
mod rest;
mod segment;
mod share;
mod turn;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use regex::bytes::RegexSet;
use sidecar::sync::lock;

use crate::checkpoint::LogKey;
use crate::container::Container;
use crate::content::Decoders;
use crate::encode::{Schema, Shipper};
use crate::identity::FileKey;
use crate::join::{FileNumber, Joiner};
use crate::ledger::{FileRecord, Ledger, Step};
use crate::metrics::Metrics;
use crate::outgoing::{Batching, Budget};
use crate::pods::{PodInfo, Pods};
use crate::source::Source;
use crate::traces::Languages;

use last_words::Rewound;
use rate::Rate;
pub use rest::Next;
use segment::Segment;
use share::Share;
pub use turn::{ReadBuffer, Turn};

/// [`Reading::quiet`], as long as a runtime may take for the rest of a line.
pub const QUIET: Duration = Duration::from_secs(5);

/// [`Reading::quiet`] where all waits for it.
pub const QUIET_UNTIL_IDLE: Duration = Duration::from_secs(1);

/// How long a file that is not listed any more may come back under another name.
const GONE_GRACE: Duration = Duration::from_secs(10);

/// What all readers share.
#[derive(Debug)]
pub struct Reading {
    /// What events look like.
    pub schema: Schema,
    /// Who ships.
    pub shipper: Shipper,
    /// What Kubernetes says of pods.
    pub pods: Arc<Pods>,
    /// `LOG_OPT_OUT`.
    pub opt_out: bool,
    /// Whether `LOG_LABELS` or `LOG_LABELS_EXCLUDED` asks for the labels of pods.
    pub asks_labels: bool,
    /// Lines that match are left out.
    pub exclude: Option<RegexSet>,
    /// `MAX_LINE`, in bytes.
    pub max_line: usize,
    /// Where events go to standard output: what only this run's events hold. A line with it is one of them, read again.
    pub own_mark: Option<String>,
    /// `JSON_LINES`.
    pub json_lines: bool,
    /// `LINES_PER_SECOND`.
    pub lines_per_second: Option<u32>,
    /// `MULTILINE`.
    pub traces: Languages,
    /// `PARTIAL_BYTES_MAX`: what open lines of all containers may take.
    pub partial_bytes_max: usize,
    /// A line whose end has not come for so long is shipped as it is.
    pub quiet: Duration,
    /// Whether the process ends when all was read, so that such a line is waited for.
    pub until_idle: bool,
    /// `BATCH`.
    pub batching: Option<Batching>,
    /// Bounds what was read and is not confirmed.
    pub budget: Budget,
    /// Bounds decompression.
    pub decoders: Decoders,
    /// What open lines take now.
    pub partial_bytes: Arc<AtomicUsize>,
    /// What is counted.
    pub metrics: Metrics,
}

/// A file that the discovery opened.
#[derive(Debug)]
pub struct Opened {
    /// Where it is.
    pub key: FileKey,
    /// Its name within the folder.
    pub name: String,
    /// Open for reading.
    pub file: File,
}

/// What the discovery saw.
#[derive(Debug)]
pub enum FileEvent {
    /// A new file, or a known one under another name.
    Opened(Opened),
    /// A file is not listed any more.
    Gone(FileKey),
}

/// What [`ContainerLog::maintain`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Housekeeping {
    /// How many bytes deleted files keep on disk for this log.
    pub pinned: u64,
    /// Whether a file has changed since it was read.
    pub unread: bool,
    /// Files that have the log's name and are not read: nothing tells that they are its files.
    pub unplaced: Vec<PathBuf>,
    /// Files that can't be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// The log of one container. Shared by the discovery, the readers and the batches on their way.
#[derive(Debug)]
pub struct ContainerLog {
    source: Arc<Source>,
    /// Its folder and the base of its names.
    pub key: LogKey,
    inbox: Mutex<Vec<FileEvent>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Oldest first.
    segments: Vec<Segment>,
    joiner: Joiner,
    /// Files of the checkpoint that were not found yet.
    saved: Vec<FileRecord>,
    /// Files whose names say nothing and that hold nothing of this log's.
    unplaced: Vec<(FileKey, String)>,
    /// Whether files that are found now start at their end.
    at_end: bool,
    /// Whether no more is read than was there at one time.
    bounded: bool,
    next_number: FileNumber,
    /// How long the log rests when nothing is new.
    rest: Duration,
    /// What Kubernetes says of the pod, and as of when.
    pod: Option<Arc<PodInfo>>,
    pods_seen: u64,
    /// Since when the log is known.
    since: Instant,
    /// When something new was read last.
    grew: Instant,
    rewound: Rewound,
    /// With `LINES_PER_SECOND`.
    rate: Option<Box<Rate>>,
    /// This log's share in [`Reading::partial_bytes`].
    partial_bytes: Share,
}

impl Inner {
    fn next_number(&mut self) -> FileNumber {
        self.next_number += 1;
        self.next_number - 1
    }
}

impl ContainerLog {
    /// A log without files yet; `saved` is what the checkpoint says of it, `at_end` skips what is there already.
    pub fn new(
        id: u64,
        key: LogKey,
        container: Container,
        saved: Vec<FileRecord>,
        at_end: bool,
        max_line: usize,
        traces: Languages,
    ) -> Self {
        let mut ledger = Ledger::default();
        // Until the files are found again the checkpoint goes on saying what it said.
        for (number, record) in (0..).zip(&saved) {
            ledger.know(number, record.clone());
        }
        let inner = Inner {
            segments: Vec::new(),
            joiner: Joiner::new(max_line, traces),
            next_number: saved.len() as FileNumber,
            saved,
            unplaced: Vec::new(),
            at_end,
            bounded: false,
            rest: rest::SHORTEST_REST,
            pod: None,
            pods_seen: 0,
            since: Instant::now(),
            grew: Instant::now(),
            rewound: Rewound::No,
            rate: None,
            partial_bytes: Share::default(),
        };
        let source = Arc::new(Source::new(id, container, ledger));
        Self { source, key, inbox: Mutex::default(), inner: Mutex::new(inner) }
    }

    /// Hands over what the discovery saw; never waits for a reader.
    pub fn enqueue(&self, news: Vec<FileEvent>) {
        lock(&self.inbox).extend(news);
    }

    /// What its files hold now is all that is read of it: a run that is to end by itself does not follow a log for ever.
    pub fn bound(&self) {
        let mut inner = lock(&self.inner);
        inner.bounded = true;
        inner.segments.iter_mut().for_each(Segment::bound);
    }

    /// A number for the process's lifetime.
    pub fn id(&self) -> u64 {
        self.source.id
    }

    /// Whose log it is.
    pub fn container(&self) -> &Container {
        &self.source.container
    }

    /// What was confirmed.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.source.ledger()
    }

    /// Looks after the files without reading lines: takes in news, notices truncation, gives up what is gone.
    pub fn maintain(&self, reading: &Reading) -> Housekeeping {
        let mut inner = lock(&self.inner);
        let mut unread = false;
        self.drain_events(&mut inner, reading);
        for segment in &mut inner.segments {
            segment.note_size();
            if let Err(error) = segment.learn_beginning(self.container()) {
                self.unreadable(segment, &error);
            }
            self.tell_growth(segment);
            unread |= segment.has_grown();
        }
        self.give_up_gone(&mut inner, reading);
        let unplaced = inner.unplaced.iter().map(|(_, name)| self.path(name)).collect();
        let failed = inner.segments.iter().filter_map(|segment| Some((segment.path(), segment.failure()?)));
        let unreadable = failed.map(|(path, why)| (path.to_owned(), why.to_owned())).collect();
        Housekeeping { pinned: inner.segments.iter().map(Segment::pinned).sum(), unread, unplaced, unreadable }
    }

    /// Gives up the oldest deleted file that is still open, to let its disk space go; gives the bytes that this frees.
    pub fn unpin_oldest(&self, reading: &Reading) -> u64 {
        let mut inner = lock(&self.inner);
        let Some(index) = inner.segments.iter().position(|segment| segment.pinned() > 0) else { return 0 };
        let segment = &mut inner.segments[index];
        let freed = segment.pinned();
        segment.close();
        // A compressed copy can be read in place of the deleted file.
        for copy in segment.copies.iter_mut().filter(|copy| copy.listed) {
            copy.file = File::open(&copy.path).ok();
        }
        segment.sort_copies();
        if segment.copies.iter().all(|copy| copy.file.is_none()) {
            self.lose(segment, "PINNED_BYTES_MAX is reached", reading);
        }
        freed
    }

    /// Whether no file is left and nothing is on its way.
    pub fn is_over(&self) -> bool {
        let inner = lock(&self.inner);
        let without_files = inner.segments.is_empty()
            && inner.unplaced.is_empty()
            && inner.saved.is_empty()
            && !inner.joiner.is_any_open();
        without_files && lock(&self.inbox).is_empty() && self.ledger().open_batches() == 0
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        let inner = lock(&self.inner);
        inner.segments.iter().flat_map(|segment| &segment.copies).filter(|copy| copy.file.is_some()).count()
    }

    /// Drops segments that no folder has listed for a while and of which nothing can come any more. One that is open is
    /// a reader's to end: its last line may still be open, and readers may wait for the broker.
    fn give_up_gone(&self, inner: &mut Inner, reading: &Reading) {
        let now = Instant::now();
        let has_open_lines = inner.joiner.is_any_open();
        let count = inner.segments.len();
        let mut steps = Vec::new();
        for index in (0..count).rev() {
            let segment = &mut inner.segments[index];
            let open = segment.copies.iter().any(|copy| copy.file.is_some());
            if open || !segment.is_gone_for(GONE_GRACE, now) {
                continue;
            }
            if !segment.is_ended() {
                self.lose(segment, "the file is gone", reading);
            }
            // The events of open lines need one file that they came from.
            if has_open_lines && inner.segments.len() == 1 {
                continue;
            }
            steps.push(Step::Forget(inner.segments.remove(index).number));
        }
        if !steps.is_empty() {
            self.take_steps(steps);
        }
    }

    /// Says, when it begins, that a file can't be read. It is tried again.
    fn unreadable(&self, segment: &mut Segment, error: &std::io::Error) {
        if segment.fail(error) {
            tracing::warn!(file = %segment.path().display(), container = %self.container(), %error, "a log file can't be read");
        }
    }

    /// Says that what was not read of a segment is lost.
    fn lose(&self, segment: &mut Segment, why: &str, reading: &Reading) {
        let (from, to) = (segment.read.offset, segment.size);
        segment.end();
        self.lost(segment.path(), from, to, why, reading);
    }

    fn lost(&self, path: &std::path::Path, from: u64, to: u64, why: &str, reading: &Reading) {
        if to <= from {
            return;
        }
        reading.metrics.bytes_lost.inc_by(to - from);
        tracing::error!(
            file = %path.display(), container = %self.container(), from, to, bytes = to - from,
            "lost log lines before they could be read: {why}"
        );
    }

    /// Steps that need no confirm of their own; they still wait for the batches before them.
    fn take_steps(&self, steps: Vec<Step>) {
        let mut ledger = self.ledger();
        let number = ledger.begin(steps, 0);
        ledger.finish(number);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.key.folder.join(name)
    }
}

#[cfg(test)]
mod tests;
