use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::probe::mount::MountState;
use crate::probe::result::ProbeStep;
use crate::space::Space;

const ROOM: Space = Space { available: 5, total: 10, files_available: Some(5), files: Some(10) };
const NO_ROOM: Space = Space { available: 0, ..ROOM };

fn good() -> ProbeResult {
    ProbeResult { steps: vec![step(Phase::Connect, Ok(String::new()))], space: Some(ROOM), ..ProbeResult::default() }
}

fn step(phase: Phase, result: Result<String, Fault>) -> ProbeStep {
    ProbeStep { phase, name: "step", time: Duration::ZERO, result }
}

fn bad(phase: Phase, fault: Fault) -> ProbeResult {
    ProbeResult { steps: vec![step(phase, Err(fault))], ..ProbeResult::default() }
}

fn mount_with(look: MountState) -> MountSeen {
    MountSeen::Answers { look, time: Duration::ZERO }
}

fn verdict(front: &ProbeResult, behind: Option<&ProbeResult>, mount: Option<&MountSeen>) -> Verdict {
    let mounts = mount.map(|mount| ("/mnt".to_owned(), mount)).into_iter().collect();
    Observations { front, behind, mounts, only_mounts: None, kerberos: false }.verdict()
}

fn kind(front: &ProbeResult, behind: Option<&ProbeResult>, mount: Option<&MountSeen>) -> Kind {
    verdict(front, behind, mount).kind
}

#[test]
fn the_wire_alone() {
    let table = [
        (good(), Kind::Ok),
        (bad(Phase::Connect, Fault::Refused), Kind::ServerDown),
        (bad(Phase::Connect, Fault::Unreachable("no answer in time".into())), Kind::Unreachable),
        (bad(Phase::Mountd, Fault::Unreachable("no answer in time".into())), Kind::ServerDown),
        (bad(Phase::Resolve, Fault::Unresolved("no such name".into())), Kind::Unreachable),
        (bad(Phase::Null, Fault::Silent), Kind::ServerDown),
        (bad(Phase::Null, Fault::Broken("reset".into())), Kind::ServerDown),
        (bad(Phase::Null, Fault::Protocol("garbage".into())), Kind::ProtocolError),
        (bad(Phase::Compound, Fault::NoVersion("4.2".into())), Kind::ProtocolError),
        (bad(Phase::Compound, Fault::NoExport(String::new())), Kind::Denied),
        (bad(Phase::Compound, Fault::Denied("no".into())), Kind::Denied),
        (bad(Phase::Compound, Fault::NoWay { status: "ACCESS".into(), folder: "/closed".into() }), Kind::Denied),
        (bad(Phase::Compound, Fault::Authentication("Kerberos".into())), Kind::Denied),
        (bad(Phase::Compound, Fault::Elsewhere(Vec::new())), Kind::Denied),
        (bad(Phase::Compound, Fault::Busy("DELAY".into())), Kind::ServerDown),
        (bad(Phase::Compound, Fault::Storage("IO".into())), Kind::ServerDown),
        (bad(Phase::Compound, Fault::NotUnderstood("BAD_SEQID".into())), Kind::ServerDown),
        (bad(Phase::Compound, Fault::Full("quota".into())), Kind::Full),
        (bad(Phase::Compound, Fault::Stale), Kind::Stale),
        (bad(Phase::Compound, Fault::Grace), Kind::Grace),
        (ProbeResult { in_grace: Some(true), ..good() }, Kind::Grace),
        (ProbeResult { read_only: Some(true), ..good() }, Kind::Readonly),
        (ProbeResult { space: Some(NO_ROOM), ..good() }, Kind::Full),
    ];
    for (seen, expected) in table {
        assert_eq!(kind(&seen, None, None), expected, "{seen:?}");
    }
}

#[test]
fn a_working_server_behind_a_dead_address_is_a_broken_path() {
    let (good, refused) = (good(), bad(Phase::Connect, Fault::Refused));
    let lost = bad(Phase::Connect, Fault::Unreachable("no answer in time".into()));
    assert_eq!(kind(&lost, Some(&good), None), Kind::ServicePathBroken);
    assert_eq!(kind(&refused, Some(&good), None), Kind::ServicePathBroken);
    assert_eq!(kind(&lost, Some(&lost), None), Kind::ServerDown);
    assert_eq!(kind(&lost, Some(&bad(Phase::Null, Fault::Silent)), None), Kind::ServerDown);
    assert_eq!(kind(&good, Some(&lost), None), Kind::Ok);
}

