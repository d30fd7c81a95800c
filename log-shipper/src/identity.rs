//! Recognizes a file after a rename, a compression or a restart: by its content, with device and inode as a hint.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How much of a file's beginning identifies it, in bytes.
pub const HEAD_BYTES: usize = 1024;

/// How many bytes before an offset prove that it still belongs to the same content.
pub const TAIL_BYTES: usize = 64;

/// A shorter beginning is not enough to match two files; the shortest CRI line is longer.
const LEAST_HEAD_BYTES: u16 = 24;

/// A file's place on its file system. Inodes are reused, so this alone proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// The device's number.
    pub device: u64,
    /// The inode's number.
    pub inode: u64,
}

/// The hash of a file's first bytes. It grows with the file up to [`HEAD_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many bytes were hashed.
    pub length: u16,
    /// Their hash.
    pub hash: u64,
}

impl Head {
    /// The head of a file that begins with `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
        Self { length: bytes.len() as u16, hash: xxh3_64(bytes) }
    }

    /// Whether a file that begins with `bytes` is this one, possibly grown.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.length >= LEAST_HEAD_BYTES && self.begins(bytes)
    }

    /// Whether `bytes` may be the beginning of the file with this head, however few bytes were hashed.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        bytes.get(..usize::from(self.length)).is_some_and(|bytes| Self::of(bytes).hash == self.hash || bytes.is_empty())
    }

    /// Whether the hash of more bytes would be more certain.
    pub fn is_growing(&self) -> bool {
        usize::from(self.length) < HEAD_BYTES
    }
}

/// A position in a file's uncompressed content, with the hash of up to [`TAIL_BYTES`] bytes before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes from the beginning.
    pub offset: u64,
    /// The hash of the bytes before the offset.
    pub tail: u64,
}

impl Mark {
    /// How many bytes before the offset are hashed.
    pub fn tail_length(offset: u64) -> usize {
        offset.min(TAIL_BYTES as u64) as usize
    }

    /// The mark at `offset`, where `before` ends with the bytes that precede it.
    pub fn at(offset: u64, before: &[u8]) -> Self {
        let tail = &before[before.len().saturating_sub(Self::tail_length(offset))..];
        Self { offset, tail: if offset == 0 { 0 } else { xxh3_64(tail) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_grown_file_is_the_same_and_another_is_not() {
        let head = Head::of(b"2026-11-22T10:00:00Z stdout F one\n");
        assert!(head.matches(b"2026-11-22T10:00:00Z stdout F one\nmore"));
        assert!(!head.matches(b"2026-11-22T10:00:00Z stdout F two\n"));
        assert!(!head.matches(b"2026-11-22T10:00:00Z"));
        assert!(!Head::of(b"").matches(b"anything"));
    }

    proptest! {
        #[test]
        fn a_mark_depends_only_on_the_bytes_before_it(content in proptest::collection::vec(any::<u8>(), 1..300), from in 0usize..100) {
            let offset = content.len() as u64;
            let from = from.min(content.len().saturating_sub(TAIL_BYTES));
            prop_assert_eq!(Mark::at(offset, &content), Mark::at(offset, &content[from..]));
        }
    }
}
