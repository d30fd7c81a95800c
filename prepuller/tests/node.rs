//! The node agent as the DaemonSet of the manifests, on a real cluster with two nodes. All steps share one cluster,
//! which takes a while to start.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::cluster::{Cluster, Install, Kubectl, Node};
use testbed::http::Client;
use testbed::images::{Image, Layer, Pushed, push_index};
use testbed::wait::{LIMIT, patiently};

/// How long a pull may make no progress.
const STALL: Duration = Duration::from_secs(10);

const MB: u64 = 1_000_000;
const NAMESPACE: &str = "labhands-node";

/// The test itself gives the orders.
const NO_PLANNER: &str = "patches:
- target: {kind: Deployment}
  patch: '- {op: replace, path: /spec/replicas, value: 0}'
";

struct Bed {
    began: Instant,
    cluster: Cluster,
    kubectl: Kubectl,
}

#[test]
fn agents_carry_out_orders_whatever_is_restarted() {
    let mut bed = Bed::start();
    bed.agents_are_ready(NAMESPACE);

    bed.step("orders are carried out with progress");
    orders_are_carried_out_with_progress(&bed);
    bed.step("a moved tag is pulled again");
    a_moved_tag_is_pulled_again(&bed);
    bed.step("a pinned digest and a nested index are held by both nodes");
    a_pinned_digest_and_a_nested_index_are_on_both_nodes(&bed);
    bed.step("a full disk is said and keeps nothing else back");
    a_full_disk_is_reported_and_delays_nothing_else(&bed);
    bed.step("a node that discards layers holds what unpacks longer than a pull may stall");
    a_node_that_discards_layers_gets_an_image_that_unpacks_longer_than_a_pull_may_stall(&mut bed);
    bed.step("a runtime that goes and comes back gets the same pull again");
    a_restarted_runtime_gets_the_same_pull_again(&mut bed);
    bed.step("without the api server the last orders are carried out even by a new agent");
    without_the_api_server_the_last_orders_are_carried_out_even_by_a_new_agent(&mut bed);
    bed.step("an agent writes its own nodes report and nothing else");
    an_agent_writes_its_own_nodes_report_and_nothing_else(&bed);
    bed.step("end");
}

fn orders_are_carried_out_with_progress(bed: &Bed) {
    let images = [bed.push("w_1", &[1, 2]), bed.push("w_2", &[1, 3])];
    // Twenty seconds each, so the second report, after ten, has some bytes.
    bed.cluster.registry_proxy().limit_rate(Some(400_000));
    bed.order("node1", &images, |_, _| {});
    let moving = |status: &Value| {
        let image = &status["images"][0];
        let (done, total) = (image["done"].as_u64(), image["total"].as_u64());
        image["state"] == "Downloading" && done > Some(0) && done < total && total == Some(images[0].size())
    };
    let status = bed.wait("node1", moving);
    assert_eq!(status["pulling"], "w_1");
    assert!(status["progress"].as_str().unwrap().contains("% of 7.63 MiB"), "{status}");
    let metrics = bed.ask_agent("node1", "metrics");
    assert!(metrics.contains("labhands_prepuller_node_images{state=\"downloading\"} 1"), "{metrics}");
    let page = bed.ask_agent("node1", "");
    assert!(page.contains("<h1>Images of node1</h1>") && page.contains("<progress"), "{page}");

    bed.cluster.registry_proxy().limit_rate(None);
    let status = bed.wait_present("node1", 2);
    assert!(status["runtime"].as_str().unwrap().starts_with("containerd "), "{status}");
    assert!(status["disk"]["total"].as_u64() > status["disk"]["used"].as_u64(), "{status}");
    assert!(bed.has("node1", &images[1]) && !bed.has("node2", &images[1]));
    let columns = bed.kubectl.run(&["-n", NAMESPACE, "get", "nodeimages"]).unwrap();
    let words = |line: usize| columns.lines().nth(line).unwrap().split_whitespace().take(3).collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "WANTED", "PRESENT"]);
    assert_eq!(words(1), ["node1", "2", "2"]);
    for column in ["PULLING", "PROGRESS", "ETA", "REPORTED", "AGE"] {
        assert!(columns.contains(column), "{columns}");
    }
}

fn a_moved_tag_is_pulled_again(bed: &Bed) {
    let moved = bed.push("w_2", &[1, 4]);
    bed.order("node1", std::slice::from_ref(&moved), |_, _| {});
    bed.wait_present("node1", 1);
    let listed = bed.node("node1").ctr(&["images", "ls"]).unwrap();
    assert!(listed.lines().any(|line| line.contains(":w_2 ") && line.contains(&moved.digest)), "{listed}");
}

