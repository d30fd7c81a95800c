//! Call and reply messages (RFC 5531, section 9).

use thiserror::Error;

use super::Program;
use super::xdr::{Reader, Writer, XdrError};

/// The largest verifier (RFC 5531, section 8.2).
const MOST_AUTH_BYTES: u32 = 400;

/// The usual user of calls. A probe needs no rights, so it is the user to which servers map unknown users.
pub const NOBODY: u32 = 65534;

/// The accept status of a procedure that the server does not have.
pub const PROC_UNAVAIL: u32 = 3;

/// Why a reply is not a result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// Not a reply, or not to our call.
    #[error("it is not the answer to the call that was made")]
    NotOurs,
    /// The message cannot be parsed.
    #[error("not an RPC reply: {0}")]
    Unreadable(#[from] XdrError),
    /// The server does not support this version of the program.
    #[error("the server has versions {low} to {high} of this program")]
    Versions {
        /// The lowest.
        low: u32,
        /// The highest.
        high: u32,
    },
    /// The server does not have the program.
    #[error("the server does not have this program")]
    NoProgram,
    /// The server rejects our credentials.
    #[error("the server refuses the caller ({})", auth_name(*.0))]
    Refused(u32),
    /// The server could not execute the call.
    #[error("the server could not carry out the call ({})", accept_name(*.0))]
    Failed(u32),
}

/// The name of an authentication status (`auth_stat`, RFC 5531, section 9).
fn auth_name(status: u32) -> String {
    let names = ["AUTH_OK", "AUTH_BADCRED", "AUTH_REJECTEDCRED", "AUTH_BADVERF", "AUTH_REJECTEDVERF", "AUTH_TOOWEAK"];
    let more = ["AUTH_INVALIDRESP", "AUTH_FAILED"];
    let name = usize::try_from(status).ok().and_then(|at| names.iter().chain(&more).nth(at).copied());
    match (name, status) {
        (Some(name), _) => name.to_owned(),
        (None, 13) => "RPCSEC_GSS_CREDPROBLEM".to_owned(),
        (None, 14) => "RPCSEC_GSS_CTXPROBLEM".to_owned(),
        (None, status) => format!("authentication status {status}"),
    }
}

/// The name of an accept status (`accept_stat`, RFC 5531, section 9).
fn accept_name(status: u32) -> String {
    match status {
        PROC_UNAVAIL => "PROC_UNAVAIL".to_owned(),
        4 => "GARBAGE_ARGS".to_owned(),
        5 => "SYSTEM_ERR".to_owned(),
        status => format!("accept status {status}"),
    }
}

/// A call with AUTH_SYS credentials (RFC 5531, appendix A) of `user`, with the group of the same number.
pub fn call(xid: u32, user: u32, program: Program, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    let credentials =
        Writer::default().u32(0).opaque(b"nfs-health").u32(user).u32(user).u32(0 /* no further groups */).bytes();
    Writer::default()
        .u32(xid)
        .u32(0 /* CALL */)
        .u32(2 /* RPC version */)
        .u32(program.number)
        .u32(program.version)
        .u32(procedure)
        .u32(1 /* AUTH_SYS */)
        .opaque(&credentials)
        .u32(0 /* AUTH_NONE as the verifier */)
        .opaque(b"")
        .raw(arguments)
        .bytes()
}

/// The result in a reply to call `xid`.
///
/// # Errors
///
/// [`ReplyError`].
pub fn reply(xid: u32, message: &[u8]) -> Result<&[u8], ReplyError> {
    let mut reader = Reader::new(message);
    if reader.u32()? != xid || reader.u32()? != 1 {
        return Err(ReplyError::NotOurs);
    }
    match reader.u32()? {
        0 => accepted(reader),
        1 => Err(match reader.u32()? {
            0 => ReplyError::Versions { low: reader.u32()?, high: reader.u32()? },
            1 => ReplyError::Refused(reader.u32()?),
            _ => ReplyError::NotOurs,
        }),
        _ => Err(ReplyError::NotOurs),
    }
}

fn accepted(mut reader: Reader<'_>) -> Result<&[u8], ReplyError> {
    let _verifier = (reader.u32()?, reader.opaque(MOST_AUTH_BYTES)?);
    match reader.u32()? {
        0 => Ok(reader.rest()),
        1 => Err(ReplyError::NoProgram),
        2 => Err(ReplyError::Versions { low: reader.u32()?, high: reader.u32()? }),
        status => Err(ReplyError::Failed(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rpc::NFS_4;
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn replies_are_distinguished() {
        let table = [
            (words(&[7, 1, 0, 0, 0, 0, 42]), Ok(words(&[42]))),
            (words(&[8, 1, 0, 0, 0, 0]), Err(ReplyError::NotOurs)),
            (words(&[7, 0, 0, 0, 0, 0]), Err(ReplyError::NotOurs)),
            (words(&[7, 1, 0, 0, 0, 2, 3, 4]), Err(ReplyError::Versions { low: 3, high: 4 })),
            (words(&[7, 1, 0, 0, 0, 1]), Err(ReplyError::NoProgram)),
            (words(&[7, 1, 0, 0, 0, 5]), Err(ReplyError::Failed(5))),
            (words(&[7, 1, 1, 1, 5]), Err(ReplyError::Refused(5))),
            (words(&[7, 1, 0, 0]), Err(ReplyError::Unreadable(XdrError::Short(16)))),
            (b"HTTP/1.1 400 Bad Request".to_vec(), Err(ReplyError::NotOurs)),
        ];
        for (message, expected) in table {
            assert_eq!(reply(7, &message).map(<[u8]>::to_vec), expected, "{message:?}");
        }
    }

    #[test]
    fn a_null_call_is_six_words_and_the_caller() {
        let message = call(9, NOBODY, NFS_4, 0, b"");
        assert_eq!(message[..24], words(&[9, 0, 2, 100_003, 4, 0]));
        assert_eq!(message.len(), 24 + 8 + 32 + 8);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = reply(0, &bytes);
        }
    }
}
