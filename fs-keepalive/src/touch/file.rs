//! The files that a round writes: the record, the new block and file that detect a used-up quota, and the line with the date.

use std::os::fd::OwnedFd;

use jiff::Timestamp;
use nfs_mounts::failure::Failure;
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FOLDER;
use crate::record::SIZE;
use crate::removal::NEW_FILE;
use crate::trouble::Trouble;

/// The size of the new block, and an offset that the record's own blocks never reach. Servers accept writes of 64 KiB
/// and more either whole or not at all, so if this fails, users cannot write either.
const NEW_BLOCK: usize = 64 * 1024;
const NEW_BLOCK_AT: usize = 1024 * 1024;

/// Direct I/O requires aligned memory.
#[repr(align(4096))]
struct AlignedBlock([u8; NEW_BLOCK]);

/// Direct I/O requires aligned memory.
#[repr(align(4096))]
pub(super) struct Block(pub(super) [u8; SIZE]);

pub(super) struct OurFile {
    pub(super) file: OwnedFd,
    /// Whether reads and writes bypass the page cache. The kernel's NFS client supports that, and a process that waits
    /// in such a write can be killed, unlike one that waits for dirty pages.
    direct: bool,
}

impl OurFile {
    pub(super) fn open(folder: &OwnedFd, name: &str) -> Result<Self, Trouble> {
        let in_volume = format!("{FOLDER}/{name}");
        let foreign = |trouble| match trouble {
            Trouble::Foreign(_) => Trouble::Foreign(in_volume.clone()),
            trouble => trouble,
        };
        match open_regular(folder, name, OFlags::RDWR | OFlags::DIRECT).map_err(foreign) {
            Ok(file) => Ok(Self { file, direct: true }),
            Err(Trouble::Failed(Failure::Other(_))) => {
                Ok(Self { file: open_regular(folder, name, OFlags::RDWR)?, direct: false })
            }
            Err(trouble) => Err(trouble),
        }
    }

    pub(super) fn write(&self, bytes: &Block) -> Result<(), Trouble> {
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
    /// although the record itself can be written. A file system that cannot have a block there has no trouble.
    pub(super) fn take_a_new_block(&self) -> Result<(), Trouble> {
        let taken = (|| {
            let mut done = 0;
            while done < NEW_BLOCK {
                let block = AlignedBlock([0x2e; NEW_BLOCK]);
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
        match taken {
            Err(Errno::FBIG | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => (),
            taken => taken?,
        }
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
    pub(super) fn read_back(&self, written: &Block) -> Result<Stat, Trouble> {
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

/// Creates an empty file and removes it. If the user's quota of files is used up, only this fails. The file is created without
/// being opened, because the kernel may refuse that in a folder like `/tmp` (see [`open_regular`]).
pub(super) fn take_a_new_file(folder: &OwnedFd, name: &str) -> Result<(), Trouble> {
    let name = format!("{name}{NEW_FILE}");
    let make = || rustix::fs::mknodat(folder, &name, FileType::RegularFile, Mode::from(0o644), 0);
    let remove = || rustix::fs::unlinkat(folder, &name, AtFlags::empty());
    let made = match make() {
        // From a round that was killed in between, or another user's file.
        Err(Errno::EXIST) => match remove() {
            Ok(()) => make(),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => Err(errno),
            Err(_) => return Err(Trouble::Foreign(format!("{FOLDER}/{name}"))),
        },
        made => made,
    };
    match made.and_then(|()| remove()) {
        Ok(()) => Ok(()),
        // On an export that maps users, the new file belongs to another user, and only its owner may remove it from a folder like
        // `/tmp`.
        // The record exists already, and needs no right to create another file.
        Err(Errno::ACCESS | Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
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
pub(super) fn write_plain(folder: &OwnedFd, name: &str, time: Timestamp) -> Result<(), Trouble> {
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
