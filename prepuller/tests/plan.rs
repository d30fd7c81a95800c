//! The planner with its agents, as the manifests install them, on a real cluster. One cluster for all of it: it takes a while to
//! start, and a planner lives long.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::http::{Answer, Client};
use testbed::images::{Image, Layer, Pushed};
use testbed::registry::Registry;
use testbed::wait::patiently;

/// The end of a test that hangs; nothing here takes nearly as long.
const LIMIT: Duration = Duration::from_secs(120);

const MB: u64 = 1_000_000;
const PROGRAM: &str = env!("CARGO_BIN_EXE_prepuller");

#[test]
fn a_planner_brings_images_to_nodes_whatever_happens() {
    let mut bed = Bed::start();
    let record = Record::start(&bed.kubectl);

    bed.step("catalogue");
    a_catalogue_is_published_and_every_node_holds_what_is_wanted(&bed);
    a_catalogue_that_somebody_changed_is_written_again(&bed);
    bed.step("restart");
    a_planner_that_starts_anew_goes_on_with_the_wave(&bed);
    bed.step("moved tag");
    a_moved_tag_is_pulled_again(&bed);
    bed.step("stopped wave");
    a_failing_canary_stops_the_wave(&bed);
    bed.step("a canary's runtime ends");
    a_canary_whose_runtime_ends_gives_its_place_on(&mut bed);
    bed.step("orders refused");
    orders_that_cannot_be_written_are_said(&bed);
    bed.step("no registry");
    without_a_registry_the_last_good_catalogue_stays(&mut bed);
    bed.step("one of two registries");
    of_two_registries_one_may_be_down(&mut bed);
    bed.step("taints");
    taints_of_user_nodes_are_tolerated_and_others_are_not(&bed);
    bed.step("new node");
    a_new_node_is_closed_until_it_holds_its_images(&mut bed);
    the_orders_of_a_node_go_with_it(&mut bed);
    bed.step("who waits");
    who_waits_is_first_and_no_gate_waits_for_ever(&bed);
    record.one_canary_at_a_time();
    bed.step("spawns");
    labs_that_start_are_counted_once_over_a_restart(&bed);
    bed.step("token");
    the_planners_token_takes_the_gates_taint_and_nothing_else(&bed);
    bed.step("pull pods");
    pods_pull_where_agents_may_not(&bed);
    bed.step("end");
}

fn a_catalogue_is_published_and_every_node_holds_what_is_wanted(bed: &Bed) {
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_02", "w_2026_01"]);
    }
    bed.wait_answer("/readyz", |answer| answer.status == 200);
    let answer = bed.wait_answer("/catalogue.json", |answer| {
        let catalogue: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        catalogue["images"][0]["nodes"]["present"] == 2
    });
    let catalogue: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(catalogue["images"][0]["tag"], "w_2026_02");
    assert_eq!(catalogue["images"][0]["nodes"]["eligible"], 2);
    let url = format!("http://{}:8080/catalogue.json", bed.planner());
    // Each scan is news, and there may be one between two requests.
    let is_known = || {
        let tag = bed.ask("/catalogue.json")?.header("etag").to_owned();
        let known = Client::new(None, None).unwrap().send("GET", &url, &[("if-none-match", &tag)], b"");
        (known.ok()?.status == 304).then_some(())
    };
    patiently(LIMIT, is_known).expect("what is known is not sent again");

    let map = ["-n", "labhands", "get", "configmap", "lab-images", "-o", r"jsonpath={.data.catalogue\.json}"];
    let published: Value = serde_json::from_str(&bed.kubectl.run(&map).unwrap()).unwrap();
    assert_eq!(published["images"].as_array().map(Vec::len), Some(2));
    let lease = ["-n", "labhands", "get", "lease", "lab-images", "-o", "jsonpath={.spec.renewTime}"];
    let (map_version, renewed) = (bed.version_of_catalogue(), bed.kubectl.run(&lease).unwrap());
    // Another scan of the same is vouched for and not written again.
    bed.kubectl.wait(&lease, LIMIT, |again| again != renewed).unwrap();
    assert_eq!(bed.version_of_catalogue(), map_version);
    // What a node should hold and when it last said so is among the columns.
    let columns = bed.kubectl.run(&["-n", "labhands-node", "get", "nodeimages"]).unwrap();
    let words = |line: usize| columns.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "WANTED", "PRESENT", "PULLING", "PROGRESS", "ETA", "REPORTED", "AGE"]);
    assert_eq!(words(1)[..3], ["node1", "2", "2"], "{columns}");
    let asked = Client::new(None, None).unwrap().send("POST", &format!("http://{}:8080/scan", bed.planner()), &[], b"");
    assert_eq!(asked.unwrap().status, 202);
}

