//! Rounds on the real containerd and the real Docker engine: used images survive, by whatever name and from whatever
//! time they are used; unwanted images are removed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use imagepurger::plan::Rules;
use imagepurger::round::Limits;
use jiff::SignedDuration;
use support::{
    Machine, WATERMARKS, by_digest, catalogue, containerd_with_pods, history, lab, no_grace, pull, round, with_tag,
};
use testbed::containerd::Options;
use testbed::cri::{FakeCri, FakeImage, Pod};
use testbed::docker::Docker;
use testbed::images::{Image, Layer, Pushed, tag};
use testbed::registry::Registry;

/// The images of both tests: named by how a container uses them, and some that nothing uses.
struct Labs {
    running: Pushed,
    paused: Pushed,
    exited: Pushed,
    created: Pushed,
    /// Used by its digest alone, and never pulled by tag.
    digest_only: Pushed,
    unused_digest: Pushed,
    old: Pushed,
    wanted: Pushed,
}

impl Labs {
    fn publish(registry: &Registry) -> Self {
        let labs = Self {
            running: lab(registry, "w_2026_01", "running"),
            paused: lab(registry, "w_2026_02", "paused"),
            exited: lab(registry, "w_2026_03", "exited"),
            created: lab(registry, "w_2026_04", "created"),
            digest_only: lab(registry, "w_2026_05", "digest"),
            unused_digest: lab(registry, "w_2026_06", "unused"),
            old: lab(registry, "w_2026_07", "old"),
            wanted: lab(registry, "w_2026_40", "wanted"),
        };
        tag(registry, &labs.old, &["old_alias"]).unwrap();
        tag(registry, &labs.wanted, &["w_2026_08"]).unwrap();
        labs
    }

    /// All are in one repository of the catalogue, which wants one of them.
    fn catalogue(&self) -> lab_images::catalogue::Catalogue {
        let listed =
            [&self.running, &self.paused, &self.exited, &self.created, &self.old].map(|lab| lab.reference.as_str());
        catalogue(&[&self.wanted.reference], &listed)
    }

