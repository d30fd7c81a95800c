//! Test images, built and pushed to a real registry and pulled by real runtimes.
use testbed::containerd::Containerd;
use testbed::docker::Docker;
use testbed::images::{Image, Layer, RubinSet, publish_rubin, push_index, tag};
use testbed::registry::Registry;

#[test]
fn both_runtimes_pull_what_was_pushed_and_run_it() {
    let registry = Registry::start().unwrap();
    let layers =
        [Layer::random(1, 300_000), Layer::compressible(2, 5_000_000), Layer::files(&[("etc/said", 0o644, b"hello")])];
    let image = layers.into_iter().fold(Image::busybox().unwrap(), Image::layer).oci();
    let pushed = image.push(&registry, "owner/name", "one").unwrap();

    let docker = Docker::start().unwrap();
    docker.docker(&["pull", "--quiet", &pushed.reference]).unwrap();
    let printed = docker.docker(&["run", "--rm", "--network", "none", &pushed.reference, "cat", "/etc/said"]).unwrap();
    assert_eq!(printed, "hello");

    let containerd = Containerd::start(&registry).unwrap();
    containerd.pull(&pushed.by_digest()).unwrap();
    let printed =
        containerd.ctr(&["run", "--rm", "--snapshotter", "overlayfs", &pushed.by_digest(), "x", "cat", "/etc/said"]);
    assert_eq!(printed.unwrap(), "hello");
}

#[test]
fn an_index_has_both_platforms_and_the_same_image_has_the_same_digest() {
    let registry = Registry::start().unwrap();
    let platforms = ["amd64", "arm64"].map(|architecture| {
        let image = Image::new([Layer::random(7, 1000)]).architecture(architecture);
        let pushed = image.push(&registry, "owner/name", architecture).unwrap();
        assert_eq!(pushed.digest, image.push(&registry, "owner/name", "again").unwrap().digest);
        pushed
    });
    let index = push_index(&registry, "owner/name", "both", &platforms).unwrap();
    let text = String::from_utf8(index.manifest).unwrap();
    assert!(platforms.iter().all(|platform| text.contains(&platform.digest)), "{text}");
}

#[test]
fn thousands_of_tags_of_one_digest_are_there() {
    let registry = Registry::start().unwrap();
    let pushed = Image::new([Layer::random(7, 1000)]).push(&registry, "owner/name", "first").unwrap();
    let tags: Vec<String> = (0..10_000).map(|number| format!("tag-{number}")).collect();
    tag(&registry, &pushed, &tags).unwrap();
    let url = format!("{}/v2/owner/name/tags/list", registry.url());
    let client = registry.client("owner/name").unwrap();
    let last = format!("{}/v2/owner/name/manifests/tag-9999", registry.url());
    let accept = [("Accept", pushed.media_type)];
    assert_eq!(client.send("HEAD", &last, &accept, b"").unwrap().header("docker-content-digest"), pushed.digest);
    let list = client.send("GET", &url, &[], b"").unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list["tags"].as_array().unwrap().len(), 10_001);
}

#[test]
fn a_rubin_like_repository_can_be_published_behind_a_token() {
    let registry = Registry::with_token_auth(Default::default()).unwrap();
    let published =
        publish_rubin(&registry, "owner/sciplat-lab", &RubinSet { shared: vec![10_000], own: 1000 }).unwrap();
    assert!(published.iter().any(|image| image.tag == "w_2026_47"));
}
