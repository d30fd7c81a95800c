//! One round on one volume. It runs in a child process, because each of these calls may hang forever.
//!
//! The folder is opened once and every other path is relative to it, so that an unmount in between cannot redirect a
//! write to the root file system. Users can write to the volume, so no link is followed and nothing is opened that
//! could block.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nfs_mounts::Phase;
use nfs_mounts::child::Heartbeat;
use nfs_mounts::failure::Failure;
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::record::{Record, SIZE};
use crate::removal::{ENTRIES_PER_STEP, MOST_ENTRIES, MOST_EXAMINED, Seen, is_candidate, may_be_a_record};
use crate::trouble::{Failed, Trouble};

/// The folder of the records, in the top folder of the volume.
pub const FOLDER: &str = ".keepalive.d";

/// The child's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The volume's folder.
    pub path: PathBuf,
    /// The writer's node.
    pub node: String,
    /// The writer's pod.
    pub pod: String,
    /// The round's number.
    pub sequence: u64,
    /// The time until the next record is due.
    pub interval: Duration,
    /// The file system that was found there in the last round, if any.
    pub expected: Option<Identity>,
    /// Name of the file with the date.
    pub plain_file: Option<String>,
    /// Whether to allocate a new block as well. Only a new block runs into a quota; rewriting the record does not.
    pub new_block: bool,
    /// The entry of the folder from which to search for files of writers that are gone; `None` for no search.
    pub remove_from: Option<usize>,
}

/// Identifies a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    file_system: u64,
    inode: u64,
}

/// The result of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The file system that was written to.
    pub identity: Identity,
    /// The result of the search for files of other writers, if it was ordered.
    pub removal: Option<Removal>,
    /// The server's clock minus this node's clock, in seconds, at the time of the write.
    pub clock_offset: f64,
}

/// The result of a search for files of writers that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// How many files were removed.
    pub removed: u32,
    /// Where to continue if not all entries were examined.
    pub go_on_from: Option<usize>,
    /// Why the folder could not be listed. Our own record is written nevertheless.
    pub failed: Option<String>,
}

/// Carries out an order.
///
/// # Errors
///
/// [`Failed`]: the first error, and its phase.
pub fn touch(order: Order, heartbeat: &mut Heartbeat) -> Result<Done, Failed> {
    let mut steps = Steps(heartbeat);
    let name = format!("{}_{}", order.node, order.pod);
    let volume = steps.step(Phase::Stat, || look(&order))?;
    let (folder, file) = steps.step(Phase::Open, || {
        let folder = records_folder(&volume.folder)?;
        let file = OurFile::open(&folder, &name)?;
        Ok((folder, file))
    })?;
    let time = Timestamp::now();
    let record = Record {
        sequence: order.sequence,
        time,
        node: order.node.clone(),
        pod: order.pod.clone(),
        interval: order.interval.as_secs(),
    };
    let bytes = Block(record.encode());
    steps.step(Phase::Write, || file.write(&bytes))?;
    steps.step(Phase::Fsync, || Ok(rustix::fs::fsync(&file.file)?))?;
    let written = steps.step(Phase::Read, || file.read_back(&bytes))?;
    if let Some(plain) = &order.plain_file {
        steps.step(Phase::Write, || write_plain(&volume.folder, plain, time))?;
    }
    let new_block = match order.new_block {
        true => steps.step(Phase::Write, || file.take_a_new_block()),
        false => Ok(()),
    };
    let removal = order.remove_from.map(|from| steps.remove_old(&folder, name.as_bytes(), &written, from));
    // The record was written and the server responds, but other users cannot write; report that.
    if volume.full {
        return Err(Failed { phase: Some(Phase::Stat), trouble: Failure::Full.into() });
    }
    new_block?;
    Ok(Done { identity: volume.identity, removal, clock_offset: offset(&written, time) })
}

struct Steps<'a>(&'a mut Heartbeat);

