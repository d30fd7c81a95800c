use proptest::prelude::*;

use super::*;
use crate::probe::verdict::KINDS;

fn probe(kind: Kind) -> Verdict {
    Verdict { kind, phase: "null", sentence: "seen from elsewhere".into() }
}

fn verdicts(kinds: &[Kind]) -> Vec<NodeVerdict> {
    let verdict = |(number, kind): (usize, &Kind)| NodeVerdict {
        node: format!("node{number}"),
        kind: *kind,
        phase: "null".into(),
        sentence: format!("seen from node{number}"),
    };
    kinds.iter().enumerate().map(verdict).collect()
}

fn ruled(own: Option<Kind>, nodes: &[Kind]) -> Expected {
    rule(own.map(probe).as_ref(), &verdicts(nodes), false).trouble.map(|trouble| (trouble.kind, trouble.blame))
}

type Expected = Option<(Kind, Blame)>;

#[test]
fn who_is_at_fault() {
    use Blame::{Node, Server, ServicePath, Unclear};
    use Kind::*;
    let table: &[(Option<Kind>, &[Kind], Expected)] = &[
        (None, &[], None),
        (Some(Ok), &[Ok, Ok, Grace], None),
        // Many nodes fail: the server is at fault.
        (None, &[ServerDown, ServerDown], Some((ServerDown, Server))),
        (None, &[ServerDown, ServerDown, Ok, Ok], Some((ServerDown, Server))),
        (None, &[Unreachable, Unreachable, Unreachable], Some((ServerDown, Server))),
        (Some(ServerDown), &[ServerDown], Some((ServerDown, Server))),
        (Some(ProtocolError), &[ProtocolError, ProtocolError], Some((ProtocolError, Server))),
        (Some(ServerDown), &[], Some((ServerDown, Server))),
        // One node fails: the node is at fault.
        (None, &[Unreachable, Ok, Ok], Some((Unreachable, Node))),
        (Some(Ok), &[Unreachable, Ok], Some((Unreachable, Node))),
        (Some(Ok), &[Unreachable], Some((Unreachable, Node))),
        (None, &[Ok, Ok, Ok, Ok, ServerDown, ServerDown], Some((ServerDown, Node))),
        // One place alone cannot tell.
        (None, &[Unreachable], Some((Unreachable, Unclear))),
        (None, &[ServerDown], Some((ServerDown, Unclear))),
        (Some(Unreachable), &[], Some((Unreachable, Unclear))),
        // The address fails, but the server behind it works; or it works here, and nowhere else.
        (Some(ServicePathBroken), &[ServerDown, Unreachable], Some((ServicePathBroken, ServicePath))),
        (Some(ServicePathBroken), &[], Some((ServicePathBroken, ServicePath))),
        (None, &[ServicePathBroken, ServicePathBroken, Ok], Some((ServicePathBroken, ServicePath))),
        (Some(Ok), &[Unreachable, Unreachable, Unreachable], Some((ServicePathBroken, ServicePath))),
        // It is no trouble if only the judge does not reach a server.
        (Some(Unreachable), &[Ok], None),
        (Some(ServicePathBroken), &[Ok, Ok], None),
        (Some(Denied), &[Ok], None),
        // Mounts.
        (Some(Ok), &[ClientStuck, Ok, Ok], Some((ClientStuck, Node))),
        (Some(Ok), &[ClientStuck], Some((ClientStuck, Node))),
        (Some(Ok), &[Stale, Stale, Ok], Some((Stale, Server))),
        (None, &[ServerDown, ServerDown, ClientStuck], Some((ServerDown, Server))),
        // Servers that answer with a refusal.
        (Some(Full), &[Ok], Some((Full, Server))),
        (None, &[Ok, Ok, Full], Some((Full, Server))),
        (Some(Readonly), &[], Some((Readonly, Server))),
        (Some(Ok), &[Denied, Ok, Ok], Some((Denied, Node))),
        (Some(Denied), &[Denied, Denied], Some((Denied, Server))),
    ];
    for (own, nodes, expected) in table {
        assert_eq!(ruled(*own, nodes), *expected, "{own:?} {nodes:?}");
    }
}

