//! `nfs-health` in a real cluster: agents report, the judge rules, and conditions, taints and Events come and go.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use testbed::cluster::{Cluster, Install, Kubectl, Node};
use testbed::command;
use testbed::ganesha::{Ganesha, Setup};
use testbed::http::Client;
use testbed::wait::LIMIT;

/// The list of the nodes' mounts. The kernel here has no NFS client, so a folder replaces the mount.
const FOLDER: &str = "/var/lib/labhands/nfs";

/// A Service in front of the server, a volume on it, and its claim.
const HOME: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: labs}
---
apiVersion: v1
kind: Service
metadata: {name: files, namespace: labs}
spec: {ports: [{name: nfs, port: 2049}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: files, namespace: labs, labels: {kubernetes.io/service-name: files}}
addressType: IPv4
ports: [{name: nfs, port: PORT}]
endpoints: [{addresses: [HOST]}]
";
const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: homes}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: ''
  claimRef: {name: homes, namespace: labs}
  nfs: {server: ADDRESS, path: /home}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: homes, namespace: labs}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: homes
  resources: {requests: {storage: 1Gi}}
";

/// Agents read the list of mounts of this test, and the judge is not on the node that is cut off.
const PATCHES: &str = r#"
patches:
  - patch: |
      apiVersion: apps/v1
      kind: DaemonSet
      metadata: {name: nfs-health, namespace: labhands-node}
      spec:
        template:
          spec:
            containers:
              - name: nfs-health
                env: [{name: NFS_MOUNTINFO, value: /var/lib/labhands/nfs/mountinfo}]
                volumeMounts: [{name: nfs, mountPath: /var/lib/labhands/nfs, mountPropagation: HostToContainer}]
            volumes: [{name: nfs, hostPath: {path: /var/lib/labhands/nfs, type: Directory}}]
  - patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: nfs-health-judge, namespace: labhands}
      spec: {template: {spec: {nodeSelector: {kubernetes.io/hostname: node1}}}}
"#;

struct Site<'a> {
    kubectl: &'a Kubectl,
}

impl Site<'_> {
    /// Waits until a condition of a node has this status and reason.
    fn until(&self, node: &str, condition: &str, wanted: &str) {
        let path = format!(
            "jsonpath={{range .status.conditions[?(@.type==\"{condition}\")]}}{{.status}} {{.reason}}: {{.message}}{{end}}"
        );
        self.kubectl.wait(&["get", "node", node, "-o", &path], LIMIT, |printed| printed.starts_with(wanted)).unwrap();
    }

    fn until_unreachable(&self, nodes: &[(&str, &str)]) {
        for (node, wanted) in nodes {
            self.until(node, "NFSServerUnreachable", wanted);
        }
    }

    fn until_tainted(&self, node: &str, wanted: bool) {
        let taints = ["get", "node", node, "-o", "jsonpath={.spec.taints[*].key}"];
        self.kubectl.wait(&taints, LIMIT, |printed| printed.contains("labhands.dev/nfs") == wanted).unwrap();
    }

    /// Waits until there is an Event with this reason about a node, the volume or the claim.
    fn until_event(&self, kind: &str, reason: &str) {
        let events =
            ["get", "events.events.k8s.io", "-A", "-o", "jsonpath={range .items[*]}{.regarding.kind} {.reason}\n{end}"];
        let wanted = format!("{kind} {reason}");
        self.kubectl.wait(&events, LIMIT, |printed| printed.lines().any(|line| line == wanted)).unwrap();
    }
}

fn on_node(node: &Node, arguments: &[&str]) {
    command::run(node.command(arguments[0]).args(&arguments[1..])).unwrap();
}

fn prepare(node: &Node, address: &str) {
    let folder = node.root().join(FOLDER.trim_start_matches('/'));
    std::fs::create_dir_all(folder.join("home")).unwrap();
    let line = format!("1 0 0:40 / {FOLDER}/home rw - nfs4 {address}:/home rw,vers=4.1,addr={address}\n");
    std::fs::write(folder.join("mountinfo"), line).unwrap();
}

