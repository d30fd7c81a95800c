//! Lists folders, and opens files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::problem::{Kind, Problem};
use crate::container::Container;
use crate::identity::FileKey;
use crate::names::{Age, LogName};

/// Open files that are reserved for the broker, the checkpoint, the admin server and listing folders.
const RESERVED_FILES: u64 = 32;

/// The folder's modification time; `None` if it cannot be read.
pub(super) fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The entries of a folder that are followed.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) paths: Vec<Arc<Path>>,
    /// Whether some of them are symbolic links.
    pub(super) links: bool,
    /// How many other entries there are.
    pub(super) others: usize,
    /// One of them that has the name of a container's log.
    pub(super) log: Option<PathBuf>,
    /// Links that cannot be followed, and why.
    pub(super) broken: Vec<(PathBuf, io::Error)>,
}

/// The folders in a folder.
pub(super) fn folders(path: &Path) -> io::Result<Folders> {
    let mut folders = Folders::default();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let link = kind.is_symlink();
        folders.links |= link;
        let target = if link { fs::metadata(entry.path()).map(|target| target.is_dir()) } else { Ok(kind.is_dir()) };
        let is_folder = match target {
            Ok(is_folder) => is_folder,
            Err(error) => {
                folders.broken.push((entry.path(), error));
                false
            }
        };
        if is_folder {
            folders.paths.push(entry.path().into());
        } else {
            folders.others += 1;
            folders.log = folders.log.or_else(|| is_containers_log(&entry.file_name()).then(|| entry.path()));
        }
    }
    Ok(folders)
}

/// Whether kubelet gives this name to a container's log: `0.log`, `1.log.20261122-100000`.
fn is_containers_log(name: &OsStr) -> bool {
    let parsed = name.to_str().and_then(LogName::parse);
    parsed.is_some_and(|name| name.base.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A file of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: FileKey,
    /// Its name within the folder, or the full path of a file beside a link's target.
    pub(super) name: Arc<str>,
    /// The base of the log that it belongs to.
    pub(super) base: Arc<str>,
    /// Whether the name is that of a symbolic link.
    link: bool,
}

impl Listed {
    /// Which of a file's names is used: the smallest. A hard link's name may say nothing about the file's age.
    fn rank(&self) -> (bool, u8, &str) {
        let age = match LogName::age_of(&self.name).0 {
            Age::Live => 0,
            Age::Numbered(_) | Age::Stamped(..) => 1,
            Age::Aside => 2,
        };
        (self.link, age, &self.name)
    }
}

/// The files of a container's folder.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) files: Vec<Listed>,
    /// Whether there are links. Their targets change without the folder.
    pub(super) links: bool,
    /// The folders that links lead to.
    pub(super) targets: BTreeSet<PathBuf>,
    /// Links that are broken or cannot be followed.
    pub(super) problems: Vec<Problem>,
}

/// The regular files of a folder that belong to a log by their name, or because they did before (`base_of`). If a log
/// is a link, its rotated files are also searched for beside the link's target.
pub(super) fn files(path: &Path, base_of: impl Fn(u64) -> Option<Arc<str>>) -> io::Result<Files> {
    let mut found = Files::default();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            found.problems.push(Problem::new(Kind::Unplaced, &entry.path(), "its name is not UTF-8"));
            continue;
        };
        let parsed = LogName::parse(&name);
        let known = || base_of(entry.ino());
        let Some(base) = parsed.as_ref().map(|parsed| parsed.base.into()).or_else(known) else {
            // Docker keeps other files beside its logs, and kubelet compresses into a temporary file.
            let odd = Container::of_pod_folder(path, "").is_some() && !name.ends_with(".tmp");
            if odd && !entry.file_type()?.is_symlink() {
                found.problems.push(Problem::new(Kind::Unplaced, &entry.path(), "not the name of a log"));
            }
            continue;
        };
        let link = entry.file_type()?.is_symlink();
        found.links |= link;
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                let key = FileKey { device: metadata.dev(), inode: metadata.ino() };
                if link && parsed.is_some_and(|parsed| parsed.age == Age::Live) {
                    beside(&entry.path(), &base, &mut found);
                }
                found.add(Listed { key, name: name.into(), base, link });
            }
            Ok(_) if parsed.is_some() => {
                found.problems.push(Problem::new(Kind::Unplaced, &entry.path(), "it is not a regular file"));
            }
            Ok(_) => (),
            Err(error) if link => found.problems.push(Problem::link(&entry.path(), &error)),
            Err(error) if is_gone(&error) => (), // it was renamed or deleted since
            Err(error) => found.problems.push(Problem::of_error(Kind::File, &entry.path(), &error)),
        }
    }
    Ok(found)
}

impl Files {
    /// Adds a file once, however many names lead to it.
    fn add(&mut self, listed: Listed) {
        match self.files.iter_mut().find(|known| known.key == listed.key) {
            Some(known) if listed.rank() < known.rank() => *known = listed,
            Some(_) => (),
            None => self.files.push(listed),
        }
    }
}

/// Adds the rotated files beside the target of a link.
fn beside(link: &Path, base: &Arc<str>, found: &mut Files) {
    let Ok(target) = fs::canonicalize(link) else { return };
    let (Some(folder), Some(name)) = (target.parent(), target.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let Some(target_base) = LogName::parse(name).map(|name| name.base) else { return };
    found.targets.insert(folder.to_owned());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // If the folder is gone, only the link's target counts, as before a rotation.
        Err(error) if is_gone(&error) => return,
        Err(error) => return found.problems.push(Problem::of_error(Kind::Folder, folder, &error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(path) = path.to_str() else { continue };
        let rotated = LogName::parse(path).is_some_and(|name| name.base == target_base && name.age != Age::Live);
        if let Ok(metadata) = fs::metadata(path)
            && rotated
            && metadata.is_file()
        {
            let key = FileKey { device: metadata.dev(), inode: metadata.ino() };
            found.add(Listed { key, name: path.into(), base: base.clone(), link: true });
        }
    }
}

/// Whether a folder could not be listed because it was removed.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens the file if it is still the one that was listed.
pub(super) fn open(path: &Path, key: FileKey) -> io::Result<File> {
    let file = File::open(path)?;
    // The kernel assigns the lowest free number, so the highest numbers are never assigned to logs.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if file.as_raw_fd() as u64 >= limit.saturating_sub(RESERVED_FILES) {
        return Err(Errno::MFILE.into());
    }
    let metadata = file.metadata()?;
    if (FileKey { device: metadata.dev(), inode: metadata.ino() }) == key {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