#[test]
fn each_node_has_its_own_condition_and_message() {
    let ruling = rule(
        Some(&probe(Kind::Ok)),
        &verdicts(&[Kind::Ok, Kind::ClientStuck, Kind::Unreachable, Kind::Full, Kind::Stale, Kind::Ok, Kind::Ok]),
        false,
    );
    let seen: Vec<_> = ruling.nodes.iter().map(|(node, trouble)| (node.as_str(), trouble.condition)).collect();
    let stuck = Condition::MountStuck;
    assert_eq!(seen, [("node1", stuck), ("node2", Condition::ServerUnreachable), ("node4", stuck)]);
    assert_eq!(ruling.nodes["node1"].sentence, "seen from node1");
    let cause = ruling.trouble.unwrap().sentence;
    assert_eq!(
        cause,
        "the server works for others, but is not reachable (seen from 1 of 7 nodes: node2): seen from node2"
    );
}

#[test]
fn a_mount_behind_a_tunnel_blames_no_node() {
    for (kind, expected) in [
        (Kind::ClientStuck, Some((Kind::ClientStuck, Blame::Unclear))),
        (Kind::Stale, Some((Kind::Stale, Blame::Unclear))),
        (Kind::Unreachable, Some((Kind::Unreachable, Blame::Unclear))),
        (Kind::Ok, None),
    ] {
        let ruling = rule(None, &verdicts(&[kind]), true);
        assert!(ruling.nodes.values().all(|trouble| trouble.blame == Blame::Unclear), "{ruling:?}");
        assert_eq!(ruling.trouble.map(|trouble| (trouble.kind, trouble.blame)), expected);
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    (0..KINDS.len()).prop_map(|index| KINDS[index])
}

proptest! {
    #[test]
    fn rulings_match_the_evidence(own in proptest::option::of(any_kind()), nodes in proptest::collection::vec(any_kind(), 0..8)) {
        let own = own.map(probe);
        let verdicts = verdicts(&nodes);
        let ruling = rule(own.as_ref(), &verdicts, false);
        // Exactly the nodes that cannot use the export are named.
        let bad = verdicts.iter().filter(|verdict| does_not_reach(verdict.kind) || is_stuck(verdict.kind));
        prop_assert_eq!(ruling.nodes.keys().collect::<Vec<_>>(), bad.map(|verdict| &verdict.node).collect::<Vec<_>>());
        if nodes.iter().all(|kind| kind.is_healthy()) && !nodes.is_empty() {
            let own_is_refusal = own.as_ref().is_some_and(|own| is_refusal(own.kind));
            prop_assert!(ruling.trouble.is_none() || own_is_refusal);
        }
        // The order of nodes does not matter.
        let mut turned = verdicts;
        turned.reverse();
        let again = rule(own.as_ref(), &turned, false);
        prop_assert!(ruling.is_same_as(&again));
        prop_assert_eq!(ruling.nodes, again.nodes);
    }

    #[test]
    fn a_node_is_never_blamed_for_what_all_see(kind in any_kind(), nodes in 2_usize..9) {
        let ruling = rule(None, &verdicts(&vec![kind; nodes]), false);
        prop_assert!(ruling.trouble.is_none_or(|trouble| trouble.blame != Blame::Node));
        prop_assert!(ruling.nodes.values().all(|trouble| trouble.blame != Blame::Node));
    }

    #[test]
    fn one_node_among_many_is_blamed_itself(kind in any_kind(), others in 2_usize..9) {
        let mut kinds = vec![Kind::Ok; others];
        kinds.push(kind);
        let ruling = rule(Some(&probe(Kind::Ok)), &verdicts(&kinds), false);
        prop_assert!(ruling.nodes.values().all(|trouble| trouble.blame == Blame::Node));
    }
}

#[test]
fn an_alert_names_the_places_that_saw_it() {
    use Kind::{Ok, ServerDown};
    for (own, nodes, places) in [
        (Some(ServerDown), &[][..], " (seen from the cluster probe): seen from elsewhere"),
        (
            Some(ServerDown),
            &[ServerDown][..],
            " (seen from 1 of 1 nodes: node0, and from the cluster probe): seen from node0",
        ),
        (None, &[ServerDown, ServerDown, Ok][..], " (seen from 2 of 3 nodes: node0, node1): seen from node0"),
    ] {
        let sentence = rule(own.map(probe).as_ref(), &verdicts(nodes), false).trouble.unwrap().sentence;
        assert!(sentence.ends_with(places), "{sentence}");
    }
}