#[test]
fn trouble_is_blamed_on_the_right_part_and_recovers() {
    let mut ganesha = Ganesha::start(Setup::default()).unwrap();
    let mut cluster = Cluster::start(2).unwrap();
    let kubectl = cluster.kubectl();
    let exposed = cluster.expose((ganesha.address(), 2049).into()).unwrap();
    let (host, port) = exposed.split_once(':').unwrap();
    kubectl.apply(&HOME.replace("HOST", host).replace("PORT", port)).unwrap();
    let address = kubectl.run(&["-n", "labs", "get", "service", "files", "-o", "jsonpath={.spec.clusterIP}"]).unwrap();
    kubectl.apply(&VOLUME.replace("ADDRESS", &address)).unwrap();
    cluster.nodes().iter().for_each(|node| prepare(node, &address));
    cluster
        .install(&Install {
            overlay: "nfs-health",
            programs: &[env!("CARGO_BIN_EXE_nfs-health")],
            settings: &[("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "5s")],
            more: PATCHES,
            ..Install::default()
        })
        .unwrap();
    let site = Site { kubectl: &kubectl };
    let well = [("node1", "False NFSServersServe"), ("node2", "False NFSServersServe")];
    site.until_unreachable(&well);
    site.until("node2", "NFSMountStuck", "False NFSMountsAnswer");

    // One node is cut off: the node is at fault.
    let node = |number: usize| &cluster.nodes()[number - 1];
    let cut = ["iptables", "-I", "FORWARD", "-d", host, "-p", "tcp", "--dport", port, "-j", "DROP"];
    on_node(node(2), &cut);
    site.until_unreachable(&[("node2", "True NotReachedFromHere"), well[0]]);
    site.until_tainted("node2", true);
    site.until_event("Node", "NFSServerUnreachable");
    for kind in ["PersistentVolume", "PersistentVolumeClaim"] {
        site.until_event(kind, "NFSUnreachable");
    }
    on_node(node(2), &cut.map(|word| if word == "-I" { "-D" } else { word }));
    site.until_unreachable(&well);
    site.until_tainted("node2", false);
    site.until_event("PersistentVolumeClaim", "NFSRecovered");
    site.until_event("Node", "NFSServersServe");

    // The server stops: the server is at fault, and no node is tainted.
    ganesha.pause();
    site.until_unreachable(&[("node1", "True ServerDown"), ("node2", "True ServerDown")]);
    site.until_event("PersistentVolumeClaim", "NFSServerDown");
    let problem = format!("{address}/home: server_down (null): it accepts connections");
    let report = ["-n", "labhands-node", "get", "nfsreports", "node1"];
    kubectl.wait(&report, LIMIT, |printed| printed.contains(&problem)).unwrap();
    site.until_tainted("node1", false);
    ganesha.resume();
    site.until_unreachable(&well);

    // The Service's address leads nowhere: the network path is at fault, because the judge reaches the server behind it.
    let broken = ["iptables", "-t", "raw", "-I", "PREROUTING", "-d", &address, "-j", "DROP"];
    cluster.nodes().iter().for_each(|node| on_node(node, &broken));
    site.until_unreachable(&[("node1", "True ServicePathBroken"), ("node2", "True ServicePathBroken")]);
    site.until_event("PersistentVolume", "NFSServicePathBroken");
    cluster.nodes().iter().for_each(|node| on_node(node, &broken.map(|word| if word == "-I" { "-D" } else { word })));
    site.until_unreachable(&well);

    // A mount fails on one node while the server works.
    let mount = node(2).root().join("var/lib/labhands/nfs/home");
    std::fs::remove_dir(&mount).unwrap();
    std::os::unix::fs::symlink("home", &mount).unwrap(); // leads to itself: an error that no healthy mount has
    site.until("node2", "NFSMountStuck", "True MountHangs");
    site.until_tainted("node2", true);
    site.until("node1", "NFSMountStuck", "False");
    std::fs::remove_file(&mount).unwrap();
    std::fs::create_dir(&mount).unwrap();
    site.until("node2", "NFSMountStuck", "False");
    site.until_tainted("node2", false);

    each_token_writes_only_its_own_objects(&cluster, &kubectl);

    let restarts = ["get", "pods", "-A", "-l", "app.kubernetes.io/name=nfs-health", "-o"];
    let restarts =
        kubectl.run(&[&restarts[..], &["jsonpath={.items[*].status.containerStatuses[0].restartCount}"]].concat());
    assert_eq!(restarts.unwrap(), "0 0 0", "trouble with NFS is no reason to restart");

    // The report of a deleted node is deleted.
    cluster.remove_node("node2").unwrap();
    kubectl
        .wait(&["-n", "labhands", "get", "nfsreports", "-o", "name"], LIMIT, |names| !names.contains("node2"))
        .unwrap();
}

/// An agent's token may only write its node's report, and the judge only its conditions and taint of nodes.
fn each_token_writes_only_its_own_objects(cluster: &Cluster, kubectl: &Kubectl) {
    let authority = std::fs::read_to_string(cluster.folder().join("ca.crt")).unwrap();
    let view = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let server = kubectl.run(&view).unwrap();
    let patch = |token: &str, path: &str, patch: &str, body: &str| {
        let client = Client::new(Some(&authority), Some(format!("Bearer {}", token.trim()))).unwrap();
        let kind = ("Content-Type", &*format!("application/{patch}-patch+json"));
        let answer = client.send("PATCH", &format!("{server}{path}"), &[kind], body.as_bytes()).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };

    let agents = ["-n", "labhands-node", "get", "pods", "--field-selector=spec.nodeName=node1", "-o"];
    let pod = kubectl.run(&[&agents[..], &["jsonpath={.items[0].metadata.name}"]].concat()).unwrap();
    let bound = ["--bound-object-kind=Pod", &format!("--bound-object-name={pod}")];
    let token = kubectl.run(&[&["-n", "labhands-node", "create", "token", "nfs-health"][..], &bound].concat()).unwrap();
    let write = |node: &str| {
        let path = format!("/apis/labhands.dev/v1alpha1/namespaces/labhands-node/nfsreports/{node}");
        patch(&token, &path, "merge", r#"{"spec":{"seen":7}}"#)
    };
    assert_eq!(write("node1").0, 200);
    let refused = write("node2");
    assert!(refused.1.contains("writes the report of its own node only"), "{refused:?}");

    let token = kubectl.run(&["-n", "labhands", "create", "token", "nfs-health-judge"]).unwrap();
    for (subresource, body) in [
        ("", r#"{"metadata":{"labels":{"a":"b"}}}"#),
        ("", r#"{"spec":{"unschedulable":true}}"#),
        ("", r#"{"spec":{"taints":[{"key":"other","effect":"NoExecute"}]}}"#),
        ("", r#"{"metadata":{"finalizers":["example.org/a"]}}"#),
        ("", r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"b"}]}}"#),
        ("", r#"{"spec":{"providerID":"example://other"}}"#),
        ("", r#"{"spec":{"taints":[{"key":"labhands.dev/nfs","effect":"NoExecute"}]}}"#),
        ("/status", r#"{"metadata":{"finalizers":["example.org/a"]}}"#),
        ("/status", r#"{"metadata":{"annotations":{"a":"b"}}}"#),
        ("/status", r#"{"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":1}}}}"#),
        ("/status", r#"{"status":{"nodeInfo":{"kubeletVersion":"other"}}}"#),
        ("/status", r#"{"status":{"phase":"Terminated"}}"#),
        ("/status", r#"{"status":{"images":[{"names":["other"],"sizeBytes":1}]}}"#),
        ("/status", r#"{"status":{"volumesAttached":[{"name":"other","devicePath":"/other"}]}}"#),
        ("/status", r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#),
    ] {
        let refused = patch(&token, &format!("/api/v1/nodes/node1{subresource}"), "strategic-merge", body);
        assert!(refused.1.contains("ValidatingAdmissionPolicy 'nfs-health-nodes'"), "{body}: {refused:?}");
    }
}