fn a_pinned_digest_and_a_nested_index_are_on_both_nodes(bed: &Bed) {
    let (pinned, moved) = (bed.push("w_10", &[14]), bed.push("w_10", &[15]));
    let registry = bed.cluster.registry();
    let inner = push_index(registry, "lab", "inner", &[bed.push("w_11", &[16])]).unwrap();
    let nested = push_index(registry, "lab", "w_12", &[inner]).unwrap();
    let name = format!("{}@{}", bed.reference(&pinned), pinned.digest);
    for node in ["node1", "node2"] {
        bed.order(node, &[pinned.clone(), nested.clone()], |priority, order| {
            if priority == 0 {
                order["image"] = json!(name);
            }
        });
        bed.wait_present(node, 2);
        let held = bed.node(node).ctr(&["images", "ls"]).unwrap();
        let has = |digest: &str| held.contains(&format!("@{digest} "));
        assert!(has(&pinned.digest) && has(&nested.digest) && !has(&moved.digest), "{node}: {held}");
    }
}

/// An Amazon node's usual configuration discards layers: of the layers that the images share, only snapshots are left.
fn a_node_that_discards_layers_gets_an_image_that_unpacks_longer_than_a_pull_may_stall(bed: &mut Bed) {
    let shared = Layer::random(1, 4 * MB).blob().unwrap().digest;
    let kept = |node| bed.node(node).ctr(&["content", "ls", "-q"]).unwrap().contains(&shared);
    // The synchronous end of any lease collects garbage.
    bed.node("node2").ctr(&["leases", "create", "--id", "collect"]).unwrap();
    bed.node("node2").ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
    assert!(kept("node1") && !kept("node2"), "only the second node discards layers");
    let image = bed.push("w_13", &[1, 17]);
    bed.cluster.node("node2").unwrap().delay_unpacking(STALL * 2).unwrap();
    bed.cluster.wait_ready().unwrap();
    bed.order("node2", std::slice::from_ref(&image), |_, _| {});
    let status = bed.wait_present("node2", 1);
    assert_eq!(status["images"][0]["failures"], 0, "{status}");
    assert_eq!(status["images"][0]["total"], image.layer_sizes[1], "only the new layer was fetched: {status}");
    bed.cluster.node("node2").unwrap().delay_unpacking(Duration::ZERO).unwrap();
    bed.cluster.wait_ready().unwrap();
}

fn a_full_disk_is_reported_and_delays_nothing_else(bed: &Bed) {
    let images = [bed.push("w_3", &[1, 5]), bed.push("w_4", &[1, 5])];
    bed.order("node2", &images, |priority, order| {
        if priority == 0 {
            order["layers"] = json!([]);
            order["size"] = json!(1_000_000_000_000_000_u64);
        }
    });
    let status = bed.wait("node2", |status| status["images"][1]["state"] == "Present");
    assert_eq!(status["images"][0]["state"], "Refused");
    assert_eq!(status["conditions"][0]["type"], "DiskTooSmall");
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.starts_with("w_3: the disk would be ") && problem.contains("above DISK_HIGH 98 %"), "{problem}");
}

fn a_restarted_runtime_gets_the_same_pull_again(bed: &mut Bed) {
    let image = bed.push("w_5", &[6, 7]);
    bed.cluster.registry_proxy().limit_rate(Some(MB));
    let before = bed.cluster.registry_proxy().delivered();
    bed.order("node1", std::slice::from_ref(&image), |_, _| {});
    bed.delivered(before + MB);
    bed.cluster.node("node1").unwrap().stop_containerd();
    let status = bed.wait("node1", |status| status["problem"].is_string());
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.contains("/run/containerd/containerd.sock"), "{problem}");
    bed.cluster.node("node1").unwrap().start_containerd().unwrap();
    bed.cluster.registry_proxy().limit_rate(None);
    let status = bed.wait_present("node1", 1);
    assert!(status["problem"].is_null(), "{status}");
    bed.cluster.wait_ready().unwrap();
}

fn without_the_api_server_the_last_orders_are_carried_out_even_by_a_new_agent(bed: &mut Bed) {
    let images = [bed.push("w_6", &[8, 9, 10]), bed.push("w_7", &[11, 12, 13])];
    let container = bed.agent("node1", "{.items[0].status.containerStatuses[0].containerID}");
    // Thirty seconds for both.
    bed.cluster.registry_proxy().limit_rate(Some(800_000));
    let before = bed.cluster.registry_proxy().delivered();
    bed.order("node1", &images, |_, _| {});
    bed.delivered(before + MB);
    bed.cluster.stop_api_server();
    let container = container.rsplit('/').next().unwrap();
    bed.node("node1").ctr(&["tasks", "kill", "--signal", "SIGKILL", container]).unwrap();
    for image in &images {
        patiently(LIMIT, || bed.has("node1", image).then_some(())).expect("the pull continues without the API server");
    }
    // What was downloaded is not downloaded again.
    let delivered = bed.cluster.registry_proxy().delivered() - before;
    let sizes = images.iter().map(Pushed::size).sum::<u64>();
    assert!(delivered < sizes + sizes / 2, "{delivered} bytes for {sizes}");
    bed.cluster.registry_proxy().limit_rate(None);
    bed.cluster.start_api_server().unwrap();
    bed.wait_present("node1", 2);
    bed.cluster.wait_ready().unwrap();
    bed.agents_are_ready(NAMESPACE);
}

