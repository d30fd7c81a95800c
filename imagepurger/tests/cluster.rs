//! imagepurger as a site installs it, on a real Kubernetes with two nodes: an image that a pod waits for stays, nothing
//! is removed if the catalogue cannot be trusted, and old labs leave every node once a new one is published.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::Catalogue;
use support::{Machine, WATERMARKS, catalogue};
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::images::{Image, Layer};
use testbed::wait::LIMIT;
use testbed::{command, wait};

/// Writes the catalogue as the planner does: first the ConfigMap, then the Lease that vouches for it.
fn publish(kubectl: &Kubectl, json: &str, renewed: Timestamp) {
    let indented = json.replace('\n', "\n    ");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: lab-images, namespace: labhands}}\ndata:\n  catalogue.json: |\n    {indented}\n"
    );
    let lease = format!(
        "---\napiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: lab-images, namespace: labhands}}\n\
         spec: {{holderIdentity: planner, renewTime: \"{renewed:.6}\"}}\n"
    );
    kubectl.apply(&(map + &lease)).unwrap();
}

fn json(catalogue: &Catalogue) -> String {
    serde_json::to_string(catalogue).unwrap()
}

/// A volume that kubelet cannot mount until its folder is there, and a pod that waits for it with an image that is never pulled.
const WAITING: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: home}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: ''
  hostPath: {path: /var/lib/labhands/home, type: Directory}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: home, namespace: default}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: home
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: jupyter-someone, namespace: default}
spec:
  nodeSelector: {kubernetes.io/hostname: node1}
  terminationGracePeriodSeconds: 1
  volumes: [{name: home, persistentVolumeClaim: {claimName: home}}]
  containers:
  - name: lab
    image: IMAGE
    imagePullPolicy: Never
    command: [sleep, '1000']
    volumeMounts: [{name: home, mountPath: /home}]
";

fn held(cluster: &Cluster, node: &str, reference: &str) -> bool {
    let node = cluster.nodes().iter().find(|one| one.name() == node).unwrap();
    node.ctr(&["images", "list", "--quiet"]).unwrap().lines().any(|name| name == reference)
}

fn may(kubectl: &Kubectl, question: &[&str]) -> bool {
    let account = "--as=system:serviceaccount:labhands-node:imagepurger";
    kubectl.run(&[&["auth", "can-i", account][..], question].concat()).is_ok()
}

/// Waits for an Event with these words from this many pods.
fn wait_for_event(kubectl: &Kubectl, pods: usize, reason: &str, words: &str) {
    let field = format!("--field-selector=reason={reason}");
    let path = "jsonpath={range .items[*]}{.regarding.name}{.involvedObject.name} {.message}{.note}{'\\n'}{end}";
    let has_come = |text: &str| text.lines().filter(|line| line.contains(words)).count() >= pods;
    kubectl.wait(&["-n", "labhands-node", "get", "events", &field, "-o", path], LIMIT, has_come).unwrap();
}

/// The log of imagepurger's pod on a node, read without kubelet or the API server.
fn log(cluster: &Cluster, node: usize) -> String {
    let mut shell = cluster.nodes()[node].command("sh");
    shell.args(["-c", "cat /var/log/pods/labhands-node_imagepurger-*/imagepurger/*.log"]);
    command::run(&mut shell).unwrap_or_default()
}

