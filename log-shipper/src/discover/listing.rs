//! What folders hold, and opening it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::identity::FileKey;
use crate::names::LogName;

/// Docker's configuration of a container is smaller.
const MOST_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// So many open files are left to the broker, the checkpoint, the admin server and to looking into folders.
const RESERVED_FILES: u64 = 32;

/// When a name in this folder changed last; `None` if it can't be seen.
pub(super) fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The folders in a folder, and whether some are links.
pub(super) fn folders(path: &Path) -> io::Result<(Vec<Arc<Path>>, bool)> {
    let (mut folders, mut links) = (Vec::new(), false);
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(entry.path().into());
        } else if kind.is_symlink() {
            links = true;
            folders.extend(Some(entry.path()).filter(|path| path.is_dir()).map(Arc::from));
        }
    }
    Ok((folders, links))
}

/// The regular files in a folder, links followed, and whether there are links.
pub(super) fn files(path: &Path) -> io::Result<(Vec<(FileKey, String)>, bool)> {
    let (mut files, mut links) = (Vec::new(), false);
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if LogName::parse(&name).is_none() {
            continue;
        }
        links |= entry.file_type()?.is_symlink();
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            files.push((FileKey { device: metadata.dev(), inode: metadata.ino() }, name));
        }
    }
    Ok((files, links))
}

/// Whether a folder could not be listed because it is no more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens the file if it is still the one that was listed.
pub(super) fn open(path: &Path, key: FileKey) -> io::Result<File> {
    let file = File::open(path)?;
    // The lowest free number is given: the highest ones are never a log's.
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

/// What to do about this error, if it is about open files.
pub(super) fn too_many(error: &io::Error) -> &'static str {
    let limit = Errno::from_io_error(error) == Some(Errno::MFILE);
    if limit { "; raise the limit of open files (ulimit -n)" } else { "" }
}

/// Docker's configuration of a container.
pub(super) fn read_config(path: &Path) -> Option<Vec<u8>> {
    let size = fs::metadata(path).ok()?.len();
    if size > MOST_CONFIG_BYTES { None } else { fs::read(path).ok() }
}
