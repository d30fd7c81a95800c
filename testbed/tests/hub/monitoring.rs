//! What a Prometheus gets that scrapes the pods by their annotations: every metric of the alerts and the dashboards.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use testbed::prometheus::Prometheus;
use testbed::wait::{LIMIT, patiently};

use super::bed::Bed;

const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/components");

/// This machine's kernel has no NFS client, so no node has an NFS mount with statistics; and the judge names trouble only
/// while there is some. nfs-health's own suites see both.
const NOT_HERE: [&str; 2] = ["labhands_nfs_health_mount_retransmissions", "labhands_nfs_health_trouble"];

const ALL: &str = "{__name__=~\"labhands_.+\"}";

pub(crate) fn all_metrics_and_dashboards_have_data(bed: &Bed) {
    let alerts = fs::read_to_string(Path::new(COMPONENTS).join("monitoring/alerts.yaml")).unwrap();
    let dashboards = dashboards();
    let of_alerts = alerts.lines().filter(|line| !line.contains("summary:"));
    let mut wanted: BTreeSet<String> =
        of_alerts.chain(dashboards.iter().map(String::as_str)).flat_map(metrics_in).collect();
    wanted.retain(|name| !NOT_HERE.contains(&name.as_str()));
    assert!(wanted.len() > 40 && dashboards.len() > 30, "{wanted:?} {dashboards:?}");

    let mut prometheus = Prometheus::start(&alerts).unwrap();
    prometheus.scrape_pods(bed.cluster.kubeconfig()).unwrap();
    let lacking = || {
        let all = prometheus.query(ALL).unwrap();
        let known: BTreeSet<&String> = all.iter().filter_map(|sample| sample.labels.get("__name__")).collect();
        let metrics = wanted.iter().filter(|name| !known.contains(*name)).cloned();
        let empty = dashboards.iter().filter(|text| prometheus.query(text).unwrap().is_empty()).cloned();
        metrics.chain(empty).collect::<Vec<_>>()
    };
    patiently(LIMIT, || lacking().is_empty().then_some(()))
        .unwrap_or_else(|| panic!("no data of {:#?}\n{}", lacking(), bed.state()));
    // A label that a daemon and the scrape both set.
    let all = prometheus.query(ALL).unwrap();
    let renamed: BTreeSet<_> =
        all.iter().flat_map(|sample| sample.labels.keys()).filter(|name| name.starts_with("exported_")).collect();
    assert!(renamed.is_empty(), "{renamed:?}");
    prometheus.until_data("labhands_nfs_health_volumes_bound{claim=\"jupyter/homes\"} == 1").unwrap();
}

/// The expressions of all dashboards, without the comparisons that hide what is well.
fn dashboards() -> Vec<String> {
    let boards = fs::read_dir(Path::new(COMPONENTS).join("dashboards")).unwrap();
    let boards =
        boards.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let boards: Vec<Value> = boards.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect();
    let panels = boards.iter().flat_map(|board| board["panels"].as_array().unwrap());
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let texts = targets.map(|target| target["expr"].as_str().unwrap().trim_end_matches(" > 0").to_owned());
    texts.filter(|text| !metrics_in(text).iter().any(|name| NOT_HERE.contains(&name.as_str()))).collect()
}

fn metrics_in(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.starts_with("labhands_")).map(str::to_owned).collect()
}
