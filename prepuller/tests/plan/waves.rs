//! A new image goes to one node first, and a wave continues whatever happens to the planner, the image or the node.

use std::fs;

use serde_json::Value;
use testbed::wait::{LIMIT, patiently};

use crate::bed::{Bed, MB};

pub(super) fn a_restarted_planner_continues_the_wave(bed: &Bed) {
    let proxy = bed.cluster.registry_proxy();
    // Forty seconds, in which the planner is restarted.
    proxy.limit_rate(Some(100_000));
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

pub(super) fn a_failing_canary_stops_the_wave(bed: &Bed) {
    // Broken before a scan sees its tag.
    let image = bed.push("prepared", &[40, 41]);
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let storage = bed.cluster.registry().storage().join("docker/registry/v2");
    fs::remove_dir_all(storage.join("blobs/sha256").join(&digest[..2]).join(digest)).unwrap();
    let tags = storage.join("repositories/lab/_manifests/tags");
    fs::rename(tags.join("prepared"), tags.join("w_2026_04")).unwrap();
    let stopped = bed.wait_event("labhands", "WaveStopped", "w_2026_04 stopped");
    let canary = bed.ordered("w_2026_04");
    assert_eq!(canary.len(), 1, "{canary:?}");
    assert!(stopped.contains(&canary[0]), "{stopped}");
    let metrics = bed.ask("/metrics").unwrap().text();
    assert!(metrics.contains("labhands_prepuller_stopped_waves 1"), "{metrics}");
    let page = bed.wait_answer("/", |answer| answer.text().contains("stopped: "));
    assert!(page.text().contains("could not pull it; another node tries it in "), "{}", page.text());
    // The image is complete again, so the canary's next attempt succeeds, and the wave continues.
    bed.push("w_2026_04", &[40, 41]);
    bed.wait_event("default", "ImagePullFailed", "w_2026_04");
    for node in ["node1", "node2"] {
        bed.wait_present(node, &["w_2026_04", "w_2026_03"]);
    }
    bed.wait_answer("/metrics", |answer| answer.text().contains("labhands_prepuller_stopped_waves 0"));
}

/// The end of a runtime says nothing about the image, so the other node gets it long before the ten minutes of a stopped wave.
pub(super) fn another_canary_follows_one_whose_runtime_ends(bed: &mut Bed) {
    bed.cluster.registry_proxy().limit_rate(Some(200_000));
    let before = bed.cluster.registry_proxy().delivered();
    bed.push("w_2026_05", &[50, 51]);
    let canary = bed.wait_for_canary("w_2026_05");
    let proxy = bed.cluster.registry_proxy();
    patiently(LIMIT, || (proxy.delivered() > before + MB / 2).then_some(())).expect("the canary pulls");
    bed.cluster.node(&canary).unwrap().stop_containerd();
    bed.cluster.registry_proxy().limit_rate(None);
    let other = if canary == "node1" { "node2" } else { "node1" };
    bed.wait_present(other, &["w_2026_05", "w_2026_04"]);
    bed.wait_event("default", "RuntimeUnavailable", &canary);
    let object = bed.object(&canary);
    assert_eq!(object["status"]["conditions"][0]["type"], "RuntimeUnavailable", "{object:#}");
    assert_eq!(object["spec"]["wanted"], 2);
    bed.cluster.node(&canary).unwrap().start_containerd().unwrap();
    bed.wait_present(&canary, &["w_2026_05", "w_2026_04"]);
    let failures: Vec<Value> = bed.object(&canary)["status"]["images"].as_array().unwrap().clone();
    assert!(failures.iter().all(|image| image["image"].as_str().unwrap().ends_with("04") || image["failures"] == 0));
    bed.cluster.wait_ready().unwrap();
}
