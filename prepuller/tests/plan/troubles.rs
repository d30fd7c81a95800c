//! A problem that keeps a node from its images is shown on the page, by a metric and by an Event.

use serde_json::{Value, json};
use testbed::wait::{LIMIT, patiently};

use crate::bed::Bed;

pub(super) fn orders_that_cannot_be_written_are_reported(bed: &Bed) {
    let verbs = |verbs: &str| {
        let patch = format!(r#"[{{"op": "replace", "path": "/rules/0/verbs", "value": {verbs}}}]"#);
        let role = ["-n", "labhands-node", "patch", "role", "prepuller-plan", "--type=json", "-p", &patch];
        bed.kubectl.run(&role).unwrap();
    };
    verbs(r#"["list", "watch"]"#);
    // A role takes effect after a moment.
    let may = ["-n", "labhands-node", "auth", "can-i", "patch", "nodeimages.labhands.dev"];
    let may = [&may[..], &["--as=system:serviceaccount:labhands:prepuller-plan"]].concat();
    patiently(LIMIT, || bed.kubectl.run(&may).is_err_and(|answer| answer.to_string().ends_with("no")).then_some(()))
        .expect("the role is changed");
    bed.push("w_2026_06", &[60, 61]);
    let page = bed.wait_answer("/status.json", |answer| answer.text().contains("Orders can't be written for"));
    assert!(page.text().contains("forbidden"), "{}", page.text());
    let event = bed.wait_event("labhands", "OrdersNotWritten", "Nodes pull nothing new");
    assert!(!event.contains("Status {"), "{event}");
    let trouble = "labhands_prepuller_nodes_in_trouble{trouble=\"orders_not_written\"} ";
    let metrics = bed.wait_answer("/metrics", |answer| !answer.text().contains(&format!("{trouble}0")));
    assert!(metrics.text().contains(trouble), "{}", metrics.text());
    assert_eq!(bed.ask("/readyz").unwrap().status, 200, "a Service leads to the page that says it");
    verbs(r#"["list", "watch", "create", "patch"]"#);
    bed.wait_event("labhands", "OrdersWritten", "");
    a_definition_that_is_too_old_is_reported(bed);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05"]);
    }
    bed.wait_answer("/metrics", |answer| answer.text().contains(&format!("{trouble}0")));
}

/// The planner was upgraded, but the CustomResourceDefinition was not.
fn a_definition_that_is_too_old_is_reported(bed: &Bed) {
    let definition = "nodeimages.labhands.dev";
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/wanted";
    let patch = |patch: Value| {
        bed.kubectl.run(&["patch", "crd", definition, "--type=json", "-p", &patch.to_string()]).unwrap();
    };
    let field = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.wanted}";
    let field: Value =
        serde_json::from_str(&bed.kubectl.run(&["get", "crd", definition, "-o", field]).unwrap()).unwrap();
    patch(json!([{"op": "remove", "path": path}]));
    // A definition takes effect after a moment: then the field is pruned.
    let try_it = ["-n", "labhands-node", "patch", "nodeimages", "node1", "--type=merge", "--dry-run=server"];
    let shows = ["-p", r#"{"spec": {"wanted": 99}}"#, "-o", "jsonpath={.spec.wanted}"];
    bed.kubectl.wait(&[&try_it[..], &shows].concat(), LIMIT, |wanted| wanted.is_empty()).unwrap();
    bed.push("w_2026_06", &[60, 62]);
    let message = "the CustomResourceDefinition in the cluster is older than this program";
    let page = bed.wait_answer("/status.json", |answer| answer.text().contains(message));
    assert!(page.text().contains("Orders can't be written for"), "{}", page.text());
    let note = ["-n", "labhands", "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}"];
    bed.kubectl.wait(&note, LIMIT, |notes| notes.contains(message)).unwrap();
    assert_eq!(bed.ask("/readyz").unwrap().status, 200, "a Service leads to the page that says it");
    patch(json!([{"op": "add", "path": path, "value": field}]));
}

/// The agents' DaemonSet does not cover a node: its selector is wrong, or the node has a taint. With `PREPULLER_AGENT_MISSING_AFTER=5s`.
pub(super) fn a_node_without_an_agent_is_reported(bed: &Bed) {
    let agents_run_on = |node: Value| {
        let selector = json!({"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}}}});
        let patch = ["patch", "daemonset", "prepuller-node", "--type=merge", "-p", &selector.to_string()];
        bed.kubectl.run(&[&["-n", "labhands-node"], &patch[..]].concat()).unwrap();
    };
    agents_run_on(json!("node1"));
    let label = ["-l", "app.kubernetes.io/component=node", "--field-selector=spec.nodeName=node2", "-o", "name"];
    let agents = [&["-n", "labhands-node", "get", "pods"], &label[..]].concat();
    bed.kubectl.wait(&agents, LIMIT, |names| names.trim().is_empty()).unwrap();
    // The planner creates it again at once, and no agent reports.
    bed.kubectl.run(&["-n", "labhands-node", "delete", "nodeimages", "node2"]).unwrap();
    bed.wait_event("default", "AgentMissing", "node2: No agent has reported");
    let metric = |nodes: u32| format!("labhands_prepuller_nodes_in_trouble{{trouble=\"no_agent\"}} {nodes}\n");
    bed.wait_answer("/metrics", |answer| answer.text().contains(&metric(1)));
    bed.wait_answer("/", |answer| answer.text().contains("No agent has reported from node2"));
    assert_eq!(column(bed, "node2", "WANTED"), "2");
    assert_eq!(column(bed, "node2", "REPORTED"), "");

    agents_run_on(Value::Null);
    bed.wait_present("node2", &["w_2026_07", "w_2026_06"]);
    bed.wait_event("default", "AgentReports", "node2: The node's agent reports");
    bed.wait_answer("/metrics", |answer| answer.text().contains(&metric(0)));
    bed.wait_answer("/", |answer| !answer.text().contains("No agent has reported from"));
    assert_ne!(column(bed, "node2", "REPORTED"), "");
    // All agents are replaced; the next step needs them ready.
    bed.kubectl
        .run(&["-n", "labhands-node", "rollout", "status", "daemonset/prepuller-node", "--timeout=300s"])
        .unwrap();
}

/// A column of a node in `kubectl get nodeimages`; empty for `<none>` and `<unknown>`.
fn column(bed: &Bed, node: &str, name: &str) -> String {
    let table = bed.kubectl.run(&["-n", "labhands-node", "get", "nodeimages", node]).unwrap();
    let (heads, cells) = table.split_once('\n').unwrap();
    let start = heads.find(name).unwrap();
    let end = heads[start..].find("  ").map_or(heads.len(), |width| start + width);
    let end = heads[end..].find(|letter| letter != ' ').map_or(cells.len(), |spaces| end + spaces);
    let cell = cells[start..end].trim();
    if matches!(cell, "<none>" | "<unknown>") { String::new() } else { cell.to_owned() }
}
