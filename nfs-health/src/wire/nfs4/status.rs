//! The statuses of NFSv4 with their names (RFC 7530, section 13; RFC 8881, section 15; RFC 7862, section 11).

use std::fmt;

/// A status (`nfsstat4`) other than OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

/// Statuses that a probe distinguishes.
impl Status {
    /// The operation is not for this caller: what Linux answers to ports above 1023 unless the export is `insecure`.
    pub const PERM: Self = Self(1);
    /// No such name.
    pub const NOENT: Self = Self(2);
    /// The server's disk fails.
    pub const IO: Self = Self(5);
    /// The server's device fails.
    pub const NXIO: Self = Self(6);
    /// Permission denied.
    pub const ACCESS: Self = Self(13);
    /// A component of the export's path is not a folder.
    pub const NOTDIR: Self = Self(20);
    /// An argument is invalid; for a name, it is empty or not UTF-8.
    pub const INVAL: Self = Self(22);
    /// No space is left.
    pub const NOSPC: Self = Self(28);
    /// The file system is read-only.
    pub const ROFS: Self = Self(30);
    /// A name is longer than the server accepts.
    pub const NAMETOOLONG: Self = Self(63);
    /// The quota is used up.
    pub const DQUOT: Self = Self(69);
    /// The handle is stale.
    pub const STALE: Self = Self(70);
    /// The handle is not one of the server's.
    pub const BADHANDLE: Self = Self(10001);
    /// The server does not support this.
    pub const NOTSUPP: Self = Self(10004);
    /// The server failed.
    pub const SERVERFAULT: Self = Self(10006);
    /// Try again soon.
    pub const DELAY: Self = Self(10008);
    /// The server waits for clients to reclaim what they had.
    pub const GRACE: Self = Self(10013);
    /// The handle was valid for a limited time.
    pub const FHEXPIRED: Self = Self(10014);
    /// Another kind of authentication is required.
    pub const WRONGSEC: Self = Self(10016);
    /// The server lacks the resources to answer.
    pub const RESOURCE: Self = Self(10018);
    /// The file system is on another server.
    pub const MOVED: Self = Self(10019);
    /// The server does not support the minor version.
    pub const MINOR_VERSION: Self = Self(10021);
    /// The server does not know the client.
    pub const STALE_CLIENTID: Self = Self(10022);
    /// A component of the path is a symbolic link.
    pub const SYMLINK: Self = Self(10029);
    /// A name has characters that the server does not accept.
    pub const BADCHAR: Self = Self(10040);
    /// The server does not accept a name.
    pub const BADNAME: Self = Self(10041);
    /// The server has no such operation.
    pub const OP_ILLEGAL: Self = Self(10044);
    /// The server does not know the session.
    pub const BADSESSION: Self = Self(10052);
    /// The connection does not belong to the session.
    pub const CONN_NOT_BOUND_TO_SESSION: Self = Self(10055);
    /// A request of the session is out of order.
    pub const SEQ_MISORDERED: Self = Self(10063);
    /// The session has ended.
    pub const DEADSESSION: Self = Self(10078);
}

