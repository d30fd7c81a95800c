//! The writing side of a node: 200 containers, some with tiny limits, written to at a steady rate by a thread.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::support::kubelet::Container;

const CONTAINERS: usize = 200;

/// The broker's `max_message_size`, in bytes.
pub const LARGEST_MESSAGE: usize = 64 * 1024;

/// How many containers are not written to, so that one can be truncated at any time.
const MOST_QUIET: usize = 12;

/// Random numbers that a seed reproduces.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

pub struct Logs {
    pub containers: Vec<Container>,
    pub written: u64,
    /// Containers that are not written to.
    quiet: Vec<usize>,
}

/// Writes until it is dropped.
pub struct Writer {
    logs: Arc<Mutex<Logs>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(root: &Path, seed: u64) -> Self {
        let limit = |index: usize| match index {
            0 => 10 << 20,
            _ if index % 2 == 1 => 1 << 10,
            _ => 32 << 10,
        };
        let containers = (0..CONTAINERS).map(|index| Container::new(root, index, limit(index))).collect();
        let logs = Arc::new(Mutex::new(Logs { containers, written: 0, quiet: Vec::new() }));
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let (logs, stop, mut random) = (logs.clone(), stop.clone(), Random(seed));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    logs.lock().unwrap().write(&mut random);
                    std::thread::sleep(Duration::from_millis(20));
                }
                logs.lock().unwrap().containers.iter_mut().for_each(Container::finish);
            }
        });
        Self { logs, stop, thread: Some(thread) }
    }

    pub fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap()
    }

    /// Completes all lines and stops writing.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Logs {
    fn write(&mut self, random: &mut Random) {
        // Large lines, so that a file reaches ten megabytes during the run.
        self.line(0, 8000);
        for _ in 0..8 {
            let index = 1 + random.below(CONTAINERS - 1);
            if !self.quiet.contains(&index) {
                self.line(index, random.below(120));
            }
        }
        let index = 1 + random.below(CONTAINERS - 1);
        let written = self.containers[index].generations().last().map_or(0, |live| live.size);
        let quiet = self.quiet.contains(&index);
        if self.quiet.len() < MOST_QUIET && !quiet && written > 500 {
            self.containers[index].finish();
            self.quiet.push(index);
        }
    }

    fn line(&mut self, index: usize, length: usize) {
        self.containers[index].write(self.written, length);
        self.written += 1;
    }

    /// Writes a line that is larger than the broker's limit.
    pub fn oversize(&mut self, random: &mut Random) {
        let index = 1 + random.below(CONTAINERS - 1);
        if !self.quiet.contains(&index) {
            self.line(index, LARGEST_MESSAGE + random.below(LARGEST_MESSAGE));
        }
    }

    /// Truncates a file whose size is in the checkpoint, if there is one. A shipper cannot know of lines that were written
    /// and truncated while none was running.
    pub fn truncate(&mut self, checkpoint: &Path) -> bool {
        let checkpoint = fs::read_to_string(checkpoint).unwrap_or_default();
        let checkpoint: Value = serde_json::from_str(&checkpoint).unwrap_or_default();
        let ripe = self.quiet.iter().position(|index| is_known(&checkpoint, &self.containers[*index]));
        if let Some(at) = ripe {
            let index = self.quiet.remove(at);
            self.containers[index].truncate();
        }
        ripe.is_some()
    }

    /// Where these numbers were written.
    pub fn places(&self, numbers: &[u64]) -> Vec<String> {
        let mut places = Vec::new();
        for container in &self.containers {
            for generation in container.generations() {
                for written in generation.written.iter().filter(|written| numbers.contains(&written.number)) {
                    let (folder, names, size) = (container.folder().display(), &generation.names, generation.size);
                    places.push(format!(
                        "{}: {folder} {names:?} {}-{} of {size}",
                        written.number, written.start, written.end
                    ));
                }
            }
        }
        places
    }

    /// The numbers of which every part is still on disk.
    pub fn on_disk(&self) -> BTreeSet<u64> {
        let generations = || self.containers.iter().flat_map(Container::generations);
        let numbers = |on_disk: bool| {
            let chosen = generations().filter(move |generation| generation.on_disk == on_disk);
            chosen.flat_map(|generation| &generation.written).map(|written| written.number)
        };
        let gone: BTreeSet<u64> = numbers(false).collect();
        numbers(true).filter(|number| !gone.contains(number)).collect()
    }
}

/// Whether the checkpoint covers everything that was written to this container's log.
fn is_known(checkpoint: &Value, container: &Container) -> bool {
    let folder = container.folder().display().to_string();
    let Ok(inode) = fs::metadata(container.folder().join("0.log")).map(|metadata| metadata.ino()) else { return false };
    let size = container.generations().last().map_or(0, |live| live.size);
    let logs = checkpoint["logs"].as_array().into_iter().flatten();
    let files = logs.filter(|log| log["folder"] == folder).filter_map(|log| log["files"].as_array()).flatten();
    files.into_iter().any(|file| file["inode"] == inode && file["size"] == size)
}
