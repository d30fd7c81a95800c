//! `prepuller scan` and `prepuller pull` on a real registry, containerd and Docker.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::{Command, Output};

use testbed::containerd::{self, Containerd};
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::images::{Image, Layer, RubinSet, publish_rubin, tag};
use testbed::proxy::TcpProxy;
use testbed::registry::Registry;
use testbed::token_server::TokenAuth;
use testbed::wait::{self, LIMIT};

const REPOSITORY: &str = "lsstsqre/sciplat-lab";
const MIB: u64 = 1 << 20;

/// The test machine may have little room.
const ANY_DISK: (&str, &str) = ("DISK_HIGH", "99");

/// Runs the real program with exactly these settings.
fn prepuller(command: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut prepuller = Command::new(env!("CARGO_BIN_EXE_prepuller"));
    prepuller.args(command).env_clear().envs(settings.iter().copied());
    prepuller.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn small() -> RubinSet {
    RubinSet { shared: vec![MIB, MIB], own: MIB / 2 }
}

#[test]
fn both_runtimes_get_the_wanted_images_and_nothing_is_pulled_twice() {
    let registry = Registry::start().unwrap();
    publish_rubin(&registry, REPOSITORY, &small()).unwrap();
    let containerd = containerd::Options { plain_registries: vec![registry.host()], ..Default::default() };
    let (containerd, docker) = (Containerd::with(&containerd).unwrap(), Docker::start().unwrap());
    let (host, state) = (registry.host(), Folder::new("state").unwrap());
    let (repository, state) = (format!("{host}/{REPOSITORY}"), state.path().display().to_string());
    let settings =
        [("LAB_REPOSITORIES", repository.as_str()), ("LAB_INSECURE_REGISTRIES", &host), ("STATE_DIR", &state)];

    let scan = prepuller(&["scan", "--output", "json"], &settings);
    let catalogue: serde_json::Value = serde_json::from_slice(&scan.stdout).unwrap();
    let wanted: Vec<&str> = catalogue["images"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|image| image["wanted"] == true)
        .map(|image| image["tag"].as_str().unwrap())
        .collect();
    for tag in [
        "recommended",
        "latest_weekly",
        "r29_1_1_rsp102",
        "w_2026_47",
        "w_2026_46_rsp19_c0053.001",
        "d_2026_11_22",
        "d_2026_11_21",
        "d_2026_11_20",
    ] {
        assert!(wanted.contains(&tag), "{tag} is not in {wanted:?}");
    }
    assert!(!wanted.contains(&"w_2026_45") && !wanted.contains(&"d_2026_11_19"), "{wanted:?}");

    for endpoint in [containerd.endpoint(), docker.endpoint()] {
        let with = |more: &[(&'static str, &str)]| {
            prepuller(&["pull"], &[&settings[..], &[("RUNTIME_ENDPOINT", endpoint.as_str())], more].concat())
        };
        // The limit refuses before anything starts, however much is on the disk already.
        let full = with(&[("DISK_HIGH", "1")]);
        assert_eq!(full.status.code(), Some(1));
        assert!(stderr(&full).contains("refused") && stderr(&full).contains("1 %"), "{}", stderr(&full));
        let pulled = with(&[ANY_DISK]);
        assert!(pulled.status.success(), "{endpoint}: {}", stderr(&pulled));
        let again = with(&[ANY_DISK]);
        assert!(again.status.success() && !stderr(&again).contains("downloading"), "{}", stderr(&again));
    }
}

#[test]
fn an_image_that_never_ends_is_named_and_the_others_are_pulled() {
    let registry = Registry::start().unwrap();
    let proxy = TcpProxy::start(([127, 0, 0, 1], registry.port()).into()).unwrap();
    let small = Image::new([Layer::random(1, MIB)]).push(&registry, "lab", "w_2026_46").unwrap();
    tag(&registry, &small, &["recommended"]).unwrap();
    Image::new([Layer::random(2, 8 * MIB)]).push(&registry, "endless", "w_2026_47").unwrap();
    let options = containerd::Options { plain_registries: vec![registry.host(), proxy.host()], ..Default::default() };
    let containerd = Containerd::with(&options).unwrap();
    let names = format!("{}/lab:w_2026_46,{}/endless:w_2026_47", registry.host(), proxy.host());
    let insecure = format!("{},{}", registry.host(), proxy.host());
    // Slow enough to be stopped in the middle.
    proxy.limit_rate(Some(MIB));
    let folder = Folder::new("state").unwrap();
    let (state, endpoint) = (folder.path().display().to_string(), containerd.endpoint());
    let settings = [
        ("LAB_CONTAINER_NAMES", names.as_str()),
        ("LAB_INSECURE_REGISTRIES", &insecure),
        ("RUNTIME_ENDPOINT", &endpoint),
        ("PULL_STALL_TIMEOUT", "15s"),
        ("STATE_DIR", &state),
        ANY_DISK,
    ];
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait::until(LIMIT, || (proxy.delivered() > MIB).then(|| proxy.stall())).unwrap();
        });
        prepuller(&["pull"], &settings)
    });
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("not there") && stderr.contains("endless:w_2026_47") && stderr.contains("stall"),
        "{stderr}"
    );
    let missing: Vec<&str> = stderr.lines().filter(|line| line.starts_with("not there")).collect();
    assert_eq!(missing.len(), 1, "{stderr}");
}

