//! The log of one container: its files from the oldest to the live one, read as one stream of lines.
//!
//! The discovery passes opened files and renames ([`ContainerLog::enqueue`]), a reader takes a turn
//! ([`ContainerLog::turn`]), and a confirm advances the ledger. Files are recognized by content: see
//! [`crate::identity`].

mod adopt;
mod late_copies;
mod lines;
mod loss;
mod nuls;
mod opt_out;
mod rate;
mod rest;
mod segment;
mod share;
mod turn;
mod unfinished;

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
use crate::encode::Encoder;
use crate::identity::FileKey;
use crate::join::{FileNumber, Joiner};
use crate::ledger::{FileRecord, Ledger, Step};
use crate::metrics::Metrics;
use crate::outgoing::{Batching, Budget};
use crate::pods::{PodInfo, Pods};
use crate::source::Source;
use crate::traces::Languages;

use rate::Rate;
pub use rest::Next;
use segment::Segment;
use share::Share;
pub use turn::{ReadBuffer, Turn};
use unfinished::Rewound;

/// [`Reading::quiet`] in normal operation: the time that a runtime may take for the rest of a line.
pub const QUIET: Duration = Duration::from_secs(5);

/// [`Reading::quiet`] if the process waits for it to end.
pub const QUIET_UNTIL_IDLE: Duration = Duration::from_secs(1);

/// How long a file that is no longer listed may reappear under another name.
const GONE_GRACE: Duration = Duration::from_secs(10);

/// The settings and resources that all readers share.
#[derive(Debug)]
pub struct Reading {
    /// Encodes events.
    pub encoder: Encoder,
    /// The metadata of pods.
    pub pods: Arc<Pods>,
    /// `LOG_OPT_OUT`.
    pub opt_out: bool,
    /// Whether `LOG_LABELS` or `LOG_LABELS_EXCLUDED` needs the labels of pods.
    pub asks_labels: bool,
    /// Lines that match are dropped.
    pub exclude: Option<RegexSet>,
    /// `MAX_LINE`, in bytes.
    pub max_line: usize,
    /// With standard output: a text that only this run's events contain. A line with it is an event of this run, read
    /// again.
    pub own_mark: Option<String>,
    /// `JSON_LINES`.
    pub json_lines: bool,
    /// `LINES_PER_SECOND`.
    pub lines_per_second: Option<u32>,
    /// `MULTILINE`.
    pub traces: Languages,
    /// `PARTIAL_BYTES_MAX`: the memory limit for open lines of all containers.
    pub partial_bytes_max: usize,
    /// A line without an end is shipped after this time without new data.
    pub quiet: Duration,
    /// Whether the process ends when everything was read, so that it waits for such lines.
    pub until_idle: bool,
    /// `BATCH`.
    pub batching: Option<Batching>,
    /// Limits events that were read and are not confirmed.
    pub budget: Budget,
    /// Limits decompression.
    pub decoders: Decoders,
    /// The memory that open lines use now.
    pub partial_bytes: Arc<AtomicUsize>,
    /// The metrics.
    pub metrics: Metrics,
}

/// A file that the discovery opened.
#[derive(Debug)]
pub struct Opened {
    /// Its device and inode.
    pub key: FileKey,
    /// Its name within the folder.
    pub name: Arc<str>,
    /// Open for reading.
    pub file: File,
}

/// A change that the discovery saw.
#[derive(Debug)]
pub enum FileEvent {
    /// A new file, or a known one under another name.
    Opened(Opened),
    /// A file is no longer listed.
    Gone(FileKey),
}

/// The result of [`ContainerLog::maintain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Housekeeping {
    /// How many bytes on disk deleted files of this log occupy.
    pub pinned: u64,
    /// Whether a file has changed since it was read.
    pub unread: bool,
    /// Files with the log's name that are not read, because it is not certain that they belong to the log.
    pub unplaced: Vec<PathBuf>,
    /// Files that cannot be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// The log of one container. Shared by the discovery, the readers and the unconfirmed batches.
