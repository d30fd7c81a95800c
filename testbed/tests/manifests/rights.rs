//! What each account of the chart may do, tried with its real token and bare requests: kubectl would ask before it writes, and so
//! hide what a single request may do. Nothing is changed: every write is a dry run.

use std::fs;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::http::Client;

/// A request: method, path, and a body.
type Request = (&'static str, String, Value);

struct Account {
    namespace: &'static str,
    name: &'static str,
    /// The node of its pod, if the token names it.
    node: Option<&'static str>,
    may: Vec<Request>,
    /// Requests that are denied, in addition to those denied to all.
    may_not: Vec<Request>,
}

fn get(path: &str) -> Request {
    ("GET", path.to_owned(), Value::Null)
}

fn post(path: &str, body: Value) -> Request {
    ("POST", path.to_owned(), body)
}

fn patch(path: &str, body: Value) -> Request {
    ("PATCH", path.to_owned(), body)
}

fn delete(path: &str) -> Request {
    ("DELETE", path.to_owned(), Value::Null)
}

/// Two nodes, and an order for each.
const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: one}
spec: {taints: [{key: labhands.dev/images, effect: NoSchedule}, {key: example.org/other, effect: NoSchedule}]}
---
apiVersion: v1
kind: Node
metadata: {name: two}
spec: {taints: [{key: example.org/other, effect: NoSchedule}]}
---
apiVersion: labhands.dev/v1alpha1
kind: NodeImages
metadata: {name: one, namespace: labhands-node}
spec: {}
---
apiVersion: labhands.dev/v1alpha1
kind: NodeImages
metadata: {name: two, namespace: labhands-node}
spec: {}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lab-images, namespace: labhands}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: lab-images, namespace: labhands}
";

const ORDERS: &str = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nodeimages";
const REPORTS: &str = "/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports";
const CATALOGUE: &str = "/api/v1/namespaces/labhands/configmaps/lab-images";
const FRESHNESS: &str = "/apis/coordination.k8s.io/v1/namespaces/labhands/leases/lab-images";

fn event(namespace: &str) -> Request {
    let body = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "test-", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "labhands.dev/test", "reportingInstance": "test",
        "action": "Test", "reason": "Test", "type": "Normal", "note": "a test",
        "regarding": {"kind": "Pod", "namespace": namespace, "name": "test"}});
    post(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"), body)
}

fn named(kind: &str, version: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}})
}

fn pod() -> Value {
    let mut pod = named("Pod", "v1", "test");
    pod["spec"] = json!({"containers": [{"name": "test", "image": "test"}]});
    pod
}

fn report(node: &str) -> Value {
    let mut report = named("NfsReport", "labhands.dev/v1alpha1", node);
    report["spec"] = json!({"nextSeconds": 60, "number": 1, "seen": 0, "troubled": 0});
    report
}

/// What no account may do.
fn nobody(account: &Account) -> Vec<Request> {
    let Account { namespace, name, .. } = account;
    let policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/labhands-node-agents";
    vec![
        get("/api/v1/secrets"),
        get(&format!("/api/v1/namespaces/{namespace}/secrets")),
        get("/api/v1/namespaces/labhands-node/secrets/amqp"),
        post("/api/v1/namespaces/kube-system/pods", pod()),
        post("/api/v1/namespaces/labhands-node/pods", pod()),
        post("/api/v1/namespaces/labhands-node/pods/test/exec?command=sh", Value::Null),
        post(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"), json!({"spec": {}})),
        patch("/apis/rbac.authorization.k8s.io/v1/clusterroles/labhands-log-shipper", json!({"rules": []})),
        patch(policy, json!({"spec": {"failurePolicy": "Ignore"}})),
        patch("/apis/apps/v1/namespaces/labhands-node/daemonsets/imagepurger", json!({"spec": {"minReadySeconds": 1}})),
        get("/api/v1/nodes/one/proxy/pods"),
        delete("/api/v1/nodes/two"),
        delete("/api/v1/namespaces/labhands-node"),
    ]
}

fn prepuller_plan() -> Account {
    Account {
        namespace: "labhands",
        name: "prepuller-plan",
        node: None,
        may: vec![
            get("/api/v1/nodes"),
            get("/api/v1/pods"),
            get(ORDERS),
            patch(&format!("{ORDERS}/one"), json!({"metadata": {"labels": {"test": "test"}}})),
            patch(CATALOGUE, json!({"data": {"catalogue.json": "{}"}})),
            patch(FRESHNESS, json!({"spec": {"holderIdentity": "test"}})),
            // The gate opens.
            patch("/api/v1/nodes/one", json!([{"op": "remove", "path": "/spec/taints/0"}])),
            event("default"),
        ],
        may_not: vec![
            patch("/api/v1/nodes/two", json!({"spec": {"unschedulable": true}})),
            patch("/api/v1/nodes/two", json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})),
            patch("/api/v1/nodes/one", json!({"spec": {"taints": []}})),
            patch("/api/v1/nodes/two", json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}})),
            patch(&format!("{ORDERS}/one/status"), json!({"status": {}})),
            delete(&format!("{ORDERS}/one")),
            patch("/api/v1/namespaces/labhands/configmaps/prepuller", json!({"data": {"LAB_KEEP": "x"}})),
        ],
    }
}

