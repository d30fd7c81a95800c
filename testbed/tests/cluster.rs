//! A real Kubernetes: pods, Services, DNS, nodes added and removed, parts stopped and started, and no leftovers.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use testbed::cluster::{Cluster, Install};
use testbed::images::Image;
use testbed::wait::LIMIT;

/// A web server on every node, behind a Service, that returns its pod's name.
const WEB: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: IMAGE
        command: [sh, -c, 'hostname > /tmp/index.html; echo started; exec httpd -f -p 8080 -h /tmp']
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// A pod with a host folder, in the namespace of the agents.
const AGENT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: labhands-node}
spec:
  volumes: [{name: folder, hostPath: {path: FOLDER}}]
  containers:
  - name: agent
    image: agent
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}MORE}
";

/// Checks the security rules of `manifests/base`.
fn node_agents_are_limited_to_their_folders(cluster: &Cluster) {
    cluster.install(&Install { overlay: "base", ..Install::default() }).unwrap();
    let kubectl = cluster.kubectl();
    let create = |folder: &str, more: &str| {
        let pod = AGENT.replace("FOLDER", folder).replace("MORE", more);
        let created = kubectl.apply(&pod);
        if created.is_ok() {
            kubectl.run(&["-n", "labhands-node", "delete", "pod", "agent", "--now"]).unwrap();
        }
        created.map_err(|error| error.to_string())
    };
    // A new policy takes effect after a moment.
    let refused = || create("/etc", "").err().filter(|error| error.contains("may not mount /etc"));
    testbed::wait::patiently(LIMIT, refused).unwrap();
    create("/run/containerd", "").unwrap();
    create("/var/lib/labhands/state", "").unwrap();
    assert!(create("/var/lib/labhands/../kubelet", "").is_err());
    assert!(create("/run/containerd", ", privileged: true").is_err());
    let writable =
        AGENT.replace("FOLDER", "/run/containerd").replace("MORE", "").replace("Filesystem: true", "Filesystem: false");
    assert!(kubectl.apply(&writable).unwrap_err().to_string().contains("a read-only root"));
    let pod = kubectl
        .apply(&AGENT.replace("FOLDER", "/run").replace("MORE", "").replace("labhands-node", "labhands"))
        .unwrap_err()
        .to_string();
    assert!(pod.contains("PodSecurity \"restricted"), "{pod}");
}

/// Checks `manifests/components/hub`: Pod Security admits Hub and proxy, and each can read only its own Secret.
fn the_hub_is_admitted(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let more = "- {name: hub, namespace: jupyter, behavior: merge, literals: [GITHUB_ORGANIZATIONS=org]}\n";
    cluster.install(&Install { overlay: "hub", more, ..Install::default() }).unwrap();
    let names =
        ["-n", "jupyter", "get", "pods", "-o", "jsonpath={.items[*].metadata.labels.app\\.kubernetes\\.io/component}"];
    kubectl.wait(&names, LIMIT, |names| names == "hub proxy").unwrap();
    let may = |question: &[&str]| {
        let ask = ["-n", "jupyter", "auth", "can-i", "--as=system:serviceaccount:jupyter:hub"];
        kubectl.run(&[&ask[..], question].concat()).is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may(&["create", "pods"]) && may(&["delete", "pods"]) && may(&["watch", "events"]));
    assert!(!may(&["get", "secrets"]) && !may(&["create", "secrets"]) && !may(&["get", "nodes"]));
    assert!(!may(&["create", "pods", "--subresource=exec"]));
    kubectl.run(&["delete", "namespace", "jupyter"]).unwrap();
}

#[test]
fn a_cluster_runs_pods_on_every_node_and_leaves_nothing() {
    let mut cluster = Cluster::start(2).unwrap();
    let kubectl = cluster.kubectl();
    Image::busybox().unwrap().push(cluster.registry(), "busybox", "1").unwrap();
    kubectl.apply(&WEB.replace("IMAGE", &format!("{}/busybox:1", cluster.registry_host()))).unwrap();
    let ready = ["get", "daemonset", "web", "-o", "jsonpath={.status.numberReady}"];
    kubectl.wait(&ready, LIMIT, |ready| ready == "2").unwrap();
    let pods = kubectl.run(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    let service = kubectl.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]).unwrap();
    for pod in pods.split(' ') {
        kubectl.wait(&["logs", pod], LIMIT, |log| log == "started\n").unwrap();
        // The Service, from either node, to whichever pod; and by its name (the wget of a static busybox cannot resolve even an address).
        let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {service} 80");
        let answer =
            kubectl.wait(&["exec", pod, "--", "sh", "-c", &get], LIMIT, |answer| answer.contains("200 OK")).unwrap();
        assert!(pods.split(' ').any(|pod| answer.trim_end().ends_with(pod)), "{answer}");
        let ask = ["exec", pod, "--", "nslookup", "web.default.svc.cluster.local"];
        kubectl.wait(&ask, LIMIT, |found| found.contains(&service)).unwrap();
    }

    node_agents_are_limited_to_their_folders(&cluster);
    the_hub_is_admitted(&cluster);

    assert_eq!(cluster.add_node().unwrap().name(), "node3");
    cluster.wait_ready().unwrap();
    kubectl.wait(&ready, LIMIT, |ready| ready == "3").unwrap();

    cluster.stop_api_server();
    assert!(kubectl.run(&["get", "nodes"]).is_err());
    cluster.start_api_server().unwrap();
    cluster.node("node1").unwrap().start_containerd().unwrap();
    cluster.wait_ready().unwrap();

    cluster.remove_node("node2").unwrap();
    assert!(!kubectl.run(&["get", "nodes"]).unwrap().contains("node2"));

    let nodes = cluster.nodes().iter().map(|node| node.folder().to_owned());
    let folders: Vec<_> = nodes.chain([cluster.folder().to_owned()]).collect();
    let address = cluster.machine();
    drop(cluster);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let links = testbed::command::run_args("ip", &["addr"]).unwrap();
    assert!(!links.contains(&address), "{links}");
    for folder in folders {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(!folder.exists() && !mounts.contains(name), "{name} is still there");
        assert!(!std::path::Path::new("/sys/fs/cgroup/memory").join(name).exists(), "the cgroup {name} is still there");
    }
}