fn a_catalogue_that_somebody_changed_is_written_again(bed: &Bed) {
    let map = [
        "-n",
        "labhands",
        "get",
        "configmap",
        "lab-images",
        "--ignore-not-found",
        "-o",
        r"jsonpath={.data.catalogue\.json}",
    ];
    let good = bed.kubectl.run(&map).unwrap();
    let edit = r#"{"data": {"catalogue.json": "{\"version\": 1}"}}"#;
    bed.kubectl.run(&["-n", "labhands", "patch", "configmap", "lab-images", "--type=merge", "-p", edit]).unwrap();
    bed.kubectl.wait(&map, LIMIT, |published| published == good).unwrap();
    bed.kubectl.run(&["-n", "labhands", "delete", "configmap", "lab-images"]).unwrap();
    bed.kubectl.wait(&map, LIMIT, |published| published == good).unwrap();
}

fn a_planner_that_starts_anew_goes_on_with_the_wave(bed: &Bed) {
    let proxy = bed.cluster.registry_proxy();
    proxy.limit_rate(Some(400_000));
    let before = proxy.delivered();
    let image = bed.push("w_2026_03", &[30, 31]);
    let canary = bed.wait_for_canary("w_2026_03");
    bed.restart_planner();
    assert_eq!(bed.ordered("w_2026_03"), [canary.as_str()]);
    proxy.limit_rate(None);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_03", "w_2026_02"]);
    }
    let (delivered, size) = (proxy.delivered() - before, image.size());
    assert!(delivered < 2 * size + size / 2, "{delivered} bytes for twice {size}");
}

fn a_moved_tag_is_pulled_again(bed: &Bed) {
    let moved = bed.push("w_2026_03", &[30, 32]);
    for node in bed.cluster.nodes() {
        let has = || {
            let listed = node.ctr(&["images", "ls"]).ok()?;
            let is_it = |line: &str| line.contains(":w_2026_03 ") && line.contains(&moved.digest);
            listed.lines().any(is_it).then_some(())
        };
        patiently(LIMIT, has).unwrap_or_else(|| panic!("{} has the tag as it was", node.name()));
    }
}

fn a_failing_canary_stops_the_wave(bed: &Bed) {
    // Broken before a scan sees its tag.
    let image = bed.push("prepared", &[40, 41]);
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let storage = bed.cluster.registry().storage().join("docker/registry/v2");
    fs::remove_dir_all(storage.join("blobs/sha256").join(&digest[..2]).join(digest)).unwrap();
    let tags = storage.join("repositories/lab/_manifests/tags");
    fs::rename(tags.join("prepared"), tags.join("w_2026_04")).unwrap();
    let stopped = bed.wait_event("labhands", "WaveStopped");
    let canary = bed.ordered("w_2026_04");
    assert_eq!(canary.len(), 1, "{canary:?}");
    assert!(stopped.contains("w_2026_04 stopped") && stopped.contains(&canary[0]), "{stopped}");
    bed.wait_event("default", "ImagePullFailed");
    let metrics = bed.ask("/metrics").unwrap().text();
    assert!(metrics.contains("labhands_prepuller_stopped_waves 1"), "{metrics}");
    let page = bed.wait_answer("/", |answer| answer.text().contains("stopped: "));
    assert!(page.text().contains("could not pull it; another node tries it in "), "{}", page.text());
    // Whole again: the canary's next try goes well, and the wave goes on by itself.
    bed.push("w_2026_04", &[40, 41]);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_04", "w_2026_03"]);
    }
    bed.wait_answer("/metrics", |answer| answer.text().contains("labhands_prepuller_stopped_waves 0"));
}

