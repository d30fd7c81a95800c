//! Finds log files: inotify on the folders, for speed, and a regular scan of all of them, for certainty.
//!
//! Only changes of names are watched, not writes: an event for each write to a busy log would cost more than reading
//! it. inotify is used directly, because only a release candidate of the notify crate can watch names alone, and the crate
//! takes more memory (bench/README.md).

mod choice;
mod docker_config;
mod folder;
mod housekeeping;
mod listing;
mod open;
mod problem;
mod survey;
mod watches;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sidecar::readiness::Latch;

pub use self::choice::Choice;
use self::folder::{Folder, Pod};
use self::listing::Folders;
use self::problem::{Kind, Problem};
pub use self::survey::Findings;
use self::survey::Survey;
use self::watches::Watches;
use crate::container::Container;
use crate::follow::Reading;
use crate::identity::FileKey;
use crate::ledger::FileRecord;
use crate::logs::FollowedLogs;
use crate::plan;
use crate::pool::Pool;

/// How often files are checked, and all folders are scanned unless [`Discovery::is_settled`].
const RECONCILE: Duration = Duration::from_secs(10);

/// How often folders are scanned in any case.
const RECONCILE_SETTLED: Duration = Duration::from_secs(60);

/// How long a Kubernetes container in Docker's folder waits for the link to it in its pod's folder.
const LINK_WAIT: Duration = Duration::from_secs(60);

/// How often the thread checks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(500);

/// A folder that changed this shortly before a scan may change again with the same modification time.
const TIME_GRAIN: Duration = Duration::from_secs(2);

/// Finds files and passes them to their logs.
#[derive(Debug)]
pub struct Discovery {
    roots: Vec<Arc<Path>>,
    choice: Choice,
    pinned_bytes_max: u64,
    /// Whether existing files are read from their end at the start.
    at_end: bool,
    reading: Arc<Reading>,
    pool: Arc<Pool>,
    logs: Arc<FollowedLogs>,
    /// The folders of pods.
    pods: HashMap<Arc<Path>, Pod>,
    folders: HashMap<Arc<Path>, Folder>,
    /// The folder in which a file is followed, because several paths may lead to it.
    owners: HashMap<FileKey, Arc<Path>>,
    /// Docker's folders that wait for a link in their pod's folder, and since when.
    waiting: HashMap<Arc<Path>, Instant>,
    watches: Option<Watches>,
    next_id: u64,
    survey: Survey,
    /// Problems of the last scan.
    problems: Vec<Problem>,
}

