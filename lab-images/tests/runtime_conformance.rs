//! What every adapter of `Runtime` does, shown by one list of cases on three real runtimes: containerd 2.4, Debian's containerd
//! 1.6 and the Docker engine. Where they differ by nature a case says so. Each runtime is started once, behind a proxy that can
//! be slow or stall, and each case has a repository of its own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab_images::runtime::{
    ArrivedDigest, ContainerImages, FileSystem, Layer, Phase, Progress, PullError, PullLimits, PullRequest, Pulled,
    Runtime, RuntimeError, connect, pull,
};
use testbed::containerd::{self, Containerd, Release};
use testbed::cri::Pod;
use testbed::docker::Docker;
use testbed::images::{Image, Pushed, tag};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const MB: u64 = 1_000_000;
const OTHER: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// Nothing here takes nearly as long; it is the end of a test that hangs.
const DEADLINE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn containerd_2_4_does_as_a_runtime_does() {
    all(Bed::start(Some(Release::Current))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_1_6_does_as_a_runtime_does() {
    all(Bed::start(Some(Release::Debian))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_does_as_a_runtime_does() {
    all(Bed::start(None)).await;
}

async fn all(mut bed: Bed) {
    let runtime = bed.open().await;
    removal_takes_every_name_of_one_image_and_leaves_the_others(&bed, &*runtime).await;
    the_file_system_is_the_one_of_the_runtimes_folder(&bed, &*runtime).await;
    the_other_protocol_is_told_which_scheme_to_write(&bed).await;
    a_pull_shows_its_bytes_and_what_is_shared_is_not_fetched_again(&bed, &*runtime).await;
    a_digest_decides_whatever_became_of_the_tag(&bed, &*runtime).await;
    a_tag_that_has_moved_is_said_and_one_that_is_not_there_is_an_error(&bed, &*runtime).await;
    a_failure_in_the_middle_of_a_pull_is_an_error(&bed, &*runtime).await;
    a_stalled_pull_ends_and_containerd_goes_on_where_it_stood(&bed, &*runtime).await;
    a_dropped_pull_stops_in_the_runtime(&bed, &*runtime).await;
    what_containers_use_is_listed_in_every_state(&bed, &*runtime).await;
    a_runtime_that_was_restarted_is_found_again(&mut bed, &*runtime).await;
}

enum Engine {
    Containerd(Containerd),
    Docker(Docker),
}

/// A runtime, and a registry that it reaches by itself and through a proxy.
struct Bed {
    engine: Engine,
    pause: String,
    proxy: TcpProxy,
    registry: Registry,
}

impl Bed {
    /// With this containerd, or with Docker.
    fn start(release: Option<Release>) -> Self {
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

    fn containerd(&self) -> Option<&Containerd> {
        match &self.engine {
            Engine::Containerd(containerd) => Some(containerd),
            Engine::Docker(_) => None,
        }
    }

    fn endpoint(&self) -> String {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.endpoint(),
            Engine::Docker(docker) => docker.endpoint(),
        }
    }

    fn root(&self) -> &Path {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.root(),
            Engine::Docker(docker) => docker.root(),
        }
    }

    async fn open(&self) -> Arc<dyn Runtime> {
        connect(&self.endpoint().parse().unwrap()).await.unwrap()
    }

    /// Has the runtime pull by its own tool.
    async fn fetch(&self, runtime: &dyn Runtime, name: &str) {
        match &self.engine {
            Engine::Containerd(containerd) => containerd.pull(name).unwrap(),
            Engine::Docker(docker) => drop(docker.docker(&["pull", "--quiet", name]).unwrap()),
        }
        // CRI takes note of what others pull a moment later.
        let deadline = Instant::now() + DEADLINE;
        while runtime.image(name).await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "{name} was pulled and is not listed");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Layers of 4 MB by seed.
    fn push(&self, repository: &str, tag: &str, seeds: &[u64]) -> Pushed {
        let layers = seeds.iter().map(|&seed| testbed::images::Layer::random(seed, 4 * MB));
        Image::new(layers).push(&self.registry, repository, tag).unwrap()
    }

    /// A pull through the proxy.
    fn request(&self, pushed: &Pushed) -> PullRequest {
        let repository = pushed.repository.rsplit('/').next().unwrap();
        PullRequest {
            reference: format!("{}/{repository}:{}", self.proxy.host(), pushed.tag).parse().unwrap(),
            expected: Some(pushed.digest.parse().unwrap()),
            layers: layers(pushed),
            credentials: None,
        }
    }

    /// A pull of a digest with a tag beside it.
    fn pinned(&self, pushed: &Pushed, tag: &str) -> PullRequest {
        let request = self.request(pushed);
        let name = format!("{}:{tag}@{}", request.reference.repository, pushed.digest);
        PullRequest { reference: name.parse().unwrap(), ..request }
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

async fn pulled(runtime: &dyn Runtime, request: &PullRequest) -> Pulled {
    run(runtime, request, PullLimits::default()).await.0.unwrap()
}

/// Removes all images that are not the pods' own.
async fn clear(bed: &Bed, runtime: &dyn Runtime) {
    for image in runtime.images().await.unwrap().iter().filter(|image| !image.tags.contains(&bed.pause)) {
        let removed = runtime.remove(image).await.unwrap();
        runtime.release(&removed).await.unwrap();
    }
}

async fn removal_takes_every_name_of_one_image_and_leaves_the_others(bed: &Bed, runtime: &dyn Runtime) {
    let [first, other] = [bed.push("names", "w_1", &[61]), bed.push("names", "w_2", &[62])];
    tag(&bed.registry, &first, &["recommended"]).unwrap();
    let recommended = first.reference.replace(":w_1", ":recommended");
    for name in [&first.reference, &recommended, &other.reference] {
        bed.fetch(runtime, name).await;
    }
    let image = runtime.image(&first.reference).await.unwrap().unwrap();
    assert!([&first.reference, &recommended].iter().all(|name| image.tags.contains(*name)), "{image:?}");
    assert_eq!(runtime.images().await.unwrap().len(), 2);
    let removed = runtime.remove(&image).await.unwrap();
    assert!(runtime.image(&recommended).await.unwrap().is_none());
    let left = runtime.images().await.unwrap();
    assert_eq!(left.iter().flat_map(|image| &image.tags).collect::<Vec<_>>(), [&other.reference]);
    runtime.release(&removed).await.unwrap();
    // An image that is gone already is fine.
    let nothing = runtime.remove(&image).await.unwrap();
    runtime.release(&nothing).await.unwrap();
    clear(bed, runtime).await;
}

async fn the_file_system_is_the_one_of_the_runtimes_folder(bed: &Bed, runtime: &dyn Runtime) {
    let measured = runtime.file_system().await.unwrap();
    assert!(measured.path.starts_with(bed.root()), "{measured:?} is not in {}", bed.root().display());
    assert_eq!(measured.size, FileSystem::measure(bed.root()).await.unwrap().size);
}

async fn the_other_protocol_is_told_which_scheme_to_write(bed: &Bed) {
    let (crossed, hint) = match bed.containerd() {
        Some(containerd) => (containerd.endpoint().replace("unix:", "docker:"), "write unix://"),
        None => (bed.endpoint().replace("docker:", "unix:"), "write docker://"),
    };
    let error = connect(&crossed.parse().unwrap()).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RuntimeError::Protocol { .. }) && error.to_string().contains(hint), "{error}");
}

async fn a_pull_shows_its_bytes_and_what_is_shared_is_not_fetched_again(bed: &Bed, runtime: &dyn Runtime) {
    bed.proxy.limit_rate(Some(10 * MB));
    let [first, second] = [bed.push("shared", "w_1", &[1, 2, 3, 4]), bed.push("shared", "w_2", &[1, 2, 3, 5])];
    let request = bed.request(&first);
    let (result, progress) = run(runtime, &request, PullLimits::default()).await;
    let image = result.unwrap();
    assert_eq!((image.digest, image.downloaded), (ArrivedDigest::Expected, Some(first.size())));
    assert!(image.image.tags.contains(&request.name()), "{:?}", image.image);
    let middle = |now: &Progress| now.done > 0 && now.done < first.size() && now.total == Some(first.size());
    assert!(progress.iter().any(middle), "{progress:?}");
    assert_eq!(progress.last().map(|last| last.phase), Some(Phase::Done));

    let request = bed.request(&second);
    let present = runtime.present_layers(&request.layers).await.unwrap();
    // Docker cannot tell beforehand; what it fetches is one layer all the same.
    assert_eq!(present.map(|present| present.len()), bed.containerd().map(|_| 3));
    assert_eq!(pulled(runtime, &request).await.downloaded, Some(second.layer_sizes[3]));
    // Once more, with everything there.
    assert_eq!(pulled(runtime, &request).await.downloaded.unwrap_or(0), 0);
    bed.proxy.limit_rate(None);
    clear(bed, runtime).await;
}

async fn a_digest_decides_whatever_became_of_the_tag(bed: &Bed, runtime: &dyn Runtime) {
    let old = bed.push("pinned", "w_1", &[11]);
    let new = bed.push("pinned", "w_1", &[12]);
    // The tag has moved, stayed, and never was.
    for (image, tag) in [(&old, "w_1"), (&new, "w_1"), (&old, "w_2020_01")] {
        let request = bed.pinned(image, tag);
        // What the catalogue says of the tag does not count.
        let request = PullRequest { expected: Some(OTHER.parse().unwrap()), ..request };
        let arrived = pulled(runtime, &request).await;
        assert_eq!(arrived.digest, ArrivedDigest::Expected, "{}", request.reference);
        // Found again by the name that was asked for.
        let held = runtime.image(&request.name()).await.unwrap().unwrap();
        assert!(held.digests.contains(&request.name()) && held.tags.is_empty(), "{held:?}");
        clear(bed, runtime).await;
    }
}

async fn a_tag_that_has_moved_is_said_and_one_that_is_not_there_is_an_error(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("moved", "w_1", &[1]);
    let moved = PullRequest { expected: Some(OTHER.parse().unwrap()), ..bed.request(&pushed) };
    let ArrivedDigest::Other { arrived, .. } = pulled(runtime, &moved).await.digest else {
        panic!("the digest differs")
    };
    assert!(arrived.iter().any(|name| name.ends_with(&pushed.digest)), "{arrived:?}");

    let reference = format!("{}/moved:w_404", bed.proxy.host());
    let missing = PullRequest { reference: reference.parse().unwrap(), ..bed.request(&pushed) };
    let error = run(runtime, &missing, PullLimits::default()).await.0.unwrap_err();
    assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
    assert!(error.to_string().contains(&reference), "{error}");
    clear(bed, runtime).await;
}

async fn a_failure_in_the_middle_of_a_pull_is_an_error(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("broken", "w_1", &[21, 22]);
    // The registry has the manifest and lost a layer: Docker says so inside a stream that began with 200.
    let layer = &layers(&pushed)[1].digest;
    let blob = format!("{}/v2/broken/blobs/{layer}", bed.registry.url());
    let client = bed.registry.client("broken").unwrap();
    client.send("DELETE", &blob, &[], b"").unwrap().expect(202, &blob).unwrap();
    let error = run(runtime, &bed.request(&pushed), PullLimits::default()).await.0.unwrap_err();
    assert!(matches!(&error, PullError::Runtime(RuntimeError::Pull { .. })), "{error}");
    assert!(runtime.images().await.unwrap().is_empty());
}

async fn a_stalled_pull_ends_and_containerd_goes_on_where_it_stood(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("stalled", "w_1", &[31, 32, 33, 34, 35, 36]);
    let limits = PullLimits { stall: Duration::from_secs(3), ..PullLimits::default() };
    let request = bed.request(&pushed);
    bed.proxy.limit_rate(Some(5 * MB));
    let (progress, mut seen) = watch::channel(Progress::default());
    let (result, ()) = tokio::join!(timeout(DEADLINE, pull(runtime, &request, limits, &progress)), async {
        let far = |now: &Progress| now.done > 10 * MB;
        timeout(DEADLINE, seen.wait_for(far)).await.unwrap().unwrap();
        bed.proxy.stall();
    });
    let error = result.expect("the pull ends").unwrap_err();
    assert!(matches!(error, PullError::Stalled { done, .. } if done > 10 * MB), "{error}");

    if let Some(containerd) = bed.containerd() {
        // A synchronous end of any lease collects garbage now: what nothing holds is gone before the next try.
        containerd.ctr(&["leases", "create", "--id", "collect"]).unwrap();
        containerd.ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
    }
    bed.proxy.cut();
    bed.proxy.resume();
    bed.proxy.limit_rate(None);
    let before = bed.proxy.delivered();
    assert_eq!(pulled(runtime, &request).await.digest, ArrivedDigest::Expected);
    let fetched = bed.proxy.delivered() - before;
    if let Some(containerd) = bed.containerd() {
        assert!(fetched < pushed.size() - 8 * MB, "{fetched} of {}", pushed.size());
        let leases = containerd.ctr(&["leases", "list"]).unwrap();
        assert!(!leases.contains(&request.name()), "leases end with the pull: {leases}");
    }
    clear(bed, runtime).await;
}

async fn a_dropped_pull_stops_in_the_runtime(bed: &Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("dropped", "w_1", &[41, 42, 43, 44, 45, 46]);
    bed.proxy.limit_rate(Some(4 * MB));
    let before = bed.proxy.delivered();
    let (progress, mut seen) = watch::channel(Progress::default());
    let request = bed.request(&pushed);
    let moving = seen.wait_for(|now| now.phase == Phase::Downloading && now.done > 0);
    tokio::select! {
        result = pull(runtime, &request, PullLimits::default(), &progress) => panic!("{result:?}"),
        moves = timeout(DEADLINE, moving) => drop(moves.unwrap().unwrap()),
    }
    // The proxy goes quiet long before all of it has passed.
    let (mut last, deadline) = (0, Instant::now() + DEADLINE);
    while last != bed.proxy.delivered() && Instant::now() < deadline {
        last = bed.proxy.delivered();
        sleep(Duration::from_millis(500)).await;
    }
    assert!(last - before < pushed.size(), "{} of {}", last - before, pushed.size());
    assert!(runtime.image(&request.name()).await.unwrap().is_none());
    bed.proxy.limit_rate(None);
}

async fn what_containers_use_is_listed_in_every_state(bed: &Bed, runtime: &dyn Runtime) {
    let lab = Image::busybox().unwrap().push(&bed.registry, "used", "w_1").unwrap().reference;
    bed.fetch(runtime, &lab).await;
    match &bed.engine {
        Engine::Containerd(containerd) => pods_use(bed, containerd, runtime, &lab).await,
        Engine::Docker(docker) => docker_uses(docker, runtime, &lab).await,
    }
}

/// containerd removes an image under a running container, so the list is all that protects it; what it removed can be put back.
async fn pods_use(bed: &Bed, containerd: &Containerd, runtime: &dyn Runtime, lab: &str) {
    let image = runtime.image(lab).await.unwrap().unwrap();
    let pod = Pod::start(containerd.socket(), "pod").unwrap();
    let created = pod.create("created", lab, &["sleep", "1000"]).unwrap();
    let running = pod.create("running", &image.id, &["sleep", "1000"]).unwrap();
    pod.start_container(&running).unwrap();
    let stopped = pod.create("stopped", lab, &["sleep", "1000"]).unwrap();
    pod.start_container(&stopped).unwrap();
    pod.stop_container(&stopped).unwrap();

    let containers = runtime.containers().await.unwrap();
    for id in [&created, &running, &stopped] {
        assert!(uses(&containers, id).images.contains(&image.id), "{containers:?}");
    }
    // containerd 1.6 says which image it starts pods with, 2.x pins it.
    let pinned = runtime.image(&bed.pause).await.unwrap().is_some_and(|image| image.pinned);
    let listed = containers.iter().any(|uses| uses.container == "sandbox" && uses.images.contains(&bed.pause));
    assert!(listed || pinned, "{containers:?}");

    let before = runtime.images().await.unwrap();
    let removed = runtime.remove(&image).await.unwrap();
    assert!(removed.can_be_undone() && runtime.image(lab).await.unwrap().is_none());
    let containers = runtime.containers().await.unwrap();
    assert!(uses(&containers, &running).images.contains(&image.id), "{containers:?}");
    assert!(runtime.restore(&image, &removed).await.unwrap());
    let by_id = |mut images: Vec<lab_images::runtime::Image>| {
        images.sort_by(|one, other| one.id.cmp(&other.id));
        images.iter_mut().for_each(|image| image.tags.sort());
        images
    };
    assert_eq!(by_id(runtime.images().await.unwrap()), by_id(before));
    pod.start_container(&created).unwrap();
    pod.create("another", lab, &["sleep", "1000"]).unwrap();
    assert!(!containerd.ctr(&["leases", "list"]).unwrap().contains("labhands-removal"));

    pod.remove().unwrap();
    let containers = runtime.containers().await.unwrap();
    assert!(containers.iter().all(|uses| uses.container == "sandbox"), "{containers:?}");
    clear(bed, runtime).await;
}

fn uses<'a>(containers: &'a [ContainerImages], id: &str) -> &'a ContainerImages {
    containers.iter().find(|container| container.container == id).unwrap_or_else(|| panic!("no {id} in {containers:?}"))
}

/// Docker keeps the image of a container in any state.
async fn docker_uses(docker: &Docker, runtime: &dyn Runtime, lab: &str) {
    let run = ["run", "--detach", "--network", "none"];
    docker.docker(&[&run[..], &["--name", "running", lab, "sleep", "1000"]].concat()).unwrap();
    docker.docker(&[&run[..], &["--name", "paused", lab, "sleep", "1000"]].concat()).unwrap();
    docker.docker(&["pause", "paused"]).unwrap();
    docker.docker(&["run", "--network", "none", "--name", "exited", lab, "true"]).unwrap();
    docker.docker(&["create", "--network", "none", "--name", "created", lab]).unwrap();
    let image = runtime.image(lab).await.unwrap().unwrap();
    for left in ["running", "paused", "exited", "created"] {
        let containers = runtime.containers().await.unwrap();
        assert!(containers.iter().all(|container| container.images.contains(&image.id)), "{containers:?}");
        let error = runtime.remove(&image).await.unwrap_err();
        assert!(matches!(error, RuntimeError::InUse { .. }), "{error}");
        docker.docker(&["rm", "--force", left]).unwrap();
    }
    assert!(runtime.containers().await.unwrap().is_empty());
    runtime.remove(&image).await.unwrap();
    assert!(runtime.images().await.unwrap().is_empty());
}

async fn a_runtime_that_was_restarted_is_found_again(bed: &mut Bed, runtime: &dyn Runtime) {
    let pushed = bed.push("restarted", "w_1", &[51]);
    bed.fetch(runtime, &pushed.reference).await;
    let held = runtime.images().await.unwrap().len();
    for _ in 0..2 {
        match &mut bed.engine {
            Engine::Containerd(containerd) => containerd.stop(),
            Engine::Docker(docker) => docker.stop(),
        }
        let error = runtime.images().await.unwrap_err();
        assert!(matches!(error, RuntimeError::Socket { .. }), "{error}");
        bed.restart();
        let deadline = Instant::now() + DEADLINE;
        let images = loop {
            match runtime.images().await {
                Ok(images) => break images,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(images.len(), held);
        // And killed without a word.
        match &mut bed.engine {
            Engine::Containerd(containerd) => containerd.kill(),
            Engine::Docker(docker) => docker.kill(),
        }
        bed.restart();
    }
}

impl Bed {
    fn restart(&mut self) {
        match &mut self.engine {
            Engine::Containerd(containerd) => containerd.restart().unwrap(),
            Engine::Docker(docker) => docker.restart().unwrap(),
        }
    }
}

/// A containerd that keeps no layer once it is unpacked, as Amazon's nodes do, with an image whose layers the next ones share.
/// Both containerds drop what they unpacked; neither waits for it, and nobody counts it.
#[tokio::test(flavor = "multi_thread")]
async fn unpacked_layers_that_are_not_kept_are_not_waited_for() {
    for release in [Release::Current, Release::Debian] {
        let registry = Registry::start().unwrap();
        let options = containerd::Options {
            release,
            plain_registries: vec![registry.host()],
            discard_unpacked_layers: true,
            unpack_delay: Some(Duration::from_millis(300)),
            ..Default::default()
        };
        let containerd = Containerd::with(&options).unwrap();
        let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
        let push = |tag: &str, seeds: &[u64]| {
            let made = seeds.iter().map(|&seed| testbed::images::Layer::random(seed, 2 * MB));
            let pushed = Image::new(made).push(&registry, "lab", tag).unwrap();
            PullRequest {
                reference: pushed.reference.parse().unwrap(),
                expected: Some(pushed.digest.parse().unwrap()),
                layers: layers(&pushed),
                credentials: None,
            }
        };
        let (base, same, slow) = (push("w_1", &[71, 72, 73]), push("w_2", &[71, 72, 74]), push("w_3", &[71, 75]));
        assert_eq!(pulled(&*runtime, &base).await.downloaded, Some(base.layers.iter().map(|layer| layer.size).sum()));
        // Without the lease nothing holds the layers.
        containerd.ctr(&["leases", "create", "--id", "collect"]).unwrap();
        containerd.ctr(&["leases", "delete", "--sync", "collect"]).unwrap();
        let kept = containerd.ctr(&["content", "list", "-q"]).unwrap();
        assert!(base.layers.iter().all(|layer| !kept.contains(layer.digest.as_str())), "{kept}");

        let present = runtime.present_layers(&same.layers).await.unwrap().unwrap();
        assert!(present.contains(&same.layers[0].digest) && present.contains(&same.layers[1].digest), "{present:?}");
        assert_eq!(present.len(), 2);
        assert_eq!(pulled(&*runtime, &same).await.downloaded, Some(same.layers[2].size));
        // A layer over other ones is another snapshot.
        let other = push("w_4", &[72, 71]);
        assert!(runtime.present_layers(&other.layers).await.unwrap().unwrap().is_empty());

        containerd.delay_unpacking(Duration::from_secs(8)).unwrap();
        let limits = PullLimits { stall: Duration::from_secs(4), ..PullLimits::default() };
        let (result, progress) = run(&*runtime, &slow, limits).await;
        let slow_image = result.unwrap();
        assert!(slow_image.elapsed > limits.stall, "{slow_image:?}");
        assert_eq!(slow_image.downloaded, Some(slow.layers[1].size), "{progress:?}");
        // Nothing at all is to come: the same, under another name.
        containerd.delay_unpacking(Duration::ZERO).unwrap();
        let again =
            PullRequest { reference: slow.reference.to_string().replace("w_3", "w_1").parse().unwrap(), ..base };
        assert_eq!(pulled(&*runtime, &again).await.downloaded.unwrap_or(0), 0);
    }
}
