//! Everything that can be wrong with a server on the wire. Each status in the RFCs has its meaning here.

use std::time::Duration;

use thiserror::Error;

use crate::wire::nfs3;
use crate::wire::nfs4::elsewhere::{Flavor, Location};
use crate::wire::nfs4::{CompoundError, Status};
use crate::wire::rpc::connection::RpcError;
use crate::wire::rpc::message::ReplyError;

/// Why a step of a round failed.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The server's name cannot be resolved.
    #[error("the name can't be resolved: {0}")]
    Unresolved(String),
    /// The host answers, but nothing listens on the port.
    #[error("the connection is refused")]
    Refused,
    /// No connection could be opened.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The server accepted the connection but does not answer.
    #[error("it accepts connections but does not respond")]
    Silent,
    /// The server answered the steps before, but slowly, so that the time limit is over.
    #[error("it answers too slowly: {steps} steps took {time:.1?}, and the next one exceeds NFS_TIMEOUT")]
    Slow { steps: usize, time: Duration },
    /// The connection ended before the answer.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server forgot the session: it was restarted, or another client has the same name.
    #[error("the server forgot the session ({0})")]
    Forgotten(String),
    /// Another client has the name that this one uses.
    #[error("the server works, but another client uses this probe's name ({0}); each prober needs its own NODE_NAME")]
    NameInUse(String),
    /// The server has no room for another client or session.
    #[error("the server answers, but has no room for another session ({0}); see its limits and its log")]
    NoSession(String),
    /// The data is not an answer of RPC or NFS.
    #[error("{0}")]
    Protocol(String),
    /// The server supports other versions.
    #[error("{0}")]
    NoVersion(String),
    /// The portmapper does not know mountd, which registers itself when it starts and signs off when it ends.
    #[error("NFS itself answers, but mountd version 3 over TCP is not registered with the portmapper")]
    NotRegistered,
    /// There is no such export.
    #[error("there is no such export{0}, or none for this client and its port")]
    NoExport(String),
    /// The server denies access.
    #[error("{0}; does the export allow this client, and ports above 1023 (`insecure`)?")]
    Denied(String),
    /// The folder's mode denies access, both as user 65534 and as root.
    #[error(
        "{status}: neither user 65534 nor root of this client may enter {folder}; check its owner, its mode and `root_squash`"
    )]
    NoWay { status: String, folder: String },
    /// The server requires another kind of authentication.
    #[error(
        "the server works, but requires {0} for this export, which a probe does not have; mounts that use it may work"
    )]
    Authentication(String),
    /// The handle is stale.
    #[error("the export's file handle is stale")]
    Stale,
    /// The server is in its grace period.
    #[error("the server is in its grace period and is waiting for clients to reclaim their state")]
    Grace,
    /// The server answers every try with a request to come back later.
    #[error("the server keeps answering to try again later ({0}), until the time limit: it is not serving")]
    Busy(String),
    /// The server's own storage, or the server itself, fails.
    #[error("the server answers, but its storage fails: {0}; see the server's log and disks")]
    Storage(String),
    /// There is no space, not even for an answer.
    #[error("{0}")]
    Full(String),
    /// The export is on another server.
    #[error("the export is on another server{}", places(.0))]
    Elsewhere(Vec<Location>),
    /// The path has a loop of symbolic links, or a link that leads out of the server.
    #[error("the export's path has a symbolic link that leads nowhere: {0}")]
    Link(String),
    /// Another NFS error.
    #[error("the server answers {0} instead of what was requested")]
    NotUnderstood(String),
}

fn places(locations: &[Location]) -> String {
    let Some(first) = locations.first() else { return ", but it does not say which".to_owned() };
    let server = if first.server.is_empty() { "this one" } else { &first.server };
    format!(": {server}:/{}", first.path.join("/"))
}

/// The kinds of authentication that an export accepts, as a phrase.
pub fn wanted(flavors: &[Flavor]) -> String {
    if flavors.is_empty() {
        return "Kerberos or another kind of authentication".to_owned();
    }
    let names: Vec<String> = flavors.iter().map(|flavor| flavor.name()).collect();
    let kind = if flavors.iter().any(|flavor| matches!(flavor, Flavor::Kerberos(_))) {
        "Kerberos"
    } else {
        "another kind of authentication"
    };
    format!("{kind} (sec={})", names.join(":"))
}

