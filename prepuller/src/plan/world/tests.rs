//! What is kept from one scan to the next.

use lab_images::tag::Class;
use serde_json::json;

use super::*;
use crate::plan::seen::{NodeObject, OrdersObject};

fn image(tag: &str) -> CatalogueImage {
    serde_json::from_value(json!({
        "reference": format!("registry.example.org/lab:{tag}"), "repository": "registry.example.org/lab", "tag": tag,
        "class": Class::Weekly, "name": tag, "kind": "lab", "digest": null, "size": null, "wanted": true, "why": "newest",
    }))
    .unwrap()
}

fn world() -> World {
    let nodes = NodeRules { selector: None, tolerated: Vec::new(), gate_taint: "labhands.dev/images".to_owned() };
    let gate = GateRules { timeout: Duration::from_secs(1), images: Vec::new() };
    let (new_for, stalled_after) = (Duration::ZERO, Duration::from_secs(120));
    let mut world = World::new(Rules { nodes, parallel: 1, new_for, stalled_after, gate, mode: Mode::Agents });
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
    world.see_node("node1", SeenNode::new(node));
    world.see_orders("node1", SeenOrders::new(orders), Instant::now());
    world
}

fn counts(world: &World) -> Vec<(String, usize, usize)> {
    world.waves().map(|(image, spread)| (image.tag.clone(), spread.present, spread.eligible)).collect()
}

fn take(world: &mut World, tags: &[&str]) {
    let images = tags.iter().map(|tag| image(tag)).collect();
    let now = Timestamp::now();
    world.take_catalogue(Catalogue::new(now, true, images), HashMap::new(), (now, Instant::now()));
}

#[test]
fn counts_do_not_drop_to_zero_between_a_scan_and_the_decision() {
    let mut world = world();
    take(&mut world, &["w_1"]);
    assert_eq!(counts(&world), [], "nothing is known before the cluster was seen whole");
    world.decide(Timestamp::now(), Instant::now());
    let one = ("w_1".to_owned(), 1, 1);
    assert_eq!(counts(&world), std::slice::from_ref(&one));
    take(&mut world, &["w_1"]);
    assert_eq!(counts(&world), std::slice::from_ref(&one));
    take(&mut world, &["w_2", "w_1"]);
    assert_eq!(counts(&world), [("w_2".to_owned(), 0, 1), one]);
    // What was decided for show is still to be written.
    assert_eq!(world.decide(Timestamp::now(), Instant::now()).len(), 1);
}
