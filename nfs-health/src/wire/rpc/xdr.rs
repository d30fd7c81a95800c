//! XDR (RFC 4506): big-endian words, and byte strings padded to words.

use thiserror::Error;

/// Why a message could not be parsed.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum XdrError {
    /// It ends too early.
    #[error("the message ends at byte {0}, in the middle of a value")]
    Short(usize),
    /// A length is beyond the limit of the value.
    #[error("a value at byte {at} claims {claimed} bytes or items; the limit is {most}")]
    TooLong { at: usize, claimed: u32, most: u32 },
    /// A word that is neither true nor false, or not one of the choices.
    #[error("an impossible value {value} at byte {at}")]
    Impossible { at: usize, value: u32 },
}

/// Reads values one after another. Nothing is allocated from a claimed length.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `length` bytes, without padding.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`].
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], XdrError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(XdrError::Short(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A fixed-length byte string of `N` bytes, a multiple of four.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`].
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| XdrError::Short(at))
    }

    /// An unsigned 32-bit number.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`].
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// An unsigned 64-bit number.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`].
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// True or false.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`], [`XdrError::Impossible`].
    pub fn bool(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(XdrError::Impossible { at: self.at - 4, value }),
        }
    }

    /// The number of items of an array, or of bytes, that follow.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`], [`XdrError::TooLong`].
    pub fn length(&mut self, most: u32) -> Result<usize, XdrError> {
        let claimed = self.u32()?;
        if claimed > most {
            return Err(XdrError::TooLong { at: self.at - 4, claimed, most });
        }
        usize::try_from(claimed).map_err(|_| XdrError::TooLong { at: self.at - 4, claimed, most })
    }

    /// A byte string of `most` bytes at most.
    ///
    /// # Errors
    ///
    /// [`XdrError::Short`], [`XdrError::TooLong`].
    pub fn opaque(&mut self, most: u32) -> Result<&'a [u8], XdrError> {
        let length = self.length(most)?;
        let bytes = self.take(length)?;
        self.take(padding(length))?;
        Ok(bytes)
    }

    /// The remaining bytes.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
}

/// Writes values one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An unsigned 32-bit number.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// An unsigned 64-bit number.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Raw bytes: a fixed-length byte string, or values written before.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A byte string with its length and padding. Only our own short strings are written.
    #[must_use]
    pub fn opaque(mut self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self = self.u32(length).raw(bytes);
        self.0.resize(self.0.len() + padding(bytes.len()), 0);
        self
    }

    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

fn padding(length: usize) -> usize {
    (4 - length % 4) % 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claimed_length_is_not_trusted() {
        let bytes = Writer::default().u32(u32::MAX).bytes();
        assert_eq!(Reader::new(&bytes).opaque(64), Err(XdrError::TooLong { at: 0, claimed: u32::MAX, most: 64 }));
        assert_eq!(Reader::new(&bytes).opaque(u32::MAX), Err(XdrError::Short(4)));
        assert_eq!(Reader::new(&bytes).bool(), Err(XdrError::Impossible { at: 0, value: u32::MAX }));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(a: u32, b: u64, c in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Writer::default().opaque(&c).u32(a).u64(b).raw(&[1, 2, 3, 4]).bytes();
            prop_assert_eq!(bytes.len() % 4, 0);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.opaque(40), Ok(&c[..]));
            prop_assert_eq!(reader.u32(), Ok(a));
            prop_assert_eq!(reader.u64(), Ok(b));
            prop_assert_eq!(reader.rest(), &[1, 2, 3, 4]);
        }
    }
}
