//! Pulls by the real containerd and the real Docker engine, through a proxy that can be slow or stall.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use lab_images::runtime::{
    ArrivedDigest, Layer, Phase, Progress, PullError, PullLimits, PullRequest, Pulled, Runtime, RuntimeError, connect,
    pull,
};
use testbed::containerd::{self, Containerd};
use testbed::docker::Docker;
use testbed::images::{Image, Pushed};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const MB: u64 = 1_000_000;
const OTHER: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// Nothing here takes nearly as long; it is the end of a test that hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A registry behind a proxy, and both runtimes.
struct Bed {
    docker: Docker,
    containerd: Containerd,
    proxy: TcpProxy,
    registry: Registry,
}

impl Bed {
    fn start() -> Self {
        let registry = Registry::start().unwrap();
        let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into()).unwrap();
        let options = containerd::Options { plain_registries: vec![proxy.host()], ..Default::default() };
        Self { docker: Docker::start().unwrap(), containerd: Containerd::with(&options).unwrap(), proxy, registry }
    }

    async fn runtimes(&self) -> [Arc<dyn Runtime>; 2] {
        let open = async |endpoint: String| connect(&endpoint.parse().unwrap()).await.unwrap();
        [open(self.containerd.endpoint()).await, open(self.docker.endpoint()).await]
    }

    /// Layers of 4 MB by seed.
    fn push(&self, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| testbed::images::Layer::random(seed, 4 * MB));
        Image::new(layers).push(&self.registry, "lab", tag).unwrap()
    }

    /// A pull through the proxy.
    fn request(&self, pushed: &Pushed) -> PullRequest {
        PullRequest {
            reference: format!("{}/lab:{}", self.proxy.host(), pushed.tag).parse().unwrap(),
            expected: Some(pushed.digest.parse().unwrap()),
            layers: layers(pushed),
            credentials: None,
        }
    }
}

