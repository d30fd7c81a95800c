//! The images that a runtime has, the names and the file system that they are in, and the containers that use them.

use lab_images::runtime::{ContainerImages, FileSystem, Runtime, RuntimeError, connect};
use testbed::containerd::Containerd;
use testbed::cri::Pod;
use testbed::docker::Docker;
use testbed::images::{Image, tag};

use crate::bed::{Bed, Engine, clear};

pub(super) async fn removal_takes_every_name_of_one_image_and_leaves_the_others(bed: &Bed, runtime: &dyn Runtime) {
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
    // Removing a missing image succeeds.
    let nothing = runtime.remove(&image).await.unwrap();
    runtime.release(&nothing).await.unwrap();
    clear(bed, runtime).await;
}

pub(super) async fn the_file_system_is_the_one_of_the_runtimes_folder(bed: &Bed, runtime: &dyn Runtime) {
    let measured = runtime.file_system().await.unwrap();
    assert!(measured.path.starts_with(bed.root()), "{measured:?} is not in {}", bed.root().display());
    assert_eq!(measured.size, FileSystem::measure(bed.root()).await.unwrap().size);
}

pub(super) async fn the_error_for_the_other_protocol_names_the_scheme_to_write(bed: &Bed) {
    let (crossed, hint) = match bed.containerd() {
        Some(containerd) => (containerd.endpoint().replace("unix:", "docker:"), "write unix://"),
        None => (bed.endpoint().replace("docker:", "unix:"), "write docker://"),
    };
    let error = connect(&crossed.parse().unwrap()).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, RuntimeError::Protocol { .. }) && error.to_string().contains(hint), "{error}");
}

pub(super) async fn what_containers_use_is_listed_in_every_state(bed: &Bed, runtime: &dyn Runtime) {
    let lab = Image::busybox().unwrap().push(&bed.registry, "used", "w_1").unwrap().reference;
    bed.fetch(runtime, &lab).await;
    match &bed.engine {
        Engine::Containerd(containerd) => pods_use(bed, containerd, runtime, &lab).await,
        Engine::Docker(docker) => docker_uses(docker, runtime, &lab).await,
    }
}

/// containerd removes an image under a running container, so only the list protects it; a removed image can be restored.
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
    // containerd 1.6 reports its sandbox image, and 2.x pins it.
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
