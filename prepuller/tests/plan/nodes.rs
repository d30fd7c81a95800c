//! Nodes that come and go, with taints, with a gate, and with users who wait on them.

use crate::bed::{Bed, MB};
use testbed::wait::LIMIT;

pub(super) fn taints_of_user_nodes_are_tolerated_and_others_are_not(bed: &Bed) {
    bed.kubectl
        .run(&["taint", "node", "node2", "hub.jupyter.org/dedicated=user:NoSchedule", "gpu=yes:NoSchedule"])
        .unwrap();
    bed.wait_orders("node2", &[]);
    let why = bed.wait_answer("/spawner/v1/prepulls", |answer| answer.text().contains("gpu"));
    assert!(why.text().contains("taint gpu=yes:NoSchedule"), "{}", why.text());
    bed.kubectl.run(&["taint", "node", "node2", "gpu-"]).unwrap();
    bed.wait_present("node2", &["w_2026_06", "w_2026_05"]);
}

pub(super) fn a_new_node_is_closed_until_it_has_its_images(bed: &mut Bed) {
    bed.cluster.registry_proxy().limit_rate(Some(2 * MB));
    assert_eq!(bed.cluster.add_node().unwrap().name(), "node3");
    let kubectl = bed.kubectl.clone();
    kubectl.run(&["wait", "node/node3", "--for=create", "--timeout=300s"]).unwrap();
    kubectl.run(&["taint", "node", "node3", "labhands.dev/images=:NoSchedule"]).unwrap();
    bed.wait_orders("node3", &["w_2026_06", "w_2026_05"]);
    let taints = ["get", "node", "node3", "-o", "jsonpath={.spec.taints[*].key}"];
    assert!(kubectl.run(&taints).unwrap().contains("labhands.dev/images"));
    bed.cluster.registry_proxy().limit_rate(None);
    kubectl.wait(&taints, LIMIT, |keys| !keys.contains("labhands.dev/images")).unwrap();
    assert_eq!(bed.present("node3"), ["w_2026_06", "w_2026_05"]);
    bed.wait_event("default", "GateOpened", "node3");
}

pub(super) fn the_orders_of_a_node_are_deleted_with_it(bed: &mut Bed) {
    bed.cluster.remove_node("node3").unwrap();
    let names = ["-n", "labhands-node", "get", "nodeimages", "-o", "name"];
    bed.kubectl.wait(&names, LIMIT, |names| !names.contains("node3")).unwrap();
}

/// With `GATE_TIMEOUT=1s`.
pub(super) fn waiting_users_come_first_and_no_gate_waits_forever(bed: &Bed) {
    // A lab with an image that does not exist yet: its pod waits on the node that would otherwise not be first. kubelet does not
    // pull the image, or the node might have it before the scan has found it.
    let image = format!("{}/lab:w_2026_07", bed.cluster.registry_host());
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: jupyter-waits, namespace: default}}, \
          spec: {{nodeName: node2, \
          containers: [{{name: notebook, image: '{image}', imagePullPolicy: Never}}]}}}}"
    );
    bed.kubectl.apply(&pod).unwrap();
    bed.wait_answer("/status.json", |answer| answer.text().contains("one user waits here"));
    // Forty seconds, in which the gate times out.
    bed.cluster.registry_proxy().limit_rate(Some(100_000));
    bed.push("w_2026_07", &[70, 71]);
    let canary = bed.wait_for_canary("w_2026_07");
    assert_eq!(canary, "node2", "{}\n{}", bed.ask("/status.json").unwrap().text(), bed.log());
    bed.kubectl.run(&["taint", "node", "node1", "labhands.dev/images=:NoSchedule"]).unwrap();
    let opened = bed.wait_event("default", "GateTimedOut", "w_2026_07");
    assert!(opened.starts_with("node1: ") && opened.contains("without"), "{opened}");
    let taints = ["get", "node", "node1", "-o", "jsonpath={.spec.taints[*].key}"];
    bed.kubectl.wait(&taints, LIMIT, |keys| !keys.contains("labhands.dev/images")).unwrap();
    bed.cluster.registry_proxy().limit_rate(None);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_07", "w_2026_06"]);
    }
    bed.kubectl.run(&["delete", "pod", "jupyter-waits", "--grace-period=0", "--force"]).unwrap();
}
