//! The statuses of NFSv4 with their names (RFC 7530, section 13; RFC 8881, section 15; RFC 7862, section 11; RFC 8276,
//! section 8.5).

statuses! {
    /// A status (`nfsstat4`) other than OK.
    "NFSv4" "NFS4ERR_";
    /// The operation is not for this caller: what Linux answers to ports above 1023 unless the export is `insecure`.
    1 PERM
    /// No such name.
    2 NOENT
    /// The server's disk fails.
    5 IO
    /// The server's device fails.
    6 NXIO
    /// Permission denied.
    13 ACCESS
    17 EXIST
    18 XDEV
    /// A component of the export's path is not a folder.
    20 NOTDIR
    21 ISDIR
    /// An argument is invalid; for a name, it is empty or not UTF-8.
    22 INVAL
    27 FBIG
    /// No space is left.
    28 NOSPC
    /// The file system is read-only.
    30 ROFS
    31 MLINK
    /// A name is longer than the server accepts.
    63 NAMETOOLONG
    66 NOTEMPTY
    /// The quota is used up.
    69 DQUOT
    /// The handle is stale.
    70 STALE
    /// The handle is not one of the server's.
    10001 BADHANDLE
    10003 BAD_COOKIE
    /// The server does not support this.
    10004 NOTSUPP
    10005 TOOSMALL
    /// The server failed.
    10006 SERVERFAULT
    10007 BADTYPE
    /// Try again soon.
    10008 DELAY
    10009 SAME
    10010 DENIED
    10011 EXPIRED
    10012 LOCKED
    /// The server waits for clients to reclaim what they had.
    10013 GRACE
    /// The handle was valid for a limited time.
    10014 FHEXPIRED
    10015 SHARE_DENIED
    /// Another kind of authentication is required.
    10016 WRONGSEC
    /// The client's name belongs to another caller.
    10017 CLID_INUSE
    /// The server lacks the resources to answer.
    10018 RESOURCE
    /// The file system is on another server.
    10019 MOVED
    10020 NOFILEHANDLE
    /// The server does not support the minor version.
    10021 MINOR_VERS_MISMATCH
    /// The server does not know the client.
    10022 STALE_CLIENTID
    10023 STALE_STATEID
    10024 OLD_STATEID
    10025 BAD_STATEID
    10026 BAD_SEQID
    10027 NOT_SAME
    10028 LOCK_RANGE
    /// A component of the path is a symbolic link.
    10029 SYMLINK
    10030 RESTOREFH
    10031 LEASE_MOVED
    10032 ATTRNOTSUPP
    10033 NO_GRACE
    10034 RECLAIM_BAD
    10035 RECLAIM_CONFLICT
    10036 BADXDR
    10037 LOCKS_HELD
    10038 OPENMODE
    10039 BADOWNER
    /// A name has characters that the server does not accept.
    10040 BADCHAR
    /// The server does not accept a name.
    10041 BADNAME
    10042 BAD_RANGE
    10043 LOCK_NOTSUPP
    /// The server has no such operation.
    10044 OP_ILLEGAL
    10045 DEADLOCK
    10046 FILE_OPEN
    10047 ADMIN_REVOKED
    10048 CB_PATH_DOWN
    10049 BADIOMODE
    10050 BADLAYOUT
    10051 BAD_SESSION_DIGEST
    /// The server does not know the session.
    10052 BADSESSION
    /// The session has no such slot.
    10053 BADSLOT
    10054 COMPLETE_ALREADY
    /// The connection does not belong to the session.
    10055 CONN_NOT_BOUND_TO_SESSION
    10056 DELEG_ALREADY_WANTED
    10057 BACK_CHAN_BUSY
    10058 LAYOUTTRYLATER
    10059 LAYOUTUNAVAILABLE
    10060 NOMATCHING_LAYOUT
    10061 RECALLCONFLICT
    10062 UNKNOWN_LAYOUTTYPE
    /// A request of the session is out of order.
    10063 SEQ_MISORDERED
    10064 SEQUENCE_POS
    10065 REQ_TOO_BIG
    10066 REP_TOO_BIG
    10067 REP_TOO_BIG_TO_CACHE
    10068 RETRY_UNCACHED_REP
    10069 UNSAFE_COMPOUND
    10070 TOO_MANY_OPS
    10071 OP_NOT_IN_SESSION
    10072 HASH_ALG_UNSUPP
    10074 CLIENTID_BUSY
    10075 PNFS_IO_HOLE
    10076 SEQ_FALSE_RETRY
    10077 BAD_HIGH_SLOT
    /// The session has ended.
    10078 DEADSESSION
    10079 ENCR_ALG_UNSUPP
    10080 PNFS_NO_LAYOUT
    10081 NOT_ONLY_OP
    10082 WRONG_CRED
    10083 WRONG_TYPE
    10084 DIRDELEG_UNAVAIL
    10085 REJECT_DELEG
    10086 RETURNCONFLICT
    10087 DELEG_REVOKED
    10088 PARTNER_NOTSUPP
    10089 PARTNER_NO_AUTH
    10090 UNION_NOTSUPP
    10091 OFFLOAD_DENIED
    10092 WRONG_LFS
    10093 BADLABEL
    10094 OFFLOAD_NO_REQS
    10095 NOXATTR
    10096 XATTR2BIG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names_in_the_order_of_their_numbers() {
        assert!(NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(Status(10019).to_string(), "NFS4ERR_MOVED");
        assert_eq!(Status(10087).to_string(), "NFS4ERR_DELEG_REVOKED");
        assert_eq!(Status(77).to_string(), "NFSv4 status 77, which no RFC defines");
    }
}