impl Fault {
    /// Whether an operation that was refused so shows trouble of the server or its storage, and not that it does not permit or
    /// support the operation.
    pub fn is_trouble(&self) -> bool {
        !self.may_be_local() || matches!(self, Self::Forgotten(_))
    }
}

impl From<RpcError> for Fault {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Connection(_) | RpcError::Closed => Self::Broken(error.to_string()),
            RpcError::Reply(ReplyError::Versions { .. } | ReplyError::NoProgram) => Self::NoVersion(error.to_string()),
            // RFC 5531, section 9: the server requires more than AUTH_SYS (5), or Kerberos (13, 14). nfs-ganesha also
            // gives this answer to ports above 1023.
            RpcError::Reply(ReplyError::Refused(5 | 13 | 14)) => Self::Authentication(
                "Kerberos, another kind of authentication, or a port below 1024 (`insecure`)".to_owned(),
            ),
            RpcError::Reply(ReplyError::Refused(_)) => Self::Denied(error.to_string()),
            RpcError::Reply(ReplyError::Failed(5)) => Self::Storage("SYSTEM_ERR".to_owned()),
            RpcError::Record(_) | RpcError::Reply(_) => Self::Protocol(error.to_string()),
        }
    }
}

impl From<CompoundError> for Fault {
    fn from(error: CompoundError) -> Self {
        match error {
            CompoundError::Failed(status) => status.into(),
            CompoundError::Unreadable(_) | CompoundError::OutOfOrder { .. } => Self::Protocol(error.to_string()),
        }
    }
}

impl From<Status> for Fault {
    /// RFC 8881, section 15.1; RFC 7530, section 13.1.
    fn from(status: Status) -> Self {
        let name = status.to_string();
        match status {
            Status::NOENT | Status::NOTDIR => Self::NoExport(String::new()),
            Status::NAMETOOLONG | Status::BADNAME | Status::BADCHAR => Self::NoExport(format!(": {name}")),
            Status::PERM | Status::ACCESS => Self::Denied(name),
            Status::WRONGSEC => Self::Authentication(wanted(&[])),
            Status::STALE | Status::BADHANDLE | Status::FHEXPIRED => Self::Stale,
            Status::GRACE => Self::Grace,
            Status::DELAY => Self::Busy(name),
            Status::IO | Status::NXIO | Status::SERVERFAULT | Status::RESOURCE => Self::Storage(name),
            Status::NOSPC => Self::Full(format!("no space left on the export: {name}")),
            Status::DQUOT => Self::Full(format!("the quota is used up: {name}")),
            Status::MOVED => Self::Elsewhere(Vec::new()),
            Status::SYMLINK => Self::Link(name),
            Status::MINOR_VERS_MISMATCH | Status::OP_ILLEGAL | Status::NOTSUPP => Self::NoVersion(name),
            Status::STALE_CLIENTID
            | Status::BADSESSION
            | Status::CONN_NOT_BOUND_TO_SESSION
            | Status::SEQ_MISORDERED
            | Status::BADSLOT
            | Status::BAD_HIGH_SLOT
            | Status::SEQ_FALSE_RETRY
            | Status::RETRY_UNCACHED_REP
            | Status::DEADSESSION => Self::Forgotten(name),
            Status::CLID_INUSE => Self::NameInUse(name),
            Status(_) => Self::NotUnderstood(name),
        }
    }
}

impl From<nfs3::ResultError> for Fault {
    /// RFC 1813, section 2.6; mountd: appendix I, section 5.1.5.
    fn from(error: nfs3::ResultError) -> Self {
        use nfs3::{ResultError, Status};
        let ResultError::Failed(status) = error else { return Self::Protocol(error.to_string()) };
        let name = status.to_string();
        match status {
            Status::NOENT | Status::NOTDIR => Self::NoExport(String::new()),
            Status::NAMETOOLONG | Status::INVAL => Self::NoExport(format!(": {name}")),
            Status::ACCES | Status::PERM => Self::Denied(name),
            Status::STALE | Status::BADHANDLE => Self::Stale,
            Status::JUKEBOX => Self::Busy(name),
            Status::IO | Status::NXIO | Status::NODEV | Status::SERVERFAULT => Self::Storage(name),
            Status::NOSPC => Self::Full(format!("no space left on the export: {name}")),
            Status::DQUOT => Self::Full(format!("the quota is used up: {name}")),
            Status(_) => Self::NotUnderstood(name),
        }
    }
}