fn prepuller_node() -> Account {
    Account {
        namespace: "labhands-node",
        name: "prepuller-node",
        node: Some("one"),
        may: vec![get(&format!("{ORDERS}/one")), patch(&format!("{ORDERS}/one/status"), json!({"status": {}}))],
        may_not: vec![
            patch(&format!("{ORDERS}/two/status"), json!({"status": {}})),
            patch(&format!("{ORDERS}/one"), json!({"spec": {}})),
            get("/api/v1/nodes"),
            get("/api/v1/pods"),
            patch("/api/v1/nodes/one", json!({"spec": {"taints": []}})),
            patch(CATALOGUE, json!({"data": {}})),
        ],
    }
}

fn imagepurger() -> Account {
    Account {
        namespace: "labhands-node",
        name: "imagepurger",
        node: Some("one"),
        may: vec![
            get("/api/v1/pods?fieldSelector=spec.nodeName%3Done"),
            get(CATALOGUE),
            get(FRESHNESS),
            event("labhands-node"),
        ],
        may_not: vec![
            patch(CATALOGUE, json!({"data": {}})),
            patch(FRESHNESS, json!({"spec": {}})),
            delete("/api/v1/namespaces/labhands-node/pods/test"),
            patch(&format!("{ORDERS}/one/status"), json!({"status": {}})),
            get("/api/v1/namespaces/labhands/configmaps/prepuller"),
            event("default"),
        ],
    }
}

fn log_shipper() -> Account {
    Account {
        namespace: "labhands-node",
        name: "log-shipper",
        node: Some("one"),
        may: vec![get("/api/v1/pods?fieldSelector=spec.nodeName%3Done")],
        may_not: vec![
            get("/api/v1/namespaces/kube-system/pods/test/log"),
            get("/api/v1/namespaces/labhands-node/configmaps"),
            get("/api/v1/nodes"),
            event("labhands-node"),
        ],
    }
}

fn nfs_health() -> Account {
    Account {
        namespace: "labhands-node",
        name: "nfs-health",
        node: Some("one"),
        may: vec![post(REPORTS, report("one"))],
        may_not: vec![
            post(REPORTS, report("two")),
            get(REPORTS),
            delete(&format!("{REPORTS}/one")),
            get("/api/v1/nodes/one"),
            patch("/api/v1/nodes/one/status", json!({"status": {"conditions": []}})),
        ],
    }
}

fn nfs_health_judge() -> Account {
    Account {
        namespace: "labhands",
        name: "nfs-health-judge",
        node: None,
        may: vec![
            get(REPORTS),
            get("/api/v1/nodes/one"),
            get("/api/v1/persistentvolumes"),
            get("/api/v1/services"),
            get("/api/v1/services?watch=true&timeoutSeconds=1"),
            get("/apis/discovery.k8s.io/v1/endpointslices"),
            get("/apis/discovery.k8s.io/v1/endpointslices?watch=true&timeoutSeconds=1"),
            patch(
                "/api/v1/nodes/two/status",
                json!({"status": {"conditions": [{"type": "NFSMountStuck", "status": "True"}]}}),
            ),
            patch(
                "/api/v1/nodes/two",
                json!([{"op": "add", "path": "/spec/taints/-", "value": {"key": "labhands.dev/nfs", "effect": "NoSchedule"}}]),
            ),
            event("default"),
        ],
        may_not: vec![
            patch(
                "/api/v1/nodes/two/status",
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            ),
            patch(
                "/api/v1/nodes/two",
                json!({"spec": {"taints": [{"key": "labhands.dev/nfs", "effect": "NoExecute"}]}}),
            ),
            patch("/api/v1/nodes/two", json!({"spec": {"unschedulable": true}})),
            patch("/api/v1/nodes/two", json!({"metadata": {"finalizers": ["example.org/test"]}})),
            patch("/api/v1/nodes/two/status", json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}})),
            delete("/api/v1/persistentvolumes/test"),
            get("/api/v1/pods"),
        ],
    }
}