/// The end of a runtime says nothing of the image, so the other node has it long before the ten minutes of a stopped wave are over.
fn a_canary_whose_runtime_ends_gives_its_place_on(bed: &mut Bed) {
    bed.cluster.registry_proxy().limit_rate(Some(400_000));
    let before = bed.cluster.registry_proxy().delivered();
    bed.push("w_2026_05", &[50, 51]);
    let canary = bed.wait_for_canary("w_2026_05");
    let proxy = bed.cluster.registry_proxy();
    patiently(LIMIT, || (proxy.delivered() > before + MB).then_some(())).expect("the canary pulls");
    bed.cluster.node(&canary).unwrap().stop_containerd();
    bed.cluster.registry_proxy().limit_rate(None);
    let other = if canary == "node1" { "node2" } else { "node1" };
    bed.wait_present(other, &["w_2026_05", "w_2026_04"]);
    let event = bed.wait_event("default", "RuntimeUnavailable");
    assert!(event.contains(&canary), "{event}");
    let object = bed.object(&canary);
    assert_eq!(object["status"]["conditions"][0]["type"], "RuntimeUnavailable", "{object:#}");
    assert_eq!(object["spec"]["wanted"], 2);
    bed.cluster.node(&canary).unwrap().start_containerd().unwrap();
    bed.wait_present(&canary, &["w_2026_05", "w_2026_04"]);
    let failures: Vec<Value> = bed.object(&canary)["status"]["images"].as_array().unwrap().clone();
    assert!(failures.iter().all(|image| image["image"].as_str().unwrap().ends_with("04") || image["failures"] == 0));
    bed.cluster.wait_ready(LIMIT).unwrap();
}

fn orders_that_cannot_be_written_are_said(bed: &Bed) {
    let verbs = |verbs: &str| {
        let patch = format!(r#"[{{"op": "replace", "path": "/rules/0/verbs", "value": {verbs}}}]"#);
        let role = ["-n", "labhands-node", "patch", "role", "prepuller-plan", "--type=json", "-p", &patch];
        bed.kubectl.run(&role).unwrap();
    };
    verbs(r#"["list", "watch"]"#);
    bed.push("w_2026_06", &[60, 61]);
    let page = bed.wait_answer("/status.json", |answer| answer.text().contains("Orders can't be written for"));
    assert!(page.text().contains("forbidden"), "{}", page.text());
    let event = bed.wait_event("labhands", "OrdersNotWritten");
    assert!(event.contains("Nodes pull nothing new") && !event.contains("Status {"), "{event}");
    let trouble = "labhands_prepuller_nodes_in_trouble{trouble=\"orders_not_written\"} ";
    let metrics = bed.wait_answer("/metrics", |answer| !answer.text().contains(&format!("{trouble}0")));
    assert!(metrics.text().contains(trouble), "{}", metrics.text());
    assert_eq!(bed.ask("/readyz").unwrap().status, 200, "a Service leads to the page that says it");
    verbs(r#"["list", "watch", "create", "patch"]"#);
    bed.wait_event("labhands", "OrdersWritten");
    a_definition_that_is_too_old_is_said(bed);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05"]);
    }
    bed.wait_answer("/metrics", |answer| answer.text().contains(&format!("{trouble}0")));
}

/// A planner was upgraded, and the CustomResourceDefinition was not.
fn a_definition_that_is_too_old_is_said(bed: &Bed) {
    let definition = "nodeimages.labhands.dev";
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/wanted";
    let patch = |patch: Value| {
        bed.kubectl.run(&["patch", "crd", definition, "--type=json", "-p", &patch.to_string()]).unwrap();
    };
    let field = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.wanted}";
    let field: Value =
        serde_json::from_str(&bed.kubectl.run(&["get", "crd", definition, "-o", field]).unwrap()).unwrap();
    patch(json!([{"op": "remove", "path": path}]));
    bed.push("w_2026_06", &[60, 62]);
    let says = "the CustomResourceDefinition in the cluster is older than this program";
    let page = bed.wait_answer("/status.json", |answer| answer.text().contains(says));
    assert!(page.text().contains("Orders can't be written for"), "{}", page.text());
    let note = ["-n", "labhands", "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}"];
    bed.kubectl.wait(&note, LIMIT, |notes| notes.contains(says)).unwrap();
    assert_eq!(bed.ask("/readyz").unwrap().status, 200, "a Service leads to the page that says it");
    patch(json!([{"op": "add", "path": path, "value": field}]));
}

/// The other's new weekly gets onto the nodes, and the catalogue says which repository is old.
fn of_two_registries_one_may_be_down(bed: &mut Bed) {
    let second = Registry::start().unwrap();
    let host = bed.cluster.expose(([127, 0, 0, 1], second.port()).into()).unwrap();
    for node in bed.cluster.nodes() {
        node.plain_registry(&host, &host).unwrap();
    }
    let first = bed.cluster.registry_host();
    let push = |tag: &str, seed| Image::new([Layer::random(seed, MB)]).push(&second, "lab", tag).unwrap();
    push("w_2027_01", 71);
    let settings = |settings: &[&str]| {
        bed.kubectl.run(&[&["-n", "labhands", "set", "env", "deployment/prepuller-plan"], settings].concat()).unwrap();
        bed.kubectl
            .run(&["-n", "labhands", "rollout", "status", "deployment/prepuller-plan", "--timeout=120s"])
            .unwrap();
    };
    let (both, plain) =
        (format!("LAB_REPOSITORIES={first}/lab,{host}/lab"), format!("LAB_INSECURE_REGISTRIES={first},{host}"));
    settings(&[&both, &plain]);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05", "w_2027_01"]);
    }
    bed.cluster.registry_mut().stop();
    push("w_2027_02", 72);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05", "w_2027_02", "w_2027_01"]);
    }
    let state = |answer: &Answer, host: &str| {
        let catalogue: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let repositories = catalogue["repositories"].as_array().cloned().unwrap_or_default();
        repositories.into_iter().find(|state| state["name"] == format!("{host}/lab")).unwrap_or_default()
    };
    let answer = bed.wait_answer("/catalogue.json", |answer| state(answer, &first)["complete"] == false);
    let (old, new) = (state(&answer, &first), state(&answer, &host));
    assert!(old["problem"].is_string() && old["scanned"].is_string(), "{old}");
    assert!(new["complete"] == true && new["problem"].is_null() && new["tags"] == 2, "{new}");
    assert!(old["scanned"].as_str() < new["scanned"].as_str(), "{old} {new}");
    let page = bed.wait_answer("/", |answer| answer.text().contains("its images are those of"));
    assert!(page.text().contains("The last scan missed something; what it found is taken over"), "{}", page.text());
    let metrics = bed.ask("/metrics").unwrap().text();
    let complete = |host: &str, is: u8| {
        let line = format!("labhands_prepuller_repository_complete{{repository=\"{host}/lab\"}} {is}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    };
    complete(&first, 0);
    complete(&host, 1);
    bed.cluster.registry_mut().start_again().unwrap();
    settings(&["LAB_REPOSITORIES-", "LAB_INSECURE_REGISTRIES-"]);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05"]);
    }
}

