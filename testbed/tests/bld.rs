//! `images/bld`: every daemon's image is small, labeled, not root, and reproducible; wrong arguments are named.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use testbed::command;
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::packages::{self, Part};
use testbed::registry::Registry;

const DAEMONS: [&str; 5] = ["fs-keepalive", "imagepurger", "log-shipper", "nfs-health", "prepuller"];

/// The largest size that a node has to pull.
const MOST_BYTES: u64 = 10_000_000;

/// Settings for buildah's storage in a folder.
fn storage(folder: &Folder) -> String {
    let path = folder.path().display();
    format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{path}/graph\"\nrunroot = \"{path}/run\"\n")
}

#[test]
fn the_digest_that_is_printed_can_be_pulled() {
    packages::require(Part::Buildah).unwrap();
    let (registry, docker, folder) =
        (Registry::start().unwrap(), Docker::start().unwrap(), Folder::new("bld").unwrap());
    let storage = folder.write("storage.conf", storage(&folder)).unwrap();
    let program = folder.write("programs/prepuller", "a program").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let client = registry.client("labhands/prepuller").unwrap();
    for builder in ["buildah", "docker"] {
        let mut bld = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/bld"));
        bld.args(["prepuller", &format!("--push={}", registry.host())]).env("BUILDER", builder);
        bld.env("BINARIES", program.parent().unwrap())
            .env("CONTAINERS_STORAGE_CONF", &storage)
            .env_remove("IMAGE_PREFIX");
        bld.env("DOCKER_HOST", format!("unix://{}", docker.socket().display()));
        let printed = command::run(&mut bld).unwrap();
        let digest = printed.trim().rsplit(", ").next().unwrap();
        let url = format!("{}/v2/labhands/prepuller/manifests/{digest}", registry.url());
        let types = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
        client.send("GET", &url, &[("accept", types)], &[]).unwrap().expect(200, &printed).unwrap();
    }
}

#[test]
fn wrong_arguments_are_named_before_anything_is_built() {
    for (arguments, variables, words) in [
        (vec![], [("BUILDER", "sh"), ("IMAGE_PREFIX", "a")], "name a component"),
        (
            vec!["prepulller"],
            [("BUILDER", "sh"), ("IMAGE_PREFIX", "a")],
            "no component prepulller; there are: fs-keepalive",
        ),
        (vec!["testbed"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "a")], "prepuller fileserver"),
        (vec!["--push=", "prepuller"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "a")], "unknown option --push="),
        (vec!["--push", "prepuller"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "")], "set IMAGE_PREFIX to the registry"),
        (vec!["prepuller"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "https://ghcr.io/you")], "is not REGISTRY/OWNER"),
        (vec!["prepuller"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "ghcr.io/You")], "is not REGISTRY/OWNER"),
        (vec!["prepuller"], [("BUILDER", "sh"), ("IMAGE_PREFIX", "ghcr.io/you:1")], "is not REGISTRY/OWNER"),
        (vec!["prepuller"], [("BUILDER", "no-builder"), ("IMAGE_PREFIX", "a")], "BUILDER=no-builder is not installed"),
    ] {
        let mut bld = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/bld"));
        let run = bld.args(&arguments).envs(variables).env("BINARIES", "/nowhere").output().unwrap();
        let printed = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && printed.contains(words), "{arguments:?} {variables:?}: {printed}");
    }
}

#[test]
#[ignore = "builds every daemon for release: ten minutes and more after a change, under one without: cargo test -p testbed --test bld -- --ignored"]
fn every_image_is_small_labeled_and_the_same_each_time() {
    packages::require(Part::Buildah).unwrap();
    let (registry, folder) = (Registry::start().unwrap(), Folder::new("bld").unwrap());
    let storage = folder.write("storage.conf", storage(&folder)).unwrap();
    let build = || -> BTreeMap<String, String> {
        let mut bld = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/bld"));
        bld.args(DAEMONS).arg(format!("--push={}", registry.host()));
        bld.env("CONTAINERS_STORAGE_CONF", &storage)
            .env("BUILDER", "buildah")
            .env_remove("IMAGE_PREFIX")
            .env_remove("PROFILE");
        let printed = command::run(&mut bld).unwrap();
        printed
            .lines()
            .map(|line| line.split_once(", ").unwrap())
            .map(|(name, rest)| (name.into(), rest.into()))
            .collect()
    };
    let first = build();
    assert_eq!(first.len(), DAEMONS.len(), "{first:?}");
    assert_eq!(first, build());

    for name in DAEMONS {
        let repository = format!("labhands/{name}");
        let client = registry.client(&repository).unwrap();
        let get = |what: &str| -> serde_json::Value {
            let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
            let answer =
                client.send("GET", &format!("{}/v2/{repository}/{what}", registry.url()), &accept, &[]).unwrap();
            serde_json::from_str(&answer.text()).unwrap()
        };
        let manifest = get("manifests/latest");
        let size: u64 =
            manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
        assert!(size <= MOST_BYTES, "{name}: {size} bytes");
        let configuration = get(&format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
        let configuration = &configuration["config"];
        assert_eq!(configuration["User"], "65532:65532");
        assert_eq!(configuration["Entrypoint"][0], format!("/{name}"));
        let label = |label: &str| {
            configuration["Labels"][format!("org.opencontainers.image.{label}")].as_str().unwrap_or("").to_owned()
        };
        assert_eq!((label("title"), label("version")), (name.to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        assert!(label("description").len() > 20 && label("revision").len() == 40);
    }
}
