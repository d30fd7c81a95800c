//! Tests of the state: what is kept from one scan to the next, and what reports and pods change.

use lab_images::tag::Class;
use serde_json::json;

use super::*;
use crate::plan::seen::{NodeObject, OrdersObject};
use crate::plan::spawns::{Found, Spawn};

fn image(tag: &str) -> CatalogueImage {
    serde_json::from_value(json!({
        "reference": format!("registry.example.org/lab:{tag}"), "repository": "registry.example.org/lab", "tag": tag,
        "class": Class::Weekly, "name": tag, "kind": "lab", "digest": null, "size": null, "wanted": true, "why": "newest",
    }))
    .unwrap()
}

fn cluster() -> ClusterState {
    let nodes = NodeRules { selector: None, tolerated: Vec::new(), gate_taint: "labhands.dev/images".to_owned() };
    let gate = GateRules { timeout: Duration::from_secs(1), images: Vec::new() };
    let (new_for, stalled_after) = (Duration::ZERO, Duration::from_secs(120));
    let agent_missing_after = Duration::from_secs(300);
    let mut cluster = ClusterState::new(Rules {
        nodes,
        parallel: 1,
        new_for,
        stalled_after,
        agent_missing_after,
        gate,
        mode: Mode::Agents,
    });
    let node: NodeObject = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "u"}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"architecture": "amd64"}},
    }))
    .unwrap();
    let orders: OrdersObject = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "v", "generation": 1},
        "spec": {"orders": [{"image": "registry.example.org/lab:w_1", "priority": 1}]},
        "status": {"images": [
            {"image": "registry.example.org/lab:w_1", "state": "Present", "since": "2026-01-01T00:00:00Z"},
        ]},
    }))
    .unwrap();
    cluster.apply_node("node1", SeenNode::new(node));
    cluster.apply_orders("node1", SeenOrders::new(orders), (Timestamp::now(), Instant::now()));
    cluster
}

fn counts(cluster: &ClusterState) -> Vec<(String, usize, usize)> {
    cluster.waves().map(|(image, spread)| (image.tag.clone(), spread.present, spread.eligible)).collect()
}

fn take(cluster: &mut ClusterState, tags: &[&str]) {
    let images = tags.iter().map(|tag| image(tag)).collect();
    let now = Timestamp::now();
    cluster.take_catalogue(Catalogue::new(now, true, images), HashMap::new(), (now, Instant::now()));
}

#[test]
fn counts_do_not_drop_to_zero_between_a_scan_and_the_decision() {
    let mut cluster = cluster();
    take(&mut cluster, &["w_1"]);
    assert_eq!(counts(&cluster), [], "nothing is known before the cluster was seen whole");
    cluster.decide(Timestamp::now(), Instant::now());
    let one = ("w_1".to_owned(), 1, 1);
    assert_eq!(counts(&cluster), std::slice::from_ref(&one));
    take(&mut cluster, &["w_1"]);
    assert_eq!(counts(&cluster), std::slice::from_ref(&one));
    take(&mut cluster, &["w_2", "w_1"]);
    assert_eq!(counts(&cluster), [("w_2".to_owned(), 0, 1), one]);
    // The pending writes of the decision for the overview are still there.
    assert_eq!(cluster.decide(Timestamp::now(), Instant::now()).len(), 1);
}

fn report(reported: &str) -> SeenOrders {
    let object: OrdersObject = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "v", "generation": 1},
        "spec": {"wanted": 1, "orders": [{"image": "registry.example.org/lab:w_1", "priority": 1}]},
        "status": {"reported": reported, "images": [
            {"image": "registry.example.org/lab:w_1", "state": "Present", "since": "2026-01-01T00:00:00Z"},
        ]},
    }))
    .unwrap();
    SeenOrders::new(object)
}

fn troubles(cluster: &ClusterState) -> Vec<Trouble> {
    cluster.troubles().map(|(_, trouble)| trouble).collect()
}

#[test]
fn a_heartbeat_is_no_change_and_its_absence_is_noticed_over_time() {
    let (mut cluster, time) = (cluster(), "2026-11-29T01:00:00Z".parse::<Timestamp>().unwrap());
    let begun = Instant::now();
    let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
    cluster.apply_orders("node1", report("2026-11-29T01:00:00Z"), (time, at(0)));
    cluster.decide(time, at(0));
    let (changed, _) = cluster.apply_orders("node1", report("2026-11-29T01:05:00Z"), (time, at(5)));
    assert!(!changed && !cluster.listen(at(15)) && troubles(&cluster).is_empty());
    assert!(cluster.listen(at(16)) && !cluster.listen(at(17)));
    assert_eq!(troubles(&cluster), [Trouble::Silent(Duration::from_secs(12 * 60))]);
    assert_eq!(cluster.overview(time).nodes[0].agent, AgentState::Silent(Duration::from_secs(12 * 60)));
    // The next report counts.
    let (changed, _) = cluster.apply_orders("node1", report("2026-11-29T01:20:00Z"), (time, at(20)));
    assert!(changed && cluster.listen(at(20)) && troubles(&cluster).is_empty());
    // An agent does not count as silent while the watch was interrupted.
    cluster.watch_broken(Kind::NodeImages, "no answer", at(30));
    assert!(!cluster.listen(at(40)) && cluster.listen(at(41)));
}

