//! The attributes that a probe requests (RFC 7530, section 5): those of the server and of the export's file system.

use std::time::Duration;

use super::CompoundError;
use crate::space::Space;
use crate::wire::rpc::xdr::{Reader, Writer, XdrError};

const TYPE: u32 = 1;
const LEASE_TIME: u32 = 10;
const FILES_AVAILABLE: u32 = 21;
const FILES_TOTAL: u32 = 23;
const SPACE_AVAILABLE: u32 = 42;
const SPACE_TOTAL: u32 = 44;

/// The result of GETATTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Lease time: how long the server remembers a silent client.
    pub lease: Option<Duration>,
    /// The space of the file system.
    pub space: Option<Space>,
    /// Whether it is a symbolic link.
    pub is_link: bool,
}

/// The arguments of GETATTR.
pub fn request() -> Vec<u8> {
    let first = 1 << TYPE | 1 << LEASE_TIME | 1 << FILES_AVAILABLE | 1 << FILES_TOTAL;
    let second = 1 << (SPACE_AVAILABLE - 32) | 1 << (SPACE_TOTAL - 32);
    Writer::default().u32(2).u32(first).u32(second).bytes()
}

/// Parses the result of GETATTR. A server omits what it does not know.
///
/// # Errors
///
/// [`CompoundError::Unreadable`], also if the server sends attributes that were not requested.
pub fn parse(reader: &mut Reader<'_>) -> Result<Attributes, CompoundError> {
    let words = reader.length(4)?;
    let mut mask = 0_u64;
    for word in 0..words {
        let bits = u64::from(reader.u32()?);
        match word {
            0 => mask |= bits,
            1 => mask |= bits << 32,
            _ if bits != 0 => {
                return Err(XdrError::Impossible { at: 0, value: u32::try_from(bits).unwrap_or(0) }.into());
            }
            _ => (),
        }
    }
    let values = reader.opaque(4096)?;
    let mut values = Reader::new(values);
    const LINK: u32 = 5;
    let (mut lease, mut is_link, mut numbers) = (None, false, [None; 4]);
    for attribute in (0..64).filter(|attribute| mask & 1 << attribute != 0) {
        let number = match attribute {
            TYPE => {
                is_link = values.u32()? == LINK;
                continue;
            }
            LEASE_TIME => {
                lease = Some(Duration::from_secs(values.u32()?.into()));
                continue;
            }
            FILES_AVAILABLE => 0,
            FILES_TOTAL => 1,
            SPACE_AVAILABLE => 2,
            SPACE_TOTAL => 3,
            value => return Err(XdrError::Impossible { at: 0, value }.into()),
        };
        numbers[number] = Some(values.u64()?);
    }
    let [files_available, files, available, total] = numbers;
    let space = match (available, total) {
        (Some(available), Some(total)) => Some(Space { available, total, files_available, files }),
        _ => None,
    };
    Ok(Attributes { lease, space, is_link })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_server_knows_is_read_in_order() {
        let values = Writer::default().u32(90).u64(5).u64(1000).bytes();
        let bytes = Writer::default().u32(2).u32(1 << LEASE_TIME).u32(1 << 10 | 1 << 12).opaque(&values).bytes();
        let attributes = parse(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(attributes.lease, Some(Duration::from_secs(90)));
        let space = Space { available: 5, total: 1000, files_available: None, files: None };
        assert_eq!(attributes.space, Some(space));
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let bytes = Writer::default().u32(1).u32(1 << 3).opaque(&[0; 8]).bytes();
        assert!(parse(&mut Reader::new(&bytes)).is_err());
        let bytes = Writer::default().u32(3).u32(0).u32(0).u32(1).opaque(&[]).bytes();
        assert!(parse(&mut Reader::new(&bytes)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&mut Reader::new(&bytes));
        }
    }
}
