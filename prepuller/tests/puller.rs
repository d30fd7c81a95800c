//! The puller on a real containerd with a small disk: a pull that fills it is stopped, and continues when there is
//! room.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;

use lab_images::registry::{CredentialSources, Credentials, RegistryConfig};
use lab_images::runtime::{PullLimits, connect};
use prepuller::node_images::Order;
use prepuller::puller::{Orders, Puller, PullerSettings, Report, State, Until};
use testbed::containerd::{Containerd, Options};
use testbed::images::{Image, Layer};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;
use testbed::wait::LIMIT;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const MB: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_fills_the_disk_is_stopped_and_continues_when_there_is_room() {
    let registry = Registry::start().unwrap();
    let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into()).unwrap();
    let plain_registries = vec![proxy.host()];
    let containerd =
        Containerd::with(&Options { plain_registries, root_size: Some(400 * MB), ..Options::default() }).unwrap();
    let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
    Image::new([Layer::random(1, 60 * MB), Layer::random(2, 60 * MB)]).push(&registry, "lab", "w_1").unwrap();
    // A file of another program.
    let other = containerd.root().join("other");
    std::fs::write(&other, vec![1; 240 * MB as usize]).unwrap();

    // The size is unknown, so the pull is admitted; its 120 MB slowly exceed 75 % of 400 MB.
    let order = Order {
        image: format!("{}/lab:w_1", proxy.host()).parse().unwrap(),
        digest: None,
        size: None,
        layers: Vec::new(),
        priority: 0,
        gate: false,
    };
    let run = async || {
        let (_orders, orders) = watch::channel(Orders { generation: 1, orders: vec![order.clone()] });
        let (report, reports) = watch::channel(Report::default());
        let puller = Puller::new(Arc::clone(&runtime), Arc::new(Credentials::default()), settings(), report);
        timeout(LIMIT, puller.run(orders, CancellationToken::new())).await.expect("it ends");
        reports.borrow().clone()
    };
    proxy.limit_rate(Some(10 * MB));
    let stopped = run().await;
    let problem = stopped.jobs[0].state.problem().unwrap();
    assert!(problem.starts_with("the disk is ") && problem.contains("above DISK_HIGH 75 %"), "{problem}");
    assert!(matches!(stopped.jobs[0].state, State::Refused { .. }), "{stopped:?}");
    assert_eq!((stopped.done.refused, stopped.done.pulled), (1, 0));

    std::fs::remove_file(&other).unwrap();
    proxy.limit_rate(None);
    let pulled = run().await;
    assert!(pulled.all_present(), "{pulled:?}");
    // What was downloaded is not downloaded again.
    assert!(proxy.delivered() < 150 * MB, "{}", proxy.delivered());
}

/// A layer may be downloaded and unpacked before a check every few seconds sees it once.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_an_image_is_requested_again_or_its_pull_stops_at_the_limit() {
    let registry = Registry::start().unwrap();
    // The last seconds of the download are above the limit, so that the check comes in time on a busy machine, too.
    let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into()).unwrap();
    proxy.limit_rate(Some(10 * MB));
    let containerd = Containerd::with(&Options {
        plain_registries: vec![proxy.host()],
        root_size: Some(300 * MB),
        ..Options::default()
    })
    .unwrap();
    let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
    // 70 % of the disk, including what unpacking adds.
    let layers = (1..=5).map(|seed| Layer::random(seed, 21 * MB));
    Image::new(layers).push(&registry, "lab", "w_1").unwrap();
    let image = format!("{}/lab:w_1", proxy.host());
    let order =
        Order { image: image.parse().unwrap(), digest: None, size: None, layers: Vec::new(), priority: 0, gate: false };
    let client = Arc::new(
        lab_images::registry::Registry::new(RegistryConfig {
            insecure: vec![proxy.host()],
            ..RegistryConfig::default()
        })
        .unwrap(),
    );
    let run = async |asked: Option<&Arc<lab_images::registry::Registry>>| {
        let (_orders, orders) = watch::channel(Orders { generation: 1, orders: vec![order.clone()] });
        let (report, reports) = watch::channel(Report::default());
        let settings = PullerSettings { disk_high: 50, ..settings() };
        let mut puller = Puller::new(Arc::clone(&runtime), Arc::new(Credentials::default()), settings, report);
        if let Some(asked) = asked {
            puller = puller.asking(Arc::clone(asked));
        }
        timeout(LIMIT, puller.run(orders, CancellationToken::new())).await.expect("it ends");
        let report = reports.borrow().clone();
        assert_eq!((report.done.refused, report.done.pulled), (1, 0), "{report:?}");
        report.jobs[0].state.problem().unwrap().to_owned()
    };
    let refused = run(Some(&client)).await;
    assert!(refused.starts_with("the disk would be ") && refused.contains("DISK_HIGH 50 %"), "{refused}");
    assert_eq!(containerd.ctr(&["content", "list", "-q"]).unwrap().trim(), "", "nothing was fetched");

    let stopped = run(None).await;
    assert!(stopped.contains("the disk is ") && stopped.contains("above DISK_HIGH 50 %"), "{stopped}");
    assert!(runtime.image(&image).await.unwrap().is_none());
}

/// As in kubelet: if a password is refused, another matching one is tried.
#[tokio::test(flavor = "multi_thread")]
async fn each_matching_credential_is_tried() {
    let registry = Registry::with_password("reader", "sesame").unwrap();
    let containerd =
        Containerd::with(&Options { plain_registries: vec![registry.host()], ..Options::default() }).unwrap();
    let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
    let pushed = Image::new([Layer::random(1, MB)]).push(&registry, "lab", "w_1").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let pull = async |passwords: [&str; 2]| {
        let entry = |password| serde_json::json!({"username": "reader", "password": password});
        let host = registry.host();
        let part = format!("{host}/lab");
        let auths = serde_json::json!({"auths": {part: entry(passwords[0]), host: entry(passwords[1])}});
        std::fs::write(&file, auths.to_string()).unwrap();
        let sources = CredentialSources { files: vec![file.clone()], required: true, run_helpers: false };
        let image = pushed.reference.parse().unwrap();
        let order = Order { image, digest: None, size: None, layers: Vec::new(), priority: 0, gate: false };
        let (_orders, orders) = watch::channel(Orders { generation: 1, orders: vec![order] });
        let (report, reports) = watch::channel(Report::default());
        let credentials = Arc::new(Credentials::new(sources).unwrap());
        let settings = PullerSettings { disk_high: 98, ..settings() };
        let puller = Puller::new(Arc::clone(&runtime), credentials, settings, report);
        timeout(LIMIT, puller.run(orders, CancellationToken::new())).await.expect("it ends");
        reports.borrow().clone()
    };
    let refused = pull(["wrong", "wrong too"]).await;
    let problem = refused.jobs[0].state.problem().unwrap();
    assert!((problem.contains("401") || problem.contains("uthoriz")) && !problem.contains("wrong"), "{problem}");
    let pulled = pull(["wrong", "sesame"]).await;
    assert!(pulled.all_present(), "{pulled:?}");
    assert_eq!(pulled.jobs[0].failures, 0);
}

fn settings() -> PullerSettings {
    PullerSettings {
        durations: None,
        limits: PullLimits::default(),
        parallel: 2,
        disk_high: 75,
        factor_file: None,
        until: Until::Settled,
    }
}
