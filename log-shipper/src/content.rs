//! Reads the uncompressed bytes of a log file, plain or gzip, from any offset.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gzip_members::GzipMembers;
use crate::identity::{HEAD_BYTES, Mark, TAIL_BYTES};

/// The first line is searched for within this many bytes.
const FIRST_LINE_BYTES: usize = 64 * 1024;

/// How many files may be decompressed at once; each takes about 80 KiB.
const MOST_DECODERS: usize = 8;

/// How many blocks of NULs that are not a hole are read in search of a first line.
const MOST_NUL_READS: usize = 64;

/// Deflate's highest compression ratio.
const MOST_RATIO: u64 = 1032;

/// Limits the decoders of the process.
#[derive(Clone, Debug, Default)]
pub struct Decoders(Arc<AtomicUsize>);

impl Decoders {
    fn take(&self) -> Option<DecoderSlot> {
        let taken = |count| if count < MOST_DECODERS { Some(count + 1) } else { None };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok().map(|_| DecoderSlot(self.clone()))
    }
}

#[derive(Debug)]
struct DecoderSlot(Decoders);

impl Drop for DecoderSlot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The buffer contains `before` bytes from before the mark, then the bytes after it.
    Data {
        /// How many bytes from before the mark come first.
        before: usize,
        /// Whether the content ends with the buffer.
        end: bool,
    },
    /// The bytes before the mark have changed: the file was truncated.
    Truncated,
    /// All decoders are in use; retry soon.
    Busy,
}

/// Reads a plain file from `mark` into `buffer`: the bytes before the mark, then up to `want` more.
///
/// # Errors
///
/// The system's error.
pub fn read_plain(file: &File, mark: Mark, want: usize, buffer: &mut Vec<u8>) -> io::Result<Chunk> {
    let before = Mark::tail_length(mark.offset);
    buffer.resize(before + want, 0);
    let filled = read_at(file, buffer, mark.offset - before as u64)?;
    buffer.truncate(filled);
    if filled < before || Mark::at(mark.offset, &buffer[..before]) != mark {
        return Ok(Chunk::Truncated);
    }
    Ok(Chunk::Data { before, end: filled < before + want })
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A gzip file that is being decompressed.
#[derive(Debug)]
pub struct GzipReader {
    decoder: GzipMembers,
    /// How many bytes were decompressed.
    position: u64,
    /// The last of them, which the next read still needs.
    carry: Vec<u8>,
    /// Why nothing follows them, although the content is not complete.
    damage: Option<io::Error>,
    _slot: DecoderSlot,
}

impl GzipReader {
    /// Starts at the beginning; `None` while all decoders are in use.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn open(file: &File, decoders: &Decoders) -> io::Result<Option<Self>> {
        let Some(slot) = decoders.take() else { return Ok(None) };
        let decoder = GzipMembers::open(file)?;
        Ok(Some(Self { decoder, position: 0, carry: Vec::new(), damage: None, _slot: slot }))
    }

    /// Whether a read at this mark is possible without starting again at the beginning.
    pub fn can_reach(&self, mark: Mark) -> bool {
        mark.offset - Mark::tail_length(mark.offset) as u64 >= self.position - self.carry.len() as u64
    }

    /// Why the content ends before the end of the file, once a read has reached that place.
    pub fn damage(&self) -> Option<&io::Error> {
        self.damage.as_ref()
    }

    /// Like [`read_plain`]. Bytes before the mark are decompressed and skipped. A file that is damaged further on ends
    /// there ([`GzipReader::damage`]).
    ///
    /// # Errors
    ///
    /// If the file is not gzip, is damaged before the mark, or cannot be read.
    pub fn read(&mut self, mark: Mark, want: usize, buffer: &mut Vec<u8>) -> io::Result<Chunk> {
        let before = Mark::tail_length(mark.offset);
        let from = mark.offset - before as u64;
        buffer.clear();
        if !self.can_reach(mark) {
            return Err(io::Error::other("a decoder cannot seek backward"));
        }
        let carried_from = self.position - self.carry.len() as u64;
        if from < self.position {
            buffer.extend_from_slice(&self.carry[(from - carried_from) as usize..]);
        } else {
            let skip = from - self.position;
            let skipped = io::copy(&mut (&mut self.decoder).take(skip), &mut io::sink())?;
            self.position += skipped;
            if skipped < skip {
                return Ok(Chunk::Truncated);
            }
        }
        let wanted = (before + want).saturating_sub(buffer.len());
        let had = buffer.len();
        if self.damage.is_none() {
            // Bytes that were decompressed before the error are in the buffer.
            self.damage = (&mut self.decoder).take(wanted as u64).read_to_end(buffer).err();
        }
        let came = buffer.len() - had;
        self.position += came as u64;
        self.carry.clone_from(buffer);
        if buffer.len() < before
            && let Some(error) = &self.damage
        {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        if buffer.len() < before || Mark::at(mark.offset, &buffer[..before]) != mark {
            return Ok(Chunk::Truncated);
        }
        Ok(Chunk::Data { before, end: came < wanted })
    }

    /// Drops bytes that a read from `offset` does not need.
    pub fn consumed(&mut self, offset: u64) {
        let keep = self.position.saturating_sub(offset) as usize + TAIL_BYTES;
        let drop = self.carry.len().saturating_sub(keep);
        self.carry.drain(..drop);
        self.carry.shrink_to(2 * keep);
    }
}

/// The beginning of a file: enough for its [`crate::identity::Head`] and, if there is one, its first whole line.
///
/// # Errors
///
/// If the file cannot be read, or has the name of a gzip file and is not one.
pub fn beginning(file: &File, gzip: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for limit in [4 * HEAD_BYTES, FIRST_LINE_BYTES] {
        if gzip {
            bytes.clear();
            let read = GzipMembers::open(file)?.take(limit as u64).read_to_end(&mut bytes);
            // A damaged file's beginning is what can be decompressed.
            if let Some(error) = read.err().filter(|_| bytes.is_empty()) {
                return Err(error);
            }
        } else {
            bytes.resize(limit, 0);
            let filled = read_at(file, &mut bytes, 0)?;
            bytes.truncate(filled);
        }
        if bytes.len() < limit || bytes.contains(&b'\n') {
            break;
        }
    }
    Ok(bytes)
}

/// The uncompressed size of a gzip file from its last four bytes (RFC 1952, section 2.3.1), for one member below 4 GiB.
/// 0 if the value cannot be true.
pub fn uncompressed_size(file: &File) -> u64 {
    let mut bytes = [0; 4];
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let Some(at) = length.checked_sub(bytes.len() as u64) else { return 0 };
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Some(u64::from(u32::from_le_bytes(bytes))).filter(|size| *size / MOST_RATIO <= length).unwrap_or(0),
        Err(_) => 0,
    }
}

