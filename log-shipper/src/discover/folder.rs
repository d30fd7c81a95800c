//! What is known about a folder since its last scan.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::follow::ContainerLog;
use crate::identity::FileKey;
use crate::names::LogName;

/// A pod's folder.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) containers: Box<[Arc<Path>]>,
    /// As [`Folder::changed`].
    pub(super) changed: Option<SystemTime>,
}

/// A container's folder: usually one log of one file.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) known: Vec<(FileKey, Arc<str>)>,
    pub(super) logs: Vec<Arc<ContainerLog>>,
    /// The folder's modification time at the last scan; `None` if it must be scanned again.
    pub(super) changed: Option<SystemTime>,
}

impl Folder {
    pub(super) fn log(&self, base: &str) -> Option<&Arc<ContainerLog>> {
        self.logs.iter().find(|log| *log.key.base == *base)
    }

    /// The base of the log that the file with this inode belongs to.
    pub(super) fn base_of(&self, inode: u64) -> Option<Arc<str>> {
        let (_, name) = self.known.iter().find(|(key, _)| key.inode == inode)?;
        let named = LogName::parse(name).and_then(|name| self.log(name.base));
        let log = named.or_else(|| self.logs.first().filter(|_| self.logs.len() == 1));
        log.map(|log| log.key.base.clone())
    }

    pub(super) fn know(&mut self, key: FileKey, name: Arc<str>) {
        match self.known.iter_mut().find(|(known, _)| *known == key) {
            Some((_, before)) => *before = name,
            None => {
                self.known.reserve_exact(1);
                self.known.push((key, name));
            }
        }
    }
}
