//! What the planner's token may do, with agents and with pull pods instead of them.

use std::path::Path;

use serde_json::{Value, json};
use testbed::images::{Image, Layer};
use testbed::wait::LIMIT;

use crate::bed::{Bed, MB, PROGRAM};

pub(super) fn pods_pull_where_agents_may_not(bed: &Bed) {
    let agents = ["daemonset/prepuller-node", "role/prepuller-node", "rolebinding/prepuller-node"];
    bed.kubectl.run(&[&["-n", "labhands-node", "delete"], &agents[..]].concat()).unwrap();
    let policy =
        ["validatingadmissionpolicybinding/labhands-node-images", "validatingadmissionpolicy/labhands-node-images"];
    bed.kubectl.run(&[&["delete"], &policy[..]].concat()).unwrap();
    // The images have no shell. This test's program needs its libraries; the released one is static.
    for (tag, seed) in [("w_2026_10", 72), ("w_2026_11", 70)] {
        let image = Image::program(Path::new(PROGRAM)).unwrap().layer(Layer::random(seed, MB));
        image.push(bed.cluster.registry(), "lab", tag).unwrap();
    }
    bed.install("prepuller-pods");
    bed.agents.set("labhands-pull");
    bed.kubectl.run(&["-n", "labhands", "rollout", "status", "deployment/prepuller-plan", "--timeout=300s"]).unwrap();
    for node in bed.cluster.nodes() {
        bed.wait_present(node.name(), &["w_2026_11", "w_2026_10"]);
        assert!(node.ctr(&["images", "ls"]).unwrap().contains("/lab:w_2026_11 "));
    }
    let pods = ["-n", "labhands-pull", "get", "pods", "-l", "labhands.dev/pull", "-o", "name"];
    bed.kubectl.wait(&pods, LIMIT, |names| names.trim().is_empty()).unwrap();
    only_pull_pods_run_in_their_namespace(bed);
}

/// With the planner's token, only pull pods are accepted in their namespace, and no pods where agents are.
fn only_pull_pods_run_in_their_namespace(bed: &Bed) {
    let container = |name: &str, more: Value| {
        let mut container = json!({"name": name, "image": "x", "volumeMounts": [{"name": "labhands", "mountPath": "/labhands"}],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container
    };
    let pod = json!({
        "metadata": {"name": "pull-1", "labels": {"labhands.dev/pull": "true"},
            "ownerReferences": [{"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "name": "node1", "uid": "u"}]},
        "spec": {
            "nodeName": "node1", "restartPolicy": "Never", "activeDeadlineSeconds": 60, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [container("bring", json!({"args": ["bring", "/labhands/prepuller"]}))],
            "containers": [container("image", json!({"command": ["/labhands/prepuller", "--version"]}))],
            "volumes": [{"name": "labhands", "emptyDir": {}}],
        },
    });
    let api = bed.as_planner();
    let create = |namespace: &str, pod: &Value| {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        api("POST", &path, "application/json", &pod.to_string())
    };
    let (status, body) = create("labhands-pull", &pod);
    assert_eq!(status, 201, "{body}");
    let (status, body) = create("labhands-node", &pod);
    assert_eq!(status, 403, "{body}");
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("no label", |pod| pod["metadata"]["labels"] = json!({})),
        ("no owner", |pod| pod["metadata"]["ownerReferences"] = json!([])),
        ("a Secret", |pod| {
            pod["spec"]["volumes"][0] = json!({"name": "labhands", "secret": {"secretName": "registry"}});
        }),
        ("a folder of the node", |pod| {
            pod["spec"]["volumes"][0] = json!({"name": "labhands", "hostPath": {"path": "/"}});
        }),
        ("a token", |pod| pod["spec"]["automountServiceAccountToken"] = json!(true)),
        ("a program", |pod| pod["spec"]["containers"][0]["command"] = json!(["sh"])),
        ("another program", |pod| pod["spec"]["initContainers"][0]["command"] = json!(["sh"])),
        ("a setting", |pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}])),
        ("root", |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 0})),
    ];
    for (what, change) in changes {
        let mut other = pod.clone();
        change(&mut other);
        let (status, body) = create("labhands-pull", &other);
        assert!(matches!(status, 403 | 422), "{what}: {status} {body}");
    }
}

/// These are bare requests, because `kubectl patch` reads first, which the token may not always do.
pub(super) fn the_planners_token_removes_the_gates_taint_and_nothing_else(bed: &Bed) {
    let gate = json!({"key": "labhands.dev/images", "effect": "NoSchedule"});
    let other = json!({"key": "other", "effect": "PreferNoSchedule"});
    let taints = |taints: &[&Value]| json!({"spec": {"taints": taints}});
    bed.kubectl.run(&["patch", "node", "node1", "--type=merge", "-p", &taints(&[&gate, &other]).to_string()]).unwrap();
    let api = bed.as_planner();
    let patch = |body: &Value| {
        api("PATCH", "/api/v1/nodes/node1?dryRun=All", "application/merge-patch+json", &body.to_string())
    };
    // The planner itself may be faster. Then nothing changes, which is also allowed.
    assert_eq!(patch(&taints(&[&other])).0, 200);
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}]);
    let evicts = json!({"key": "labhands.dev/images", "effect": "NoExecute"});
    for body in [
        json!({"spec": {"unschedulable": true}}),
        json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"metadata": {"finalizers": ["example.org/a"]}}),
        json!({"metadata": {"ownerReferences": owner}}),
        json!({"spec": {"providerID": "example://other"}}),
        taints(&[]),
        taints(&[&other, &evicts]),
        taints(&[&other, &json!({"key": "new", "effect": "NoExecute"})]),
    ] {
        let (status, body) = patch(&body);
        assert!(status == 403 && body.contains("labhands-prepuller-plan-nodes"), "{body}: {status} {body}");
    }
    let status = json!({"status": {"phase": "Running"}}).to_string();
    assert_eq!(api("PATCH", "/api/v1/nodes/node1/status", "application/merge-patch+json", &status).0, 403);
    assert_eq!(api("DELETE", "/api/v1/nodes/node1", "application/json", "").0, 403);
    bed.kubectl.run(&["taint", "node", "node1", "other-"]).unwrap();
}