impl Discovery {
    /// Scans below `roots`. With `at_end`, existing content is not read. Problems are reported through `found`.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the process, and there is one caller")]
    pub fn new(
        roots: Vec<PathBuf>,
        choice: Choice,
        pinned_bytes_max: u64,
        at_end: bool,
        reading: Arc<Reading>,
        pool: Arc<Pool>,
        logs: Arc<FollowedLogs>,
        found: (Latch, Findings),
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
            logs,
            pods,
            folders,
            owners: HashMap::new(),
            waiting: HashMap::new(),
            watches,
            next_id: 1,
            survey: Survey::new(found.0, found.1),
            problems: Vec::new(),
        }
    }

    /// The first scan. Afterwards every existing file is open and its size is known, and files that only the checkpoint
    /// knows are given up.
    pub fn first_look(&mut self) {
        let seen = self.look_at_all(true);
        self.at_end = false;
        // Readers may wait for the broker, and this process may end before they reach all files.
        self.maintain();
        if self.reading.until_idle {
            self.folders.values().flat_map(|folder| &folder.logs).for_each(|log| log.bound());
        }
        for (key, records) in self.logs.take_unclaimed(&seen) {
            let elsewhere = |record: &&FileRecord| !self.owners.contains_key(&record.key);
            for record in records.iter().filter(|record| record.size > record.done.offset).filter(elsewhere) {
                let (from, to) = (record.done.offset, record.size);
                self.reading.metrics.bytes_lost.inc_by(to - from);
                tracing::error!(
                    file = %key.folder.join(&*record.name).display(), from, to, bytes = to - from,
                    "lost log lines before they could be read: the container's logs were deleted while log-shipper was not running"
                );
            }
        }
        self.report();
    }

    /// Continues to scan until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        let (mut reconciled, mut scanned) = (Instant::now(), Instant::now());
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
                if scanned.elapsed() >= RECONCILE_SETTLED || !self.is_settled() {
                    self.look_at_all(false);
                    scanned = Instant::now();
                } else {
                    self.problems.clear();
                }
                self.maintain();
                self.report();
                reconciled = Instant::now();
            }
        }
    }

    /// Whether a watch would have reported every change since each folder was scanned, and the last scan left no question.
    fn is_settled(&self) -> bool {
        let Some(watches) = &self.watches else { return false };
        let settled = |path, changed: Option<SystemTime>| changed.is_some() && watches.contains(path);
        self.problems.is_empty()
            && self.waiting.is_empty()
            && self.roots.iter().all(|root| watches.contains(root))
            && self.pods.iter().all(|(path, pod)| settled(path, pod.changed))
            && self.folders.iter().all(|(path, folder)| settled(path, folder.changed))
    }

    /// The folders whose names changed, after a wait of at most `wait`.
    fn changed_folders(&mut self, wait: Duration) -> BTreeSet<Arc<Path>> {
        let Some(watches) = &mut self.watches else {
            std::thread::sleep(wait);
            return BTreeSet::new();
        };
        let seen = watches.wait(wait);
        if seen.overflow {
            // The queue overflowed: any folder may have changed.
            self.pods.clear();
            self.folders.values_mut().for_each(|folder| folder.changed = None);
        }
        seen.folders.into_iter().chain(self.roots.first().cloned().filter(|_| seen.overflow)).collect()
    }

    /// Scans all folders below the roots. Returns the roots that could be read and are not empty.
    fn look_at_all(&mut self, first: bool) -> Vec<Arc<Path>> {
        self.problems.clear();
        let mut seen = Vec::new();
        // Paths are compared component by component, so lookups in an ordered map would cost ten such comparisons each.
        let (mut in_pods, mut in_docker, mut pods) = (Vec::new(), Vec::new(), HashMap::new());
        for root in self.roots.clone() {
            self.watch(&root);
            let entries = match listing::folders(&root) {
                Ok(entries) => entries,
                Err(error) => {
                    self.problems.push(Problem::root(&root, &error));
                    continue;
                }
            };
            let Folders { paths, others, broken, .. } = entries;
            let is_empty = paths.is_empty() && others == 0;
            for (path, error) in broken.iter().filter(|(path, _)| holds_logs(path)) {
                self.problems.push(Problem::link(path, error));
            }
            let mut holds_others_only = true;
            for entry in paths {
                let (docker, pod) =
                    (Container::of_docker_folder(&entry, None).is_some(), Container::is_pod_folder(&entry));
                holds_others_only &= !docker && !pod;
                if docker {
                    in_docker.push(entry);
                } else if pod {
                    let (path, pod) = self.look_at_pod(entry);
                    in_pods.extend(pod.containers.iter().cloned());
                    pods.insert(path, pod);
                }
            }
            if !is_empty && holds_others_only {
                self.problems.push(Problem::no_containers(&root));
            }
            if !is_empty {
                seen.push(root);
            }
        }
        self.pods = pods;
        if first {
            // If several paths lead to one file, each run chooses the same.
            in_pods.sort();
            in_docker.sort();
        }
        // Pods' folders come first, because they identify a container better than Docker's folders.
        let present: HashMap<Arc<Path>, ()> = in_pods.iter().chain(&in_docker).map(|path| (path.clone(), ())).collect();
        if let Some(watches) = &mut self.watches {
            let (roots, pods) = (&self.roots, &self.pods);
            watches.keep_only(|path| present.contains_key(path) || pods.contains_key(path) || roots.contains(path));
        }
        self.waiting.retain(|path, _| present.contains_key(path));
        let gone: Vec<_> = self.folders.keys().filter(|folder| !present.contains_key(*folder)).cloned().collect();
        for folder in gone.iter().chain(&in_pods) {
            self.look(folder);
        }
        for folder in &in_docker {
            if !self.waits_for_link(folder, first) {
                self.look(folder);
            }
        }
        seen
    }

    /// The folders of a pod's containers.
    fn look_at_pod(&mut self, path: Arc<Path>) -> (Arc<Path>, Pod) {
        let (path, known) = match self.pods.remove_entry(&path) {
            // The path is shared with the watch on it.
            Some((path, pod)) => (path, Some(pod)),
            None => (path, None),
        };
        self.watch(&path);
        let changed = listing::changed(&path);
        if let Some(pod) = known.filter(|pod| changed.is_some() && pod.changed == changed) {
            return (path, pod);
        }
        let found = listing::folders(&path).unwrap_or_else(|error| {
            if !listing::is_gone(&error) {
                self.problems.push(Problem::of_error(Kind::Folder, &path, &error));
            }
            Folders { links: true, ..Folders::default() }
        });
        self.problems.extend(found.broken.iter().map(|(path, error)| Problem::link(path, error)));
        // Runtimes keep other files here: CRI-O the log of the sandbox, `<id>.log`.
        if let Some(log) = &found.log {
            let why = "a log directly in a pod's folder is not read, only those in its containers' folders";
            self.problems.push(Problem::new(Kind::Unplaced, log, why));
        }
        let changed = changed.filter(|time| !found.links && found.log.is_none() && is_settled(*time));
        (path, Pod { containers: found.paths.into(), changed })
    }

    /// Whether a Kubernetes container in Docker's folder is still expected in its pod's folder. kubelet creates the
    /// pod's folder first, and the link to Docker's file in it last.
    fn waits_for_link(&mut self, path: &Arc<Path>, first: bool) -> bool {
        if first || self.folders.contains_key(path) || self.pods.is_empty() {
            return false;
        }
        let config = docker_config::read(&path.join("config.v2.json"));
        let Some(pod) = Container::of_docker_folder(path, config.as_deref()).and_then(|container| container.pod) else {
            return false;
        };
        let is_there = |folder: &Pod| folder.containers.iter().any(|container| container.ends_with(&pod.container));
        let name = pod.folder_name();
        let awaited = self.pods.iter().any(|(folder, containers)| folder.ends_with(&name) && is_there(containers));
        awaited && self.waiting.entry(path.clone()).or_insert_with(Instant::now).elapsed() < LINK_WAIT
    }

    /// Scans one container's folder.
    fn look(&mut self, path: &Arc<Path>) {
        let changed = listing::changed(path);
        if let (Some(now), Some(folder)) = (changed, self.folders.get(path))
            && folder.changed == Some(now)
        {
            return;
        }
        self.watch(path);
        let folder = self.folders.get(path);
        let base_of = |inode| {
            let known = folder.and_then(|folder| folder.base_of(inode));
            known.or_else(|| self.logs.base_of(path, inode))
        };
        let mut found = match listing::files(path, base_of) {
            Ok(found) => found,
            Err(error) if listing::is_gone(&error) => listing::Files::default(),
            // A folder that cannot be read is assumed to be unchanged.
            Err(error) => return self.problems.push(Problem::of_error(Kind::Folder, path, &error)),
        };
        let mut settled = !found.links && found.problems.is_empty();
        self.problems.append(&mut found.problems);
        // Docker keeps other files here, too: for `docker logs`, its other drivers write container-cached.log.
        let container = Container::of_docker_folder(path, None);
        if container.is_some_and(|container| !found.files.iter().any(|file| container.has_log(&file.base))) {
            self.problems.extend(Problem::of_format(path));
        }
        found.files.retain(|file| {
            let elsewhere = self.owners.get(&file.key).is_some_and(|owner| owner != path);
            // The file is searched for again if it disappears from the other folder.
            settled &= !elsewhere;
            !elsewhere
        });
        let listed: Vec<_> = found.files.iter().map(|file| (file.key, file.name.clone())).collect();
        let known = folder.map_or(&[][..], |folder| &folder.known);
        let changes = plan::changes(known, &listed);
        for target in &found.targets {
            self.watch(&Arc::from(target.as_path()));
        }
        settled &= changes.is_empty() || self.take(path, changes, &found.files);
        if let Some(folder) = self.folders.get_mut(path) {
            // A link's target changes without its folder.
            folder.changed = changed.filter(|time| settled && is_settled(*time));
            if folder.known.is_empty() && folder.logs.is_empty() {
                self.folders.remove(path);
            }
        }
    }

    /// Reports what the last scan found.
    fn report(&mut self) {
        let folders = self.folders.values();
        let (containers, files) =
            folders.fold((0, 0), |(logs, files), folder| (logs + folder.logs.len(), files + folder.known.len()));
        let metrics = &self.reading.metrics;
        let unplaced = self.problems.iter().filter(|problem| problem.kind == Kind::Unplaced).count();
        metrics.unplaced_files.set(unplaced as i64);
        metrics.unreadable.set((self.problems.len() - unplaced) as i64);
        self.survey.report(&self.roots, containers, files, &self.problems);
    }

    fn watch(&mut self, path: &Arc<Path>) {
        if let Some(watches) = &mut self.watches {
            watches.add(path);
        }
    }
}

/// Whether a folder of this name belongs to a pod, or to a container in Docker's folder.
fn holds_logs(path: &Path) -> bool {
    Container::is_pod_folder(path) || Container::of_docker_folder(path, None).is_some()
}

/// Whether another change would show as a different modification time.
fn is_settled(changed: SystemTime) -> bool {
    changed.elapsed().is_ok_and(|since| since > TIME_GRAIN)
}