    fn used(&self) -> [String; 5] {
        let [running, paused, exited, created] =
            [&self.running, &self.paused, &self.exited, &self.created].map(|lab| lab.reference.clone());
        [running, paused, exited, created, by_digest(&self.digest_only)]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_containerd_used_and_wanted_images_stay_and_others_are_removed() {
    let registry = Registry::start().unwrap();
    let containerd = containerd_with_pods(&registry, Options::default());
    let machine = Machine::new(&containerd.endpoint()).await;
    let labs = Labs::publish(&registry);
    machine.write(&labs.catalogue());
    let pod = Pod::start(containerd.socket(), "labs").unwrap();
    for (number, name) in labs.used().iter().enumerate() {
        machine.pull(name).await;
        let id = pod.create(&format!("c{number}"), name, &["sleep", "1000"]).unwrap();
        if *name == labs.created.reference {
            continue;
        }
        pod.start_container(&id).unwrap();
        if *name == labs.paused.reference {
            containerd.ctr(&["tasks", "pause", &id]).unwrap();
        }
        if *name == labs.exited.reference {
            pod.stop_container(&id).unwrap();
        }
    }
    // A tag that moved: a container uses the image that the tag named before.
    let before = lab(&registry, "recommended", "before");
    machine.pull(&before.reference).await;
    pod.create("moved", &before.reference, &["sleep", "1000"]).unwrap();
    let after = lab(&registry, "recommended", "after");
    machine.pull(&after.reference).await;
    // Two tags of one digest: once both unwanted, once one of them wanted.
    for name in [&labs.old.reference, &with_tag(&labs.old, "old_alias"), &by_digest(&labs.unused_digest)] {
        machine.pull(name).await;
    }
    machine.pull(&labs.wanted.reference).await;
    machine.pull(&with_tag(&labs.wanted, "w_2026_08")).await;

    let mut purger = machine.purger(no_grace());
    let done = round(&mut purger).await;
    assert!(done.failed.is_empty() && done.hold.is_none(), "{done:?}");
    let mut left: BTreeSet<String> = labs.used().into();
    // Images that were pulled by tag are known by digest as well.
    left.extend([&labs.running, &labs.paused, &labs.exited, &labs.created, &labs.wanted].map(by_digest));
    left.extend([labs.wanted.reference.clone(), with_tag(&labs.wanted, "w_2026_08")]);
    // The container was created by the tag's name, so the image that the tag names now counts as used as well.
    left.extend([by_digest(&before), after.reference.clone(), by_digest(&after)]);
    assert_eq!(machine.names().await, left);
    assert_eq!((done.removed.len(), done.to_go), (2, 0), "{done:?}");

    // A removal that was interrupted: the names are gone, the bare record is left.
    let cut = machine.pull(&labs.old.reference).await;
    purger.limits.dry_run = true;
    assert_eq!(round(&mut purger).await.removed.len(), 1);
    containerd.ctr(&[&["images", "remove"][..], &names_of(&cut)].concat()).unwrap();
    let bare = machine.runtime.image(&cut.id).await.unwrap().unwrap();
    assert!(bare.tags.is_empty() && bare.digests.is_empty(), "{bare:?}");
    purger.limits.dry_run = false;
    assert_eq!(round(&mut purger).await.removed, [cut.id.as_str()]);
    assert_eq!(machine.runtime.image(&cut.id).await.unwrap(), None);
    assert!(!containerd.ctr(&["images", "list"]).unwrap().contains(&cut.id));
    assert!(!containerd.ctr(&["leases", "list"]).unwrap().contains("labhands"));
    pod.remove().unwrap();
}

fn names_of(image: &lab_images::runtime::Image) -> Vec<&str> {
    image.tags.iter().chain(&image.digests).map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_docker_used_and_wanted_images_stay_and_others_are_removed() {
    let registry = Registry::start().unwrap();
    let docker = Docker::start().unwrap();
    let machine = Machine::new(&docker.endpoint()).await;
    let labs = Labs::publish(&registry);
    machine.write(&labs.catalogue());
    let run = |name: &str| {
        docker.docker(&["run", "--detach", "--network", "none", name, "sleep", "1000"]).unwrap().trim().to_owned()
    };
    run(&labs.running.reference);
    docker.docker(&["pause", &run(&labs.paused.reference)]).unwrap();
    docker.docker(&["run", "--network", "none", &labs.exited.reference, "true"]).unwrap();
    docker.docker(&["create", "--network", "none", &labs.created.reference]).unwrap();
    run(&by_digest(&labs.digest_only));
    let before = lab(&registry, "recommended", "before");
    let used_before = run(&before.reference);
    let after = lab(&registry, "recommended", "after");
    for name in [
        &after.reference,
        &labs.old.reference,
        &with_tag(&labs.old, "old_alias"),
        &by_digest(&labs.unused_digest),
        &labs.wanted.reference,
        &with_tag(&labs.wanted, "w_2026_08"),
    ] {
        docker.docker(&["pull", "--quiet", name]).unwrap();
    }

    let done = round(&mut machine.purger(no_grace())).await;
    assert!(done.failed.is_empty() && done.hold.is_none(), "{done:?}");
    let mut left: BTreeSet<String> = labs.used().into();
    left.extend([&labs.running, &labs.paused, &labs.exited, &labs.created, &labs.wanted].map(by_digest));
    left.extend([labs.wanted.reference.clone(), with_tag(&labs.wanted, "w_2026_08"), by_digest(&before)]);
    assert_eq!(machine.names().await, left);
    assert_eq!((done.removed.len(), done.to_go), (3, 0), "{done:?}");
    assert!(machine.runtime.containers().await.unwrap().iter().any(|uses| uses.container == used_before));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_the_runtime_pins_stay() {
    let image = |digit: &str, pinned| FakeImage {
        id: format!("sha256:{}", digit.repeat(64)),
        tags: vec![format!("registry.example.org/lab:w_{digit}")],
        digests: Vec::new(),
        pinned,
    };
    let fake = FakeCri::start(vec![image("1", true), image("2", false), image("3", false)]).unwrap();
    let machine = Machine::new(&fake.endpoint()).await;
    machine.write(&catalogue(&["registry.example.org/lab:w_3"], &[]));
    let done = round(&mut machine.purger(no_grace())).await;
    assert_eq!(done.removed, ["registry.example.org/lab:w_2"]);
    assert_eq!(fake.images(), [image("1", true), image("3", false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_is_freed_from_above_high_to_below_low_and_no_further() {
    const IMAGES: u64 = 18;
    let registry = Registry::start().unwrap();
    let containerd = containerd_with_pods(&registry, Options { root_size: Some(200_000_000), ..Options::default() });
    let machine = Machine::new(&containerd.endpoint()).await;
    // Each image takes its size twice: compressed and unpacked.
    let push = |seed: u64| {
        let image = Image::new([Layer::random(seed, 5_000_000)]);
        image.push(&registry, "lab", &format!("w_2026_{seed:02}")).unwrap().reference
    };
    let names: Vec<String> = (1..=IMAGES).map(push).collect();
    machine.write(&catalogue(&[&names[0]], &[]));
    let mut pulled = Vec::new();
    for name in &names {
        pulled.push(pull(&machine.runtime, name).await);
    }
    let used = || async { machine.runtime.file_system().await.unwrap().used_percent() };
    assert!(used().await > WATERMARKS.high, "{} %", used().await);

    // Older than the hour that always applies, younger than the grace: only a full disk removes them.
    machine.age_images(SignedDuration::from_hours(2)).await;
    let rules = || Rules { grace: SignedDuration::from_hours(24), ..no_grace() };
    let before = machine.runtime.file_system().await.unwrap().used;
    let done = round(&mut machine.purger(rules())).await;
    let after = machine.runtime.file_system().await.unwrap();
    assert!(after.used_percent() <= WATERMARKS.low, "{done:?}");
    // One more removed image would have been too many: each is about 5 %.
    assert!(after.used_percent() > WATERMARKS.low - 10, "{done:?}");
    assert!((2..IMAGES as usize - 5).contains(&done.removed.len()) && done.failed.is_empty(), "{done:?}");
    let freed = before - after.used;
    assert!(done.freed.abs_diff(freed) < 2_000_000, "{} reported, {freed} measured", done.freed);
    assert!(machine.names().await.contains(&names[0]));

    // With enough room nothing is removed early.
    let more = round(&mut machine.purger(rules())).await;
    assert_eq!((more.removed.len(), more.to_go), (0, 0), "{more:?}");
    // Images used within the hour stay although the disk is full.
    for name in &names[..16] {
        pull(&machine.runtime, name).await;
    }
    assert!(used().await > WATERMARKS.high);
    machine.age_images(SignedDuration::from_mins(59)).await;
    assert!(round(&mut machine.purger(rules())).await.removed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_removes_nothing_and_a_round_has_its_limit() {
    let image = |number: usize| FakeImage {
        id: format!("sha256:{number:064x}"),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        ..FakeImage::default()
    };
    let fake = FakeCri::start((0..10).map(image).collect()).unwrap();
    let machine = Machine::new(&fake.endpoint()).await;
    machine.write(&catalogue(&["registry.example.org/lab:w_0"], &[]));
    let mut purger = machine.purger(no_grace());
    purger.limits = Limits { most: 4, dry_run: true };
    let done = round(&mut purger).await;
    assert_eq!((done.removed.len(), done.to_go, fake.images().len()), (4, 9, 10));
    purger.limits.dry_run = false;
    let done = round(&mut purger).await;
    assert_eq!((done.removed.len(), done.to_go, fake.images().len()), (4, 5, 6));
    assert_eq!(history(&machine.history_file()).images.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_prints_each_verdict_with_its_reason_and_leaves_everything_as_it_is() {
    let image = |number: usize, pinned| FakeImage {
        id: format!("sha256:{number:064x}"),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        digests: vec![format!("registry.example.org/lab@sha256:{:064x}", number + 100)],
        pinned,
    };
    let fake = FakeCri::start(vec![image(1, false), image(2, true), image(3, false)]).unwrap();
    let machine = Machine::new(&fake.endpoint()).await;
    machine.write(&catalogue(&["registry.example.org/lab:w_3"], &[]));
    machine.age_images(SignedDuration::from_hours(30)).await;
    let remembered = std::fs::read(machine.history_file()).unwrap();
    let print = |output: &str| {
        let mut plan = Command::new(env!("CARGO_BIN_EXE_imagepurger"));
        plan.args(["plan", "--output", output]).env_clear().env("RUNTIME_ENDPOINT", fake.endpoint());
        plan.env("CATALOGUE_FILE", machine.catalogue_file());
        plan.env("STATE_DIR", machine.history_file().parent().unwrap());
        let output = plan.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&print("json")).unwrap();
    let field = |number: usize, key: &str| json["images"][number][key].as_str().unwrap();
    assert_eq!(field(0, "verdict"), "to go");
    assert_eq!(field(0, "reason"), "no longer wanted by the catalogue");
    assert_eq!(field(1, "reason"), "pinned in the runtime");
    assert_eq!(field(2, "reason"), "wanted by the catalogue (registry.example.org/lab:w_3)");
    assert_eq!((json["would_free_about"].as_u64(), json["disk"]["high_percent"].as_u64()), (Some(1), Some(75)));
    let table = print("table");
    let first = table.lines().nth(1).unwrap();
    assert!(first.starts_with("to go") && first.contains("registry.example.org/lab:w_1 (+1)"), "{table}");
    assert!(table.contains("\n1 to go (about 1 B), 2 kept\n"), "{table}");

    machine.write(&catalogue(&[], &["registry.example.org/lab:w_3"]));
    let held = print("table");
    assert!(held.contains("Nothing is removed: the catalogue is empty") && held.contains("\n0 to go"), "{held}");
    assert_eq!(fake.images().len(), 3);
    assert_eq!(std::fs::read(machine.history_file()).unwrap(), remembered);
}
