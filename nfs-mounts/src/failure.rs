//! Explains why a file operation on NFS failed.

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a file operation failed, as far as the error number shows it.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Failure {
    /// ESTALE: the server no longer knows the file handle.
    #[error("stale file handle: the export was removed or recreated on the server; mount it again")]
    Stale,
    /// EROFS.
    #[error("the file system is read-only")]
    ReadOnly,
    /// ENOSPC.
    #[error("no space left on the file system")]
    Full,
    /// EDQUOT.
    #[error("the quota is used up")]
    Quota,
    /// EACCES or EPERM, from the server or from this machine's own rules. The error number does not show which.
    #[error(
        "permission denied: by the export or the modes on the server, or by this machine (SELinux, or sysctl fs.protected_regular for other users' files in a folder like /tmp)"
    )]
    Denied,
    /// EKEYEXPIRED and others of keys: this process has no valid Kerberos ticket for the server.
    #[error("this process has no valid Kerberos ticket for the server")]
    Ticket,
    /// ENOENT or ENOTDIR: the path does not exist.
    #[error("no such folder")]
    NotFound,
    /// The client gave up waiting for the server (a `soft` mount).
    #[error("the server did not answer in time: {0}")]
    NoAnswer(String),
    /// Any other error.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Classifies the error of a system call.
    pub fn of(error: &io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(error) else { return Self::Other(error.to_string()) };
        match errno {
            Errno::STALE => Self::Stale,
            Errno::ROFS => Self::ReadOnly,
            Errno::NOSPC => Self::Full,
            Errno::DQUOT => Self::Quota,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::KEYEXPIRED | Errno::KEYREVOKED | Errno::KEYREJECTED | Errno::NOKEY => Self::Ticket,
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::TIMEDOUT
            | Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::PIPE
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NOTCONN => Self::NoAnswer(error.to_string()),
            Errno::IO | Errno::REMOTEIO => Self::Other(format!(
                "{error}: the server or its storage failed, or a mount with `soft` gave up waiting for the server"
            )),
            _ => Self::Other(error.to_string()),
        }
    }

    /// All kinds in one word.
    pub const NAMES: [&str; 9] =
        ["stale", "readonly", "full", "quota", "denied", "ticket", "not_found", "no_answer", "other"];

    /// The kind of failure in one word, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::ReadOnly => "readonly",
            Self::Full => "full",
            Self::Quota => "quota",
            Self::Denied => "denied",
            Self::Ticket => "ticket",
            Self::NotFound => "not_found",
            Self::NoAnswer(_) => "no_answer",
            Self::Other(_) => "other",
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::of(&errno.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_are_distinguished() {
        let table = [
            (Errno::STALE, "stale"),
            (Errno::ROFS, "readonly"),
            (Errno::NOSPC, "full"),
            (Errno::DQUOT, "quota"),
            (Errno::ACCESS, "denied"),
            (Errno::PERM, "denied"),
            (Errno::KEYEXPIRED, "ticket"),
            (Errno::NOKEY, "ticket"),
            (Errno::NOENT, "not_found"),
            (Errno::TIMEDOUT, "no_answer"),
            (Errno::CONNRESET, "no_answer"),
            (Errno::PIPE, "no_answer"),
            (Errno::HOSTDOWN, "no_answer"),
            (Errno::NETDOWN, "no_answer"),
            (Errno::IO, "other"),
            (Errno::REMOTEIO, "other"),
        ];
        for (errno, name) in table {
            assert_eq!(Failure::from(errno).name(), name, "{errno}");
            assert!(Failure::NAMES.contains(&name), "{name}");
        }
    }

    #[test]
    fn an_error_without_a_number_keeps_its_text() {
        assert_eq!(Failure::of(&io::Error::other("odd")), Failure::Other("odd".into()));
    }
}
