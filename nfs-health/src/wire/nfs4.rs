//! NFS version 4: COMPOUND requests and results (RFC 7530; sessions and what they need: RFC 8881).

pub mod attributes;
pub mod elsewhere;
pub mod session;
pub mod status;

pub use self::status::Status;

use thiserror::Error;

use crate::wire::rpc::xdr::{Reader, Writer, XdrError};

/// Procedure COMPOUND.
pub const COMPOUND: u32 = 1;

/// The most results that a server may claim. Ours have a few operations, and one for each name of a path.
const MOST_RESULTS: u32 = 128;
const MOST_TAG_BYTES: u32 = 1024;

/// An operation's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub u32);

/// Operations that a probe needs.
impl Operation {
    /// Requests attributes.
    pub const GETATTR: Self = Self(9);
    /// Goes to a child by name.
    pub const LOOKUP: Self = Self(15);
    /// Opens a file.
    pub const OPEN: Self = Self(18);
    /// Goes to the root.
    pub const PUTROOTFH: Self = Self(24);
    /// Reads the target of a symbolic link.
    pub const READLINK: Self = Self(27);
    /// Asks which kinds of authentication a name accepts.
    pub const SECINFO: Self = Self(33);
    /// Sets attributes.
    pub const SETATTR: Self = Self(34);
    /// Introduces a client.
    pub const EXCHANGE_ID: Self = Self(42);
    /// Opens a session.
    pub const CREATE_SESSION: Self = Self(43);
    /// Closes a session.
    pub const DESTROY_SESSION: Self = Self(44);
    /// Comes first in each request of a session.
    pub const SEQUENCE: Self = Self(53);
    /// Makes the server forget a client.
    pub const DESTROY_CLIENTID: Self = Self(57);
    /// Tells the server that there is nothing to reclaim.
    pub const RECLAIM_COMPLETE: Self = Self(58);
}

/// Why a COMPOUND has no good result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompoundError {
    /// The result cannot be parsed.
    #[error("not a result of NFSv4: {0}")]
    Unreadable(#[from] XdrError),
    /// The result belongs to another operation.
    #[error("the result of operation {got} instead of {wanted}")]
    OutOfOrder {
        /// The requested operation.
        wanted: u32,
        /// The received operation.
        got: u32,
    },
    /// An operation failed.
    #[error("{0}")]
    Failed(Status),
}

/// A COMPOUND request under construction.
#[derive(Clone, Debug)]
pub struct Compound {
    minor: u32,
    count: u32,
    operations: Writer,
}

impl Compound {
    /// A request without operations.
    pub fn new(minor: u32) -> Self {
        Self { minor, count: 0, operations: Writer::default() }
    }

    /// Adds an operation.
    #[must_use]
    pub fn operation(mut self, operation: Operation, arguments: &[u8]) -> Self {
        self.count += 1;
        self.operations = self.operations.u32(operation.0).raw(arguments);
        self
    }

    /// Goes to the folder of an export, name by name from the root.
    #[must_use]
    pub fn go_to(self, path: &[String]) -> Self {
        path.iter().fold(self.operation(Operation::PUTROOTFH, &[]), |compound, name| {
            compound.operation(Operation::LOOKUP, &Writer::default().opaque(name.as_bytes()).bytes())
        })
    }

    /// The arguments of procedure [`COMPOUND`].
    pub fn encode(self) -> Vec<u8> {
        let tag = b"";
        Writer::default().opaque(tag).u32(self.minor).u32(self.count).raw(&self.operations.bytes()).bytes()
    }
}

/// The names in the path of an export, from the root.
pub fn names(export: &str) -> Vec<String> {
    export.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}

/// The results of a COMPOUND, read in the order of its operations.
#[derive(Clone, Debug)]
pub struct Results<'a> {
    status: u32,
    left: usize,
    /// How many LOOKUPs succeeded.
    depth: usize,
    reader: Reader<'a>,
}

impl<'a> Results<'a> {
    /// Parses the head of the results.
    ///
    /// # Errors
    ///
    /// [`CompoundError::Unreadable`].
    pub fn parse(result: &'a [u8]) -> Result<Self, CompoundError> {
        let mut reader = Reader::new(result);
        let status = reader.u32()?;
        reader.opaque(MOST_TAG_BYTES)?;
        let left = reader.length(MOST_RESULTS)?;
        Ok(Self { status, left, depth: 0, reader })
    }

    /// The status of the whole request.
    ///
    /// # Errors
    ///
    /// [`CompoundError::Failed`] if it is not OK.
    pub fn ok(&self) -> Result<(), CompoundError> {
        if self.status == 0 { Ok(()) } else { Err(CompoundError::Failed(Status(self.status))) }
    }

    /// The body of the next operation's result, which must be read before the next call.
    ///
    /// # Errors
    ///
    /// [`CompoundError`], including the operation's own status.
    pub fn next(&mut self, operation: Operation) -> Result<&mut Reader<'a>, CompoundError> {
        if self.left == 0 {
            self.ok()?;
            return Err(XdrError::Short(0).into());
        }
        self.left -= 1;
        let got = self.reader.u32()?;
        if got != operation.0 {
            return Err(CompoundError::OutOfOrder { wanted: operation.0, got });
        }
        match self.reader.u32()? {
            0 => Ok(&mut self.reader),
            status => Err(CompoundError::Failed(Status(status))),
        }
    }

    /// Skips the results of [`Compound::go_to`].
    ///
    /// # Errors
    ///
    /// As [`Results::next`].
    pub fn went_to(&mut self, path: &[String]) -> Result<(), CompoundError> {
        self.next(Operation::PUTROOTFH)?;
        for _ in path {
            self.next(Operation::LOOKUP)?;
            self.depth += 1;
        }
        Ok(())
    }

    /// How many names of the path [`Results::went_to`] has passed.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn an_export_is_reached_name_by_name() {
        let bytes = Compound::new(1).go_to(&names("/a//./bc/")).encode();
        let expected = [&words(&[0, 1, 3, 24, 15, 1])[..], b"a\0\0\0", &words(&[15, 2]), b"bc\0\0"].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn results_come_in_order_until_one_fails() {
        let bytes = words(&[2, 0, 2, 24, 0, 15, 2]);
        let mut results = Results::parse(&bytes).unwrap();
        assert_eq!(results.went_to(&names("/home")), Err(CompoundError::Failed(Status::NOENT)));
        assert_eq!(results.next(Operation::GETATTR).unwrap_err(), CompoundError::Failed(Status::NOENT));
    }

    #[test]
    fn odd_results_are_refused() {
        let other = words(&[0, 0, 1, 99, 0]);
        let got = Results::parse(&other).unwrap().next(Operation::GETATTR).unwrap_err();
        assert_eq!(got, CompoundError::OutOfOrder { wanted: 9, got: 99 });
        let none = words(&[0, 0, 0]);
        assert!(matches!(Results::parse(&none).unwrap().next(Operation::GETATTR), Err(CompoundError::Unreadable(_))));
        assert!(Results::parse(&words(&[0, 0, 4_000_000])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(mut results) = Results::parse(&bytes) {
                while results.next(Operation::GETATTR).is_ok() {}
            }
        }
    }
}
