//! A runtime with a registry behind a proxy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab_images::runtime::{Layer, Progress, PullError, PullLimits, PullRequest, Pulled, Runtime, connect, pull};
use testbed::containerd::{self, Containerd, Release};
use testbed::docker::Docker;
use testbed::images::{Image, Pushed};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;
use testbed::wait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub(super) const MB: u64 = 1_000_000;
pub(super) const OTHER: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// The time limit of a test that hangs; nothing here takes nearly as long.
pub(super) const DEADLINE: Duration = wait::LIMIT;

pub(super) enum Engine {
    Containerd(Containerd),
    Docker(Docker),
}

/// A runtime, and a registry that it reaches directly and through a proxy.
pub(super) struct Bed {
    pub(super) engine: Engine,
    pub(super) pause: String,
    pub(super) proxy: TcpProxy,
    pub(super) registry: Registry,
}

impl Bed {
    /// With this containerd, or with Docker.
    pub(super) fn start(release: Option<Release>) -> Self {
        let registry = Registry::start().unwrap();
        let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into()).unwrap();
        let pause = Image::pause().unwrap().push(&registry, "pause", "1").unwrap().reference;
        let options = |release| containerd::Options {
            release,
            plain_registries: vec![proxy.host(), registry.host()],
            sandbox_image: Some(pause.clone()),
            ..Default::default()
        };
        let engine = match release {
            Some(release) => Engine::Containerd(Containerd::with(&options(release)).unwrap()),
            None => Engine::Docker(Docker::start().unwrap()),
        };
        Self { engine, pause, proxy, registry }
    }

    pub(super) fn containerd(&self) -> Option<&Containerd> {
        match &self.engine {
            Engine::Containerd(containerd) => Some(containerd),
            Engine::Docker(_) => None,
        }
    }

    pub(super) fn endpoint(&self) -> String {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.endpoint(),
            Engine::Docker(docker) => docker.endpoint(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.root(),
            Engine::Docker(docker) => docker.root(),
        }
    }

    pub(super) async fn open(&self) -> Arc<dyn Runtime> {
        connect(&self.endpoint().parse().unwrap()).await.unwrap()
    }

    /// Pulls with the runtime's own tool.
    pub(super) async fn fetch(&self, runtime: &dyn Runtime, name: &str) {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.pull(name).unwrap(),
            Engine::Docker(docker) => drop(docker.docker(&["pull", "--quiet", name]).unwrap()),
        }
        // CRI lists images pulled by others a moment later.
        let deadline = Instant::now() + DEADLINE;
        while runtime.image(name).await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "{name} was pulled and is not listed");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Layers of 4 MB, generated from seeds.
    pub(super) fn push(&self, repository: &str, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| testbed::images::Layer::random(seed, 4 * MB));
        Image::new(layers).push(&self.registry, repository, tag).unwrap()
    }

    /// A pull through the proxy.
    pub(super) fn request(&self, pushed: &Pushed) -> PullRequest {
        let repository = pushed.repository.rsplit('/').next().unwrap();
        PullRequest {
            reference: format!("{}/{repository}:{}", self.proxy.host(), pushed.tag).parse().unwrap(),
            expected: Some(pushed.digest.parse().unwrap()),
            layers: layers(pushed),
            credentials: None,
        }
    }

    /// A pull of a digest together with a tag.
    pub(super) fn pinned(&self, pushed: &Pushed, tag: &str) -> PullRequest {
        let request = self.request(pushed);
        let name = format!("{}:{tag}@{}", request.reference.repository, pushed.digest);
        PullRequest { reference: name.parse().unwrap(), ..request }
    }

    pub(super) fn restart(&mut self) {
        match &mut self.engine {
            Engine::Containerd(containerd) => containerd.restart().unwrap(),
            Engine::Docker(docker) => docker.restart().unwrap(),
        }
    }
}

pub(super) fn layers(pushed: &Pushed) -> Vec<Layer> {
    let manifest: serde_json::Value = serde_json::from_slice(&pushed.manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let layer = |layer: &serde_json::Value| Layer {
        digest: layer["digest"].as_str().unwrap().parse().unwrap(),
        size: layer["size"].as_u64().unwrap(),
    };
    layers.map(layer).collect()
}

pub(super) async fn run(
    runtime: &dyn Runtime,
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
    let result = timeout(DEADLINE, pull(runtime, request, limits, &progress)).await.expect("the pull ends");
    drop(progress);
    (result, watching.await.unwrap())
}

pub(super) async fn pulled(runtime: &dyn Runtime, request: &PullRequest) -> Pulled {
    run(runtime, request, PullLimits::default()).await.0.unwrap()
}

/// Removes all images that are not the pods' own.
pub(super) async fn clear(bed: &Bed, runtime: &dyn Runtime) {
    for image in runtime.images().await.unwrap().iter().filter(|image| !image.tags.contains(&bed.pause)) {
        let removed = runtime.remove(image).await.unwrap();
        runtime.release(&removed).await.unwrap();
    }
}