fn without_a_registry_the_last_good_catalogue_stays(bed: &mut Bed) {
    bed.cluster.registry_mut().stop();
    let event = bed.wait_event("labhands", "ScanFailed");
    assert!(event.contains("The last good catalogue stays"), "{event}");
    let failed = "labhands_prepuller_scans_total{result=\"failed\"} ";
    bed.wait_answer("/metrics", |answer| answer.text().contains(failed));
    bed.restart_planner();
    // Of the whole; each repository has one of its own.
    let problem = |answer: &Answer| {
        let catalogue: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        catalogue["problem"].is_string()
    };
    let answer = bed.wait_answer("/catalogue.json", problem);
    let catalogue: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&catalogue["images"][0]["tag"], &catalogue["complete"]), (&"w_2026_06".into(), &true.into()));
    assert_eq!(catalogue["images"][0]["nodes"]["present"], 2);
    bed.cluster.registry_mut().start_again().unwrap();
    bed.wait_answer("/catalogue.json", |answer| answer.status == 200 && !problem(answer));
}

fn taints_of_user_nodes_are_tolerated_and_others_are_not(bed: &Bed) {
    bed.kubectl
        .run(&["taint", "node", "node2", "hub.jupyter.org/dedicated=user:NoSchedule", "gpu=yes:NoSchedule"])
        .unwrap();
    bed.wait_orders("node2", &[]);
    let why = bed.wait_answer("/spawner/v1/prepulls", |answer| answer.text().contains("gpu"));
    assert!(why.text().contains("taint gpu=yes:NoSchedule"), "{}", why.text());
    bed.kubectl.run(&["taint", "node", "node2", "gpu-"]).unwrap();
    bed.wait_present("node2", &["w_2026_06", "w_2026_05"]);
}

fn a_new_node_is_closed_until_it_holds_its_images(bed: &mut Bed) {
    bed.cluster.registry_proxy().limit_rate(Some(2 * MB));
    assert_eq!(bed.cluster.add_node().unwrap().name(), "node3");
    let kubectl = bed.kubectl.clone();
    kubectl.run(&["wait", "node/node3", "--for=create", "--timeout=60s"]).unwrap();
    kubectl.run(&["taint", "node", "node3", "labhands.dev/images=:NoSchedule"]).unwrap();
    bed.wait_orders("node3", &["w_2026_06", "w_2026_05"]);
    let taints = ["get", "node", "node3", "-o", "jsonpath={.spec.taints[*].key}"];
    assert!(kubectl.run(&taints).unwrap().contains("labhands.dev/images"));
    bed.cluster.registry_proxy().limit_rate(None);
    kubectl.wait(&taints, LIMIT, |keys| !keys.contains("labhands.dev/images")).unwrap();
    assert_eq!(bed.present("node3"), ["w_2026_06", "w_2026_05"]);
    let opened = bed.wait_event("default", "GateOpened");
    assert!(opened.contains("node3"), "{opened}");
}