fn layers(pushed: &Pushed) -> Vec<Layer> {
    let manifest: serde_json::Value = serde_json::from_slice(&pushed.manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layer = |layer: &serde_json::Value| Layer {
        digest: layer["digest"].as_str().unwrap().parse().unwrap(),
        size: layer["size"].as_u64().unwrap(),
    };
    layers.map(layer).collect()
}

async fn run(
    runtime: &Arc<dyn Runtime>,
    request: &PullRequest,
    limits: PullLimits,
) -> (Result<Pulled, PullError>, Vec<Progress>) {
    let (progress, mut seen) = watch::channel(Progress::default());
    let watching = tokio::spawn(async move {
        let mut all = Vec::new();
        while seen.changed().await.is_ok() {
            all.push(seen.borrow_and_update().clone());
        }
        all
    });
    let result = timeout(DEADLINE, pull(runtime.as_ref(), request, limits, &progress)).await.expect("the pull ends");
    drop(progress);
    (result, watching.await.unwrap())
}

/// Waits until a pull in the background has moved some bytes.
async fn moving(progress: &mut watch::Receiver<Progress>) {
    timeout(DEADLINE, progress.wait_for(|now| now.phase == Phase::Downloading && now.done > 0)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_shows_its_bytes_and_what_is_shared_is_not_fetched_again() {
    let bed = Bed::start();
    bed.proxy.limit_rate(Some(10 * MB));
    let first = bed.push("w_1", &[1, 2, 3, 4]);
    let second = bed.push("w_2", &[1, 2, 3, 5]);
    for runtime in bed.runtimes().await {
        let name = runtime.version().await.unwrap().name;
        let request = bed.request(&first);
        let (result, progress) = run(&runtime, &request, PullLimits::default()).await;
        let pulled = result.unwrap();
        assert_eq!((pulled.digest, pulled.downloaded), (ArrivedDigest::Expected, Some(first.size())), "{name}");
        assert!(pulled.image.tags.contains(&request.name()), "{name}: {:?}", pulled.image);
        let middle = |now: &Progress| now.done > 0 && now.done < first.size() && now.total == Some(first.size());
        assert!(progress.iter().any(middle), "{name}: {progress:?}");
        assert_eq!(progress.last().map(|last| last.phase), Some(Phase::Done), "{name}");

        let request = bed.request(&second);
        let present = runtime.present_layers(&request.layers).await.unwrap();
        // Docker cannot tell beforehand; what it fetches is one layer all the same.
        assert_eq!(present.map(|present| present.len()), (name == "containerd").then_some(3), "{name}");
        let (result, _) = run(&runtime, &request, PullLimits::default()).await;
        assert_eq!(result.unwrap().downloaded, Some(second.layer_sizes[3]), "{name}");

        // Once more, with everything there.
        let (result, _) = run(&runtime, &request, PullLimits::default()).await;
        assert_eq!(result.unwrap().downloaded.unwrap_or(0), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_has_moved_is_said_and_a_tag_that_is_not_there_is_an_error() {
    let bed = Bed::start();
    let pushed = bed.push("w_1", &[1]);
    for runtime in bed.runtimes().await {
        let moved = PullRequest { expected: Some(OTHER.parse().unwrap()), ..bed.request(&pushed) };
        let (result, _) = run(&runtime, &moved, PullLimits::default()).await;
        let ArrivedDigest::Other { arrived, .. } = result.unwrap().digest else { panic!("the digest differs") };
        assert!(arrived.iter().any(|name| name.ends_with(&pushed.digest)), "{arrived:?}");

        let reference = format!("{}/lab:w_404", bed.proxy.host());
        let missing = PullRequest { reference: reference.parse().unwrap(), ..bed.request(&pushed) };
        let error = run(&runtime, &missing, PullLimits::default()).await.0.unwrap_err();
        assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
        assert!(error.to_string().contains(&reference), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_of_a_pull_is_an_error() {
    let bed = Bed::start();
    let pushed = bed.push("w_1", &[1, 2]);
    // The registry has the manifest and lost a layer: Docker says so inside a stream that began with 200.
    let layer = &layers(&pushed)[1].digest;
    let blob = format!("{}/v2/lab/blobs/{layer}", bed.registry.url());
    let client = bed.registry.client("lab").unwrap();
    client.send("DELETE", &blob, &[], b"").unwrap().expect(202, &blob).unwrap();
    for runtime in bed.runtimes().await {
        let error = run(&runtime, &bed.request(&pushed), PullLimits::default()).await.0.unwrap_err();
        assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
        assert!(runtime.images().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_pull_ends_and_containerd_goes_on_where_it_stood() {
    let bed = Bed::start();
    let pushed = bed.push("w_1", &[1, 2, 3, 4, 5, 6]);
    let limits = PullLimits { stall: Duration::from_secs(3), ..PullLimits::default() };
    for runtime in bed.runtimes().await {
        let name = runtime.version().await.unwrap().name;
        let request = bed.request(&pushed);
        bed.proxy.limit_rate(Some(5 * MB));
        let (progress, mut seen) = watch::channel(Progress::default());
        let (result, ()) =
            tokio::join!(timeout(DEADLINE, pull(runtime.as_ref(), &request, limits, &progress)), async {
                let far = |now: &Progress| now.done > 10 * MB;
                timeout(DEADLINE, seen.wait_for(far)).await.unwrap().unwrap();
                bed.proxy.stall();
            });
        let error = result.expect("the pull ends").unwrap_err();
        assert!(matches!(error, PullError::Stalled { done, .. } if done > 10 * MB), "{name}: {error}");

        // A synchronous end of any lease collects garbage now: what nothing holds is gone before the next try.
        bed.containerd.ctr(&["leases", "create", "--id", "collect"]).unwrap();
        bed.containerd.ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
        bed.proxy.cut();
        bed.proxy.resume();
        bed.proxy.limit_rate(None);
        let before = bed.proxy.delivered();
        let (result, _) = run(&runtime, &request, PullLimits::default()).await;
        assert_eq!(result.unwrap().digest, ArrivedDigest::Expected, "{name}");
        let fetched = bed.proxy.delivered() - before;
        if name == "containerd" {
            assert!(fetched < pushed.size() - 8 * MB, "{fetched} of {}", pushed.size());
            assert_eq!(bed.containerd.ctr(&["leases", "list", "-q"]).unwrap().trim(), "", "leases end with the pull");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_stops_in_the_runtime() {
    let bed = Bed::start();
    let pushed = bed.push("w_1", &[1, 2, 3, 4, 5, 6]);
    bed.proxy.limit_rate(Some(4 * MB));
    for runtime in bed.runtimes().await {
        let before = bed.proxy.delivered();
        let (progress, mut seen) = watch::channel(Progress::default());
        let request = bed.request(&pushed);
        tokio::select! {
            result = pull(runtime.as_ref(), &request, PullLimits::default(), &progress) => panic!("{result:?}"),
            () = moving(&mut seen) => {}
        }
        // The proxy goes quiet long before all of it has passed.
        let (mut last, deadline) = (0, Instant::now() + DEADLINE);
        while last != bed.proxy.delivered() && Instant::now() < deadline {
            last = bed.proxy.delivered();
            sleep(Duration::from_millis(500)).await;
        }
        assert!(last - before < pushed.size(), "{} of {}", last - before, pushed.size());
        assert!(runtime.image(&request.name()).await.unwrap().is_none());
    }
}
