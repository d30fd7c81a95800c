//! A real Kubernetes: pods, Services, DNS, a node added and removed, parts stopped and started, and nothing left.
use std::time::Duration;

use testbed::cluster::Cluster;
use testbed::images::Image;

const LIMIT: Duration = Duration::from_secs(60);

/// A web server that says its pod's name, on every node, behind a Service.
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
        assert_eq!(kubectl.run(&["logs", pod]).unwrap(), "started\n");
        // The Service, from either node, to whichever pod; and by its name (a static busybox's own wget cannot even look at an address).
        let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {service} 80");
        let answer =
            kubectl.wait(&["exec", pod, "--", "sh", "-c", &get], LIMIT, |answer| answer.contains("200 OK")).unwrap();
        assert!(pods.split(' ').any(|pod| answer.trim_end().ends_with(pod)), "{answer}");
        let found = kubectl.run(&["exec", pod, "--", "nslookup", "web.default.svc.cluster.local"]).unwrap();
        assert!(found.contains(&service), "{found}");
    }

    assert_eq!(cluster.add_node().unwrap().name(), "node3");
    cluster.wait_ready(LIMIT).unwrap();
    kubectl.wait(&ready, LIMIT, |ready| ready == "3").unwrap();

    cluster.stop_api_server();
    assert!(kubectl.run(&["get", "nodes"]).is_err());
    cluster.start_api_server().unwrap();
    cluster.node("node1").unwrap().start_containerd().unwrap();
    cluster.wait_ready(LIMIT).unwrap();

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