fn the_orders_of_a_node_go_with_it(bed: &mut Bed) {
    bed.cluster.remove_node("node3").unwrap();
    let names = ["-n", "labhands-node", "get", "nodeimages", "-o", "name"];
    bed.kubectl.wait(&names, LIMIT, |names| !names.contains("node3")).unwrap();
}

fn who_waits_is_first_and_no_gate_waits_for_ever(bed: &Bed) {
    bed.kubectl.run(&["-n", "labhands", "set", "env", "deployment/prepuller-plan", "GATE_TIMEOUT=1s"]).unwrap();
    bed.kubectl.run(&["-n", "labhands", "rollout", "status", "deployment/prepuller-plan", "--timeout=120s"]).unwrap();
    // A lab of an image that is not there yet: its pod waits on the node that would not be first otherwise. kubelet does not pull
    // it, or the node might have it before the scan has found it.
    let image = format!("{}/lab:w_2026_07", bed.cluster.registry_host());
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: jupyter-waits, namespace: default}}, \
          spec: {{nodeName: node2, \
          containers: [{{name: notebook, image: '{image}', imagePullPolicy: Never}}]}}}}"
    );
    bed.kubectl.apply(&pod).unwrap();
    bed.wait_answer("/status.json", |answer| answer.text().contains("one user waits here"));
    bed.cluster.registry_proxy().limit_rate(Some(400_000));
    bed.push("w_2026_07", &[70, 71]);
    let canary = bed.wait_for_canary("w_2026_07");
    assert_eq!(canary, "node2", "{}\n{}", bed.ask("/status.json").unwrap().text(), bed.log());
    bed.kubectl.run(&["taint", "node", "node1", "labhands.dev/images=:NoSchedule"]).unwrap();
    let opened = bed.wait_event("default", "GateTimedOut");
    assert!(opened.starts_with("node1: ") && opened.contains("without") && opened.contains("w_2026_07"), "{opened}");
    let taints = ["get", "node", "node1", "-o", "jsonpath={.spec.taints[*].key}"];
    bed.kubectl.wait(&taints, LIMIT, |keys| !keys.contains("labhands.dev/images")).unwrap();
    bed.cluster.registry_proxy().limit_rate(None);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_07", "w_2026_06"]);
    }
    bed.kubectl.run(&["delete", "pod", "jupyter-waits", "--grace-period=0", "--force"]).unwrap();
}

/// Twenty labs: some find their image, some wait while the planner is restarted, some come after that.
fn labs_that_start_are_counted_once_over_a_restart(bed: &Bed) {
    let push = |tag: &str, seed| {
        let image = Image::pause().unwrap().layer(Layer::random(seed, 2 * MB));
        image.push(bed.cluster.registry(), "lab", tag).unwrap();
    };
    let start = |numbers: Range<u32>, node: &str, tag: &str| {
        let image = format!("{}/lab:{tag}", bed.cluster.registry_host());
        let pod = |number: u32| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("jupyter-{number}"), "namespace": "default", "labels": {"spawned": "yes"}},
                "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "notebook", "image": image}]}});
            format!("---\n{pod}\n")
        };
        bed.kubectl.apply(&numbers.map(pod).collect::<String>()).unwrap();
    };
    let wait_counts = |present: u32, absent: u32| {
        let lines = [("present", present), ("absent", absent), ("unknown", 0)].map(|(image, count)| {
            let count_of = |metric: &str| format!("labhands_prepuller_{metric}{{image=\"{image}\"}} {count}\n");
            [count_of("spawns_total"), count_of("spawn_duration_seconds_count")]
        });
        let are = |answer: &Answer| lines.as_flattened().iter().all(|line| answer.text().contains(line));
        bed.wait_answer("/metrics", are);
    };
    push("w_2026_08", 80);
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_08", "w_2026_07"]);
    }
    start(0..4, "node1", "w_2026_08");
    start(4..8, "node2", "w_2026_08");
    wait_counts(8, 0);
    bed.cluster.registry_proxy().limit_rate(Some(200_000));
    push("w_2026_09", 90);
    let other = if bed.wait_for_canary("w_2026_09") == "node1" { "node2" } else { "node1" };
    start(8..12, other, "w_2026_09");
    bed.wait_answer("/status.json", |answer| answer.text().contains("4 users wait here"));
    bed.restart_planner();
    bed.wait_answer("/status.json", |answer| {
        serde_json::from_slice::<Value>(&answer.body).is_ok_and(|status| status["spawns"].is_object())
    });
    bed.cluster.registry_proxy().limit_rate(None);
    start(12..20, "node1", "w_2026_08");
    wait_counts(8, 4);
    let page = bed.ask("/").unwrap().text();
    assert!(page.contains("12 labs started. 8 found their image on their node (66 %)."), "{page}");
    bed.kubectl.run(&["delete", "pods", "-l", "spawned=yes", "--wait"]).unwrap();
}

