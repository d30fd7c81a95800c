//! A file system that can be mounted and then never answers, like a hung file server.
//!
//! It is a raw FUSE server (Documentation/filesystems/fuse.rst and include/uapi/linux/fuse.h of the kernel) that
//! answers the first message, INIT, and nothing after it. A process with a request that the server has not read yet can
//! be killed; with a request that it has read, it cannot. These are the two ways in which NFS hangs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

/// How a process on it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// SIGKILL ends it.
    Killable,
    /// Nothing ends it until the file system goes away.
    BeyondSigkill,
}

/// The file system. Dropping it unmounts it, and hung calls then fail.
#[derive(Debug)]
pub struct SilentFileSystem {
    folder: Folder,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Folder {
    Own(TempDir),
    Given(std::path::PathBuf),
}

impl SilentFileSystem {
    /// Mounts it on a new folder.
    pub fn mount(silence: Silence) -> io::Result<Self> {
        Self::mount_at(Folder::Own(tempfile::tempdir()?), silence)
    }

    /// Mounts it over `path`.
    pub fn mount_over(path: &Path, silence: Silence) -> io::Result<Self> {
        Self::mount_at(Folder::Given(path.to_owned()), silence)
    }

    fn mount_at(folder: Folder, silence: Silence) -> io::Result<Self> {
        // Non-blocking, so that the server can stop at any time: closing the device ends the hang of others.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let device = File::options().read(true).write(true).custom_flags(nonblocking).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd());
        let options = std::ffi::CString::from_vec_with_nul(options.into_bytes()).map_err(io::Error::other)?;
        rustix::mount::mount("silent", folder.path(), "fuse", MountFlags::empty(), options.as_c_str())?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut this = Self { folder, stop: stop.clone(), server: None };
        answer_init(&device)?;
        this.server = Some(std::thread::spawn(move || be_silent(device, silence, &stop)));
        Ok(this)
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }
}

impl Drop for SilentFileSystem {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(self.folder.path(), UnmountFlags::DETACH);
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.server.take().map(JoinHandle::join);
        if unmounted.is_err() || matches!(ended, Some(Err(_))) {
            eprintln!("the silent file system at {} could not be unmounted", self.folder.path().display());
        }
    }
}

/// Reads INIT (a header of 40 bytes with the request's number at byte 8) and answers with protocol version 7.31.
fn answer_init(mut device: &File) -> io::Result<()> {
    let mut request = vec![0; 64 * 1024];
    let length = loop {
        match device.read(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            result => break result?,
        }
    };
    if length < 40 {
        return Err(io::Error::other("the kernel's first FUSE message is too short"));
    }
    let mut answer = Vec::with_capacity(80);
    answer.extend(80_u32.to_ne_bytes());
    answer.extend(0_i32.to_ne_bytes());
    answer.extend(&request[8..16]);
    answer.extend(7_u32.to_ne_bytes());
    answer.extend(31_u32.to_ne_bytes());
    answer.resize(80, 0);
    device.write_all(&answer)
}

fn be_silent(mut device: File, silence: Silence, stop: &AtomicBool) {
    let mut request = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        if silence == Silence::BeyondSigkill {
            // It never answers the requests that it reads.
            let _ = device.read(&mut request);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
