//! The verdict on each status that a server may answer with.

use crate::scripted::{self, Script};
use crate::{SHORT, check, check_with};

/// The time limit of a check: short if it repeats its calls until then.
fn limit(expected: &str) -> &'static [(&'static str, &'static str)] {
    if expected.contains("keeps answering to try again later") { &SHORT } else { &[] }
}

#[test]
fn each_status_of_nfs_has_its_meaning() {
    let place = scripted::start(Script::default());
    let table = [
        ("plain", "ok compound: the server works"),
        (
            "lookup-1",
            "denied compound: NFS4ERR_PERM; does the export allow this client, and ports above 1023 (`insecure`)?",
        ),
        ("lookup-2", "denied compound: there is no such export"),
        ("lookup-63", "denied compound: there is no such export: NFS4ERR_NAMETOOLONG"),
        ("lookup-10041", "denied compound: there is no such export: NFS4ERR_BADNAME"),
        ("lookup-22", "denied compound: there is no such export: NFS4ERR_INVAL"),
        ("link-to-plain", "ok compound: the server works"),
        ("link-to-..", "ok compound: the server works"),
        (
            "link-to-lookup-2",
            "denied compound: the export's path has a symbolic link that leads nowhere: /link-to-lookup-2 leads to \"lookup-2\"",
        ),
        ("link-to-lookup-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("a/lookup-13", "denied compound: NFS4ERR_ACCESS: neither user 65534 nor root of this client may enter /a;"),
        ("lookup-10016", "denied compound: the server works, but requires Kerberos"),
        ("lookup-10019", "denied compound: the export is on another server, but it does not say which"),
        ("getattr-10019", "denied compound: the export is on another server, but it does not say which"),
        ("readlink-22", "server_down compound: the server answers NFS4ERR_INVAL"),
        ("lookup-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("getattr-6", "server_down compound: the server answers, but its storage fails: NFS4ERR_NXIO"),
        ("lookup-10006", "server_down compound: the server answers, but its storage fails: NFS4ERR_SERVERFAULT"),
        ("setattr-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("lookup-10018", "server_down compound: the server answers, but its storage fails: NFS4ERR_RESOURCE"),
        ("lookup-10011", "server_down compound: the server answers NFS4ERR_EXPIRED instead of what was requested"),
        ("lookup-4711", "server_down compound: the server answers NFSv4 status 4711, which no RFC defines"),
        ("getattr-70", "stale compound"),
        ("lookup-10014", "stale compound"),
        ("setattr-30", "readonly compound"),
        ("setattr-69", "full compound: the quota is used up: NFS4ERR_DQUOT"),
        ("setattr-28", "full compound: no space left"),
        ("setattr-10018", "server_down compound: the server answers, but its storage fails: NFS4ERR_RESOURCE"),
        ("setattr-10014", "stale compound"),
        ("setattr-13", "ok compound"),
        ("setattr-10016", "ok compound"),
        ("lookup-10087", "server_down compound: the server answers NFS4ERR_DELEG_REVOKED"),
        ("getattr-10013", "grace compound"),
        ("setattr-10013", "grace session"),
        // After an answer to try again later, the probe does so until the time limit.
        ("lookup-10008-times-2", "ok compound"),
        ("setattr-10008-times-1", "ok compound"),
        ("lookup-10008", "server_down compound: the server keeps answering to try again later (NFS4ERR_DELAY)"),
        ("setattr-10008", "server_down compound: the server keeps answering to try again later (NFS4ERR_DELAY)"),
    ];
    for (path, expected) in table {
        let verdict = check_with(&format!("{place}/{path}"), limit(expected));
        assert!(verdict.starts_with(expected), "{path}: {verdict}");
    }
}

#[test]
fn each_status_of_version_3_and_mountd_has_its_meaning() {
    let place = scripted::start(Script::default());
    let port = place.rsplit(':').next().unwrap();
    let table = [
        ("plain", "ok compound: the server works"),
        ("mnt-1", "denied mountd: PERM"),
        ("mnt-2", "denied mountd: there is no such export"),
        ("mnt-13", "denied mountd: ACCES; does the export allow this client, and ports above 1023 (`insecure`)?"),
        ("mnt-20", "denied mountd: there is no such export"),
        ("mnt-22", "denied mountd: there is no such export: INVAL"),
        ("mnt-63", "denied mountd: there is no such export: NAMETOOLONG"),
        ("mnt-5", "server_down mountd: the server answers, but its storage fails: IO"),
        ("mnt-10004", "server_down mountd: the server answers NOTSUPP instead of what was requested"),
        ("mnt-10006", "server_down mountd: the server answers, but its storage fails: SERVERFAULT"),
        ("mnt-10008-times-2", "ok compound"),
        ("mnt-10008", "server_down mountd: the server keeps answering to try again later (JUKEBOX)"),
        ("umnt-refused", "ok compound"),
        ("mnt-4711", "server_down mountd: the server answers NFSv3 status 4711, which no RFC defines"),
        ("fsstat-1", "denied compound: PERM"),
        ("fsstat-19", "server_down compound: the server answers, but its storage fails: NODEV"),
        ("fsstat-70", "stale compound"),
        ("fsstat-10001", "stale compound"),
        ("fsstat-10004", "server_down compound: the server answers NOTSUPP instead of what was requested"),
        ("fsstat-10008-times-2", "ok compound"),
        ("fsstat-10008", "server_down compound: the server keeps answering to try again later (JUKEBOX)"),
        ("setattr-30", "readonly compound"),
        ("setattr-28", "full compound: no space left"),
        ("setattr-69", "full compound: the quota is used up: DQUOT"),
        ("setattr-5", "server_down compound: the server answers, but its storage fails: IO"),
        ("setattr-70", "stale compound"),
        ("setattr-10001", "stale compound"),
        ("setattr-10008-times-1", "ok compound"),
        // A server that does not let anybody set attributes serves nevertheless.
        ("setattr-1", "ok compound"),
        ("setattr-13", "ok compound"),
        ("setattr-22", "ok compound"),
        ("setattr-10002", "ok compound"),
        ("setattr-10004", "ok compound"),
    ];
    let of_version_3 = [("NFS_VERSION", "3"), ("NFS_MOUNT_PORT", port)];
    for (path, expected) in table {
        let verdict = check_with(&format!("{place}/{path}"), &[&of_version_3, limit(expected)].concat());
        assert!(verdict.starts_with(expected), "{path}: {verdict}");
    }
}

#[test]
fn a_server_that_forgot_the_session_is_asked_once_more() {
    for (times, expected) in [
        (0, "ok compound: the server works"),
        (1, "ok compound: the server works"),
        (9, "server_down compound: the server forgot the session (NFS4ERR_BADSESSION)"),
    ] {
        let place = scripted::start(Script { minor: 1, forgets: times, ..Script::default() });
        let verdict = check(&format!("{place}/plain"));
        assert!(verdict.starts_with(expected), "{times}: {verdict}");
    }
}

#[test]
fn each_status_of_sessions_has_its_meaning() {
    let (empty, exchange, create, destroy, sequence, destroy_client) = (0, 42, 43, 44, 53, 57);
    let table = [
        // A server may refuse a request without operations, and to end a session.
        (empty, 22, "ok compound"),
        (empty, 10071, "ok compound"),
        (destroy, 10052, "ok compound"),
        (destroy, 10082, "ok compound"),
        (destroy, 10008, "ok compound"),
        (destroy_client, 10074, "ok compound"),
        (
            exchange,
            10017,
            "denied session: the server works, but another client uses this probe's name (NFS4ERR_CLID_INUSE)",
        ),
        (create, 28, "server_down session: the server answers, but has no room for another session (NFS4ERR_NOSPC)"),
        (create, 10022, "server_down session: the server forgot the session (NFS4ERR_STALE_CLIENTID)"),
        (sequence, 10053, "server_down compound: the server forgot the session (NFS4ERR_BADSLOT)"),
    ];
    for (operation, status, expected) in table {
        let place = scripted::start(Script { minor: 1, refuses: Some((operation, status)), ..Script::default() });
        let verdict = check(&format!("{place}/plain"));
        assert!(verdict.starts_with(expected), "{operation} {status}: {verdict}");
    }
    let place = scripted::start(Script { minor: 1, ..Script::default() });
    for (name, expected) in [
        ("open-5", "server_down session: the server answers, but its storage fails: NFS4ERR_IO"),
        ("open-10006", "server_down session: the server answers, but its storage fails: NFS4ERR_SERVERFAULT"),
        ("open-70", "stale session"),
        ("open-10013", "grace session"),
        ("open-10008", "server_down session: the server keeps answering to try again later (NFS4ERR_DELAY)"),
        ("open-13", "ok compound"),
        ("open-30", "ok compound"),
    ] {
        let verdict = check_with(&format!("{place}/{name}"), limit(expected));
        assert!(verdict.starts_with(expected), "{name}: {verdict}");
    }
}
