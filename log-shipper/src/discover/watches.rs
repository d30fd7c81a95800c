//! Inotify watches on folders.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Reports changes of names in folders.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    paths: HashMap<i32, Arc<Path>>,
    watched: HashSet<Arc<Path>>,
    /// Folders for which there was no watch left. They are not tried again until a watch is freed.
    unwatched: HashSet<Arc<Path>>,
    /// Whether it was logged that no watch is left.
    logged: bool,
}

/// The changes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// These folders changed.
    pub(super) folders: BTreeSet<Arc<Path>>,
    /// Others may have changed, too.
    pub(super) overflow: bool,
}

impl Watches {
    /// Without watches at first; `None` if inotify is not available.
    pub(super) fn new() -> Option<Self> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Some(Self {
                inotify,
                paths: HashMap::new(),
                watched: HashSet::new(),
                unwatched: HashSet::new(),
                logged: false,
            }),
            Err(error) => {
                tracing::warn!(%error, "inotify is not available; new files are only found by a scan every second");
                None
            }
        }
    }

    /// Waits for changes, at most this long.
    pub(super) fn wait(&mut self, limit: Duration) -> Seen {
        let mut seen = Seen::default();
        let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(_) => return seen,
            Ok(_) => (),
        }
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut gone = Vec::new();
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                seen.overflow = true;
            } else if event.events().contains(ReadFlags::IGNORED) {
                gone.push(event.wd());
            } else if let Some(path) = self.paths.get(&event.wd()) {
                seen.folders.insert(path.clone());
            }
        }
        for watch in gone {
            if let Some(path) = self.paths.remove(&watch) {
                self.watched.remove(&path);
                self.unwatched.clear();
                seen.folders.insert(path);
            }
        }
        if seen.overflow {
            // The end of a watch may be among the lost events. Adding it again returns the same number.
            self.paths.clear();
            self.watched.clear();
        }
        seen
    }

    /// Whether this folder is watched.
    pub(super) fn contains(&self, path: &Arc<Path>) -> bool {
        self.watched.contains(path)
    }

    /// Watches a folder, if it is not watched yet.
    pub(super) fn add(&mut self, path: &Arc<Path>) {
        if self.watched.contains(path) || self.unwatched.contains(path) {
            return;
        }
        let names = WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let watch = inotify::add_watch(&self.inotify, &**path, names | WatchFlags::ONLYDIR);
        self.added(path, watch);
    }

    fn added(&mut self, path: &Arc<Path>, watch: Result<i32, Errno>) {
        match watch {
            Ok(watch) => {
                self.paths.insert(watch, path.clone());
                self.watched.insert(path.clone());
            }
            Err(Errno::NOSPC) => {
                self.unwatched.insert(path.clone());
                if !std::mem::replace(&mut self.logged, true) {
                    tracing::warn!(
                        path = %path.display(),
                        "no inotify watches are left (fs.inotify.max_user_watches); this folder, and perhaps others, is scanned \
                         every few seconds only"
                    );
                }
            }
            Err(_) => (),
        }
    }

    /// Forgets unwatched folders that are gone, because no event reports that.
    pub(super) fn keep_only(&mut self, present: impl Fn(&Arc<Path>) -> bool) {
        self.unwatched.retain(present);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_a_watch_are_forgotten_when_removed_and_retried_when_one_is_free() {
        let mut watches = Watches::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let watched: Arc<Path> = folder.path().join("watched").into();
        std::fs::create_dir(&watched).unwrap();
        watches.add(&watched);
        for round in 0..100 {
            let path: Arc<Path> = folder.path().join(round.to_string()).into();
            watches.added(&path, Err(Errno::NOSPC));
            watches.keep_only(|kept| *kept == path);
        }
        assert_eq!((watches.unwatched.len(), watches.watched.len()), (1, 1));
        std::fs::remove_dir(&watched).unwrap();
        assert!(watches.wait(Duration::from_secs(60)).folders.contains(&watched));
        assert_eq!((watches.unwatched.len(), watches.watched.len()), (0, 0));
    }
}
