//! Everything that registries may have under a tag: nested indices, entries without a platform, charts, images for
//! other machines, tags without a manifest, and several registries of which one is down. On a real registry and
//! containerd.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use testbed::containerd::{self, Containerd};
use testbed::folder::Folder;
use testbed::images::{Image, Layer, Pushed};
use testbed::registry::Registry;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const KILOBYTE: u64 = 1000;

fn prepuller(command: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut prepuller = Command::new(env!("CARGO_BIN_EXE_prepuller"));
    prepuller.args(command).env_clear().envs(settings.iter().copied());
    prepuller
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn own() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

fn other() -> &'static str {
    if own() == "arm64" { "amd64" } else { "arm64" }
}

fn image(seed: u64) -> Image {
    Image::new([Layer::random(seed, 20 * KILOBYTE)]).oci()
}

/// Puts a manifest of any kind under a name or digest, and returns its descriptor.
fn put(registry: &Registry, repository: &str, name: &str, media_type: &str, manifest: &Value) -> Value {
    let url = format!("{}/v2/{repository}/manifests/{name}", registry.url());
    let body = manifest.to_string().into_bytes();
    let client = registry.client(repository).unwrap();
    let answer = client.send("PUT", &url, &[("Content-Type", media_type)], &body).unwrap().expect(201, &url).unwrap();
    json!({"mediaType": media_type, "digest": answer.header("docker-content-digest"), "size": body.len()})
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn descriptor(pushed: &Pushed) -> Value {
    json!({"mediaType": OCI_MANIFEST, "digest": pushed.digest, "size": pushed.manifest.len()})
}

fn with_platform(mut descriptor: Value, architecture: &str, variant: Option<&str>) -> Value {
    let os = if architecture == "unknown" { "unknown" } else { "linux" };
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

/// Removes the content of a tag and keeps its name, as storage faults and races of garbage collection do.
fn dangle(registry: &Registry, pushed: &Pushed) {
    let hex = pushed.digest.rsplit(':').next().unwrap();
    let storage = registry.storage().join("docker/registry/v2");
    let revisions = storage.join("repositories").join(&pushed.repository).join("_manifests/revisions/sha256");
    std::fs::remove_dir_all(revisions.join(hex)).unwrap();
    std::fs::remove_dir_all(storage.join("blobs/sha256").join(&hex[..2]).join(hex)).unwrap();
}

/// A Helm chart as Helm pushes it.
fn push_chart(registry: &Registry, repository: &str, tag: &str) {
    let layer = image(900).push(registry, repository, "scratch").unwrap();
    let mut chart: Value = serde_json::from_slice(&layer.manifest).unwrap();
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    chart["layers"][0]["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip".into();
    put(registry, repository, tag, OCI_MANIFEST, &chart);
}

/// Publishes each shape in a separate repository.
fn publish(registry: &Registry) {
    let repository = "nested";
    let [mine, attestation, foreign] =
        [1, 2, 3].map(|seed| image(seed).push(registry, repository, &format!("x{seed}")).unwrap());
    let inner = index(&[
        with_platform(descriptor(&mine), own(), None),
        with_platform(descriptor(&attestation), "unknown", None),
    ]);
    let inner = put(registry, repository, "x4", OCI_INDEX, &inner);
    let foreign = index(&[with_platform(descriptor(&foreign), other(), None)]);
    let foreign = put(registry, repository, "x5", OCI_INDEX, &foreign);
    let outer = index(&[with_platform(foreign, other(), None), with_platform(inner, own(), None)]);
    put(registry, repository, "w_2026_47", OCI_INDEX, &outer);

    let bare = image(11).push(registry, "bare", "x1").unwrap();
    put(registry, "bare", "w_2026_47", OCI_INDEX, &index(&[descriptor(&bare)]));

    let large = Image::new([Layer::random(21, 900 * KILOBYTE)]).oci().push(registry, "variants", "x1").unwrap();
    let small = image(22).push(registry, "variants", "x2").unwrap();
    let (worse, better) = if own() == "arm64" { ("v9", "v8") } else { ("v3", "v1") };
    let variants =
        [with_platform(descriptor(&large), own(), Some(worse)), with_platform(descriptor(&small), own(), Some(better))];
    put(registry, "variants", "w_2026_47", OCI_INDEX, &index(&variants));

    push_chart(registry, "chart", "w_2026_47");
    let arm = image(41).architecture(other()).push(registry, "other-index", "x1").unwrap();
    let only_other = index(&[with_platform(descriptor(&arm), other(), None)]);
    put(registry, "other-index", "w_2026_47", OCI_INDEX, &only_other);
    image(51).architecture(other()).push(registry, "other-plain", "w_2026_47").unwrap();
    for (repository, seed) in [("chart", 31), ("other-index", 42), ("other-plain", 52), ("dangling", 61)] {
        for (tag, seed) in [("w_2026_46", seed), ("w_2026_45", seed + 1), ("w_2026_44", seed + 2)] {
            image(seed).push(registry, repository, tag).unwrap();
        }
    }
    for (tag, seed) in [("w_2026_47", 71), ("old-experiment", 72)] {
        dangle(registry, &image(seed).push(registry, "dangling", tag).unwrap());
    }
}

#[test]
fn usable_images_are_wanted_and_unusable_ones_take_no_place() {
    let registry = Registry::start().unwrap();
    publish(&registry);
    let containerd = containerd::Options { plain_registries: vec![registry.host()], ..Default::default() };
    let containerd = Containerd::with(&containerd).unwrap();
    let (host, endpoint, state) = (registry.host(), containerd.endpoint(), Folder::new("state").unwrap());
    let names = ["nested", "bare", "variants", "chart", "other-index", "other-plain", "dangling"];
    let repositories = names.map(|name| format!("{host}/{name}")).join(",");
    let state = state.path().display().to_string();
    let settings = [
        ("LAB_REPOSITORIES", repositories.as_str()),
        ("LAB_INSECURE_REGISTRIES", &host),
        ("LAB_KEEP", "weekly=2"),
        ("RUNTIME_ENDPOINT", &endpoint),
        ("STATE_DIR", &state),
        ("DISK_HIGH", "99"),
    ];

    let scan = prepuller(&["scan", "--output", "json"], &settings).output().unwrap();
    assert!(scan.status.success(), "{}", stderr(&scan));
    let catalogue: Value = serde_json::from_slice(&scan.stdout).unwrap();
    assert_eq!(catalogue["complete"], true);
    let images = catalogue["images"].as_array().unwrap();
    let of =
        |name: &str| images.iter().filter(|image| image["repository"] == format!("{host}/{name}")).collect::<Vec<_>>();
    for name in names {
        let wanted: Vec<&str> = of(name)
            .iter()
            .filter(|image| image["wanted"] == true)
            .map(|image| image["tag"].as_str().unwrap())
            .collect();
        let expected: &[&str] =
            if ["nested", "bare", "variants"].contains(&name) { &["w_2026_47"] } else { &["w_2026_46", "w_2026_45"] };
        assert_eq!(wanted, expected, "{name}: {}", stderr(&scan));
        for image in of(name).iter().filter(|image| image["wanted"] == true) {
            assert_eq!(image["kind"], "lab");
            // 20 kB of noise, plus the overhead of compression.
            assert!((20_000..30_000).contains(&image["size"].as_u64().unwrap()), "{image}");
            let platforms = image["platforms"].as_array().unwrap();
            assert!(
                platforms.iter().any(|one| one.as_str().unwrap().starts_with(&format!("linux/{}", own()))),
                "{image}"
            );
        }
    }
    for (name, words) in [
        ("chart", "it is not an image but \"application/vnd.cncf.helm.config.v1+json\""),
        ("other-index", &format!("it has no image for linux/{}, only for linux/{}", own(), other())),
        ("other-plain", &format!("it has no image for linux/{}, only for linux/{}", own(), other())),
        ("dangling", "its manifest is gone"),
    ] {
        let newest = *of(name).iter().find(|image| image["tag"] == "w_2026_47").unwrap();
        assert!(newest["why"].as_str().unwrap().contains(words), "{newest}");
        assert!(newest["size"].is_null(), "{newest}");
    }
    let dangling = of("dangling");
    let dangling = dangling.iter().find(|image| image["tag"] == "old-experiment").unwrap();
    assert!(dangling["why"].as_str().unwrap().contains("its manifest is gone"), "{dangling}");

    let pull = prepuller(&["pull"], &settings).output().unwrap();
    assert!(pull.status.success(), "{}", stderr(&pull));
    interrupted_during_the_scan(&settings);
}

/// The first Ctrl-C ends a pull that still waits for a registry.
fn interrupted_during_the_scan(settings: &[(&str, &str)]) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let repository = format!("{}/lab", silent.local_addr().unwrap());
    let host = silent.local_addr().unwrap().to_string();
    let mut pull = prepuller(&["pull"], settings);
    pull.env("LAB_REPOSITORIES", repository).env("LAB_INSECURE_REGISTRIES", host);
    let pull = pull.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The request arrived, so the scan is running.
    let asked = silent.accept().unwrap();
    assert!(Command::new("kill").args(["-INT", &pull.id().to_string()]).status().unwrap().success());
    let output = pull.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("interrupted during the scan"), "{}", stderr(&output));
    drop(asked);
}

fn wanted(output: &Output) -> Vec<String> {
    let catalogue: Value = serde_json::from_slice(&output.stdout).unwrap();
    let images = catalogue["images"].as_array().unwrap();
    let wanted = images.iter().filter(|image| image["wanted"] == true);
    wanted.map(|image| image["reference"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_registry_that_is_down_keeps_its_part_and_the_other_is_scanned() {
    let (mut first, second) = (Registry::start().unwrap(), Registry::start().unwrap());
    image(81).push(&first, "one", "w_2026_46").unwrap();
    image(82).push(&second, "two", "w_2026_46").unwrap();
    let folder = Folder::new("catalogue").unwrap();
    let file = folder.path().join("catalogue.json");
    let repositories = format!("{}/one,{}/two", first.host(), second.host());
    let (insecure, file_setting) = (format!("{},{}", first.host(), second.host()), file.display().to_string());
    let settings = [
        ("LAB_REPOSITORIES", repositories.as_str()),
        ("LAB_INSECURE_REGISTRIES", &insecure),
        ("LAB_KEEP", "weekly=1"),
        ("CATALOGUE_FILE", &file_setting),
    ];
    let scan = || prepuller(&["scan", "--output", "json"], &settings).output().unwrap();
    let good = scan();
    assert!(good.status.success(), "{}", stderr(&good));
    assert_eq!(wanted(&good), ["one:w_2026_46", "two:w_2026_46"]);

    first.stop();
    image(83).push(&second, "two", "w_2026_47").unwrap();
    let partial = scan();
    assert_eq!(partial.status.code(), Some(1), "{}", stderr(&partial));
    assert_eq!(wanted(&partial), ["one:w_2026_46", "two:w_2026_47"]);
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let printed: Value = serde_json::from_slice(&partial.stdout).unwrap();
    assert_eq!(written, printed);
    let states = written["repositories"].as_array().unwrap();
    assert_eq!((&states[0]["complete"], &states[1]["complete"]), (&json!(false), &json!(true)));
    assert!(states[0]["problem"].as_str().unwrap().contains("list the tags"), "{written}");
    let before: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(states[0]["scanned"], before["repositories"][0]["scanned"]);
    assert!(states[1]["problem"].is_null() && states[1]["scanned"] == written["generated"], "{written}");

    // If none answers, nothing is new, and the file stays as it is.
    let second_host = second.host();
    drop(second);
    let none = scan();
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(wanted(&none), ["one:w_2026_46", "two:w_2026_47"], "{second_host}");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), written);
}

#[test]
fn missing_configured_images_are_reported_and_the_others_are_wanted() {
    let registry = Registry::start().unwrap();
    let host = registry.host();
    for (tag, seed) in [("4.2.1", 91), ("4.2.1-gpu", 92), ("4.2.0", 93), ("w_2026_47", 94)] {
        image(seed).push(&registry, "lab", tag).unwrap();
    }
    let signature = format!("sha256-{}.sig", "a".repeat(64));
    image(95).push(&registry, "lab", &signature).unwrap();
    let repository = format!("{host}/lab");
    let repository = repository.as_str();
    let (good, typo, nowhere) =
        (format!("{host}/lab:4.2.1"), format!("{host}/lab:4.2.11"), format!("{host}/nowhere:1"));
    let named = format!("{good},{typo},{nowhere}");
    /// Settings, the exit code, the wanted images, and words of the output.
    type Case<'a> = (&'a [(&'a str, &'a str)], i32, &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (
            &[("LAB_REPOSITORIES", repository), ("LAB_KEEP", "release=1")],
            1,
            &[],
            &["LAB_TAG_SCHEME=rubin", "LAB_KEEP=release=1", "could not read 3 of them", "4.2.1"],
        ),
        (
            &[("LAB_REPOSITORIES", repository), ("LAB_KEEP", "release=1"), ("LAB_TAG_SCHEME", "semver")],
            0,
            &["lab:4.2.1"],
            &[],
        ),
        (
            &[("LAB_REPOSITORIES", repository), ("LAB_TAG_SCHEME", "semver"), ("LAB_TAGS", "-gpu$")],
            0,
            &["lab:4.2.1-gpu"],
            &[],
        ),
        (
            &[
                ("LAB_REPOSITORIES", repository),
                ("LAB_TAG_SCHEME", "semver"),
                ("LAB_TAGS_EXCLUDED", "^4\\.2\\.1"),
                ("LAB_KEEP", "release=1,unknown=5"),
            ],
            0,
            &["lab:4.2.0", "lab:w_2026_47"],
            &[],
        ),
        (
            &[("LAB_REPOSITORIES", repository), ("LAB_TAG_SCHEME", "semver"), ("LAB_PINNED", "4.2.0,4.1.0")],
            1,
            &["lab:4.2.1", "lab:4.2.0"],
            &["LAB_PINNED names 4.1.0"],
        ),
        (&[("LAB_CONTAINER_NAMES", &named)], 1, &["lab:4.2.1"], &["4.2.11", "nowhere:1", "its manifest is gone"]),
    ];
    for (settings, code, expected, words) in cases {
        let settings = [*settings, &[("LAB_INSECURE_REGISTRIES", host.as_str())][..]].concat();
        let scan = prepuller(&["scan", "--output", "json"], &settings).output().unwrap();
        let stderr = stderr(&scan);
        assert_eq!(scan.status.code(), Some(*code), "{settings:?}: {stderr}");
        assert_eq!(wanted(&scan), *expected, "{settings:?}: {stderr}");
        assert!(words.iter().all(|words| stderr.contains(words)), "{settings:?}: {stderr}");
        // Each of these scans is complete: missing tags are known.
        let catalogue: Value = serde_json::from_slice(&scan.stdout).unwrap();
        assert_eq!(catalogue["complete"], true, "{settings:?}: {stderr}");
    }
    // Some readers close the output half way.
    let settings = [("LAB_REPOSITORIES", repository), ("LAB_INSECURE_REGISTRIES", &host), ("LAB_TAG_SCHEME", "semver")];
    let mut scan = prepuller(&["scan"], &settings).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(scan.stdout.take());
    let scan = scan.wait_with_output().unwrap();
    assert!(scan.status.success() && !stderr(&scan).contains("panicked"), "{}", stderr(&scan));
}