fn pods_pull_where_agents_may_not(bed: &Bed) {
    let agents = ["daemonset/prepuller-node", "role/prepuller-node", "rolebinding/prepuller-node"];
    bed.kubectl.run(&[&["-n", "labhands-node", "delete"], &agents[..]].concat()).unwrap();
    let policy =
        ["validatingadmissionpolicybinding/labhands-node-images", "validatingadmissionpolicy/labhands-node-images"];
    bed.kubectl.run(&[&["delete"], &policy[..]].concat()).unwrap();
    // No shell in them; the program of this test needs its libraries, the released one nothing.
    for (tag, seed) in [("w_2026_10", 72), ("w_2026_11", 70)] {
        let image = Image::program(Path::new(PROGRAM)).unwrap().layer(Layer::random(seed, MB));
        image.push(bed.cluster.registry(), "lab", tag).unwrap();
    }
    bed.install("prepuller-pods");
    bed.agents.set("labhands-pull");
    bed.kubectl.run(&["-n", "labhands", "rollout", "status", "deployment/prepuller-plan", "--timeout=120s"]).unwrap();
    for node in bed.cluster.nodes() {
        bed.wait_present(node.name(), &["w_2026_11", "w_2026_10"]);
        assert!(node.ctr(&["images", "ls"]).unwrap().contains("/lab:w_2026_11 "));
    }
    let pods = ["-n", "labhands-pull", "get", "pods", "-l", "labhands.dev/pull", "-o", "name"];
    bed.kubectl.wait(&pods, LIMIT, |names| names.trim().is_empty()).unwrap();
    only_pull_pods_run_in_their_namespace(bed);
}

/// With the planner's token: what is no pull pod is refused there, and everything where agents are.
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
    let (status, said) = create("labhands-pull", &pod);
    assert_eq!(status, 201, "{said}");
    let (status, said) = create("labhands-node", &pod);
    assert_eq!(status, 403, "{said}");
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
        let (status, said) = create("labhands-pull", &other);
        assert!(matches!(status, 403 | 422), "{what}: {status} {said}");
    }
}

/// `kubectl patch` reads first, which the token may not always: these are bare requests.
fn the_planners_token_takes_the_gates_taint_and_nothing_else(bed: &Bed) {
    let gate = json!({"key": "labhands.dev/images", "effect": "NoSchedule"});
    let other = json!({"key": "other", "effect": "PreferNoSchedule"});
    let taints = |taints: &[&Value]| json!({"spec": {"taints": taints}});
    bed.kubectl.run(&["patch", "node", "node1", "--type=merge", "-p", &taints(&[&gate, &other]).to_string()]).unwrap();
    let api = bed.as_planner();
    let patch = |body: &Value| {
        api("PATCH", "/api/v1/nodes/node1?dryRun=All", "application/merge-patch+json", &body.to_string())
    };
    // The planner itself may be faster: then nothing changes, which is allowed too.
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
        let (status, said) = patch(&body);
        assert!(status == 403 && said.contains("labhands-prepuller-plan-nodes"), "{body}: {status} {said}");
    }
    let status = json!({"status": {"phase": "Running"}}).to_string();
    assert_eq!(api("PATCH", "/api/v1/nodes/node1/status", "application/merge-patch+json", &status).0, 403);
    assert_eq!(api("DELETE", "/api/v1/nodes/node1", "application/json", "").0, 403);
    bed.kubectl.run(&["taint", "node", "node1", "other-"]).unwrap();
}

struct Bed {
    began: Instant,
    /// Where the `NodeImages` are.
    agents: Cell<&'static str>,
    cluster: Cluster,
    kubectl: Kubectl,
}