/// The first whole line of a file with this beginning, without NULs before it. A line that is too long counts as far as
/// it was read.
pub fn first_line(beginning: &[u8]) -> Option<&[u8]> {
    let beginning = &beginning[leading_nuls(beginning)..];
    let beginning = &beginning[..beginning.len().min(FIRST_LINE_BYTES)];
    match memchr::memchr(b'\n', beginning) {
        Some(end) => Some(&beginning[..end]),
        None if beginning.len() >= FIRST_LINE_BYTES => Some(beginning),
        None => None,
    }
}

/// The first whole line of a plain file that begins with nothing but NULs; see [`first_line`].
pub fn first_line_after_nuls(file: &File) -> Option<Vec<u8>> {
    let (mut at, mut bytes) = (0, Vec::new());
    for _ in 0..MOST_NUL_READS {
        at = next_data(file, at)?;
        bytes.resize(2 * FIRST_LINE_BYTES, 0);
        let filled = read_at(file, &mut bytes, at).ok()?;
        bytes.truncate(filled);
        let nuls = leading_nuls(&bytes);
        if nuls <= FIRST_LINE_BYTES || filled < bytes.len() {
            return first_line(&bytes).map(<[u8]>::to_owned);
        }
        at += nuls as u64;
    }
    None
}

/// How many NULs are at the beginning of these bytes.
pub fn leading_nuls(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())
}

