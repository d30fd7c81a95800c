//! What can be wrong with a server, seen over the wire.

use thiserror::Error;

use crate::nfs3;
use crate::nfs4::{CompoundError, Status};
use crate::rpc::connection::RpcError;
use crate::rpc::message::ReplyError;

/// Why a step of a round failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The server's name has no address.
    #[error("the name can't be looked up: {0}")]
    Unresolved(String),
    /// The host answers, and nothing listens on the port.
    #[error("the connection is refused")]
    Refused,
    /// No connection came about.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// There is a connection, and no answer comes.
    #[error("it takes the connection and does not answer")]
    Silent,
    /// The connection broke before there was an answer.
    #[error("the connection breaks: {0}")]
    Broken(String),
    /// What came is not what the protocol says.
    #[error("{0}")]
    Protocol(String),
    /// The server speaks other versions.
    #[error("{0}")]
    NoVersion(String),
    /// There is no such export.
    #[error("there is no such export")]
    NoExport,
    /// The server does not let us.
    #[error("{0}; does the export allow this client, and ports above 1023 (`insecure`)?")]
    Denied(String),
    /// The handle is stale.
    #[error("the export's file handle is stale")]
    Stale,
    /// The server is in its grace period.
    #[error("the server waits for clients to reclaim what they had")]
    Grace,
}

impl From<RpcError> for Fault {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Connection(_) | RpcError::Closed => Self::Broken(error.to_string()),
            RpcError::Reply(ReplyError::Versions { .. } | ReplyError::NoProgram) => Self::NoVersion(error.to_string()),
            RpcError::Reply(ReplyError::Refused(_)) => Self::Denied(error.to_string()),
            RpcError::Record(_) | RpcError::Reply(_) => Self::Protocol(error.to_string()),
        }
    }
}

impl From<CompoundError> for Fault {
    fn from(error: CompoundError) -> Self {
        match error {
            CompoundError::Failed(Status::NOENT | Status::NOTDIR) => Self::NoExport,
            CompoundError::Failed(Status::ACCESS | Status::WRONGSEC) => Self::Denied(error.to_string()),
            CompoundError::Failed(Status::STALE) => Self::Stale,
            CompoundError::Failed(Status::GRACE | Status::DELAY) => Self::Grace,
            CompoundError::Failed(Status::MINOR_VERSION) => Self::NoVersion(error.to_string()),
            CompoundError::Failed(_) | CompoundError::Unreadable(_) | CompoundError::OutOfOrder { .. } => {
                Self::Protocol(error.to_string())
            }
        }
    }
}

impl From<nfs3::ResultError> for Fault {
    fn from(error: nfs3::ResultError) -> Self {
        use nfs3::{ResultError, Status};
        match error {
            ResultError::Failed(Status::NOENT) => Self::NoExport,
            ResultError::Failed(Status::ACCES | Status::PERM) => Self::Denied(error.to_string()),
            ResultError::Failed(Status::STALE) => Self::Stale,
            ResultError::Failed(Status::JUKEBOX) => Self::Grace,
            ResultError::Failed(_) | ResultError::Unreadable(_) => Self::Protocol(error.to_string()),
        }
    }
}