#[test]
fn a_hung_mount_is_the_nodes_fault_only_while_the_server_works() {
    let hung = MountSeen::Hung { after: Duration::from_secs(10) };
    let stuck = MountSeen::Stuck { after: Duration::from_secs(99), pid: 7 };
    assert_eq!(kind(&good(), None, Some(&hung)), Kind::ClientStuck);
    let verdict = verdict(&good(), None, Some(&stuck));
    assert_eq!((verdict.kind, verdict.phase), (Kind::ClientStuck, "stat"));
    assert!(verdict.sentence.contains("/mnt: the mount has been hanging for 99 s, and process 7"), "{verdict}");
    assert_eq!(kind(&bad(Phase::Null, Fault::Silent), None, Some(&stuck)), Kind::ServerDown);
    let in_grace = ProbeResult { in_grace: Some(true), ..good() };
    assert_eq!(kind(&in_grace, None, Some(&hung)), Kind::ClientStuck);
}

#[test]
fn a_mount_shows_what_the_wire_does_not() {
    let look = MountState { space: ROOM, read_only: true };
    let table = [
        (MountSeen::Failed(Failure::Stale), Kind::Stale),
        (MountSeen::Failed(Failure::Denied), Kind::Denied),
        (MountSeen::Failed(Failure::NoAnswer("timed out".into())), Kind::ClientStuck),
        (mount_with(MountState { space: NO_ROOM, read_only: false }), Kind::Full),
        (mount_with(look), Kind::Ok),
        (MountSeen::Unknown("not here".into()), Kind::Ok),
    ];
    for (mount, expected) in table {
        assert_eq!(kind(&good(), None, Some(&mount)), expected, "{mount:?}");
    }
}

#[test]
fn a_prober_that_is_denied_believes_the_mounts() {
    let (denied, mount) =
        (bad(Phase::Compound, Fault::Denied("no".into())), mount_with(MountState { space: ROOM, read_only: false }));
    assert_eq!(kind(&denied, None, Some(&mount)), Kind::Ok);
    assert_eq!(kind(&denied, None, Some(&MountSeen::Unknown("not here".into()))), Kind::Denied);
}

#[test]
fn a_mount_that_answers_is_the_better_witness_of_the_path_and_not_of_the_server() {
    let works = mount_with(MountState { space: ROOM, read_only: false });
    let hung = MountSeen::Hung { after: Duration::from_secs(10) };
    let unknown = MountSeen::Unknown("not here".into());
    let of_the_way = [
        (Phase::Connect, Fault::Refused),
        (Phase::Connect, Fault::Unreachable("no answer in time".into())),
        (Phase::Resolve, Fault::Unresolved("no such name".into())),
        (Phase::Portmapper, Fault::Refused),
        (Phase::Null, Fault::Protocol("garbage".into())),
        (Phase::Compound, Fault::Denied("NFS4ERR_PERM".into())),
        (Phase::Compound, Fault::Authentication("Kerberos".into())),
        // What was not understood proves nothing.
        (Phase::Session, Fault::NotUnderstood("NFS4ERR_CLID_INUSE".into())),
    ];
    for (phase, fault) in of_the_way {
        let front = bad(phase, fault.clone());
        let seen = verdict(&front, None, Some(&works));
        assert_eq!(seen.kind, Kind::Ok, "{fault:?}");
        assert!(seen.sentence.contains("the mounts here answer") && seen.sentence.contains(&fault.to_string()));
        assert_eq!(kind(&front, Some(&front), Some(&works)), Kind::Ok, "{fault:?}");
        assert_eq!(kind(&front, None, Some(&unknown)), kind(&front, None, None), "{fault:?}");
        let mounts = vec![("/a".to_owned(), &works), ("/b".to_owned(), &hung)];
        let seen = Observations { front: &front, behind: None, mounts, only_mounts: None, kerberos: false }.verdict();
        assert_eq!(
            seen.kind,
            Kind::ClientStuck,
            "{fault:?}: a server that answers one mount works; the other mount is this node's"
        );
    }
    for fault in [Fault::Busy("DELAY".into()), Fault::Storage("IO".into())] {
        assert_eq!(kind(&bad(Phase::Compound, fault), None, Some(&works)), Kind::ServerDown);
    }
}

