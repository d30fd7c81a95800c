//! Scanned images are published and get onto the nodes, whichever registry is down.

use serde_json::Value;
use testbed::http::{Answer, Client};
use testbed::images::{Image, Layer};
use testbed::registry::Registry;
use testbed::wait::{LIMIT, patiently};

use crate::bed::{Bed, MB};

pub(super) fn a_catalogue_is_published_and_every_node_gets_the_wanted_images(bed: &Bed) {
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
    // Each scan changes the document, and there may be one between two requests.
    let is_known = || {
        let tag = bed.ask("/catalogue.json")?.header("etag").to_owned();
        let known = Client::new(None, None).unwrap().send("GET", &url, &[("if-none-match", &tag)], b"");
        (known.ok()?.status == 304).then_some(())
    };
    patiently(LIMIT, is_known).expect("what is known is not sent again");

    let map = ["-n", "labhands", "get", "configmap", "lab-images", "-o", r"jsonpath={.data.catalogue\.json}"];
    // The Lease is the last that is published.
    let lease =
        ["-n", "labhands", "get", "lease", "lab-images", "--ignore-not-found", "-o", "jsonpath={.spec.renewTime}"];
    let renewed = bed.kubectl.wait(&lease, LIMIT, |renewed| renewed.starts_with("20")).unwrap();
    let published: Value = serde_json::from_str(&bed.kubectl.run(&map).unwrap()).unwrap();
    assert_eq!(published["images"].as_array().map(Vec::len), Some(2));
    let map_version = bed.version_of_catalogue();
    // Another scan with the same result renews the Lease and does not write the ConfigMap.
    bed.kubectl.wait(&lease, LIMIT, |again| again != renewed).unwrap();
    assert_eq!(bed.version_of_catalogue(), map_version);
    // The columns show how many images a node should have and when it last reported.
    let columns = bed.kubectl.run(&["-n", "labhands-node", "get", "nodeimages"]).unwrap();
    let words = |line: usize| columns.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "WANTED", "PRESENT", "PULLING", "PROGRESS", "ETA", "REPORTED", "AGE"]);
    assert_eq!(words(1)[..3], ["node1", "2", "2"], "{columns}");
    let asked = Client::new(None, None).unwrap().send("POST", &format!("http://{}:8080/scan", bed.planner()), &[], b"");
    assert_eq!(asked.unwrap().status, 202);
}

pub(super) fn a_catalogue_that_was_changed_is_written_again(bed: &Bed) {
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

pub(super) fn a_moved_tag_is_pulled_again(bed: &Bed) {
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

/// The other registry's new weekly gets onto the nodes, and the catalogue shows which repository is old. `then` is the settings of the
/// next step, set here because each change of settings restarts the planner.
pub(super) fn of_two_registries_one_may_be_down(bed: &mut Bed, then: &[&str]) {
    let second = Registry::start().unwrap();
    let host = bed.cluster.expose(([127, 0, 0, 1], second.port()).into()).unwrap();
    for node in bed.cluster.nodes() {
        node.plain_registry(&host, &host).unwrap();
    }
    let first = bed.cluster.registry_host();
    let push = |tag: &str, seed| Image::new([Layer::random(seed, MB)]).push(&second, "lab", tag).unwrap();
    push("w_2027_01", 71);
    bed.set(&[&format!("LAB_REPOSITORIES={first}/lab,{host}/lab"), &format!("LAB_INSECURE_REGISTRIES={first},{host}")]);
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
    assert!(page.text().contains("The last scan was incomplete; what it found is used"), "{}", page.text());
    let metrics = bed.ask("/metrics").unwrap().text();
    let complete = |host: &str, is: u8| {
        let line = format!("labhands_prepuller_repository_complete{{repository=\"{host}/lab\"}} {is}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    };
    complete(&first, 0);
    complete(&host, 1);
    bed.cluster.registry_mut().start_again().unwrap();
    bed.set(&[&["LAB_REPOSITORIES-", "LAB_INSECURE_REGISTRIES-"], then].concat());
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_06", "w_2026_05"]);
    }
}

pub(super) fn without_a_registry_the_last_good_catalogue_is_kept(bed: &mut Bed) {
    bed.cluster.registry_mut().stop();
    bed.wait_event("labhands", "ScanFailed", "The last good catalogue is kept");
    let failed = "labhands_prepuller_scans_total{result=\"failed\"} ";
    bed.wait_answer("/metrics", |answer| answer.text().contains(failed));
    bed.restart_planner();
    // The problem of the whole catalogue; each repository has its own.
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