impl Bed {
    fn start() -> Self {
        let began = Instant::now();
        let cluster = Cluster::start(2).unwrap();
        let bed = Self { began, agents: Cell::new("labhands-node"), kubectl: cluster.kubectl(), cluster };
        bed.push("w_2026_01", &[10, 11]);
        bed.push("w_2026_02", &[20, 21]);
        bed.install("prepuller");
        bed
    }

    fn install(&self, overlay: &str) {
        let repositories = format!("{}/lab", self.cluster.registry_host());
        let settings = [
            ("LAB_REPOSITORIES", repositories.as_str()),
            ("LAB_KEEP", "weekly=2"),
            ("LAB_NAMESPACE", "default"),
            ("SCAN_INTERVAL", "3s"),
            ("PREPULLER_PARALLEL_NODES", "1"),
            // The nodes of this cluster are seconds old.
            ("PREPULLER_NEW_NODE_AGE", "1ms"),
            // A test machine's disk may be rather full.
            ("DISK_HIGH", "98%"),
        ];
        let install = Install { overlay, programs: &[PROGRAM], settings: &settings, ..Install::default() };
        self.cluster.install(&install).unwrap();
    }

    /// An image of layers of 2 MB by seed.
    fn push(&self, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| Layer::random(seed, 2 * MB));
        Image::new(layers).push(self.cluster.registry(), "lab", tag).unwrap()
    }

    /// The planner's address.
    fn planner(&self) -> String {
        let pod = ["-n", "labhands", "get", "pods", "-l", "app.kubernetes.io/component=plan", "-o"];
        let address = "jsonpath={.items[?(@.status.phase==\"Running\")].status.podIP}";
        let is_one = |address: &str| !address.is_empty() && !address.contains(' ');
        self.kubectl.wait(&[&pod[..], &[address]].concat(), LIMIT, is_one).unwrap_or_else(|error| {
            panic!("{error}\n{}", self.kubectl.run(&["-n", "labhands", "describe", "pods"]).unwrap());
        })
    }

    fn ask(&self, path: &str) -> Option<Answer> {
        let client = Client::new(None, None).unwrap();
        client.send("GET", &format!("http://{}:8080{path}", self.planner()), &[], b"").ok()
    }

    fn wait_answer(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = String::new();
        let answer = patiently(LIMIT, || {
            let answer = self.ask(path)?;
            last = answer.text();
            wanted(&answer).then_some(answer)
        });
        answer.unwrap_or_else(|| panic!("{path} is not as wanted: {last}\n{}", self.log()))
    }

    fn log(&self) -> String {
        let said = |arguments: &[&str]| self.kubectl.run(arguments).unwrap_or_else(|error| error.to_string());
        said(&["-n", "labhands", "logs", "deployment/prepuller-plan", "--tail=40"])
            + &said(&["-n", "labhands", "get", "pods", "-o", "wide"])
            + &said(&["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"])
    }

    /// Says in the test's output when something begins: what takes long is seen without trying.
    fn step(&self, name: &str) {
        eprintln!("{:>5.0} s  {name}", self.began.elapsed().as_secs_f64());
    }

    fn restart_planner(&self) {
        let pods = ["-n", "labhands", "delete", "pods", "-l", "app.kubernetes.io/component=plan", "--wait"];
        self.kubectl.run(&pods).unwrap();
        self.wait_answer("/readyz", |_| true);
    }

    /// Sends a request with the planner's token: method, path, content type, body; gives back status and body.
    fn as_planner(&self) -> impl Fn(&str, &str, &str, &str) -> (u16, String) {
        let authority = fs::read_to_string(self.cluster.folder().join("ca.crt")).unwrap();
        let token = self.kubectl.run(&["-n", "labhands", "create", "token", "prepuller-plan"]).unwrap();
        let client = Client::new(Some(&authority), Some(format!("Bearer {}", token.trim()))).unwrap();
        let view = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
        let server = self.kubectl.run(&view).unwrap();
        move |method, path, kind, body| {
            let url = format!("{server}{path}");
            let answer = client.send(method, &url, &[("content-type", kind)], body.as_bytes()).unwrap();
            (answer.status, answer.text())
        }
    }

    fn version_of_catalogue(&self) -> String {
        let map = ["-n", "labhands", "get", "configmap", "lab-images", "-o", "jsonpath={.metadata.resourceVersion}"];
        self.kubectl.run(&map).unwrap()
    }

    /// The nodes that have an order for a tag.
    fn ordered(&self, tag: &str) -> Vec<String> {
        let text = self.kubectl.run(&["-n", self.agents.get(), "get", "nodeimages", "-o", "json"]).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let has = |object: &&Value| tags(&object["spec"]["orders"]).iter().any(|ordered| ordered == tag);
        let nodes = list["items"].as_array().unwrap().iter().filter(has);
        nodes.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn wait_for_canary(&self, tag: &str) -> String {
        let mut canary = patiently(LIMIT, || Some(self.ordered(tag)).filter(|nodes| !nodes.is_empty())).unwrap();
        assert_eq!(canary.len(), 1, "{canary:?}");
        canary.remove(0)
    }

    fn object(&self, node: &str) -> Value {
        let text = self.kubectl.run(&["-n", self.agents.get(), "get", "nodeimages", node, "-o", "json"]);
        serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default()
    }

    /// The tags that a node reports as present, as they were ordered.
    fn present(&self, node: &str) -> Vec<String> {
        let object = self.object(node);
        let images = object["status"]["images"].as_array().cloned().unwrap_or_default();
        let present: Vec<Value> = images.into_iter().filter(|image| image["state"] == "Present").collect();
        let present = tags(&present.into());
        let ordered = tags(&object["spec"]["orders"]);
        ordered.into_iter().filter(|tag| present.contains(tag)).collect()
    }

    fn wait_present(&self, node: &str, wanted: &[&str]) {
        let are =
            || (self.present(node) == wanted && tags(&self.object(node)["spec"]["orders"]) == wanted).then_some(());
        patiently(LIMIT, are)
            .unwrap_or_else(|| panic!("{node} does not hold {wanted:?}: {:#}\n{}", self.object(node), self.log()));
    }

    fn wait_orders(&self, node: &str, wanted: &[&str]) {
        let are = || {
            let object = self.object(node);
            (object.is_object() && tags(&object["spec"]["orders"]) == wanted).then_some(())
        };
        patiently(LIMIT, are)
            .unwrap_or_else(|| panic!("{node} has no such orders: {:#}\n{}", self.object(node), self.log()));
    }

    /// The note of an Event, with what it is about.
    fn wait_event(&self, namespace: &str, reason: &str) -> String {
        let selector = format!("reason={reason}");
        let text = "jsonpath={range .items[*]}{.regarding.name}: {.note}{\"\\n\"}{end}";
        let events = ["-n", namespace, "get", "events.events.k8s.io", "--field-selector", &selector, "-o", text];
        self.kubectl
            .wait(&events, LIMIT, |events| !events.trim().is_empty())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }
}

