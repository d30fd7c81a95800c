//! A container's log as kubelet keeps it, in a real folder, read with restarts at any time.

mod any_history;
mod damage;
mod files;
mod lines;
mod open_lines;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::encode::{Schema, Shipper};
use crate::names::LogName;
use crate::plan::{self, Change};

const TIME: &str = "2026-11-22T10:00:00.5Z";

/// The size of the line "never read".
const NEVER_READ: u64 = (TIME.len() + " stdout F never read\n".len()) as u64;

/// The writer's side: a folder, kubelet's rotation.
struct Writer {
    folder: TempDir,
    rotations: u32,
}

impl Writer {
    fn new() -> Self {
        let writer = Self { folder: tempfile::tempdir().unwrap(), rotations: 0 };
        writer.append("");
        writer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path("0.log")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn line(&self, text: &str) {
        self.append(&format!("{TIME} stdout F {text}\n"));
    }

    fn part(&self, stream: &str, tag: &str, text: &str) {
        self.append(&format!("{TIME} {stream} {tag} {text}\n"));
    }

    fn rotate(&mut self) -> String {
        self.rotations += 1;
        let name = format!("0.log.20261122-{:06}", self.rotations);
        fs::rename(self.path("0.log"), self.path(&name)).unwrap();
        self.append("");
        name
    }

    fn compress(&self, name: &str) {
        let content = fs::read(self.path(name)).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).unwrap();
        fs::write(self.path(&format!("{name}.tmp")), encoder.finish().unwrap()).unwrap();
        fs::rename(self.path(&format!("{name}.tmp")), self.path(&format!("{name}.gz"))).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn is_empty(&self) -> bool {
        fs::metadata(self.path("0.log")).unwrap().len() == 0
    }

    fn truncate(&self) {
        File::options().write(true).open(self.path("0.log")).unwrap().set_len(0).unwrap();
    }
}

/// The reader's side: one run of the shipper for one log.
struct Reader {
    log: Arc<ContainerLog>,
    reading: Reading,
    known: BTreeMap<FileKey, Arc<str>>,
    buffer: ReadBuffer,
    got: Vec<(String, Value)>,
    unconfirmed: Vec<u64>,
}

fn encoder(schema: Schema) -> Encoder {
    let name = || "s".to_owned();
    let shipper = Shipper { name: name(), hostname: name(), node: None, id: name(), ephemeral_id: name() };
    Encoder::new(schema, &shipper)
}

fn reading(max_line: usize, partial_bytes_max: usize) -> Reading {
    Reading {
        encoder: encoder(Schema::Ecs),
        pods: Arc::default(),
        opt_out: false,
        asks_labels: false,
        own_mark: None,
        json_lines: false,
        lines_per_second: None,
        exclude: Some(RegexSet::new(["^GET / "]).unwrap()),
        max_line,
        traces: Languages { python: true, ..Languages::default() },
        partial_bytes_max,
        quiet: Duration::from_secs(3600),
        until_idle: false,
        batching: None,
        budget: Budget::new(1 << 30),
        decoders: Decoders::default(),
        partial_bytes: Arc::default(),
        metrics: Metrics::default(),
    }
}

impl Reader {
    fn start(folder: &Path, saved: Vec<FileRecord>) -> Self {
        Self::with(folder, saved, reading(2000, 1 << 20))
    }

    fn with(folder: &Path, saved: Vec<FileRecord>, reading: Reading) -> Self {
        let container = Container::of_pod_folder(Path::new("/p/n_pod_uid/c"), "0").unwrap();
        let key = LogKey { folder: folder.into(), base: "0".into() };
        let log = Arc::new(ContainerLog::new(1, key, container, saved, false, reading.max_line, reading.traces));
        let (known, buffer) = (BTreeMap::new(), ReadBuffer::default());
        let mut reader = Self { log, reading, known, buffer, got: Vec::new(), unconfirmed: Vec::new() };
        reader.look();
        reader
    }

    fn look(&mut self) {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.log.key.folder).unwrap() {
            let metadata = entry.as_ref().unwrap().metadata().unwrap();
            let name = entry.unwrap().file_name().into_string().unwrap();
            if LogName::parse(&name).is_none() {
                continue;
            }
            listed.push((FileKey { device: metadata.dev(), inode: metadata.ino() }, name.into()));
        }
        let mut news = Vec::new();
        let known: Vec<_> = self.known.clone().into_iter().collect();
        for change in plan::changes(&known, &listed) {
            match change {
                Change::Gone(key) => {
                    self.known.remove(&key);
                    news.push(FileEvent::Gone(key));
                }
                Change::Open(key, name) | Change::Rename(key, name) => {
                    let file = File::open(self.log.key.folder.join(&*name)).unwrap();
                    self.known.insert(key, name.clone());
                    news.push(FileEvent::Opened(Opened { key, name, file }));
                }
            }
        }
        self.log.enqueue(news);
    }

    fn turn(&mut self) -> Next {
        let turn = self.log.turn(&mut self.buffer, &self.reading);
        if let Some(batch) = turn.batch {
            for (index, message) in batch.messages.iter().enumerate() {
                self.got.push((message.id.text(), serde_json::from_slice(batch.body(index)).unwrap()));
            }
            self.unconfirmed.push(batch.receipt.number);
        }
        turn.next
    }

    fn read_all(&mut self) {
        while !matches!(self.turn(), Next::Idle(_)) {}
    }

    fn confirm(&mut self, count: usize) {
        for number in self.unconfirmed.drain(..count.min(self.unconfirmed.len())) {
            self.log.ledger().finish(number);
        }
    }

    /// The content of a checkpoint now.
    fn saved(&self) -> Vec<FileRecord> {
        self.log.ledger().records().cloned().collect()
    }

    fn messages(&self) -> Vec<&str> {
        self.got.iter().map(|(_, event)| event["message"].as_str().unwrap()).collect()
    }

    fn flags(&self) -> Vec<&Value> {
        self.got.iter().map(|(_, event)| &event["log"]["flags"]).collect()
    }
}

/// Ages files that are not listed, as the discovery's scans would.
fn age_absence(reader: &Reader) {
    for segment in &mut lock(&reader.log.inner).segments {
        segment.age_absence(GONE_GRACE);
    }
    reader.log.maintain(&reader.reading);
}

/// The bytes that were counted as lost, and the losses of unknown size.
fn losses(reader: &Reader) -> (u64, u64) {
    let metrics = &reader.reading.metrics;
    (metrics.bytes_lost.get(), metrics.losses_unknown.get())
}

fn wait_for_trace(reader: &mut Reader) {
    while lock(&reader.log.inner).joiner.has_trace() {
        reader.turn();
        std::thread::yield_now();
    }
}

/// A shipper that treats a line without an end as finished at once.
fn impatient(partial_bytes_max: usize) -> Reading {
    Reading { quiet: Duration::ZERO, ..reading(100_000, partial_bytes_max) }
}
