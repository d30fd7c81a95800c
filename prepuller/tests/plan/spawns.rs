//! Labs that start are counted by whether their image was present.

use std::ops::Range;

use serde_json::{Value, json};
use testbed::http::Answer;
use testbed::images::{Image, Layer};

use crate::bed::{Bed, MB};

/// Twenty labs: some find their image, some wait while the planner is restarted, some come after that.
pub(super) fn labs_that_start_are_counted_once_over_a_restart(bed: &Bed) {
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
    // Forty seconds for both nodes, in which the planner is restarted.
    bed.cluster.registry_proxy().limit_rate(Some(100_000));
    push("w_2026_09", 90);
    let other = if bed.wait_for_canary("w_2026_09") == "node1" { "node2" } else { "node1" };
    start(8..12, other, "w_2026_09");
    bed.wait_answer("/status.json", |answer| answer.text().contains("4 users wait here"));
    bed.restart_planner();
    bed.wait_answer("/status.json", |answer| {
        let knows = |word: &str| answer.text().contains(word);
        let counts = serde_json::from_slice::<Value>(&answer.body).is_ok_and(|status| status["spawns"].is_object());
        counts && knows("4 users wait here") && knows("w_2026_09")
    });
    bed.cluster.registry_proxy().limit_rate(None);
    start(12..20, "node1", "w_2026_08");
    wait_counts(8, 4);
    let words = "12 labs started. 8 found their image on their node (66 %).";
    bed.wait_answer("/", |answer| answer.text().contains(words));
    bed.kubectl.run(&["delete", "pods", "-l", "spawned=yes", "--wait"]).unwrap();
}
