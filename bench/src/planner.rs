//! `prepuller plan` over thousands of nodes that exist in the API server alone: memory, and CPU at start, at rest and when the
//! catalogue changes, compared with a client that only makes the same writes and reads. etcd and API server are real; nodes and agents come from
//! `fleet`.

pub(crate) mod bare;
mod fleet;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::cluster::Cluster;
use testbed::daemon::Daemon;
use testbed::images::{Image, Layer, tag};
use testbed::registry::Registry;

use self::bare::Bare;
use self::fleet::{Fleet, NAMESPACE};
use crate::Size;
use crate::measure::{cpu_of, peak_of, program};
use crate::table::Table;

const REPOSITORY: &str = "rubin/lab";

/// Layers of an image; all but the last are shared.
const LAYERS: u64 = 20;

/// The images wanted at first: eleven images and one alias.
const TAGS: [&str; 12] = [
    "r29_1_0",
    "r29_0_0",
    "w_2026_47",
    "w_2026_46",
    "w_2026_45",
    "w_2026_44",
    "d_2026_11_24",
    "d_2026_11_23",
    "d_2026_11_22",
    "d_2026_11_21",
    "d_2026_11_20",
    "d_2026_11_19",
];

/// An image that is pushed later, which makes the oldest daily unwanted.
const NEW: &str = "d_2026_11_25";

/// The image that the bare client makes the nodes pull after that.
const NEWER: &str = "d_2026_11_26";

pub(crate) fn run(size: Size) -> Result<()> {
    let (nodes, quiet) = (size.choose(5_000, 200), size.choose(Duration::from_secs(60), Duration::from_secs(10)));
    let mut cluster = Cluster::start(0)?;
    // The node controller is off: no kubelets renew leases, so it would consider all nodes dead.
    cluster.stop_controllers();
    let kubectl = cluster.kubectl();
    kubectl.apply(include_str!("../../manifests/components/prepuller/crd.yaml"))?;
    kubectl.run(&["wait", "--for=condition=Established", "crd/nodeimages.labhands.dev", "--timeout=30s"])?;
    for namespace in ["labhands", NAMESPACE, "jupyterhub"] {
        kubectl.run(&["create", "namespace", namespace])?;
    }
    for name in TAGS {
        push(cluster.registry(), name)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&cluster, nodes, quiet))
}