impl Steps<'_> {
    fn step<T>(&mut self, phase: Phase, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Failed> {
        self.0.phase(phase, work).map_err(|trouble| Failed { phase: Some(phase), trouble })
    }

    /// Removes the records of writers that are gone. Files that cannot be removed (another user's, on a squashed
    /// export) are skipped. Users may fill the folder, so a few entries at a time are one step with its own limit, and
    /// the next round continues.
    fn remove_old(&mut self, folder: &OwnedFd, own_name: &[u8], own: &Stat, from: usize) -> Removal {
        let own = seen(own_name, own);
        let mut removal = Removal::default();
        let mut entries = match self.0.phase(Phase::Unlink, || rustix::fs::Dir::read_from(folder)) {
            Ok(entries) => entries,
            Err(errno) => return Removal { failed: Some(errno.to_string()), ..removal },
        };
        let (mut listed, mut examined) = (0, 0);
        loop {
            let more = self.0.phase(Phase::Unlink, || -> Result<bool, Errno> {
                for _ in 0..ENTRIES_PER_STEP {
                    let Some(entry) = entries.next().transpose()? else { return Ok(false) };
                    listed += 1;
                    if listed <= from {
                        continue;
                    }
                    examined += 1;
                    let name = entry.file_name();
                    if !may_be_a_record(name.to_bytes()) {
                        continue;
                    }
                    let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                    let is_old = is_candidate(&seen(name.to_bytes(), &stat), &own) && holds_a_record(folder, name);
                    if is_old && rustix::fs::unlinkat(folder, name, AtFlags::empty()).is_ok() {
                        removal.removed += 1;
                    }
                }
                Ok(true)
            });
            match more {
                Ok(true) if listed >= MOST_ENTRIES => return removal,
                // Entries before this one were removed.
                Ok(true) if examined >= MOST_EXAMINED => {
                    removal.go_on_from = Some(listed.saturating_sub(removal.removed as usize));
                    return removal;
                }
                Ok(true) => {}
                Ok(false) => return removal,
                Err(errno) => return Removal { failed: Some(errno.to_string()), ..removal },
            }
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Failure::from(errno).into()
    }
}

struct Volume {
    folder: OwnedFd,
    identity: Identity,
    full: bool,
}

fn look(order: &Order) -> Result<Volume, Trouble> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&order.path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    if stat.st_dev == rustix::fs::stat("/")?.st_dev {
        return Err(Trouble::MissingMount);
    }
    let space = rustix::fs::fstatvfs(&folder)?;
    let identity = Identity { device: stat.st_dev, file_system: space.f_fsid, inode: stat.st_ino };
    if order.expected.is_some_and(|expected| expected != identity) {
        return Err(Trouble::ChangedMount);
    }
    let full = (space.f_blocks > 0 && space.f_bavail == 0) || (space.f_files > 0 && space.f_favail == 0);
    Ok(Volume { folder, identity, full })
}

/// Opens the folder of the records, and creates it if it is missing. It is writable for all, as `/tmp` is, because the
/// server may map writers on other nodes to other users.
fn records_folder(volume: &OwnedFd) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(volume, FOLDER, flags, Mode::empty()) {
        Err(Errno::NOENT) => match rustix::fs::mkdirat(volume, FOLDER, Mode::from(0o1777)) {
            Ok(()) => {
                let folder = rustix::fs::openat(volume, FOLDER, flags, Mode::empty())?;
                // The umask removed some bits.
                rustix::fs::fchmod(&folder, Mode::from(0o1777))?;
                return Ok(folder);
            }
            Err(Errno::EXIST) => rustix::fs::openat(volume, FOLDER, flags, Mode::empty()),
            Err(errno) => Err(errno),
        },
        opened => opened,
    };
    opened.map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => Trouble::Foreign(FOLDER.to_owned()),
        errno => errno.into(),
    })
}

/// The size of the new block, and an offset that the record's own blocks never reach. Servers accept writes of 64 KiB
/// and more either whole or not at all, so if this fails, users cannot write either.
const NEW_BLOCK: usize = 64 * 1024;
const NEW_BLOCK_AT: usize = 1024 * 1024;

/// Direct I/O requires aligned memory.
#[repr(align(4096))]
struct Page([u8; NEW_BLOCK]);

/// Direct I/O requires aligned memory.
#[repr(align(4096))]
struct Block([u8; SIZE]);

struct OurFile {
    file: OwnedFd,
    /// Whether reads and writes bypass the page cache. The kernel's NFS client supports that, and a process that waits
    /// in such a write can be killed, unlike one that waits for dirty pages.
    direct: bool,
}

