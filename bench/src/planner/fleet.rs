//! Nodes and node agents that exist in the API server alone: objects as large as real ones, and reports as real agents give them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt};
use prepuller::node_images::{AGENT, Disk, ImageReport, NodeImages, NodeImagesStatus, Order, PullState};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub(super) const NAMESPACE: &str = "labhands-node";

/// The number of concurrent requests.
const PARALLEL: usize = 24;

/// Without changes, kubelet and the agent report their status at this interval.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// The duration of a pull: long enough for separate reports.
const PULL: Duration = Duration::from_secs(2);

const GIBIBYTE: u64 = 1 << 30;

/// The fleet.
pub(super) struct Fleet {
    client: Client,
    size: usize,
    /// For each image, how many nodes have it.
    holding: watch::Receiver<HashMap<String, usize>>,
    agents: JoinHandle<Result<()>>,
}

impl Fleet {
    /// Creates the nodes and starts the agents. The images of a node's first orders are present; later ones are pulled.
    pub(super) async fn start(kubeconfig: &Path, size: usize) -> Result<Fleet> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let nodes: Api<Node> = Api::all(client.clone());
        let made = stream::iter(0..size).map(|number| make(&nodes, number)).buffer_unordered(PARALLEL);
        made.try_collect::<Vec<()>>().await?;
        let (sender, holding) = watch::channel(HashMap::new());
        let agents = tokio::spawn(agents(Api::namespaced(client.clone(), NAMESPACE), sender));
        Ok(Fleet { client, size, holding, agents })
    }

    /// Waits until all nodes have `images`.
    pub(super) async fn until_all_hold(&mut self, images: &[String], limit: Duration) -> Result<()> {
        let size = self.size;
        let all = |holding: &HashMap<String, usize>| images.iter().all(|image| holding.get(image) == Some(&size));
        let waited = timeout(limit, self.holding.wait_for(all)).await.map(|waited| waited.map(drop));
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!("the agents ended: {:?}", (&mut self.agents).await),
            Err(_) => {
                let few = images.iter().map(|image| self.holding.borrow().get(image).copied().unwrap_or(0)).min();
                bail!("after {limit:?} an image is on {} of {size} nodes", few.unwrap_or(0))
            }
        }
    }

    /// Makes every kubelet and every agent report in turn, as they do without changes.
    pub(super) async fn beat(&self, duration: Duration) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let objects: Api<NodeImages> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pause = HEARTBEAT / u32::try_from(self.size)?;
        let (started, mut due) = (Instant::now(), Instant::now());
        for number in (0..self.size).cycle() {
            if started.elapsed() >= duration {
                break;
            }
            let condition = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": Timestamp::now()});
            let patch = json!({"status": {"conditions": [condition]}});
            nodes.patch_status(&name(number), &PatchParams::default(), &Patch::Strategic(patch)).await?;
            // The agent reports as often.
            let status = json!({"status": {"reported": Timestamp::now()}});
            objects.patch_status(&name(number), &PatchParams::default(), &Patch::Merge(status)).await?;
            due += pause;
            tokio::time::sleep_until(due).await;
        }
        Ok(())
    }

    /// A node's orders, with `new` instead of those for the tag `old`.
    pub(super) async fn specs(&self, old: &str, new: &str) -> Result<[Value; 2]> {
        let api: Api<NodeImages> = Api::namespaced(self.client.clone(), NAMESPACE);
        let spec = serde_json::to_value(api.get(&name(0)).await?.spec)?;
        let is_old = |order: &Value| order["image"].as_str().is_some_and(|image| image.ends_with(old));
        let orders = spec["orders"].as_array().context("a node has no orders")?;
        let (mut before, mut after) = (spec.clone(), spec.clone());
        before["orders"] = orders.iter().filter(|order| !is_old(order)).cloned().collect();
        let renamed = |order: &Value| {
            let mut order = order.clone();
            if is_old(&order) {
                order["image"] = order["image"].as_str().unwrap_or_default().replace(old, new).into();
            }
            order
        };
        after["orders"] = orders.iter().map(renamed).collect();
        Ok([before, after])
    }

    pub(super) fn stop(self) {
        self.agents.abort();
    }
}

fn name(number: usize) -> String {
    format!("pool-users-{number:05}.cluster.example.org")
}

