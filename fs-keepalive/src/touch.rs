//! One round on one volume. It runs in a child process, because each of these calls may hang forever.
//!
//! The folder is opened once and every other path is relative to it, so that an unmount in between cannot redirect a
//! write to the root file system. Users can write to the volume, so no link is followed and nothing is opened that
//! could block.

mod file;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nfs_mounts::Phase;
use nfs_mounts::child::Heartbeat;
use nfs_mounts::failure::Failure;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::file::{Block, OurFile, take_a_new_file, write_plain};
use crate::record::{Record, SIZE};
use crate::removal::{ENTRIES_PER_STEP, MOST_ENTRIES, MOST_EXAMINED, Seen, is_candidate, is_new_file, may_be_a_record};
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
    /// Whether to allocate a new block and create a new file as well. Only these run into a quota; rewriting the record
    /// does not.
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
        true => steps.step(Phase::Write, || {
            file.take_a_new_block()?;
            take_a_new_file(&folder, &name)
        }),
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
                    let file = seen(name.to_bytes(), &stat);
                    let is_old = is_candidate(&file, &own) && (is_new_file(&file) || holds_a_record(folder, name));
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

struct OpenVolume {
    folder: OwnedFd,
    identity: Identity,
    full: bool,
}

fn look(order: &Order) -> Result<OpenVolume, Trouble> {
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
    Ok(OpenVolume { folder, identity, full })
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
            Err(Errno::ACCESS | Errno::PERM) => return Err(Trouble::NoFolder(FOLDER.to_owned())),
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