impl OurFile {
    fn open(folder: &OwnedFd, name: &str) -> Result<Self, Trouble> {
        match open_regular(folder, name, OFlags::RDWR | OFlags::DIRECT) {
            Ok(file) => Ok(Self { file, direct: true }),
            Err(Trouble::Failed(Failure::Other(_))) => {
                Ok(Self { file: open_regular(folder, name, OFlags::RDWR)?, direct: false })
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn write(&self, bytes: &Block) -> Result<(), Trouble> {
        let mut done = 0;
        while done < SIZE {
            match rustix::io::pwrite(&self.file, &bytes.0[done..], done as u64) {
                Ok(length) => done += length,
                Err(Errno::INTR) => (),
                Err(Errno::INVAL) if self.direct => self.through_the_cache()?,
                Err(errno) => return Err(errno.into()),
            }
        }
        if rustix::fs::fstat(&self.file)?.st_size > SIZE as i64 {
            rustix::fs::ftruncate(&self.file, SIZE as u64)?;
        }
        Ok(())
    }

    /// Allocates a block that the file has not had, and frees it again. With the user's quota exhausted, this fails
    /// although the record itself can be written.
    fn take_a_new_block(&self) -> Result<(), Trouble> {
        let taken = (|| {
            let mut done = 0;
            while done < NEW_BLOCK {
                let block = Page([0x2e; NEW_BLOCK]);
                match rustix::io::pwrite(&self.file, &block.0[done..], (NEW_BLOCK_AT + done) as u64) {
                    Ok(length) => done += length,
                    Err(Errno::INTR) => (),
                    Err(Errno::INVAL) if self.direct => self.through_the_cache()?,
                    Err(errno) => return Err(errno),
                }
            }
            rustix::fs::fsync(&self.file)
        })();
        let given_back = rustix::fs::ftruncate(&self.file, SIZE as u64);
        taken?;
        Ok(given_back?)
    }

    /// Falls back to the page cache, for file systems whose direct I/O requires larger blocks than our record.
    fn through_the_cache(&self) -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        if !flags.contains(OFlags::DIRECT) {
            return Err(Errno::INVAL);
        }
        rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)
    }

    /// Reads the record from the server, not from the page cache, and compares it.
    fn read_back(&self, written: &Block) -> Result<Stat, Trouble> {
        // Without direct I/O: the pages are clean after fsync and can be dropped.
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
        let mut read = Block([0; SIZE]);
        let mut done = 0;
        while done < SIZE {
            match rustix::io::pread(&self.file, &mut read.0[done..], done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(Errno::INTR) => (),
                Err(Errno::INVAL) if self.direct => self.through_the_cache()?,
                Err(errno) => return Err(errno.into()),
            }
        }
        if read.0 != written.0 {
            return Err(Trouble::ReadBack);
        }
        Ok(rustix::fs::fstat(&self.file)?)
    }
}

/// Opens or creates a file that is ours: a regular file with a single link. Symbolic links are not followed, and a FIFO
/// does not block.
///
/// The file is created only if it is missing. With `fs.protected_regular` the kernel refuses `O_CREAT` on another
/// user's file in a folder like `/tmp`, and on an export that maps users, our own file belongs to another user, even
/// the one that this very call created.
fn open_regular(folder: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Trouble> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |more: OFlags| rustix::fs::openat(folder, name, flags | more, Mode::from(0o644));
    let opened = match open(OFlags::empty()) {
        Err(Errno::NOENT) => match open(OFlags::CREATE) {
            Err(refused @ (Errno::ACCESS | Errno::PERM)) => open(OFlags::empty()).map_err(|errno| match errno {
                Errno::NOENT => refused,
                errno => errno,
            }),
            made => made,
        },
        opened => opened,
    };
    let file = opened.map_err(|errno| match errno {
        Errno::LOOP | Errno::ISDIR | Errno::NXIO => Trouble::Foreign(name.to_owned()),
        errno => errno.into(),
    })?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(Trouble::Foreign(name.to_owned()));
    }
    Ok(file)
}

/// Writes one line as date(1) prints it, in UTC.
fn write_plain(folder: &OwnedFd, name: &str, time: Timestamp) -> Result<(), Trouble> {
    let file = open_regular(folder, name, OFlags::WRONLY)?;
    let line = time.strftime("%a %b %e %H:%M:%S UTC %Y\n").to_string();
    let mut done = 0;
    while done < line.len() {
        match rustix::io::pwrite(&file, &line.as_bytes()[done..], done as u64) {
            Ok(length) => done += length,
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno.into()),
        }
    }
    rustix::fs::ftruncate(&file, line.len() as u64)?;
    Ok(rustix::fs::fsync(&file)?)
}

fn seen<'a>(name: &'a [u8], stat: &Stat) -> Seen<'a> {
    Seen {
        name,
        regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        size: stat.st_size.try_into().unwrap_or(0),
        written: stat.st_mtime,
    }
}

fn holds_a_record(folder: &OwnedFd, name: &std::ffi::CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut bytes = [0; SIZE];
    let read =
        rustix::fs::openat(folder, name, flags, Mode::empty()).and_then(|file| rustix::io::pread(&file, &mut bytes, 0));
    read == Ok(SIZE) && Record::decode(&bytes).is_ok()
}

fn offset(written: &Stat, time: Timestamp) -> f64 {
    let server = written.st_mtime as f64 + written.st_mtime_nsec as f64 / 1e9;
    server - (time.as_second() as f64 + f64::from(time.subsec_nanosecond()) / 1e9)
}