/// The offset of the file's next data at or after `offset`, after a hole if there is one; `None` if there is no more.
pub fn next_data(file: &File, offset: u64) -> Option<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => Some(data),
        Err(rustix::io::Errno::NXIO) => None,
        // This file system does not report holes.
        Err(_) => Some(offset),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn plain(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn gzip(content: &[u8]) -> File {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        plain(&encoder.finish().unwrap())
    }

    #[test]
    fn other_content_before_the_mark_is_a_truncation() {
        let mark = Mark::at(10, b"0123456789");
        let mut buffer = Vec::new();
        assert_eq!(
            read_plain(&plain(b"0123456789ab"), mark, 9, &mut buffer).unwrap(),
            Chunk::Data { before: 10, end: true }
        );
        assert_eq!(&buffer[10..], b"ab");
        assert_eq!(read_plain(&plain(b"012345678Xab"), mark, 9, &mut buffer).unwrap(), Chunk::Truncated);
        assert_eq!(read_plain(&plain(b"012"), mark, 9, &mut buffer).unwrap(), Chunk::Truncated);
    }

    #[test]
    fn a_file_that_is_not_gzip_has_nothing() {
        let mut buffer = Vec::new();
        let mut reader = GzipReader::open(&plain(b"not gzip"), &Decoders::default()).unwrap().unwrap();
        assert_eq!(reader.read(Mark::default(), 10, &mut buffer).unwrap(), Chunk::Data { before: 0, end: true });
        assert!(reader.damage().is_some() && buffer.is_empty());
        assert!(beginning(&plain(b"not gzip"), true).is_err());
    }

    #[test]
    fn the_readable_part_of_a_damaged_file_is_read() {
        let content: Vec<u8> = (0..20_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let whole = gzip(&content);
        let length = whole.metadata().unwrap().len();
        // The trailer has eight bytes.
        for (missing, all) in [(1, true), (8, true), (length / 3, false), (length * 9 / 10, false)] {
            let damaged = gzip(&content);
            damaged.set_len(length - missing).unwrap();
            let mut reader = GzipReader::open(&damaged, &Decoders::default()).unwrap().unwrap();
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            loop {
                let mark = Mark::at(read.len() as u64, &read);
                let Chunk::Data { before, end } = reader.read(mark, 4096, &mut buffer).unwrap() else {
                    panic!("no data")
                };
                read.extend_from_slice(&buffer[before..]);
                if end {
                    break;
                }
            }
            assert!(reader.damage().is_some(), "{missing} bytes are missing");
            assert!(content.starts_with(&read) && (read.len() == content.len()) == all, "{missing} {}", read.len());
            assert!(content.starts_with(&beginning(&damaged, true).unwrap()));
        }
    }

    #[test]
    fn the_first_line_comes_after_nuls_and_holes() {
        use std::os::unix::fs::FileExt;
        assert_eq!(first_line(b"\0\0one\ntwo"), Some(&b"one"[..]));
        assert_eq!(first_line(&[0; 100_000]), None);
        for nuls in [3, 70_000, 1 << 30] {
            let file = plain(b"");
            file.write_all_at(b"one\ntwo\n", nuls).unwrap();
            assert_eq!(first_line_after_nuls(&file).as_deref(), Some(&b"one"[..]), "{nuls}");
        }
        let dense = plain(&vec![0; 1 << 20]);
        assert_eq!(first_line_after_nuls(&dense), None);
        dense.write_all_at(b"one\n", 1 << 20).unwrap();
        assert_eq!(first_line_after_nuls(&dense).as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn decoders_are_few() {
        let (file, decoders) = (gzip(b"x"), Decoders::default());
        let open: Vec<_> = (0..MOST_DECODERS).map(|_| GzipReader::open(&file, &decoders).unwrap().unwrap()).collect();
        assert!(GzipReader::open(&file, &decoders).unwrap().is_none());
        drop(open);
        assert!(GzipReader::open(&file, &decoders).unwrap().is_some());
    }

    #[test]
    fn the_first_line_is_found_in_both() {
        let content = [vec![b'x'; 5000], b"\nmore".to_vec()].concat();
        for (file, compressed) in [(plain(&content), false), (gzip(&content), true)] {
            let beginning = beginning(&file, compressed).unwrap();
            assert_eq!(first_line(&beginning).unwrap().len(), 5000);
        }
        assert_eq!(first_line(b"no newline yet"), None);
    }

    proptest! {
        #[test]
        fn gzip_is_resumed_anywhere_with_steps_of_any_length(
            content in proptest::collection::vec(any::<u8>(), 1..2000),
            start in 0usize..2000,
            steps in proptest::collection::vec((1usize..300, 0usize..300), 1..20),
        ) {
            let mut at = start.min(content.len());
            let mut reader = GzipReader::open(&gzip(&content), &Decoders::default()).unwrap().unwrap();
            let mut buffer = Vec::new();
            for (want, advance) in steps {
                let mark = Mark::at(at as u64, &content[..at]);
                prop_assert!(reader.can_reach(mark));
                let Chunk::Data { before, .. } = reader.read(mark, want, &mut buffer).unwrap() else { panic!("no data") };
                let expected = &content[at..(at + want).min(content.len())];
                prop_assert!(buffer[before..].starts_with(expected));
                at += advance.min(buffer.len() - before);
                reader.consumed(at as u64);
            }
        }
    }
}
