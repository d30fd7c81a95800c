use super::*;
use crate::overview::ImageOnNode;
use crate::page::tests::sample::{catalogue, config, fleet, node, nothing, of_nodes};
use serde_json::{Value, json};

/// Three nodes: one complete, one without `w_2026_46`, one that is not eligible.
fn three_nodes() -> Overview {
    let mut second = node("node2", 6);
    second.images[3] = ImageOnNode::Ordered;
    let mut third = node("node3", 6);
    third.not_eligible = Some("tainted".to_owned());
    third.images = vec![ImageOnNode::NotWanted; 6];
    of_nodes(vec![node("node1", 6), second, third])
}

fn digest(number: &str) -> String {
    format!("sha256:{}", number.repeat(32))
}

#[test]
fn images_as_users_of_nublado_read_them() {
    let shown = serde_json::to_value(images(&three_nodes(), &config())).unwrap();
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["all", "latest_daily", "latest_release", "latest_weekly", "recommended"]);
    assert_eq!(
        shown["recommended"],
        json!({
            "reference": "registry.example.org/rubin/lab:recommended",
            "tag": "recommended",
            "name": "Recommended (Weekly 2026_47)",
            "digest": digest("01"),
            "aliases": ["w_2026_47"],
            "prepulled": true,
        })
    );
    assert_eq!(shown["latest_weekly"]["tag"], "w_2026_47");
    assert_eq!(shown["latest_weekly"]["aliases"], json!(["recommended"]));
    assert_eq!(shown["latest_daily"]["tag"], "d_2026_11_24");
    assert_eq!(shown["latest_release"]["tag"], "r29_0_0");
    let all = shown["all"].as_array().unwrap();
    assert_eq!(all.len(), catalogue().images.len());
    let of = |tag: &str| all.iter().find(|image| image["tag"] == tag).unwrap();
    assert_eq!((&of("w_2026_46")["prepulled"], &of("w_2026_40")["prepulled"]), (&json!(false), &json!(false)));
    assert_eq!((&of("w_2026_40")["digest"], &of("w_2026_40")["aliases"]), (&Value::Null, &json!([])));
}

#[test]
fn prepulls_as_users_of_nublado_read_them() {
    let (overview, config) = (three_nodes(), config());
    let shown = serde_json::to_value(prepulls(&overview, &config)).unwrap();
    assert_eq!(
        shown["config"],
        json!({
            "source": {"type": "docker", "registry": "registry.example.org", "repository": "rubin/lab"},
            "recommended_tag": "recommended",
            "num_releases": 1,
            "num_weeklies": 2,
            "num_dailies": 3,
            "cycle": null,
            "pin": [],
            "alias_tags": ["latest_weekly"],
        })
    );
    assert_eq!(
        shown["images"]["pending"],
        json!([{
            "reference": "registry.example.org/rubin/lab:w_2026_46",
            "tag": "w_2026_46",
            "name": "Weekly 2026_46",
            "digest": digest("03"),
            "size": 8_589_934_592_u64,
            "nodes": ["node1"],
            "missing": ["node2"],
        }])
    );
    // The alias of a wanted image is not listed separately.
    let prepulled = shown["images"]["prepulled"].as_array().unwrap();
    let tags: Vec<_> = prepulled.iter().map(|image| image["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["r29_0_0", "w_2026_47", "d_2026_11_24", "d_2026_11_23"]);
    assert_eq!(shown["nodes"][2], json!({"name": "node3", "eligible": false, "comment": "tainted", "cached": []}));
    assert_eq!(shown["nodes"][0]["comment"], Value::Null);
    assert_eq!(shown["nodes"][0]["cached"].as_array().unwrap().len(), 5);
    assert_eq!(shown["nodes"][1]["cached"].as_array().unwrap().len(), 4);
}

#[test]
fn before_the_first_scan_both_are_empty() {
    let shown = serde_json::to_value(images(&nothing(), &config())).unwrap();
    assert_eq!((&shown["all"], &shown["recommended"]), (&json!([]), &Value::Null));
    let (overview, config) = (nothing(), config());
    let shown = serde_json::to_value(prepulls(&overview, &config)).unwrap();
    assert_eq!(shown["images"], json!({"prepulled": [], "pending": []}));
}

#[test]
fn an_image_is_prepulled_or_pending_never_both() {
    let (overview, config) = (fleet(200), config());
    let shown = prepulls(&overview, &config);
    assert!(shown.images.prepulled.iter().all(|image| image.missing.is_empty()));
    assert!(shown.images.pending.iter().all(|image| !image.missing.is_empty()));
    assert_eq!(shown.images.prepulled.len() + shown.images.pending.len(), 5);
}