#[test]
fn a_digest_in_a_reference_decides_and_a_mirror_is_named() {
    let (registry, mirror) = (Registry::start().unwrap(), Registry::start().unwrap());
    let push = |registry: &Registry, seed| {
        Image::new([Layer::random(seed, 20_000)]).push(registry, "lab", "w_2026_47").unwrap()
    };
    let old = push(&registry, 1);
    let new = push(&registry, 2);
    let options = containerd::Options { plain_registries: vec![registry.host()], ..Default::default() };
    let (containerd, docker) = (Containerd::with(&options).unwrap(), Docker::start().unwrap());
    let folder = Folder::new("state").unwrap();
    let (host, state) = (registry.host(), folder.path().display().to_string());
    let pull = |endpoint: &str, names: &str| {
        let settings = [
            ("LAB_CONTAINER_NAMES", names),
            ("LAB_INSECURE_REGISTRIES", &host),
            ("RUNTIME_ENDPOINT", endpoint),
            ("STATE_DIR", &state),
            ANY_DISK,
        ];
        prepuller(&["pull"], &settings)
    };

    // The tag has moved, stayed, and disappeared: each time its old digest is wanted, and the second time it is
    // present.
    let pinned = [(&old, "w_2026_47"), (&new, "w_2026_47"), (&old, "w_2020_01")];
    let pinned = pinned.map(|(image, tag)| format!("{host}/lab:{tag}@{}", image.digest)).join(",");
    for endpoint in [containerd.endpoint(), docker.endpoint()] {
        let first = pull(&endpoint, &pinned);
        assert!(first.status.success(), "{endpoint}: {}", stderr(&first));
        let again = pull(&endpoint, &pinned);
        let stderr = stderr(&again);
        assert!(again.status.success() && !stderr.contains("pull begins"), "{endpoint}: {stderr}");
    }
    let held = containerd.ctr(&["images", "list"]).unwrap();
    assert!([&old, &new].iter().all(|image| held.contains(&format!("{host}/lab@{}", image.digest))), "{held}");
    let held = docker.docker(&["images", "--digests"]).unwrap();
    assert!([&old, &new].iter().all(|image| held.contains(&image.digest)), "{held}");

    // A mirror that lags behind serves another image under the tag, which is not the wanted one.
    let behind = push(&mirror, 1);
    assert_eq!(behind.digest, old.digest);
    let hosts = format!(
        "server = \"http://{host}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        mirror.host()
    );
    containerd.folder().write(&format!("certs.d/{host}/hosts.toml"), hosts).unwrap();
    for _ in 0..2 {
        let served = pull(&containerd.endpoint(), &format!("{host}/lab:w_2026_47"));
        let stderr = stderr(&served);
        assert_eq!(served.status.code(), Some(1), "{stderr}");
        let line = stderr.lines().find(|line| line.starts_with("not there")).unwrap();
        assert!([&old.digest, &new.digest].iter().all(|digest| line.contains(digest.as_str())), "{line}");
        assert!(line.contains("mirror") && line.contains("the registry still has the wanted image"), "{line}");
    }
}

#[test]
fn a_registry_with_a_password_or_tokens_is_scanned_with_a_pull_secret() {
    let folder = Folder::new("secret").unwrap();
    let auth = |host: &str, password: &str| {
        let json = format!("{{\"auths\":{{\"{host}\":{{\"username\":\"reader\",\"password\":\"{password}\"}}}}}}");
        folder.write("config.json", json).unwrap().display().to_string()
    };
    let password = || Some(("reader".to_owned(), "sesame-47".to_owned()));
    let token = TokenAuth { password: password(), expires_in: 60, ..TokenAuth::default() };
    for registry in [Registry::with_password("reader", "sesame-47").unwrap(), Registry::with_token_auth(token).unwrap()]
    {
        Image::new([Layer::random(3, 1000)]).push(&registry, "lab", "w_2026_47").unwrap();
        let host = registry.host();
        let (repository, good) = (format!("{host}/lab"), auth(&host, "sesame-47"));
        let settings = [("LAB_REPOSITORIES", repository.as_str()), ("LAB_INSECURE_REGISTRIES", &host)];
        let scan = prepuller(&["scan"], &[&settings[..], &[("REGISTRY_AUTH_FILE", good.as_str())]].concat());
        assert!(scan.status.success(), "{}", stderr(&scan));
        assert!(String::from_utf8_lossy(&scan.stdout).contains("w_2026_47"));
        let bad = auth(&host, "wrong-47");
        let scan = prepuller(&["scan"], &[&settings[..], &[("REGISTRY_AUTH_FILE", bad.as_str())]].concat());
        assert_eq!(scan.status.code(), Some(1));
        assert!(
            stderr(&scan).contains("REGISTRY_AUTH_FILE") && !stderr(&scan).contains("wrong-47"),
            "{}",
            stderr(&scan)
        );
    }
}
