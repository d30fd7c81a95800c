//! Finding log files: inotify on the folders, for speed, and a look at all of them every few seconds, for certainty.
//!
//! Only names are watched, not writes: a busy log would cost more to be told about than to be read. This is why inotify is
//! used directly; the notify crate always asks for writes, too.

mod choice;
mod listing;
mod watches;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub use self::choice::Choice;
use self::watches::Watches;
use crate::checkpoint::LogKey;
use crate::container::Container;
use crate::follow::{ContainerLog, News, Opened, Reading};
use crate::identity::FileKey;
use crate::names::LogName;
use crate::plan::{self, Change};
use crate::pool::Pool;
use crate::registry::Registry;

/// How often all folders are looked at.
const RECONCILE: Duration = Duration::from_secs(10);

/// How often the same is said.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How often the thread sees whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(500);

/// A folder that changed within this time before a look may change again without another time of change.
const TIME_GRAIN: Duration = Duration::from_secs(2);

/// Finds files and hands them to their logs.
#[derive(Debug)]
pub struct Discovery {
    roots: Vec<Arc<Path>>,
    choice: Choice,
    pinned_bytes_max: u64,
    /// Whether files that are there at the start are read from their end.
    at_end: bool,
    reading: Arc<Reading>,
    pool: Arc<Pool>,
    registry: Arc<Registry>,
    /// The folders of pods.
    pods: HashMap<Arc<Path>, Pod>,
    folders: HashMap<Arc<Path>, Folder>,
    watches: Option<Watches>,
    next_id: u64,
    complained: Option<Instant>,
}

#[derive(Debug)]
struct Pod {
    containers: Vec<Arc<Path>>,
    /// As [`Folder::changed`].
    changed: Option<SystemTime>,
}

/// Mostly one log of one file.
#[derive(Debug, Default)]
struct Folder {
    known: Vec<(FileKey, String)>,
    logs: Vec<Arc<ContainerLog>>,
    /// The folder's time of change when it was last looked at; `None` if it must be looked at again.
    changed: Option<SystemTime>,
}

impl Discovery {
    /// Looks below `roots`; with `at_end` what is there already is not read.
    pub fn new(
        roots: Vec<PathBuf>,
        choice: Choice,
        pinned_bytes_max: u64,
        at_end: bool,
        reading: Arc<Reading>,
        pool: Arc<Pool>,
        registry: Arc<Registry>,
    ) -> Self {
        let (pods, folders, watches) = (HashMap::new(), HashMap::new(), Watches::new());
        let roots = roots.into_iter().map(Arc::from).collect();
        Self {
            roots,
            choice,
            pinned_bytes_max,
            at_end,
            reading,
            pool,
            registry,
            pods,
            folders,
            watches,
            next_id: 1,
            complained: None,
        }
    }

    /// The first look: afterwards every file that is there is open, and its size known. What the checkpoint names beyond them
    /// is given up.
    pub fn first_look(&mut self) {
        let seen = self.look_at_all(true);
        self.at_end = false;
        // Readers may wait for the broker, and this process may end before they come to all files.
        self.maintain();
        for (key, records) in self.registry.take_unclaimed(&seen) {
            for record in records.iter().filter(|record| record.size > record.done.offset) {
                let (from, to) = (record.done.offset, record.size);
                self.reading.metrics.bytes_lost.inc_by(to - from);
                tracing::error!(
                    file = %key.folder.join(&record.name).display(), from, to, bytes = to - from,
                    "log lines were lost before they could be read: the container's logs were deleted while nothing ran here"
                );
            }
        }
    }

