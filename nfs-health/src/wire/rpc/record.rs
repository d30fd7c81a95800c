//! Record marking (RFC 5531, section 11): a message is sent in fragments, each after a word with its length and a mark
//! on the last one.

use thiserror::Error;

/// The longest accepted record: the largest read of NFS and its headers.
pub const MOST_BYTES: usize = 1024 * 1024 + 4096;

/// The most fragments of one record. Some servers send each operation's result as one.
const MOST_FRAGMENTS: u32 = 1024;

const LAST: u32 = 1 << 31;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Longer than any answer.
    #[error("the server sends a record of more than {MOST_BYTES} bytes")]
    TooLong,
    /// Too many fragments.
    #[error("the server sends a record in more than {MOST_FRAGMENTS} fragments")]
    TooManyFragments,
}

/// Formats our message as one fragment.
pub fn mark(message: &[u8]) -> Vec<u8> {
    // Our messages are a few hundred bytes long.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&(length | LAST).to_be_bytes()[..], message].concat()
}

/// Assembles a record from bytes as they arrive. It allocates no more than what arrived.
#[derive(Debug, Default)]
pub struct Assembler {
    header: Vec<u8>,
    record: Vec<u8>,
    /// How many bytes of the current fragment are missing; `None` before its header.
    missing: Option<usize>,
    last: bool,
    fragments: u32,
}

impl Assembler {
    /// Takes bytes from the front of `bytes`. Returns the record once it is complete, and then starts again with the
    /// rest of `bytes`.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; nothing after it can be used.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        while !bytes.is_empty() || self.missing == Some(0) {
            match self.missing {
                None => self.take_header(bytes)?,
                Some(0) => {
                    self.missing = None;
                    if self.last {
                        self.fragments = 0;
                        return Ok(Some(std::mem::take(&mut self.record)));
                    }
                }
                Some(missing) => {
                    let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                    self.record.extend(taken);
                    *bytes = rest;
                    self.missing = Some(missing - taken.len());
                }
            }
        }
        Ok(None)
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), RecordError> {
        let (taken, rest) = bytes.split_at((4 - self.header.len()).min(bytes.len()));
        self.header.extend(taken);
        *bytes = rest;
        let Ok(header) = <[u8; 4]>::try_from(&self.header[..]) else { return Ok(()) };
        self.header.clear();
        let header = u32::from_be_bytes(header);
        let length = usize::try_from(header & !LAST).map_err(|_| RecordError::TooLong)?;
        if self.record.len().saturating_add(length) > MOST_BYTES {
            return Err(RecordError::TooLong);
        }
        self.fragments += 1;
        if self.fragments > MOST_FRAGMENTS {
            return Err(RecordError::TooManyFragments);
        }
        self.last = header & LAST != 0;
        self.missing = Some(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(assembler: &mut Assembler, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut records = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(record) = assembler.take(&mut piece)? {
                records.push(record);
            }
        }
        Ok(records)
    }

    #[test]
    fn fragments_make_one_record() {
        let sent =
            [&[0, 0, 0, 2, b'a', b'b'][..], &[0, 0, 0, 0], &[0x80, 0, 0, 1, b'c'], &mark(b""), &mark(b"next")].concat();
        let records = all(&mut Assembler::default(), &[&sent]).unwrap();
        assert_eq!(records, [b"abc".to_vec(), b"".to_vec(), b"next".to_vec()]);
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_anything_is_kept() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(&mut &[0xff, 0xff, 0xff, 0xff][..]), Err(RecordError::TooLong));
        assert_eq!(assembler.record.capacity(), 0);
    }

    #[test]
    fn a_record_without_end_is_refused() {
        let mut assembler = Assembler::default();
        let fragment = [&[0, 1, 0, 0][..], &[7; 65536]].concat();
        let refused = (0..100).find_map(|_| assembler.take(&mut &fragment[..]).err());
        assert_eq!(refused, Some(RecordError::TooLong));
        let empty = vec![0; 4 * 5000];
        assert_eq!(Assembler::default().take(&mut &empty[..]), Err(RecordError::TooManyFragments));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..5), size in 1_usize..9) {
            let sent: Vec<u8> = records.iter().flat_map(|record| mark(record)).collect();
            let pieces: Vec<&[u8]> = sent.chunks(size).collect();
            prop_assert_eq!(all(&mut Assembler::default(), &pieces), Ok(records));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&mut Assembler::default(), &[&bytes]);
        }
    }
}
