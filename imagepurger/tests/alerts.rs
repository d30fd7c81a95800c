//! Each alert of imagepurger on a real Prometheus: it fires once when its cause begins, and ends with it. The rules are those
//! of `manifests/`, with shorter durations.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Machine, catalogue};
use testbed::containerd::{Containerd, Options};
use testbed::cri::{FakeCri, FakeImage, Removal};
use testbed::daemon::Daemon;
use testbed::prometheus::{Prometheus, rules};
use testbed::wait::LIMIT;

/// The longest duration of a rule, in which there are some rounds.
const LONGEST: Duration = Duration::from_secs(12);

const MB: u64 = 1_000_000;

/// The alerts, each with its daemon: when its disk is full,
const FULL: [(&str, &str); 1] = [("LabhandsImageDiskFull", "node")];
/// when the runtime does not answer, the catalogue is missing, or a removal is refused,
const TROUBLE: [(&str, &str); 4] = [
    ("LabhandsPurgerBlind", "node"),
    ("LabhandsPurgerHeld", "node"),
    ("LabhandsPurgerHeld", "held"),
    ("LabhandsRemovalsFail", "refused"),
];
/// and when no daemon is left.
const GONE: [(&str, &str); 1] = [("LabhandsDaemonGone", "imagepurger")];

struct Bed {
    machines: BTreeMap<&'static str, Machine>,
    daemons: BTreeMap<&'static str, Daemon>,
    prometheus: Prometheus,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_once_for_its_cause_and_ends_with_it() {
    let mut containerd = Containerd::with(&Options { root_size: Some(100 * MB), ..Options::default() }).unwrap();
    let [held, refused] = std::array::from_fn(|_| FakeCri::start(vec![image("w_0"), image("w_1")]).unwrap());
    let endpoints = [("node", containerd.endpoint()), ("held", held.endpoint()), ("refused", refused.endpoint())];
    let prometheus = Prometheus::start(&rules::of_the_manifests(LONGEST).unwrap()).unwrap();
    let mut bed = Bed { machines: BTreeMap::new(), daemons: BTreeMap::new(), prometheus };
    for (name, endpoint) in &endpoints {
        let machine = Machine::new(endpoint).await;
        machine.write(&catalogue(&[&named("w_0"), &named("w_1")], &[]));
        bed.machines.insert(name, machine);
        bed.run(name, endpoint);
    }
    bed.prometheus.until_data("sum(labhands_imagepurger_rounds_total{result=\"ok\"} > 0) > 2").unwrap();

    // ---- the disk is full ----
    let filler = containerd.root().join("filler");
    std::fs::write(&filler, vec![1; 94 * MB as usize]).unwrap();
    bed.prometheus.until_fired(&FULL, LIMIT).unwrap();
    std::fs::remove_file(&filler).unwrap();
    bed.prometheus.until_over(&FULL, LIMIT).unwrap();

    // ---- the runtime does not answer, the catalogue is missing, or a removal is refused ----
    containerd.stop();
    std::fs::remove_file(bed.machines["held"].catalogue_file()).unwrap();
    refused.on_removal(&image("w_1").id, Removal::InUse);
    bed.machines["refused"].write(&catalogue(&[&named("w_0")], &[]));
    bed.prometheus.until_fired(&TROUBLE, LIMIT).unwrap();
    containerd.restart().unwrap();
    bed.machines["held"].write(&catalogue(&[&named("w_0"), &named("w_1")], &[]));
    refused.on_removal(&image("w_1").id, Removal::Done);
    let all = [&FULL[..], &TROUBLE].concat();
    bed.prometheus.until_over(&all, LIMIT).unwrap();
    assert_eq!(refused.images(), [image("w_0")]);

    // ---- no daemon is left ----
    bed.daemons.clear();
    bed.prometheus.until_fired(&GONE, LIMIT).unwrap();
    bed.run("held", &held.endpoint());
    bed.prometheus.until_over(&[&all[..], &GONE].concat(), LIMIT).unwrap();
}

impl Bed {
    /// Starts a purger that is scraped from now on.
    fn run(&mut self, name: &'static str, endpoint: &str) {
        let machine = &self.machines[name];
        let settings = [
            ("RUNTIME_ENDPOINT", endpoint.to_owned()),
            ("CATALOGUE_FILE", machine.catalogue_file().display().to_string()),
            ("STATE_DIR", machine.history_file().parent().unwrap().display().to_string()),
            ("PURGE_GRACE", "1ms".to_owned()),
            ("PURGE_INTERVAL", "1s".to_owned()),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_imagepurger"), &["run"], &settings).unwrap();
        self.prometheus.scrape(&[(name, daemon.admin())]).unwrap();
        self.daemons.insert(name, daemon);
    }
}

fn named(tag: &str) -> String {
    format!("registry.example.org/lab:{tag}")
}

fn image(tag: &str) -> FakeImage {
    let digit = &tag[tag.len() - 1..];
    FakeImage { id: format!("sha256:{}", digit.repeat(64)), tags: vec![named(tag)], ..FakeImage::default() }
}
