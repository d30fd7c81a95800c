//! Inotify watches on folders.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Tells when names in folders change.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    paths: HashMap<i32, Arc<Path>>,
    watched: HashSet<Arc<Path>>,
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In these folders.
    pub(super) folders: BTreeSet<Arc<Path>>,
    /// And in others that nobody knows.
    pub(super) overflow: bool,
}

impl Watches {
    /// None yet; `None` where there is no inotify.
    pub(super) fn new() -> Option<Self> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Some(Self { inotify, paths: HashMap::new(), watched: HashSet::new() }),
            Err(error) => {
                tracing::warn!(%error, "inotify is not available; new files are found every second only");
                None
            }
        }
    }

    /// Waits for changes, for at most so long.
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
                seen.folders.insert(path);
            }
        }
        seen
    }

    /// Watches a folder, if it is not watched yet.
    pub(super) fn add(&mut self, path: &Arc<Path>) {
        if self.watched.contains(path) {
            return;
        }
        let names = WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        match inotify::add_watch(&self.inotify, &**path, names | WatchFlags::ONLYDIR) {
            Ok(watch) => {
                self.paths.insert(watch, path.clone());
                self.watched.insert(path.clone());
            }
            Err(rustix::io::Errno::NOSPC) => {
                tracing::warn!(
                    path = %path.display(),
                    "no inotify watch is left (fs.inotify.max_user_watches); this folder is looked at every few seconds only"
                );
                // Said once: it is not tried again.
                self.watched.insert(path.clone());
            }
            Err(_) => (),
        }
    }
}
