//! NFS version 3 and its helper protocols (RFC 1813; portmapper: RFC 1833).

use thiserror::Error;

use crate::space::Space;
use crate::wire::nfs4::elsewhere::Flavor;
use crate::wire::rpc::xdr::{Reader, Writer, XdrError};
use crate::wire::rpc::{MOUNTD, Program};

/// Portmapper: asks for a program's port.
pub const GETPORT: u32 = 3;
/// mountd: asks for an export's handle.
pub const MNT: u32 = 1;
/// mountd: removes our name from its list.
pub const UMNT: u32 = 3;
/// NFS: sets attributes.
pub const SETATTR: u32 = 2;
/// NFS: reads the space of a file system.
pub const FSSTAT: u32 = 18;

const MOST_HANDLE_BYTES: u32 = 64;

statuses! {
    /// A status of mountd or NFS other than OK (`mountstat3`, `nfsstat3`; their numbers mean the same).
    "NFSv3" "";
    /// Not the owner; servers also send it to callers that they do not serve.
    1 PERM
    /// No such path.
    2 NOENT
    /// The server's disk fails.
    5 IO
    /// The server's device fails.
    6 NXIO
    /// Permission denied.
    13 ACCES
    17 EXIST
    18 XDEV
    /// The server's device is gone.
    19 NODEV
    /// A component of the path is not a folder.
    20 NOTDIR
    21 ISDIR
    /// The path is none for mountd.
    22 INVAL
    27 FBIG
    /// No space is left.
    28 NOSPC
    /// The file system is read-only.
    30 ROFS
    31 MLINK
    /// The path is longer than the server accepts.
    63 NAMETOOLONG
    66 NOTEMPTY
    /// The quota is used up.
    69 DQUOT
    /// The handle is stale.
    70 STALE
    71 REMOTE
    /// The handle is not one of the server's.
    10001 BADHANDLE
    10002 NOT_SYNC
    10003 BAD_COOKIE
    10004 NOTSUPP
    10005 TOOSMALL
    /// The server failed.
    10006 SERVERFAULT
    10007 BADTYPE
    /// Try again soon.
    10008 JUKEBOX
}

/// Why there is no good result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResultError {
    /// It cannot be parsed.
    #[error("not a result of NFSv3: {0}")]
    Unreadable(#[from] XdrError),
    /// The server refused.
    #[error("{0}")]
    Failed(Status),
}

/// The arguments of GETPORT for mountd of version 3 over TCP.
pub fn port_of_mountd() -> Vec<u8> {
    const TCP: u32 = 6;
    let Program { number, version } = MOUNTD;
    Writer::default().u32(number).u32(version).u32(TCP).u32(0).bytes()
}

/// Parses the result of GETPORT; `None` if the program is not registered.
///
/// # Errors
///
/// [`ResultError::Unreadable`].
pub fn port(result: &[u8]) -> Result<Option<u16>, ResultError> {
    let value = Reader::new(result).u32()?;
    let port = u16::try_from(value).map_err(|_| XdrError::Impossible { at: 0, value })?;
    Ok((port != 0).then_some(port))
}

/// The arguments of MNT and UMNT.
pub fn export_path(export: &str) -> Vec<u8> {
    Writer::default().opaque(export.as_bytes()).bytes()
}

/// Parses the handle in the result of MNT, and the kinds of authentication that the export accepts.
///
/// # Errors
///
/// [`ResultError`].
pub fn handle(result: &[u8]) -> Result<(Vec<u8>, Vec<Flavor>), ResultError> {
    const MOST_FLAVORS: u32 = 64;
    let mut reader = ok(result)?;
    let handle = reader.opaque(MOST_HANDLE_BYTES)?.to_vec();
    let flavors: Result<_, XdrError> =
        (0..reader.length(MOST_FLAVORS)?).map(|_| Ok(Flavor::of(reader.u32()?))).collect();
    Ok((handle, flavors?))
}

/// The arguments of FSSTAT.
pub fn file_system_of(handle: &[u8]) -> Vec<u8> {
    Writer::default().opaque(handle).bytes()
}

/// Parses the result of FSSTAT.
///
/// # Errors
///
/// [`ResultError`].
pub fn space(result: &[u8]) -> Result<Space, ResultError> {
    const ATTRIBUTES_BYTES: usize = 84;
    let mut reader = ok(result)?;
    if reader.bool()? {
        reader.take(ATTRIBUTES_BYTES)?;
    }
    let (total, _free, available) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let (files, _files_free, files_available) = (reader.u64()?, reader.u64()?, reader.u64()?);
    Ok(Space { available, total, files_available: Some(files_available), files: Some(files) })
}

/// The arguments of SETATTR that set nothing.
pub fn set_nothing(handle: &[u8]) -> Vec<u8> {
    // No mode, owner, group, size or times, and no guard.
    Writer::default().opaque(handle).raw(&[0; 7 * 4]).bytes()
}

/// Parses the status of a result.
///
/// # Errors
///
/// [`ResultError`].
pub fn ok(result: &[u8]) -> Result<Reader<'_>, ResultError> {
    let mut reader = Reader::new(result);
    match reader.u32()? {
        0 => Ok(reader),
        status => Err(ResultError::Failed(Status(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports() {
        assert_eq!(port(&[0, 0, 0x4e, 0x50]), Ok(Some(20048)));
        assert_eq!(port(&[0; 4]), Ok(None));
        assert_eq!(port(&[0, 1, 0, 0]), Err(XdrError::Impossible { at: 0, value: 65536 }.into()));
    }

    #[test]
    fn handles_are_bounded_and_refusals_are_named() {
        assert_eq!(
            handle(&Writer::default().u32(0).opaque(b"handle").u32(1).u32(390_003).bytes()),
            Ok((b"handle".to_vec(), vec![Flavor::Kerberos("krb5")]))
        );
        assert_eq!(handle(&[0, 0, 0, 13]), Err(ResultError::Failed(Status::ACCES)));
        assert!(handle(&Writer::default().u32(0).opaque(&[0; 65]).bytes()).is_err());
    }

    #[test]
    fn space_is_read_with_and_without_attributes() {
        let numbers = Writer::default().u64(100).u64(60).u64(50).u64(9).u64(8).u64(7).u32(0).bytes();
        let expected = Space { available: 50, total: 100, files_available: Some(7), files: Some(9) };
        assert_eq!(space(&Writer::default().u32(0).u32(0).raw(&numbers).bytes()), Ok(expected));
        assert_eq!(space(&Writer::default().u32(0).u32(1).raw(&[1; 84]).raw(&numbers).bytes()), Ok(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (port(&bytes), handle(&bytes), space(&bytes));
        }
    }
}
