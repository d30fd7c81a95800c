//! A part's temporary folder. Dropping it unmounts and removes everything beneath it; a helper process does that if the
//! test is killed.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::{Error, Result, command, wait};

/// The parent of all folders: on a real file system (overlay does not work on every tmpfs), with a short path (a unix
/// socket's address has at most 107 bytes).
pub(crate) const BASE: &str = "/var/tmp/labhands-testbed";

/// The cache folder: `${XDG_CACHE_HOME:-~/.cache}/labhands`.
pub fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let base = base.ok_or_else(|| Error::Missing("neither XDG_CACHE_HOME nor HOME is set".into()))?;
    let folder = base.join("labhands");
    fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    Ok(folder)
}

/// The helper process that cleans up after this one, once started.
static JANITOR: OnceLock<std::result::Result<Child, String>> = OnceLock::new();

/// A temporary folder, which is removed with its content when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new empty folder whose name starts with this process's id.
    pub fn new(part: &str) -> Result<Folder> {
        let mine = format!("{}-", std::process::id());
        if let Err(reason) = JANITOR.get_or_init(|| janitor(&mine).map_err(|error| error.to_string())) {
            return Err(Error::Missing(format!("cannot start sh to clean up later: {reason}")));
        }
        for number in 0..u32::MAX {
            let path = Path::new(BASE).join(format!("{mine}{part}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Folder { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Another process removed the empty parent with its last folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(BASE).map_err(Error::io(format!("create {BASE}")))?;
                }
                Err(error) => return Err(Error::io(format!("create {}", path.display()))(error)),
            }
        }
        Err(Error::Missing(format!("{BASE} is full of folders: remove it")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Its name, which is unique on this machine; also the name of its cgroup.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Writes a file into it and returns its path. If the file exists, it is replaced at once: a daemon that reads it
    /// meanwhile finds the former content or the new one.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io(format!("create {}", parent.display())))?;
        }
        let beside = path.with_file_name(format!(".{}.new", path.file_name().unwrap_or_default().display()));
        let written = fs::write(&beside, content).and_then(|()| fs::rename(&beside, &path));
        written.map_err(Error::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Creates a folder in it and returns its path.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir_all(&path).map_err(Error::io(format!("create {}", path.display())))?;
        Ok(path)
    }

    /// As [`Folder::folder`], in memory: for thousands of files, which a disk creates and removes slowly.
    pub fn in_memory(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder(name)?;
        mount_in_memory(&path, None)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let removed = wait::until(wait::END_LIMIT, || {
            unmount_beneath(&self.path);
            match fs::remove_dir_all(&self.path) {
                Ok(()) => Some(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(()),
                Err(_) => None,
            }
        });
        if removed.is_none() {
            eprintln!("testbed: could not remove {}", self.path.display());
        }
    }
}

/// Mounts a file system in memory on a folder, with a limit in bytes (half of the memory if `None`).
pub(crate) fn mount_in_memory(folder: &Path, limit: Option<u64>) -> Result<()> {
    let limit = limit.map_or_else(|| "50%".into(), |bytes| bytes.to_string());
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={limit},mode=711"), "tmpfs"]).arg(folder);
    command::run(&mut mount).map(drop)
}

/// Unmounts everything mounted at or beneath a path, the last mount first.
pub(crate) fn unmount_beneath(path: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(mount).starts_with(path) {
            // It may have been unmounted with the one above it.
            let _ = Command::new("umount").args(["-l", mount]).stderr(Stdio::null()).status();
        }
    }
}

/// Starts the helper: a shell that reads a pipe, whose other end this process holds open until it ends, however it ends.
fn janitor(mine: &str) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", include_str!("janitor.sh"), "testbed-janitor", &format!("{BASE}/{mine}"), mine])
        .process_group(0) // so that Ctrl-C does not end it
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run_args;

    #[test]
    fn a_dropped_folder_is_removed_with_the_mounts_in_it() {
        let folder = Folder::new("folder").unwrap();
        let path = folder.path().to_owned();
        let inner = folder.folder("a/b").unwrap();
        run_args("mount", &["-t", "tmpfs", "tmpfs", inner.to_str().unwrap()]).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(path.to_str().unwrap()), "{mounts}");
    }

    #[test]
    fn two_folders_of_one_part_differ() {
        let (one, other) = (Folder::new("same").unwrap(), Folder::new("same").unwrap());
        assert_ne!(one.path(), other.path());
    }
}
