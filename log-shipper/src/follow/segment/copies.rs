//! The files on disk with a segment's content: which of them is read, and which are open or listed.

use std::cmp::Reverse;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use super::{Listing, Segment};
use crate::content::{self, Chunk};
use crate::identity::{FileKey, Mark};
use crate::names::LogName;

/// The unit of a file's blocks (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// One file on disk with the content.
#[derive(Debug)]
pub(in crate::follow) struct Copy {
    pub(in crate::follow) key: FileKey,
    /// Its name within the log's folder, or its whole path.
    pub(in crate::follow) name: Arc<str>,
    pub(in crate::follow) gzip: bool,
    /// Whether it is listed in a folder. The inode of a copy that is neither listed nor open may have been reused.
    pub(in crate::follow) listed: bool,
    /// Open as long as something may still be read from it.
    pub(in crate::follow) file: Option<File>,
}

impl Copy {
    /// Whether the file's content reaches this mark. A compressed file is assumed to, because its head matched.
    pub(in crate::follow) fn reaches(&self, mark: Mark) -> bool {
        match &self.file {
            Some(file) if !self.gzip => {
                matches!(content::read_plain(file, mark, 0, &mut Vec::new()), Ok(Chunk::Data { .. }))
            }
            _ => true,
        }
    }
}

impl Segment {
    /// The open copy with this key. While it is open, its inode cannot be reused.
    pub(in crate::follow) fn open_copy(&mut self, key: FileKey) -> Option<&mut Copy> {
        self.copies.iter_mut().find(|copy| copy.key == key && copy.file.is_some())
    }

    /// Adds a copy.
    pub(in crate::follow) fn add(&mut self, mut copy: Copy) {
        if self.is_ended() {
            copy.file = None;
        }
        self.copies.retain(|other| other.listed || other.file.is_some());
        self.copies.push(copy);
        self.gzip = None;
        self.listing = Listing::Listed;
        self.sort_copies();
    }

    /// Open copies come before closed ones, plain ones before compressed ones, and the live file, which grows, before
    /// others.
    pub(in crate::follow) fn sort_copies(&mut self) {
        self.copies.sort_by_key(|copy| (copy.file.is_none(), copy.gzip, Reverse(LogName::age_of(&copy.name).0)));
        // The name of a copy that is no longer listed shows the file's former age, not its present one.
        let listed = self.copies.iter().filter(|copy| copy.listed);
        if let Some(age) = listed.map(|copy| LogName::age_of(&copy.name).0).min() {
            self.age = age;
        }
    }

    /// Whether this file, which begins so, has the content, as far as it was read.
    pub(in crate::follow) fn has_content_of(&self, copy: &Copy, beginning: &[u8]) -> bool {
        self.head.matches(beginning) && copy.reaches(self.read)
    }

    /// A copy is no longer listed. An open one is read to its end nevertheless.
    pub(in crate::follow) fn unlist(&mut self, key: FileKey) {
        for copy in self.copies.iter_mut().filter(|copy| copy.key == key) {
            copy.listed = false;
        }
        if !self.is_gone() && self.copies.iter().all(|copy| !copy.listed) {
            self.listing = Listing::Gone(Instant::now());
        }
    }

    /// Whether a file is open to be read.
    pub(in crate::follow) fn has_file(&self) -> bool {
        self.copies.first().is_some_and(|copy| copy.file.is_some())
    }

    /// Whether the file that is read was deleted.
    pub(in crate::follow) fn is_deleted(&self) -> bool {
        let file = self.copies.first().and_then(|copy| copy.file.as_ref());
        file.is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0))
    }

    /// How many bytes deleted files occupy because they are open here: all their bytes, however much was read.
    pub(in crate::follow) fn pinned(&self) -> u64 {
        let unlisted = self.copies.iter().filter(|copy| !copy.listed).filter_map(|copy| copy.file.as_ref());
        let deleted = unlisted.filter_map(|file| file.metadata().ok()).filter(|metadata| metadata.nlink() == 0);
        deleted.map(|metadata| metadata.len().min(metadata.blocks() * BLOCK_BYTES)).sum()
    }

    /// The file that is read, if it is not compressed.
    pub(in crate::follow) fn plain_file(&self) -> Option<&File> {
        self.copies.first().filter(|copy| !copy.gzip)?.file.as_ref()
    }

    /// Closes all copies.
    pub(in crate::follow) fn close(&mut self) {
        self.gzip = None;
        for copy in &mut self.copies {
            copy.file = None;
        }
    }

    pub(in crate::follow) fn is_compressed(&self) -> bool {
        self.copies.first().is_some_and(|copy| copy.gzip)
    }
}