/// Pushes an image; the newest weekly is recommended.
fn push(registry: &Registry, name: &str) -> Result<()> {
    let seed = name.bytes().fold(1000, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let layers = (1..LAYERS).chain([seed]).map(|seed| Layer::random(seed, 1024));
    let image = Image::new(layers).push(registry, REPOSITORY, name)?;
    if name == "w_2026_47" {
        tag(registry, &image, &["recommended"])?;
    }
    Ok(())
}

async fn measure(cluster: &Cluster, nodes: usize, quiet: Duration) -> Result<()> {
    let repository = format!("{}/{REPOSITORY}", cluster.registry().host());
    let image = |tag: &str| format!("{repository}:{tag}");
    let mut fleet = Fleet::start(&cluster.kubeconfig(), nodes).await?;
    let (kubeconfig, parallel) = (cluster.kubeconfig().display().to_string(), nodes.to_string());
    let binary = program("prepuller")?.display().to_string();
    let mut planner = Daemon::start(
        &binary,
        &["plan"],
        &[
            ("KUBECONFIG", kubeconfig.as_str()),
            ("LAB_REPOSITORIES", &repository),
            ("LAB_INSECURE_REGISTRIES", &cluster.registry().host()),
            ("LAB_KEEP", "release=2,weekly=4,daily=5"),
            ("LAB_ALIASES", "recommended"),
            ("LAB_NAMESPACE", "jupyterhub"),
            ("PREPULLER_PARALLEL_NODES", &parallel),
            ("SCAN_INTERVAL", "1h"),
        ],
    )?;
    let process = planner.process().id();
    let mut table = Table::new(&["phase", "s", "CPU s", "resident MiB"]);
    let (mut since, mut before) = (Instant::now(), Duration::ZERO);
    let mut row = |phase: String| -> Result<(f64, f64)> {
        let taken = cpu_of(process).context("the planner has ended")?;
        let (time, cpu) = (since.elapsed().as_secs_f64(), (taken - before).as_secs_f64());
        let resident = planner.resident().unwrap_or(0) as f64 / f64::from(1 << 20);
        table.row([phase, format!("{time:.1}"), format!("{cpu:.2}"), format!("{resident:.1}")]);
        (since, before) = (Instant::now(), taken);
        Ok((cpu, 100.0 * cpu / time))
    };

    let mut wanted: Vec<String> = TAGS[..11].iter().map(|tag| image(tag)).chain([image("recommended")]).collect();
    fleet.until_all_hold(&wanted, Duration::from_secs(900)).await?;
    until_known(&planner, wanted.len(), nodes)?;
    settle(&fleet).await?;
    row(format!("start: first scan, {nodes} nodes seen and told, {} images each reported", wanted.len()))?;

    fleet.beat(quiet).await?;
    let (_, share) = row("quiet: kubelets and agents report every 5 min".to_owned())?;

    push(cluster.registry(), NEW)?;
    wanted[10] = image(NEW);
    scan(&planner)?;
    fleet.until_all_hold(&wanted, Duration::from_secs(900)).await?;
    until_known(&planner, wanted.len(), nodes)?;
    settle(&fleet).await?;
    let (change, _) = row(format!("a changed catalogue: {nodes} nodes told twice, 3 reports from each time"))?;

    scan(&planner)?;
    settle(&fleet).await?;
    row("a scan that finds nothing new".to_owned())?;

    for path in [
        "/",
        "/?show=complete&page=50",
        "/status.json",
        "/spawner/v1/images",
        "/spawner/v1/prepulls",
        "/catalogue.json",
    ] {
        let (status, body) = planner.get(path).with_context(|| format!("{path} is not answered"))?;
        anyhow::ensure!(status == 200, "{path}: {status} {body}");
        row(format!("{path}: {} kB", body.len() / 1000))?;
    }
    let peak = peak_of(process).context("the planner has ended")? as f64 / f64::from(1 << 20);
    // The bare client writes the planner's last orders with another tag. A running planner would revert that.
    drop(planner);
    wanted[10] = image(NEWER);
    let (time, bare) = bare_change(cluster, &mut fleet, &wanted).await?;
    table.row(["the bare client: the same change".into(), format!("{time:.1}"), format!("{bare:.2}"), "-".into()]);
    let ratio = change / bare;
    fleet.stop();
    println!(
        "{table}\n{nodes} nodes, {} images. Peak of resident memory: {peak:.1} MiB (goal: below 64). At rest: {share:.2} % of a core \
         (goal: below 1). A change of the catalogue: {ratio:.2} times the CPU of the bare client (goal: at most 1.5).",
        wanted.len()
    );
    Ok(())
}

/// The writes of a change of the catalogue by a client that does nothing else: each node loses an image, and then gets another. Time and
/// CPU.
async fn bare_change(cluster: &Cluster, fleet: &mut Fleet, wanted: &[String]) -> Result<(f64, f64)> {
    let [before, after] = fleet.specs(NEW, NEWER).await?;
    let mut bare = Bare::start(&cluster.kubeconfig())?;
    let process = bare.id()?;
    let cpu = || cpu_of(process).context("the bare client has ended");
    let (began, first) = (Instant::now(), cpu()?);
    let mut bare = tokio::task::spawn_blocking(move || bare.write(&before).map(|()| bare)).await??;
    let bare = tokio::task::spawn_blocking(move || bare.write(&after).map(|()| bare)).await??;
    fleet.until_all_hold(wanted, Duration::from_secs(900)).await?;
    settle(fleet).await?;
    let taken = (began.elapsed().as_secs_f64(), (cpu()? - first).as_secs_f64());
    drop(bare);
    Ok(taken)
}

/// Waits until the planner has read all reports: the API server sends them later than agents write them.
fn until_known(planner: &Daemon, images: usize, nodes: usize) -> Result<()> {
    let (name, all) = ("labhands_prepuller_image_nodes_present{", format!(" {nodes}"));
    let known = || {
        let (_, metrics) = planner.get("/metrics")?;
        (metrics.lines().filter(|line| line.starts_with(name) && line.ends_with(&all)).count() == images).then_some(())
    };
    let limit = Duration::from_secs(300);
    testbed::wait::patiently(limit, known).with_context(|| format!("the planner does not know of all after {limit:?}"))
}

/// The planner's last events and decision, which come right after, belong to the phase.
async fn settle(fleet: &Fleet) -> Result<()> {
    fleet.beat(Duration::from_secs(5)).await
}

/// Requests a scan and waits for it. It may be delayed if the previous one has just ended.
fn scan(planner: &Daemon) -> Result<()> {
    let scans = || planner.metric("labhands_prepuller_scans_total{result=\"ok\"}");
    let before = scans().unwrap_or(0.0);
    let client = testbed::http::Client::new(None, None)?;
    client.send("POST", &format!("http://{}/scan", planner.admin()), &[], b"")?.expect(202, "POST /scan")?;
    let done = || scans().filter(|now| *now > before).map(drop);
    testbed::wait::patiently(Duration::from_secs(120), done).context("no scan was made")
}