/// Names by number.
const NAMES: [(u32, &str); 98] = [
    (1, "PERM"),
    (2, "NOENT"),
    (5, "IO"),
    (6, "NXIO"),
    (13, "ACCESS"),
    (17, "EXIST"),
    (18, "XDEV"),
    (20, "NOTDIR"),
    (21, "ISDIR"),
    (22, "INVAL"),
    (27, "FBIG"),
    (28, "NOSPC"),
    (30, "ROFS"),
    (31, "MLINK"),
    (63, "NAMETOOLONG"),
    (66, "NOTEMPTY"),
    (69, "DQUOT"),
    (70, "STALE"),
    (10001, "BADHANDLE"),
    (10003, "BAD_COOKIE"),
    (10004, "NOTSUPP"),
    (10005, "TOOSMALL"),
    (10006, "SERVERFAULT"),
    (10007, "BADTYPE"),
    (10008, "DELAY"),
    (10009, "SAME"),
    (10010, "DENIED"),
    (10011, "EXPIRED"),
    (10012, "LOCKED"),
    (10013, "GRACE"),
    (10014, "FHEXPIRED"),
    (10015, "SHARE_DENIED"),
    (10016, "WRONGSEC"),
    (10017, "CLID_INUSE"),
    (10018, "RESOURCE"),
    (10019, "MOVED"),
    (10020, "NOFILEHANDLE"),
    (10021, "MINOR_VERS_MISMATCH"),
    (10022, "STALE_CLIENTID"),
    (10023, "STALE_STATEID"),
    (10024, "OLD_STATEID"),
    (10025, "BAD_STATEID"),
    (10026, "BAD_SEQID"),
    (10027, "NOT_SAME"),
    (10028, "LOCK_RANGE"),
    (10029, "SYMLINK"),
    (10030, "RESTOREFH"),
    (10031, "LEASE_MOVED"),
    (10032, "ATTRNOTSUPP"),
    (10033, "NO_GRACE"),
    (10034, "RECLAIM_BAD"),
    (10035, "RECLAIM_CONFLICT"),
    (10036, "BADXDR"),
    (10037, "LOCKS_HELD"),
    (10038, "OPENMODE"),
    (10039, "BADOWNER"),
    (10040, "BADCHAR"),
    (10041, "BADNAME"),
    (10042, "BAD_RANGE"),
    (10043, "LOCK_NOTSUPP"),
    (10044, "OP_ILLEGAL"),
    (10045, "DEADLOCK"),
    (10046, "FILE_OPEN"),
    (10047, "ADMIN_REVOKED"),
    (10048, "CB_PATH_DOWN"),
    (10049, "BADIOMODE"),
    (10050, "BADLAYOUT"),
    (10051, "BAD_SESSION_DIGEST"),
    (10052, "BADSESSION"),
    (10053, "BADSLOT"),
    (10054, "COMPLETE_ALREADY"),
    (10055, "CONN_NOT_BOUND_TO_SESSION"),
    (10056, "DELEG_ALREADY_WANTED"),
    (10057, "BACK_CHAN_BUSY"),
    (10058, "LAYOUTTRYLATER"),
    (10059, "LAYOUTUNAVAILABLE"),
    (10060, "NOMATCHING_LAYOUT"),
    (10061, "RECALLCONFLICT"),
    (10062, "UNKNOWN_LAYOUTTYPE"),
    (10063, "SEQ_MISORDERED"),
    (10064, "SEQUENCE_POS"),
    (10065, "REQ_TOO_BIG"),
    (10066, "REP_TOO_BIG"),
    (10067, "REP_TOO_BIG_TO_CACHE"),
    (10068, "RETRY_UNCACHED_REP"),
    (10069, "UNSAFE_COMPOUND"),
    (10070, "TOO_MANY_OPS"),
    (10071, "OP_NOT_IN_SESSION"),
    (10072, "HASH_ALG_UNSUPP"),
    (10074, "CLIENTID_BUSY"),
    (10075, "PNFS_IO_HOLE"),
    (10076, "SEQ_FALSE_RETRY"),
    (10077, "BAD_HIGH_SLOT"),
    (10078, "DEADSESSION"),
    (10079, "ENCR_ALG_UNSUPP"),
    (10080, "PNFS_NO_LAYOUT"),
    (10081, "NOT_ONLY_OP"),
    (10082, "WRONG_CRED"),
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => write!(f, "NFS4ERR_{name}"),
            None => write!(f, "NFSv4 status {}, which no RFC defines", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names_in_the_order_of_their_numbers() {
        assert!(NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(Status(10019).to_string(), "NFS4ERR_MOVED");
        assert_eq!(Status(77).to_string(), "NFSv4 status 77, which no RFC defines");
    }
}