fn an_agent_writes_its_own_nodes_report_and_nothing_else(bed: &Bed) {
    only_its_own(bed, NAMESPACE);
    // The same manifests, rendered into other namespaces.
    bed.render("elsewhere");
    bed.agents_are_ready("elsewhere-node");
    only_its_own(bed, "elsewhere-node");
}

fn only_its_own(bed: &Bed, namespace: &str) {
    for node in ["node1", "node2"] {
        bed.kubectl.apply(&node_images(namespace, node, &[]).to_string()).unwrap();
    }
    let token = bed.token_on("node1", namespace);
    let api = bed.as_holder_of(&token);
    let call = |method: &str, path: &str| {
        let group = format!("apis/labhands.dev/v1alpha1/namespaces/{namespace}/nodeimages");
        let url = format!("{}/{}", bed.api_server(), path.replace("NODEIMAGES", &group));
        let headers = [("content-type", "application/merge-patch+json")];
        let body: &[u8] = if method == "PATCH" { br#"{"status": {"runtime": "from a test"}}"# } else { b"" };
        let answer = api.send(method, &url, &headers, body).unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    // A new policy takes effect after a moment.
    let words = "the report of node2 comes from a pod on that node, and this token is from node1";
    let refused = || {
        let (status, message) = call("PATCH", "NODEIMAGES/node2/status");
        (status == 403 && message.contains(words)).then_some(())
    };
    patiently(LIMIT, refused).expect("another node's report is refused");
    assert_eq!(call("PATCH", "NODEIMAGES/node1/status").0, 200);
    assert_eq!(call("GET", "NODEIMAGES/node1").0, 200);
    for (method, path) in [
        ("PATCH", "NODEIMAGES/node1"),
        ("DELETE", "NODEIMAGES/node1"),
        ("GET", "api/v1/nodes/node1"),
        ("GET", "api/v1/pods"),
        ("GET", &format!("api/v1/namespaces/{namespace}/secrets")),
    ] {
        assert_eq!(call(method, path).0, 403, "{method} {path}");
    }
}

fn node_images(namespace: &str, node: &str, orders: &[Value]) -> Value {
    json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages",
        "metadata": {"name": node, "namespace": namespace}, "spec": {"wanted": orders.len(), "orders": orders}})
}

impl Bed {
    fn start() -> Self {
        let began = Instant::now();
        let cluster = Cluster::start(2).unwrap();
        let programs = [env!("CARGO_BIN_EXE_prepuller")];
        // The test machine's disk may be nearly full.
        let stall = format!("{}s", STALL.as_secs());
        let settings = [("DISK_HIGH", "98%"), ("PULL_STALL_TIMEOUT", stall.as_str())];
        let install = Install {
            overlay: "prepuller",
            programs: &programs,
            settings: &settings,
            more: NO_PLANNER,
            ..Install::default()
        };
        cluster.install(&install).unwrap();
        Self { began, kubectl: cluster.kubectl(), cluster }
    }

    /// Prints in the test's output when a step begins, to show what takes long.
    fn step(&self, name: &str) {
        eprintln!("{:>5.0} s  {name}", self.began.elapsed().as_secs_f64());
    }

    /// Applies the overlay again, in other namespaces: `NAME` and `NAME-node`.
    fn render(&self, name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let up = "../".repeat(folder.path().components().count() - 1);
        let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..").trim_start_matches('/');
        let registry = self.cluster.registry_host();
        let text = format!(
            "resources: [{up}{repository}/manifests/overlays/prepuller]\n\
             images: [{{name: labhands/prepuller, newName: {registry}/labhands/prepuller}}]\n{NO_PLANNER}"
        );
        fs::write(folder.path().join("kustomization.yaml"), text).unwrap();
        let rendered = self.kubectl.run(&["kustomize", folder.path().to_str().unwrap()]).unwrap();
        let renamed = rendered.lines().map(|line| match line.trim_start().trim_start_matches("- ") {
            "name: labhands" | "name: labhands-node" | "namespace: labhands" | "namespace: labhands-node" => {
                line.replace("labhands", name)
            }
            _ => line.to_owned(),
        });
        self.kubectl.apply(&renamed.collect::<Vec<_>>().join("\n")).unwrap();
    }