#[test]
fn refused_orders_are_a_nodes_trouble_until_they_are_written_or_not_needed() {
    let mut cluster = cluster();
    take(&mut cluster, &["w_2", "w_1"]);
    let now = (Timestamp::now(), Instant::now());
    assert_eq!(cluster.decide(now.0, now.1).len(), 1);
    cluster.orders_refused("node1", "no".to_owned());
    cluster.decide(now.0, now.1);
    assert_eq!(troubles(&cluster), [Trouble::Unwritten("no".to_owned())]);
    let write = cluster.decide(now.0, now.1).remove(0);
    assert_eq!(write.spec().wanted, Some(2));
    cluster.written(write, 2, "v".to_owned(), now.1);
    assert_eq!(troubles(&cluster), []);
    assert!(cluster.decide(now.0, now.1).is_empty(), "what was written is not written again");
}

#[test]
fn the_number_of_wanted_images_is_written_before_a_nodes_turn() {
    let mut cluster = cluster();
    take(&mut cluster, &["w_2", "w_1"]);
    let second: NodeObject = serde_json::from_value(json!({
        "metadata": {"name": "node2", "uid": "u"}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"architecture": "amd64"}},
    }))
    .unwrap();
    cluster.apply_node("node2", SeenNode::new(second));
    let writes = cluster.decide(Timestamp::now(), Instant::now());
    // One node is the canary of the new image; both should have it in the end.
    let reported: Vec<(Option<u32>, usize)> =
        writes.iter().map(|write| (write.spec().wanted, write.spec().orders.len())).collect();
    assert_eq!(reported, [(Some(2), 2), (Some(2), 1)]);
}

/// A pod that was scheduled on the first of February.
fn pod(name: &str, node: &str, image: &str, phase: &str) -> SeenPod {
    let object = json!({
        "metadata": {"name": name, "uid": name}, "spec": {"nodeName": node, "containers": [{"image": image}]},
        "status": {"phase": phase, "containerStatuses": [{"state": {"running": {}}}], "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-02-01T00:00:00Z"}]},
    });
    SeenPod::new(serde_json::from_value(object).unwrap()).unwrap()
}

#[test]
fn a_lab_that_runs_is_a_spawn_that_found_what_its_node_had_reported() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut cluster = cluster();
    cluster.apply_orders("node1", report("2026-02-01T00:00:00Z"), (Timestamp::now(), Instant::now()));
    let mut old = image("w_0");
    (old.wanted, old.digest) = (false, Some(digest.parse().unwrap()));
    let now = Timestamp::now();
    let images = vec![image("w_2"), image("w_1"), old];
    cluster.take_catalogue(Catalogue::new(now, true, images), HashMap::new(), (now, Instant::now()));
    cluster.reset_pods(&HashSet::new(), now);
    for (name, node, image, expected) in [
        ("a", "node1", "registry.example.org/lab:w_1", Some(Found::Present)),
        ("b", "node1", "registry.example.org/lab:w_2", Some(Found::Absent)),
        ("c", "node1", "registry.example.org/lab:w_0", Some(Found::Unknown)),
        ("d", "node1", &format!("registry.example.org/lab:w_0@{digest}"), Some(Found::Unknown)),
        ("e", "node9", "registry.example.org/lab:w_1", Some(Found::Unknown)),
        ("f", "node1", "registry.example.org/hub:1", None),
    ] {
        let id: Arc<str> = name.into();
        let (waits, spawned) = cluster.apply_pod(&id, Some(pod(name, node, image, "Pending")), now);
        assert!(waits && spawned.is_none(), "{name}");
        let (changed, spawned) = cluster.apply_pod(&id, Some(pod(name, node, image, "Running")), now);
        let found = spawned.map(|occurrence| match occurrence {
            Occurrence::Spawned(spawn) => spawn.found,
            other => panic!("{other:?}"),
        });
        assert!(changed, "{name} waits no longer");
        assert_eq!(found, expected, "{name}");
    }
    let sums = cluster.overview(now).spawns.unwrap();
    assert_eq!((sums.present.count, sums.absent.count, sums.unknown.count), (1, 1, 3));
}

#[test]
fn a_lab_that_waited_before_the_catalogue_existed_is_counted_by_what_its_node_lacked() {
    let mut cluster = cluster();
    let (id, now) = (Arc::from("a"), Timestamp::now());
    let lab = |phase: &str| Some(pod("a", "node1", "registry.example.org/lab:w_2", phase));
    cluster.apply_pod(&id, lab("Pending"), now);
    cluster.reset_pods(&HashSet::from([id.clone()]), now);
    cluster.apply_orders("node1", report("2026-02-01T00:00:00Z"), (now, Instant::now()));
    take(&mut cluster, &["w_2", "w_1"]);
    cluster.decide(now, Instant::now());
    // kubelet pulls it, the agent reports it, and the lab runs: the pod's next event is the last.
    let object: OrdersObject = serde_json::from_value(json!({
        "metadata": {"name": "node1", "uid": "v", "generation": 1}, "spec": {},
        "status": {"reported": "2026-02-01T00:01:00Z", "images": [
            {"image": "registry.example.org/lab:w_2", "state": "Present", "since": "2026-02-01T00:01:00Z"},
        ]},
    }))
    .unwrap();
    cluster.apply_orders("node1", SeenOrders::new(object), (now, Instant::now()));
    cluster.decide(now, Instant::now());
    let (_, spawned) = cluster.apply_pod(&id, lab("Running"), now);
    assert!(matches!(spawned, Some(Occurrence::Spawned(Spawn { found: Found::Absent, .. }))), "{spawned:?}");
}