#[derive(Debug)]
pub struct ContainerLog {
    source: Arc<Source>,
    /// Its folder and the base of its files' names.
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
    /// Files whose names are not conclusive, and whose content does not match this log.
    unplaced: Vec<(FileKey, Arc<str>)>,
    /// Whether newly found files start at their end.
    at_end: bool,
    /// Whether only content from before a certain time is read.
    bounded: bool,
    next_number: FileNumber,
    /// Whether the end of the newest file was lost, so that open lines do not continue in the next one.
    end_is_lost: bool,
    /// How long the log is not read after a turn without new data.
    rest: Duration,
    /// The pod's metadata, and its version.
    pod: Option<Arc<PodInfo>>,
    pods_seen: u64,
    /// When the log was found.
    since: Instant,
    /// When new data was last read.
    grew: Instant,
    rewound: Rewound,
    /// The line rate, with `LINES_PER_SECOND`.
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
    /// A log without files. `saved` is its part of the checkpoint; `at_end` skips existing content.
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
        // Until the files are found again, the checkpoint keeps its records.
        for (number, record) in (0..).zip(&saved) {
            ledger.know(number, record.clone());
        }
        let inner = Inner {
            segments: Vec::new(),
            joiner: Joiner::new(max_line, traces),
            next_number: saved.len() as FileNumber,
            end_is_lost: false,
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

    /// Queues what the discovery saw. Never waits for a reader.
    pub fn enqueue(&self, news: Vec<FileEvent>) {
        lock(&self.inbox).extend(news);
    }

    /// Limits the log to the content that its files have now, because a run that should end on its own must not follow a
    /// log forever.
    pub fn bound(&self) {
        let mut inner = lock(&self.inner);
        inner.bounded = true;
        inner.segments.iter_mut().for_each(Segment::bound);
    }

    /// A number that is unique within the process.
    pub fn id(&self) -> u64 {
        self.source.id
    }

    /// The container of this log.
    pub fn container(&self) -> &Container {
        &self.source.container
    }

    /// The ledger of what was confirmed.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.source.ledger()
    }

    /// Maintains the files without reading lines: handles changes, detects truncation, gives up files that are gone.
    pub fn maintain(&self, reading: &Reading) -> Housekeeping {
        let mut inner = lock(&self.inner);
        let mut unread = false;
        self.drain_events(&mut inner, reading);
        self.recognize_copies(&mut inner);
        self.notice_truncations(&mut inner);
        for segment in &mut inner.segments {
            if let Err(error) = segment.learn_beginning(self.container()) {
                self.unreadable(segment, &error);
            }
            self.record_growth(segment);
            unread |= segment.has_grown();
        }
        self.give_up_gone(&mut inner, reading);
        let unplaced = inner.unplaced.iter().map(|(_, name)| self.path(name)).collect();
        let failed = inner.segments.iter().filter_map(|segment| Some((segment, segment.failure()?.to_owned())));
        let unreadable = failed.map(|(segment, why)| (self.path_of(segment), why)).collect();
        Housekeeping { pinned: inner.segments.iter().map(Segment::pinned).sum(), unread, unplaced, unreadable }
    }

    /// Gives up the oldest deleted file that is still open, to free its disk space. Returns the bytes that this frees.
    pub fn unpin_oldest(&self, reading: &Reading) -> u64 {
        let mut inner = lock(&self.inner);
        let Some(index) = inner.segments.iter().position(|segment| segment.pinned() > 0) else { return 0 };
        let segment = &mut inner.segments[index];
        let freed = segment.pinned();
        segment.close();
        // A compressed copy can be read instead of the deleted file.
        for copy in segment.copies.iter_mut().filter(|copy| copy.listed) {
            copy.file = File::open(self.path(&copy.name)).ok();
        }
        segment.sort_copies();
        if segment.copies.iter().all(|copy| copy.file.is_none()) {
            self.give_up(&mut inner, index, "PINNED_BYTES_MAX is reached", reading);
        }
        freed
    }

    /// Whether no file is left and nothing is unconfirmed.
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

    /// Drops segments that have not been listed for a while and from which nothing more can come. An open segment is
    /// left to a reader, because its last line may still be open, and readers may wait for the broker.
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
            let number = segment.number;
            if !segment.is_ended() {
                self.give_up(inner, index, "the file is gone", reading);
            }
            // The events of open lines need the file that they came from.
            if inner.joiner.holds(number).is_some() || (has_open_lines && inner.segments.len() == 1) {
                continue;
            }
            steps.push(Step::Forget(inner.segments.remove(index).number));
        }
        if !steps.is_empty() {
            self.take_steps(steps);
        }
    }

    /// Logs once that a file cannot be read. It is tried again.
    fn unreadable(&self, segment: &mut Segment, error: &std::io::Error) {
        if segment.fail(error) {
            tracing::warn!(file = %self.path_of(segment).display(), container = %self.container(), %error, "a log file can't be read");
        }
    }

    /// Applies steps that need no confirm. They still wait for earlier batches.
    fn take_steps(&self, steps: Vec<Step>) {
        let mut ledger = self.ledger();
        let number = ledger.begin(steps, 0);
        ledger.finish(number);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.key.folder.join(name)
    }

    /// The path of the file that is read.
    fn path_of(&self, segment: &Segment) -> PathBuf {
        self.path(segment.copies.first().map_or("?", |copy| &copy.name))
    }
}

#[cfg(test)]
mod tests;