/// The tags of orders or reports, in their order.
fn tags(images: &Value) -> Vec<String> {
    let tag =
        |image: &Value| image["image"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned();
    images.as_array().into_iter().flatten().map(tag).collect()
}

/// Every version of every `NodeImages`, as `kubectl get --watch` sees them.
struct Record {
    child: Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Record {
    fn start(kubectl: &Kubectl) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("versions");
        let mut command = kubectl.command();
        command.args(["-n", "labhands-node", "get", "nodeimages", "--watch", "-o", "json"]);
        let child = command.stdout(File::create(&file).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, file, _folder: folder }
    }

    /// While an image was on no node, not more than one pulled it without having failed.
    fn one_canary_at_a_time(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let text = fs::read_to_string(&self.file).unwrap();
        let mut latest: BTreeMap<String, Value> = BTreeMap::new();
        let mut versions = 0;
        for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>().map_while(Result::ok) {
            versions += 1;
            latest.insert(object["metadata"]["name"].as_str().unwrap().to_owned(), object.clone());
            for order in object["spec"]["orders"].as_array().unwrap() {
                let same = |one: &Value| one["image"] == order["image"] && one["digest"] == order["digest"];
                let report = |object: &Value| {
                    object["status"]["images"].as_array().into_iter().flatten().find(|one| same(one)).cloned()
                };
                let ordered = |object: &&Value| object["spec"]["orders"].as_array().unwrap().iter().any(same);
                let holds = latest.values().filter_map(report).any(|report| report["state"] == "Present");
                // A node without a runtime pulls nothing, whatever it was told.
                let can_pull = |object: &&Value| object["status"]["conditions"][0]["type"] != "RuntimeUnavailable";
                let pulls = latest
                    .values()
                    .filter(ordered)
                    .filter(can_pull)
                    .filter(|object| report(object).is_none_or(|report| report["failures"] == 0));
                let pulls = pulls.count();
                assert!(holds || pulls <= 1, "{} pulled by {pulls} nodes at once: {latest:#?}", order["image"]);
            }
        }
        assert!(versions > 20, "only {versions} versions were seen");
    }
}