    /// Goes on looking until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        let mut reconciled = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let every = if self.watches.is_some() { RECONCILE } else { Duration::from_secs(1) };
            let wait = every.saturating_sub(reconciled.elapsed()).min(STOP_CHECK);
            for folder in self.changed_folders(wait) {
                if self.folders.contains_key(&folder) {
                    self.look(&folder);
                } else {
                    self.look_at_all(false);
                }
            }
            if reconciled.elapsed() >= every {
                self.look_at_all(false);
                self.maintain();
                reconciled = Instant::now();
            }
        }
    }

    /// Folders whose names changed, after waiting for at most `wait`.
    fn changed_folders(&mut self, wait: Duration) -> BTreeSet<Arc<Path>> {
        let Some(watches) = &mut self.watches else {
            std::thread::sleep(wait);
            return BTreeSet::new();
        };
        let seen = watches.wait(wait);
        if seen.overflow {
            // Some names changed, nobody knows which.
            self.pods.clear();
            self.folders.values_mut().for_each(|folder| folder.changed = None);
        }
        seen.folders.into_iter().chain(self.roots.first().cloned().filter(|_| seen.overflow)).collect()
    }

    /// Looks at all folders below the roots; gives the roots that could be seen and are not empty.
    fn look_at_all(&mut self, first: bool) -> Vec<Arc<Path>> {
        let mut seen = Vec::new();
        // Paths are compared part by part: an ordered map of them costs ten such comparisons each time.
        let (mut present, mut pods) = (HashSet::new(), HashMap::new());
        for root in self.roots.clone() {
            self.watch(&root);
            let entries = match listing::folders(&root) {
                Ok((entries, _)) => entries,
                Err(error) => {
                    if first {
                        tracing::warn!(path = %root.display(), %error, "a folder of LOG_PATHS can't be read yet");
                    }
                    continue;
                }
            };
            for entry in &entries {
                if Container::of_docker_folder(entry, None).is_some() {
                    present.insert(entry.clone());
                    continue;
                }
                let pod = self.look_at_pod(entry);
                present.extend(pod.containers.iter().cloned());
                pods.insert(entry.clone(), pod);
            }
            if !entries.is_empty() {
                seen.push(root);
            }
        }
        self.pods = pods;
        if let Some(watches) = &mut self.watches {
            let (roots, pods) = (&self.roots, &self.pods);
            watches.keep_only(|path| present.contains(path) || pods.contains_key(path) || roots.contains(path));
        }
        let gone: Vec<_> = self.folders.keys().filter(|folder| !present.contains(*folder)).cloned().collect();
        for folder in present.iter().chain(&gone) {
            self.look(folder);
        }
        seen
    }

    /// The folders of a pod's containers.
    fn look_at_pod(&mut self, path: &Arc<Path>) -> Pod {
        self.watch(path);
        let changed = listing::changed(path);
        match self.pods.remove(path) {
            Some(pod) if changed.is_some() && pod.changed == changed => pod,
            _ => {
                let (containers, links) = listing::folders(path).unwrap_or((Vec::new(), true));
                Pod { containers, changed: changed.filter(|time| !links && is_settled(*time)) }
            }
        }
    }

    /// Looks at the files of one container's folder.
    fn look(&mut self, path: &Arc<Path>) {
        let changed = listing::changed(path);
        if let (Some(now), Some(folder)) = (changed, self.folders.get(path))
            && folder.changed == Some(now)
        {
            return;
        }
        self.watch(path);
        let (listed, links) = match listing::files(path) {
            Ok(listed) => listed,
            Err(error) if listing::is_gone(&error) => (Vec::new(), false),
            // What can't be looked into is as it was.
            Err(_) => return,
        };
        let known = self.folders.get(path).map_or(&[][..], |folder| &folder.known);
        let changes = plan::changes(known, &listed);
        let all_open = changes.is_empty() || self.take(path, changes);
        if let Some(folder) = self.folders.get_mut(path) {
            // A link's target changes without its folder.
            folder.changed = changed.filter(|time| !links && all_open && is_settled(*time));
            if folder.known.is_empty() && folder.logs.is_empty() {
                self.folders.remove(path);
            }
        }
    }

    /// Opens what is new and hands it over; `false` if something could not be opened.
    fn take(&mut self, path: &Arc<Path>, changes: Vec<Change>) -> bool {
        let mut all_open = true;
        let mut news: BTreeMap<String, Vec<News>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Gone(key) => {
                    let Some(folder) = self.folders.get_mut(path) else { continue };
                    let Some(name) = folder.forget(key) else { continue };
                    let base = LogName::parse(&name).map_or_else(String::new, |name| name.base.to_owned());
                    news.entry(base).or_default().push(News::Gone(key));
                }
                Change::Open(key, name) | Change::Rename(key, name) => {
                    let Some(base) = LogName::parse(&name).map(|name| name.base.to_owned()) else { continue };
                    if !self.follows(path, &base) {
                        continue;
                    }
                    match listing::open(&path.join(&name), key) {
                        Ok(file) => {
                            self.folders.entry(path.clone()).or_default().know(key, &name);
                            news.entry(base).or_default().push(News::Opened(Opened { key, name, file }));
                        }
                        // It was renamed or deleted since: the next look sees it.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => all_open = false,
                        Err(error) => {
                            all_open = false;
                            self.complain(&path.join(&name), &error);
                        }
                    }
                }
            }
        }
        for (base, news) in news {
            if let Some(log) = self.folders.get(path).and_then(|folder| folder.log(&base)) {
                log.hand(news);
                self.pool.wake(log);
            }
        }
        all_open
    }

    /// Says once a minute that a log file can't be opened: there may be thousands of them, and each look tries all.
    fn complain(&mut self, file: &Path, error: &io::Error) {
        if self.complained.is_some_and(|last| last.elapsed() < COMPLAIN) {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::error!(
            file = %file.display(), %error,
            "a log file can't be opened, and perhaps others; they are tried again{}", listing::too_many(error)
        );
    }

    /// Whether the log with this base in this folder is followed; begins to if it should be.
    fn follows(&mut self, path: &Arc<Path>, base: &str) -> bool {
        if self.folders.get(path).is_some_and(|folder| folder.log(base).is_some()) {
            return true;
        }
        let container = Container::of_pod_folder(path, base).or_else(|| {
            let config = listing::read_config(&path.join("config.v2.json"));
            Container::of_docker_folder(path, config.as_deref())
        });
        let Some(container) = container.filter(|container| self.choice.takes(container)) else { return false };
        let key = LogKey { folder: path.clone(), base: base.to_owned() };
        let saved = self.registry.claim(&key);
        let log = ContainerLog::new(
            self.next_id,
            key,
            container,
            saved,
            self.at_end,
            self.reading.max_line,
            self.reading.traces,
        );
        self.next_id += 1;
        let log = Arc::new(log);
        self.registry.insert(log.clone());
        let folder = self.folders.entry(path.clone()).or_default();
        folder.logs.reserve_exact(1);
        folder.logs.push(log);
        true
    }

    /// Keeps what deleted files pin within its limit, and lets go of logs that are over.
    fn maintain(&mut self) {
        let mut pinned: Vec<(u64, Arc<ContainerLog>)> = Vec::new();
        let mut open_files = 0;
        for (path, folder) in &mut self.folders {
            folder.logs.retain(|log| {
                let upkeep = log.maintain(&self.reading);
                if upkeep.unread {
                    self.pool.wake(log);
                }
                pinned.push((upkeep.pinned, log.clone()));
                open_files += log.open_files();
                let over = log.is_over();
                if over {
                    tracing::debug!(folder = %path.display(), "the log is over");
                    self.pool.remove(log.id);
                    self.registry.remove(&log.key);
                }
                !over
            });
        }
        self.folders.retain(|_, folder| !folder.known.is_empty() || !folder.logs.is_empty());
        let mut total: u64 = pinned.iter().map(|(bytes, _)| bytes).sum();
        while total > self.pinned_bytes_max {
            pinned.sort_by_key(|(bytes, _)| *bytes);
            let Some((bytes, log)) = pinned.last_mut() else { break };
            let freed = log.unpin_oldest(&self.reading);
            if freed == 0 {
                *bytes = 0;
                if pinned.iter().all(|(bytes, _)| *bytes == 0) {
                    break;
                }
                continue;
            }
            *bytes = bytes.saturating_sub(freed);
            total = total.saturating_sub(freed);
        }
        let metrics = &self.reading.metrics;
        metrics.pinned_bytes.set(total as i64);
        metrics.open_files.set(open_files as i64);
        metrics.containers.set(self.folders.values().map(|folder| folder.logs.len() as i64).sum());
        metrics.pending_bytes.set(self.reading.budget.used() as i64);
    }

    fn watch(&mut self, path: &Arc<Path>) {
        if let Some(watches) = &mut self.watches {
            watches.add(path);
        }
    }
}

impl Folder {
    fn log(&self, base: &str) -> Option<&Arc<ContainerLog>> {
        self.logs.iter().find(|log| log.key.base == base)
    }

    fn know(&mut self, key: FileKey, name: &str) {
        match self.known.iter_mut().find(|(known, _)| *known == key) {
            Some((_, before)) => name.clone_into(before),
            None => {
                self.known.reserve_exact(1);
                self.known.push((key, name.to_owned()));
            }
        }
    }

    /// The name that the file had.
    fn forget(&mut self, key: FileKey) -> Option<String> {
        let index = self.known.iter().position(|(known, _)| *known == key)?;
        Some(self.known.swap_remove(index).1)
    }
}

/// Whether a folder that changed then would show another change by another time.
fn is_settled(changed: SystemTime) -> bool {
    changed.elapsed().is_ok_and(|since| since > TIME_GRAIN)
}