#[test]
fn only_old_images_are_removed_from_nodes() {
    let mut cluster = Cluster::start(2).unwrap();
    let kubectl = cluster.kubectl();
    let host = cluster.registry_host();
    let [old, waited_for, new] = ["w_2026_01", "w_2026_02", "w_2026_40"].map(|tag| {
        Image::busybox().unwrap().label("content", tag).push(cluster.registry(), "lab", tag).unwrap();
        let reference = format!("{host}/lab:{tag}");
        for node in cluster.nodes() {
            node.ctr(&["images", "pull", "--plain-http", &reference]).unwrap();
        }
        reference
    });
    let everything = |cluster: &Cluster| {
        let mut pairs = [&old, &waited_for, &new].into_iter().flat_map(|image| [("node1", image), ("node2", image)]);
        pairs.all(|(node, image)| held(cluster, node, image))
    };
    kubectl.apply(&WAITING.replace("IMAGE", &waited_for)).unwrap();
    let phase = ["get", "pod", "jupyter-someone", "-o", "jsonpath={.status.phase} {.spec.nodeName}"];
    kubectl.wait(&phase, LIMIT, |answer| answer == "Pending node1").unwrap();

    // ---- without a catalogue, or with one that cannot be trusted, nothing is removed, and an Event gives the reason ----
    let settings = [("PURGE_GRACE", "1s"), ("PURGE_INTERVAL", "2s")];
    let programs = [env!("CARGO_BIN_EXE_imagepurger")];
    let install = Install { overlay: "imagepurger", programs: &programs, settings: &settings, ..Install::default() };
    cluster.install(&install).unwrap();
    let event = |reason: &str, words: &str| wait_for_event(&kubectl, 2, reason, words);
    event("CatalogueUnreadable", "there is no ConfigMap lab-images");
    let wanted = [old.as_str(), &waited_for];
    let trusted = catalogue(&wanted, &[&new]);
    publish(&kubectl, &json(&trusted), Timestamp::now() - SignedDuration::from_hours(7));
    event("CatalogueStale", "the catalogue is stale");
    let newest = |complete| Catalogue { complete, ..catalogue(&[&new], &[&old, &waited_for]) };
    publish(&kubectl, &json(&newest(false)), Timestamp::now());
    event("CataloguePartial", "the catalogue is partial");
    publish(&kubectl, &json(&catalogue(&[], &[&old, &waited_for, &new])), Timestamp::now());
    event("CatalogueEmpty", "the catalogue is empty");
    kubectl.run(&["-n", "labhands", "delete", "configmap", "lab-images"]).unwrap();
    assert!(everything(&cluster));

    // ---- its account may read, record Events and do nothing else ----
    let allowed: [&[&str]; 4] = [
        &["list", "pods", "--all-namespaces"],
        &["get", "configmaps/lab-images", "-n", "labhands"],
        &["get", "leases.coordination.k8s.io/lab-images", "-n", "labhands"],
        &["create", "events.events.k8s.io", "-n", "labhands-node"],
    ];
    let refused: [&[&str]; 6] = [
        &["delete", "pods", "-n", "labhands-node"],
        &["get", "configmaps/labhands", "-n", "labhands"],
        &["update", "configmaps/lab-images", "-n", "labhands"],
        &["get", "secrets", "-n", "labhands"],
        &["patch", "nodes"],
        &["create", "events.events.k8s.io", "-n", "default"],
    ];
    assert!(allowed.iter().all(|question| may(&kubectl, question)));
    assert!(!refused.iter().any(|question| may(&kubectl, question)));

    // ---- a new catalogue is published: the old images leave both nodes, except the one that a pod waits for ----
    publish(&kubectl, &json(&newest(true)), Timestamp::now());
    let gone = || {
        let left = [("node1", &old), ("node2", &old), ("node2", &waited_for)];
        left.iter().all(|(node, image)| !held(&cluster, node, image)).then_some(())
    };
    wait::patiently(LIMIT, gone).unwrap();
    event("ImagesRemoved", "freed");
    for (node, image) in [("node1", &new), ("node2", &new), ("node1", &waited_for)] {
        assert!(held(&cluster, node, image), "{image} on {node}");
    }

    // ---- the volume appears, and the pod starts with the image that was kept ----
    kubectl.wait(&phase, LIMIT, |answer| answer == "Pending node1").unwrap();
    let node = cluster.node("node1").unwrap();
    std::fs::create_dir_all(node.root().join("var/lib/labhands/home")).unwrap();
    let running = ["get", "pod", "jupyter-someone", "-o", "jsonpath={.status.phase}"];
    kubectl.wait(&running, LIMIT, |answer| answer == "Running").unwrap();

    // ---- the API server is down: the pods are not known, so nothing is removed until it is back ----
    let before = log(&cluster, 1).len();
    cluster.stop_api_server();
    cluster.nodes()[1].ctr(&["images", "pull", "--plain-http", &old]).unwrap();
    let rounds = || log(&cluster, 1).get(before..).unwrap_or_default().matches("nothing is removed").count();
    wait::patiently(LIMIT, || (rounds() >= 3).then_some(())).unwrap();
    assert!(held(&cluster, "node2", &old));
    cluster.start_api_server().unwrap();
    wait::patiently(LIMIT, || (!held(&cluster, "node2", &old)).then_some(())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_is_freed_from_above_high_to_below_low() {
    let mut cluster = Cluster::start(1).unwrap();
    let kubectl = cluster.kubectl();
    let node = cluster.node("node1").unwrap();
    node.stop_kubelet();
    node.stop_containerd();
    let small = ["-t", "tmpfs", "-o", "size=400m", "tmpfs", "/var/lib/containerd"];
    command::run(node.command("mount").args(small)).unwrap();
    node.start_containerd().unwrap();
    node.start_kubelet().unwrap();
    cluster.wait_ready().unwrap();
    let node = &cluster.nodes()[0];
    let used = || -> u8 {
        let printed = command::run(node.command("df").args(["--output=pcent", "/var/lib/containerd"])).unwrap();
        printed.lines().last().unwrap().trim().trim_end_matches('%').parse().unwrap()
    };

    // ---- the disk is filled with images of about 5 % each, last needed two hours ago: only a full disk removes them
    // ----
    let mut labs = Vec::new();
    while used() <= WATERMARKS.high {
        let number = labs.len() as u64;
        let tag = format!("w_2026_{number:02}");
        Image::new([Layer::random(number, 10_000_000)]).push(cluster.registry(), "lab", &tag).unwrap();
        let reference = format!("{}/lab:{tag}", cluster.registry_host());
        node.ctr(&["images", "pull", "--plain-http", &reference]).unwrap();
        labs.push(reference);
    }
    let machine = Machine::new(&format!("unix://{}", node.socket().display())).await;
    machine.age_images(SignedDuration::from_hours(2)).await;
    let state = node.root().join("var/lib/labhands/imagepurger");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::copy(machine.history_file(), state.join("history.json")).unwrap();

    let (settings, programs) = ([("PURGE_INTERVAL", "2s")], [env!("CARGO_BIN_EXE_imagepurger")]);
    let install = Install { overlay: "imagepurger", programs: &programs, settings: &settings, ..Install::default() };
    cluster.install(&install).unwrap();
    publish(&kubectl, &json(&catalogue(&[&labs[0]], &[])), Timestamp::now());
    wait_for_event(&kubectl, 1, "ImagesRemoved", "freed");
    wait::patiently(LIMIT, || (used() <= WATERMARKS.low).then_some(())).unwrap();
    let left = || labs.iter().filter(|lab| held(&cluster, "node1", lab)).count();
    let next_round = || {
        let rounds = || log(&cluster, 0).matches("round done").count();
        let before = rounds();
        wait::patiently(LIMIT, || (rounds() > before + 1).then_some(())).unwrap();
    };
    next_round(); // the last one may not be over yet
    let once = left();
    assert!(used() > WATERMARKS.low - 10 && once > 1, "{once} left, {} %", used());
    assert!(held(&cluster, "node1", &labs[0]));
    next_round();
    assert_eq!(left(), once, "with room enough nothing goes early");
}