fn nfs_volumes() -> Account {
    Account {
        namespace: "labhands",
        name: "nfs-volumes",
        node: None,
        may: vec![
            get("/api/v1/persistentvolumes"),
            get("/api/v1/persistentvolumeclaims"),
            get("/api/v1/services"),
            event("jupyter"),
        ],
        may_not: vec![
            delete("/api/v1/namespaces/labhands-fileserver/persistentvolumeclaims/fileserver"),
            delete("/api/v1/namespaces/labhands-fileserver/services/fileserver"),
            post("/api/v1/namespaces/jupyter/services", named("Service", "v1", "test")),
            get("/api/v1/pods"),
            get("/api/v1/nodes"),
        ],
    }
}

fn hub() -> Account {
    Account {
        namespace: "jupyter",
        name: "hub",
        node: None,
        may: vec![get("/api/v1/namespaces/jupyter/pods"), get("/api/v1/namespaces/jupyter/events")],
        may_not: vec![
            get("/api/v1/pods"),
            get("/api/v1/namespaces/labhands/configmaps"),
            post("/api/v1/namespaces/jupyter/pods/test/exec?command=sh", Value::Null),
            delete("/api/v1/namespaces/jupyter/persistentvolumeclaims/homes"),
            patch(CATALOGUE, json!({"data": {}})),
        ],
    }
}

/// Tries all of them.
pub(crate) fn are_what_each_account_needs(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    kubectl.apply(OBJECTS).unwrap();
    let server = kubectl.run(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]).unwrap();
    let authority = fs::read_to_string(cluster.folder().join("ca.crt")).unwrap();
    let mut wrong = Vec::new();
    let accounts = [
        prepuller_plan(),
        prepuller_node(),
        imagepurger(),
        log_shipper(),
        nfs_health(),
        nfs_health_judge(),
        nfs_volumes(),
        hub(),
    ];
    for account in accounts {
        let Account { namespace, name, node, .. } = &account;
        let mut create = vec!["-n", namespace, "create", "token", name];
        if let Some(node) = node {
            create.extend(["--bound-object-kind=Node", "--bound-object-name", node]);
        }
        let token = kubectl.run(&create).unwrap();
        let client = Client::new(Some(&authority), Some(format!("Bearer {}", token.trim()))).unwrap();
        let refused = |(method, path, body): &Request| {
            let mark = if path.contains('?') { '&' } else { '?' };
            let url =
                if *method == "GET" { format!("{server}{path}") } else { format!("{server}{path}{mark}dryRun=All") };
            // A list of operations leaves the taints alone that Kubernetes sets on a node without a kubelet.
            let kind = match (*method, body.is_array()) {
                ("PATCH", true) => "application/json-patch+json",
                ("PATCH", false) => "application/merge-patch+json",
                _ => "application/json",
            };
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let answer = client.send(method, &url, &[("Content-Type", kind)], body.as_bytes()).unwrap();
            let printed = format!("{namespace}/{name}: {method} {path} {body}: {} {}", answer.status, answer.text());
            match answer.status {
                200..300 => (Some(false), printed),
                // A refusal by a policy that sets no reason is 422.
                403 => (Some(true), printed),
                422 if answer.text().contains("ValidatingAdmissionPolicy") => (Some(true), printed),
                _ => (None, printed),
            }
        };
        assert!(nobody(&account).len() + account.may_not.len() >= 10);
        for (requests, wanted) in [(&account.may, false), (&nobody(&account), true), (&account.may_not, true)] {
            wrong.extend(
                requests.iter().map(&refused).filter(|(is, _)| *is != Some(wanted)).map(|(_, printed)| printed),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
