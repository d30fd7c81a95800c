//! A container that is created during a removal keeps its image, whatever the clock does meanwhile: on the real
//! containerd, both the newest and Debian's, and on the real Docker engine.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use imagepurger::clock::{Clock, Reading};
use imagepurger::plan::Rules;
use imagepurger::round::Purger;
use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::{Runtime, connect};
use support::{Machine, by_digest, catalogue, containerd_with_pods, lab, no_grace, round, unix_proxy, with_tag};
use testbed::containerd::{Options, Release};
use testbed::cri::Pod;
use testbed::docker::Docker;
use testbed::folder::Folder;
use testbed::grpc::{GrpcServer, Moment};
use testbed::images::tag;
use testbed::registry::Registry;

/// How often a container is created during a removal, on each runtime: `LABHANDS_RACES`, else 100.
#[expect(clippy::disallowed_methods, reason = "a test's own knob")]
fn races() -> usize {
    std::env::var("LABHANDS_RACES").ok().and_then(|races| races.parse().ok()).unwrap_or(100)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_containerd_2_a_container_created_in_the_instant_of_a_removal_keeps_its_image() {
    race_on_containerd(Release::Current).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_containerd_1_a_container_created_in_the_instant_of_a_removal_keeps_its_image() {
    race_on_containerd(Release::Debian).await;
}

/// A purger whose clock is ten years ahead in every other ten races and right in between, and the number of the race.
fn purger_with_stepped_clock(machine: &Machine, runtime: Arc<dyn Runtime>) -> (Purger, Arc<AtomicUsize>) {
    let (number, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let race = Arc::clone(&number);
    let never_stale = SignedDuration::from_hours(24 * 365 * 20);
    let mut purger = machine.purger_on(runtime, Rules { catalogue_max_age: never_stale, ..no_grace() });
    purger.clock = Clock::of(move || {
        let years = if race.load(Ordering::SeqCst) / 10 % 2 == 1 { 10 } else { 0 };
        Reading {
            wall: Timestamp::now() + SignedDuration::from_hours(years * 365 * 24),
            boot: start.elapsed().try_into().unwrap(),
            boot_id: "a".into(),
        }
    });
    (purger, number)
}

async fn race_on_containerd(release: Release) {
    let registry = Registry::start().unwrap();
    let containerd = containerd_with_pods(&registry, Options { release, ..Options::default() });
    let machine = Machine::new(&containerd.endpoint()).await;
    let (old, wanted) = (lab(&registry, "w_2026_01", "old"), lab(&registry, "w_2026_40", "wanted"));
    tag(&registry, &old, &["old_alias"]).unwrap();
    machine.write(&catalogue(&[&wanted.reference], &[]));
    machine.pull(&with_tag(&old, "old_alias")).await;
    let image = machine.pull(&old.reference).await;
    machine.pull(&wanted.reference).await;
    let before = machine.names().await;
    assert_eq!(before.len(), 5);

    let pod = Arc::new(Pod::start(containerd.socket(), "race").unwrap());
    let created = Arc::new(Mutex::new(Vec::new()));
    let folder = Folder::new("cri-proxy").unwrap();
    let (racer, born, name) = (Arc::clone(&pod), Arc::clone(&created), old.reference.clone());
    let proxy = GrpcServer::proxy(&folder.join("cri.sock"), containerd.socket(), move |method, moment| {
        if (method, moment) == ("RemoveImage", Moment::Before) {
            let mut born = born.lock().unwrap();
            let container = format!("c{}", born.len());
            born.push(racer.create(&container, &name, &["sleep", "1000"]).unwrap());
        }
    });
    let proxy = proxy.unwrap();
    let hooked = connect(&proxy.endpoint().parse().unwrap()).await.unwrap();
    let (mut purger, number) = purger_with_stepped_clock(&machine, hooked);
    for race in 0..races() {
        number.store(race, Ordering::SeqCst);
        let done = round(&mut purger).await;
        assert_eq!(done.restored.len(), 1, "{race}: {done:?}");
        assert!(done.removed.is_empty() && done.lost.is_empty() && done.failed.is_empty(), "{race}: {done:?}");
        assert_eq!(machine.names().await, before, "{race}");
        let container = created.lock().unwrap()[race].clone();
        if race % 20 == 0 {
            // The container starts, and another one can be created from the image.
            pod.start_container(&container).unwrap();
            let another = pod.create(&format!("another{race}"), &old.reference, &["sleep", "1000"]).unwrap();
            pod.remove_container(&another).unwrap();
        }
        pod.remove_container(&container).unwrap();
    }
    assert_eq!(created.lock().unwrap().len(), races());
    assert!(!containerd.ctr(&["leases", "list"]).unwrap().contains("labhands"));

    // Without a race the same image is removed.
    drop(proxy);
    assert_eq!(round(&mut machine.purger(no_grace())).await.removed.len(), 1);
    assert_eq!(machine.runtime.image(&image.id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_docker_a_container_created_in_the_instant_of_a_removal_keeps_its_image() {
    let registry = Registry::start().unwrap();
    let docker = Arc::new(Docker::start().unwrap());
    let machine = Machine::new(&docker.endpoint()).await;
    let (old, wanted) = (lab(&registry, "w_2026_01", "old"), lab(&registry, "w_2026_40", "wanted"));
    tag(&registry, &old, &["old_alias"]).unwrap();
    machine.write(&catalogue(&[&wanted.reference], &[]));
    let alias = with_tag(&old, "old_alias");
    docker.docker(&["pull", "--quiet", &old.reference]).unwrap();
    docker.docker(&["pull", "--quiet", &alias]).unwrap();
    docker.docker(&["pull", "--quiet", &wanted.reference]).unwrap();
    let before = machine.names().await;
    assert_eq!(before.len(), 5);

    let created = Arc::new(Mutex::new(Vec::<String>::new()));
    let folder = Folder::new("docker-proxy").unwrap();
    let (engine, born, name) = (Arc::clone(&docker), Arc::clone(&created), old.reference.clone());
    let socket = folder.join("docker.sock");
    unix_proxy(&socket, docker.socket(), move |request| {
        // Each name is removed by its own call; the container is created during the first.
        let mut born = born.lock().unwrap();
        if request.starts_with(b"DELETE ") && born.is_empty() {
            born.push(engine.docker(&["create", "--network", "none", &name]).unwrap().trim().to_owned());
        }
    });
    let hooked = connect(&format!("docker://{}", socket.display()).parse().unwrap()).await.unwrap();
    let (mut purger, number) = purger_with_stepped_clock(&machine, hooked);
    for race in 0..races() {
        number.store(race, Ordering::SeqCst);
        let done = round(&mut purger).await;
        assert!(done.removed.is_empty() && done.lost.is_empty(), "{race}: {done:?}");
        assert_eq!(done.failed.len(), 1, "{race}: {done:?}");
        assert_eq!(machine.names().await, before, "{race}");
        let container = created.lock().unwrap().pop().unwrap();
        docker.docker(&["rm", &container]).unwrap();
    }
    assert_eq!(round(&mut machine.purger(no_grace())).await.removed.len(), 1);
    assert_eq!(machine.names().await, [wanted.reference.clone(), by_digest(&wanted)].into());
}