/// A node as a cloud's kubelet registers it, with the 50 largest images that it lists: about 20 kB.
async fn make(nodes: &Api<Node>, number: usize) -> Result<()> {
    let now = Timestamp::now();
    let mut labels: BTreeMap<String, String> = (0..20)
        .map(|label| (format!("cloud.example.org/label-{label:02}"), format!("value-{label:02}-of-a-node")))
        .collect();
    labels.insert("hub.jupyter.org/node-purpose".to_owned(), "user".to_owned());
    labels.insert("kubernetes.io/arch".to_owned(), "amd64".to_owned());
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map(|kind| {
        let status = if kind == "Ready" { "True" } else { "False" };
        let reason = format!("KubeletHas{kind}");
        json!({"type": kind, "status": status, "reason": reason, "message": "kubelet says so", "lastHeartbeatTime": now, "lastTransitionTime": now})
    });
    let images: Vec<_> = (0..50)
        .map(|image| {
            let name = format!("registry.example.org/some/owner/image-{image:02}");
            let digest = format!("{image:02x}").repeat(32);
            json!({"names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.2.{image}")], "sizeBytes": GIBIBYTE})
        })
        .collect();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name(number), "labels": labels},
        "status": {
            "conditions": conditions, "images": images,
            "capacity": {"cpu": "32", "memory": "128Gi", "pods": "110"},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "bootID": "b", "machineID": "m", "systemUUID": "s",
                "kernelVersion": "6.1", "osImage": "Debian 12", "containerRuntimeVersion": "containerd://1.7",
                "kubeletVersion": "v1.34.4", "kubeProxyVersion": "v1.34.4",
            },
        },
    });
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    // The API server adds a taint to each new node; the node controller removes it when kubelet is ready.
    let patch = json!({"spec": {"taints": null}});
    nodes.patch(&name(number), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The state of one agent.
#[derive(Default)]
struct Agent {
    generation: i64,
    holds: Vec<String>,
}

/// All agents: each carries out its orders.
async fn agents(api: Api<NodeImages>, holding: watch::Sender<HashMap<String, usize>>) -> Result<()> {
    let mut seen = watcher(api.clone(), watcher::Config::default()).boxed();
    let mut agents: HashMap<String, Agent> = HashMap::new();
    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel::<(String, Vec<String>)>();
    let permits = Arc::new(tokio::sync::Semaphore::new(PARALLEL));
    loop {
        let object = tokio::select! {
            Some((node, images)) = finished.recv() => {
                let agent = agents.entry(node).or_default();
                holding.send_modify(|holding| {
                    for image in images.iter().filter(|image| !agent.holds.contains(image)) {
                        *holding.entry(image.clone()).or_default() += 1;
                    }
                });
                agent.holds = images;
                continue;
            }
            event = seen.next() => match event.context("the watch ended")?? {
                Event::Apply(object) | Event::InitApply(object) => object,
                _ => continue,
            },
        };
        let (node, generation) = (object.name_any(), object.metadata.generation.unwrap_or_default());
        let agent = agents.entry(node.clone()).or_default();
        if agent.generation >= generation {
            continue;
        }
        let first = agent.generation == 0;
        agent.generation = generation;
        let held = agent.holds.clone();
        let (api, done, permits) = (api.clone(), done.clone(), permits.clone());
        tokio::spawn(async move {
            let images = object.spec.orders.iter().map(|order| order.image.to_string()).collect();
            let steps: &[u64] = if first { &[100] } else { &[0, 50, 100] };
            for percent in steps {
                if *percent > 0 && !first {
                    sleep(PULL / 2).await;
                }
                let status = status(generation, &object.spec.orders, &held, *percent);
                let status = json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "status": status});
                let Ok(_permit) = permits.acquire().await else { return };
                let parameters = PatchParams::apply(AGENT).force();
                if let Err(error) = api.patch_status(&node, &parameters, &Patch::Apply(status)).await {
                    eprintln!("the agent of {node} cannot report: {error}");
                }
            }
            // Without a receiver, the benchmark has ended.
            let _ = done.send((node, images));
        });
    }
}

/// A report in which the images held before are present, and the others have arrived so far.
fn status(generation: i64, orders: &[Order], held: &[String], percent: u64) -> NodeImagesStatus {
    let report = |order: &Order| {
        let present = percent == 100 || held.contains(&order.image.to_string());
        let downloading = if present { None } else { Some(60 << 20) };
        ImageReport {
            image: order.image.clone(),
            digest: order.digest.clone(),
            state: if present { PullState::Present } else { PullState::Downloading },
            done: if present { 0 } else { 8 * GIBIBYTE * percent / 100 },
            total: if present { 0 } else { 8 * GIBIBYTE },
            rate: downloading,
            eta_seconds: downloading.map(|rate| 8 * GIBIBYTE * (100 - percent) / 100 / rate),
            failures: 0,
            error: None,
            since: Timestamp::now(),
        }
    };
    let images: Vec<ImageReport> = orders.iter().map(report).collect();
    let present = images.iter().filter(|image| image.state == PullState::Present).count();
    NodeImagesStatus {
        observed_generation: generation,
        reported: Some(Timestamp::now()),
        wanted: u32::try_from(images.len()).unwrap_or(u32::MAX),
        present: u32::try_from(present).unwrap_or(u32::MAX),
        runtime: "containerd 1.7.24".to_owned(),
        disk: Some(Disk { total: 500 * GIBIBYTE, used: 300 * GIBIBYTE, high: 75 }),
        images,
        ..NodeImagesStatus::default()
    }
}