#[test]
fn where_the_wire_is_not_the_mounts_path_only_the_mounts_count() {
    let works = mount_with(MountState { space: ROOM, read_only: false });
    let (hung, unknown) = (MountSeen::Hung { after: Duration::from_secs(10) }, MountSeen::Unknown("not here".into()));
    let refused = bad(Phase::Connect, Fault::Refused);
    for only in [OnlyMounts::Loopback, OnlyMounts::Rdma, OnlyMounts::Udp, OnlyMounts::Tls, OnlyMounts::NoServer] {
        for (mount, expected) in [(&works, Kind::Ok), (&hung, Kind::ClientStuck), (&unknown, Kind::Unreachable)] {
            let observations = |front| Observations {
                front,
                behind: None,
                mounts: vec![("/a".to_owned(), mount)],
                only_mounts: Some(only),
                kerberos: false,
            };
            assert_eq!(observations(&refused).verdict().kind, expected, "{only:?}");
        }
    }
}

#[test]
fn a_probe_needs_no_ticket_for_mounts_with_kerberos() {
    let (well, wants) = (good(), bad(Phase::Compound, Fault::Authentication("Kerberos".into())));
    let denied = bad(Phase::Compound, Fault::Denied("NFS4ERR_PERM".into()));
    let hung = MountSeen::Hung { after: Duration::from_secs(10) };
    let without = [Failure::Denied, Failure::Ticket].map(MountSeen::Failed);
    for mount in without.iter().chain([&MountSeen::Unknown("not here".into())]) {
        let seen = |front, kerberos| {
            let mounts = vec![("/a".to_owned(), mount)];
            Observations { front, behind: None, mounts, only_mounts: None, kerberos }.verdict().kind
        };
        assert_eq!([seen(&wants, true), seen(&well, true)], [Kind::Ok; 2], "{mount:?}");
        assert_eq!([seen(&wants, false), seen(&denied, true)], [Kind::Denied; 2], "{mount:?}");
    }
    let mounts = vec![("/a".to_owned(), &hung)];
    let observations = Observations { front: &wants, behind: None, mounts, only_mounts: None, kerberos: true };
    assert_eq!(observations.verdict().kind, Kind::ClientStuck);
}

#[test]
fn the_service_of_version_3_that_does_not_answer_is_named() {
    for (phase, fault) in [(Phase::Mountd, Fault::Refused), (Phase::Portmapper, Fault::Unreachable("x".into()))] {
        let seen = verdict(&bad(phase, fault), None, None);
        let name = phase.name();
        assert_eq!((seen.kind, seen.phase), (Kind::ServerDown, name));
        assert!(seen.sentence.starts_with(&format!("NFS itself answers, but {name} does not: ")), "{seen}");
    }
}

#[test]
fn the_worst_mount_is_named() {
    let (seen, stale) = (good(), MountSeen::Failed(Failure::Stale));
    let hung = MountSeen::Hung { after: Duration::from_secs(10) };
    let mounts = vec![("/a".to_owned(), &stale), ("/b".to_owned(), &hung)];
    let verdict = Observations { front: &seen, behind: None, mounts, only_mounts: None, kerberos: false }.verdict();
    assert!(verdict.kind == Kind::ClientStuck && verdict.sentence.starts_with("/b: "), "{verdict}");
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Refused),
        Just(Fault::Silent),
        Just(Fault::NoExport(String::new())),
        Just(Fault::Grace),
        Just(Fault::Unreachable("x".into())),
        Just(Fault::Protocol("x".into())),
    ]
}

proptest! {
    #[test]
    fn a_failed_front_is_never_ok_and_ok_needs_no_words(fault in any_fault(), behind in any::<bool>()) {
        let (front, good) = (bad(Phase::Null, fault), good());
        let verdict = verdict(&front, behind.then_some(&good), None);
        prop_assert_ne!(verdict.kind, Kind::Ok);
        prop_assert!(verdict.to_string().contains(verdict.phase));
    }
}
