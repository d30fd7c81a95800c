//! What real containers of containerd's CRI use. containerd removes an image under a running container, so this list is all
//! that protects it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use lab_images::runtime::{ContainerImages, connect};
use testbed::containerd::{self, Containerd};
use testbed::cri::Pod;
use testbed::images::Image;
use testbed::registry::Registry;

fn uses<'a>(containers: &'a [ContainerImages], id: &str) -> &'a ContainerImages {
    containers.iter().find(|container| container.container == id).unwrap_or_else(|| panic!("no {id} in {containers:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_in_every_state_and_the_sandbox_name_their_images() {
    let registry = Registry::start().unwrap();
    let pause = Image::pause().unwrap().push(&registry, "pause", "1").unwrap().reference;
    let lab = Image::busybox().unwrap().push(&registry, "lab", "w_1").unwrap();
    let containerd = Containerd::with(&containerd::Options {
        plain_registries: vec![registry.host()],
        sandbox_image: Some(pause.clone()),
        ..Default::default()
    })
    .unwrap();
    containerd.pull(&lab.reference).unwrap();
    let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
    let image = runtime.image(&lab.reference).await.unwrap().unwrap();

    let pod = Pod::start(containerd.socket(), "pod").unwrap();
    let created = pod.create("created", &lab.reference, &["sleep", "1000"]).unwrap();
    let running = pod.create("running", &image.id, &["sleep", "1000"]).unwrap();
    pod.start_container(&running).unwrap();
    let stopped = pod.create("stopped", &lab.reference, &["sleep", "1000"]).unwrap();
    pod.start_container(&stopped).unwrap();
    pod.stop_container(&stopped).unwrap();

    let containers = runtime.containers().await.unwrap();
    for id in [&created, &running, &stopped] {
        assert!(uses(&containers, id).images.contains(&image.id), "{containers:?}");
    }
    let pinned = runtime.image(&pause).await.unwrap().is_some_and(|image| image.pinned);
    let listed = containers.iter().any(|uses| uses.container == "sandbox" && uses.images.contains(&pause));
    // containerd 1.6 says which image it starts pods with, 2.x pins it.
    assert!(listed || pinned, "{containers:?}");

    // Why the list has to be looked at: nothing else holds containerd back, though what it removed can be put back.
    let before = runtime.images().await.unwrap();
    let removed = runtime.remove(&image).await.unwrap();
    assert!(removed.can_be_undone() && runtime.image(&lab.reference).await.unwrap().is_none());
    let containers = runtime.containers().await.unwrap();
    assert!(uses(&containers, &running).images.contains(&image.id), "{containers:?}");
    assert!(runtime.put_back(&image, &removed).await.unwrap());
    let by_id = |mut images: Vec<lab_images::runtime::Image>| {
        images.sort_by(|one, other| one.id.cmp(&other.id));
        images.iter_mut().for_each(|image| image.tags.sort());
        images
    };
    assert_eq!(by_id(runtime.images().await.unwrap()), by_id(before));
    pod.start_container(&created).unwrap();
    pod.create("another", &lab.reference, &["sleep", "1000"]).unwrap();
    assert!(!containerd.ctr(&["leases", "list"]).unwrap().contains("labhands"));

    pod.remove().unwrap();
    let containers = runtime.containers().await.unwrap();
    assert!(containers.iter().all(|uses| uses.container == "sandbox"), "{containers:?}");
}
