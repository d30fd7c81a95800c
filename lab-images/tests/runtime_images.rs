//! What the real containerd and the real Docker engine hold, use and give up, and how they come back.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use lab_images::runtime::{FileSystem, Runtime, RuntimeError, connect};
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::images::{Image, Layer};
use testbed::registry::Registry;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(60);

async fn open(endpoint: String) -> Arc<dyn Runtime> {
    connect(&endpoint.parse().unwrap()).await.unwrap()
}

/// Two names of one image, and another image.
fn publish(registry: &Registry) -> [String; 3] {
    let image = Image::new([Layer::random(1, 100_000)]);
    let other = Image::new([Layer::random(2, 100_000)]);
    let push = |image: &Image, tag| image.push(registry, "lab", tag).unwrap().reference;
    [push(&image, "w_1"), push(&image, "recommended"), push(&other, "w_2")]
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_takes_every_name_of_one_image_and_leaves_the_others() {
    let registry = Registry::start().unwrap();
    let (containerd, docker) = (Containerd::start(&registry).unwrap(), Docker::start().unwrap());
    let names = publish(&registry);
    for name in &names {
        containerd.pull(name).unwrap();
        docker.docker(&["pull", "--quiet", name]).unwrap();
    }
    for runtime in [open(containerd.endpoint()).await, open(docker.endpoint()).await] {
        let image = runtime.image(&names[0]).await.unwrap().unwrap();
        assert!(names[..2].iter().all(|name| image.tags.contains(name)), "{image:?}");
        assert_eq!(runtime.images().await.unwrap().len(), 2);
        runtime.remove(&image).await.unwrap();
        assert!(runtime.image(&names[1]).await.unwrap().is_none());
        let left = runtime.images().await.unwrap();
        assert_eq!(left.iter().flat_map(|image| &image.tags).collect::<Vec<_>>(), [&names[2]]);
        // An image that is gone already is fine.
        runtime.remove(&image).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_keeps_the_image_of_a_container_in_any_state() {
    let registry = Registry::start().unwrap();
    let docker = Docker::start().unwrap();
    let name = Image::busybox().unwrap().push(&registry, "lab", "w_1").unwrap().reference;
    let runtime = open(docker.endpoint()).await;
    let run = ["run", "--detach", "--network", "none"];
    docker.docker(&[&run[..], &["--name", "running", &name, "sleep", "1000"]].concat()).unwrap();
    docker.docker(&[&run[..], &["--name", "paused", &name, "sleep", "1000"]].concat()).unwrap();
    docker.docker(&["pause", "paused"]).unwrap();
    docker.docker(&["run", "--network", "none", "--name", "exited", &name, "true"]).unwrap();
    docker.docker(&["create", "--network", "none", "--name", "created", &name]).unwrap();
    let image = runtime.image(&name).await.unwrap().unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn the_file_system_is_the_one_of_the_runtimes_folder() {
    let registry = Registry::start().unwrap();
    let (containerd, docker) = (Containerd::start(&registry).unwrap(), Docker::start().unwrap());
    let pairs =
        [(open(containerd.endpoint()).await, containerd.root()), (open(docker.endpoint()).await, docker.root())];
    for (runtime, root) in pairs {
        let measured = runtime.file_system().await.unwrap();
        assert!(measured.path.starts_with(root), "{measured:?} is not in {}", root.display());
        assert_eq!(measured.size, FileSystem::measure(root).await.unwrap().size);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_was_restarted_is_found_again() {
    let registry = Registry::start().unwrap();
    let (mut containerd, mut docker) = (Containerd::start(&registry).unwrap(), Docker::start().unwrap());
    let runtimes = [open(containerd.endpoint()).await, open(docker.endpoint()).await];
    let names = publish(&registry);
    containerd.pull(&names[0]).unwrap();
    docker.docker(&["pull", "--quiet", &names[0]]).unwrap();
    for _ in 0..2 {
        containerd.stop();
        docker.stop();
        for runtime in &runtimes {
            let error = runtime.images().await.unwrap_err();
            assert!(matches!(error, RuntimeError::Socket { .. }), "{error}");
        }
        containerd.restart().unwrap();
        docker.restart().unwrap();
        for runtime in &runtimes {
            let deadline = Instant::now() + DEADLINE;
            let images = loop {
                match runtime.images().await {
                    Ok(images) => break images,
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
                sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(images.len(), 1);
        }
        // And killed without a word.
        containerd.kill();
        containerd.restart().unwrap();
        docker.kill();
        docker.restart().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_speaks_the_other_protocol_is_told_which_scheme_to_write() {
    let registry = Registry::start().unwrap();
    let (containerd, docker) = (Containerd::start(&registry).unwrap(), Docker::start().unwrap());
    let crossed = [containerd.endpoint().replace("unix:", "docker:"), docker.endpoint().replace("docker:", "unix:")];
    for (endpoint, hint) in crossed.iter().zip(["write unix://", "write docker://"]) {
        let error = connect(&endpoint.parse().unwrap()).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, RuntimeError::Protocol { .. }) && error.to_string().contains(hint), "{error}");
    }
}