    fn agents_are_ready(&self, namespace: &str) {
        let status = ["-n", namespace, "get", "daemonset", "prepuller-node", "-o", "jsonpath={.status.numberReady}"];
        if let Err(error) = self.kubectl.wait(&status, LIMIT, |ready| ready == "2") {
            panic!("{error}\n{}", self.kubectl.run(&["-n", namespace, "describe", "pods"]).unwrap());
        }
    }

    /// Pushes an image of layers of 4 MB, generated from seeds.
    fn push(&self, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| Layer::random(seed, 4 * MB));
        Image::new(layers).push(self.cluster.registry(), "lab", tag).unwrap()
    }

    /// Orders exactly these images, as the planner does.
    fn order(&self, node: &str, images: &[Pushed], change: impl Fn(usize, &mut Value)) {
        let orders = images.iter().enumerate().map(|(priority, image)| {
            let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
            // An index has no layers itself.
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let layers: Vec<Value> =
                layers.map(|layer| json!({"digest": layer["digest"], "size": layer["size"]})).collect();
            let mut order = json!({"image": self.reference(image), "digest": image.digest, "size": image.size(),
                "layers": layers, "priority": priority});
            change(priority, &mut order);
            order
        });
        let object = node_images(NAMESPACE, node, &orders.collect::<Vec<_>>());
        self.kubectl.apply(&object.to_string()).unwrap();
    }

    fn reference(&self, image: &Pushed) -> String {
        format!("{}/lab:{}", self.cluster.registry_host(), image.tag)
    }

    /// Waits for a report on the current orders.
    fn wait(&self, node: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let object = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let is_wanted = |text: &str| {
            let object = object(text);
            let status = &object["status"];
            let runtime_is_away = status["problem"].as_str().is_some_and(|problem| problem.contains("socket"));
            (runtime_is_away || status["observedGeneration"] == object["metadata"]["generation"]) && wanted(status)
        };
        let get = ["-n", NAMESPACE, "get", "nodeimages", node, "-o", "json"];
        let text = self.kubectl.wait(&get, LIMIT, is_wanted).unwrap_or_else(|error| {
            let logs = ["-n", NAMESPACE, "logs", "--tail=30", "-l", "app.kubernetes.io/component=node", "--prefix"];
            panic!("{error}\n{}", self.kubectl.run(&logs).unwrap_or_default());
        });
        object(&text)["status"].clone()
    }

    fn wait_present(&self, node: &str, count: u64) -> Value {
        self.wait(node, |status| status["wanted"] == count && status["present"] == count)
    }

    /// Waits until nodes have downloaded this many bytes from the registry.
    fn delivered(&self, bytes: u64) {
        let proxy = self.cluster.registry_proxy();
        patiently(LIMIT, || (proxy.delivered() >= bytes).then_some(())).expect("bytes move");
    }

    fn node(&self, name: &str) -> &Node {
        self.cluster.nodes().iter().find(|node| node.name() == name).unwrap()
    }

    /// Whether the node's containerd has the image under its tag.
    fn has(&self, node: &str, image: &Pushed) -> bool {
        self.node(node).ctr(&["images", "ls", "-q"]).unwrap().lines().any(|name| name == self.reference(image))
    }

    /// A field of the agent's pod on a node, by JSON path.
    fn agent(&self, node: &str, path: &str) -> String {
        self.agent_in(NAMESPACE, node, path)
    }

    fn agent_in(&self, namespace: &str, node: &str, path: &str) -> String {
        let on_node = format!("--field-selector=spec.nodeName={node}");
        let label = "app.kubernetes.io/component=node";
        self.kubectl
            .run(&["-n", namespace, "get", "pods", "-l", label, &on_node, "-o", &format!("jsonpath={path}")])
            .unwrap()
    }

    fn ask_agent(&self, node: &str, path: &str) -> String {
        let pod = self.agent(node, "{.items[0].metadata.name}");
        self.kubectl
            .run(&["get", "--raw", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/{path}")])
            .unwrap()
    }

    /// The token that kubelet gave the agent's pod.
    fn token_on(&self, node: &str, namespace: &str) -> String {
        let uid = self.agent_in(namespace, node, "{.items[0].metadata.uid}");
        let volumes = format!("var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected");
        let volumes: PathBuf = self.node(node).root().join(volumes);
        let volume = fs::read_dir(&volumes).unwrap().next().unwrap().unwrap();
        fs::read_to_string(volume.path().join("token")).unwrap()
    }

    fn api_server(&self) -> String {
        self.kubectl.run(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]).unwrap()
    }

    /// A client that has only this token.
    fn as_holder_of(&self, token: &str) -> Client {
        let authority = fs::read_to_string(self.cluster.folder().join("ca.crt")).unwrap();
        Client::new(Some(&authority), Some(format!("Bearer {token}"))).unwrap()
    }
}
