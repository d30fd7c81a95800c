//! If a runtime refuses to remove an image, or only claims that it did, imagepurger remembers that, reports it once,
//! and continues with other images.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use imagepurger::plan::Rules;
use imagepurger::round::Limits;
use jiff::SignedDuration;
use support::{Machine, catalogue, history, no_grace, round};
use testbed::cri::{FakeCri, FakeImage, Removal};
use testbed::daemon::Daemon;
use testbed::wait::{self, LIMIT};

fn id(number: usize) -> String {
    format!("sha256:{number:064x}")
}

/// A runtime with these images: `w_0` is wanted, the others are not.
async fn machine(images: usize) -> (FakeCri, Machine) {
    let image = |number: usize| FakeImage {
        id: id(number),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        ..FakeImage::default()
    };
    let fake = FakeCri::start((0..images).map(image).collect()).unwrap();
    let machine = Machine::new(&fake.endpoint()).await;
    machine.write(&catalogue(&["registry.example.org/lab:w_0"], &[]));
    (fake, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_images_in_use_do_not_keep_the_daemon_from_the_next_one() {
    let (fake, machine) = machine(22).await;
    for number in 1..=20 {
        fake.on_removal(&id(number), Removal::InUse);
    }
    let settings = [
        ("RUNTIME_ENDPOINT", &*fake.endpoint()),
        ("CATALOGUE_FILE", machine.catalogue_file().to_str().unwrap()),
        ("STATE_DIR", machine.history_file().parent().unwrap().to_str().unwrap()),
        ("PURGE_GRACE", "1ms"),
        ("PURGE_INTERVAL", "1s"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_imagepurger"), &["run"], &settings).unwrap();
    let gone = || (!fake.images().iter().any(|image| image.id == id(21))).then_some(());
    wait::until(LIMIT, gone).unwrap();
    let rounds = || daemon.log().matches("\"round done\"").count();
    let begin = rounds();
    wait::until(LIMIT, || (rounds() >= begin + 4).then_some(())).unwrap();
    // Each refusal is logged once, and retried less and less often.
    assert_eq!(daemon.log().matches("\"image not removed\"").count(), 20, "{}", daemon.log());
    assert!(daemon.metric("labhands_imagepurger_refused_images").is_some());
    assert!(daemon.log().lines().next().unwrap().contains(&fake.endpoint()));
    // Images that become free are removed in the end.
    fake.on_removal(&id(1), Removal::Done);
    let gone = || (!fake.images().iter().any(|image| image.id == id(1))).then_some(());
    wait::until(LIMIT, gone).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_counts_when_the_image_is_gone_and_a_refusal_outlives_the_process() {
    let (fake, machine) = machine(5).await;
    fake.on_removal(&id(1), Removal::Pretended);
    fake.on_removal(&id(2), Removal::InUse);
    let rules = || Rules { retry: SignedDuration::from_hours(1), ..no_grace() };
    let mut purger = machine.purger(rules());
    purger.limits = Limits { most: 2, dry_run: false };
    let done = round(&mut purger).await;
    assert_eq!(done.removed, ["registry.example.org/lab:w_3", "registry.example.org/lab:w_4"]);
    let errors: Vec<String> = done.failed.iter().map(|failed| failed.error.to_string()).collect();
    assert!(errors[0].contains("still lists it") && errors[1].contains("is in use"), "{errors:?}");
    let remembered = history(&machine.history_file());
    assert_eq!(remembered.images[&id(1)].refusal.as_ref().unwrap().times, 1);
    assert!(remembered.images[&id(2)].refusal.as_ref().unwrap().in_use);

    // Another process reads the history and does not ask again.
    let asked = fake.asked_to_remove().len();
    let done = round(&mut machine.purger(rules())).await;
    assert_eq!((done.refused, done.to_go, fake.asked_to_remove().len()), (2, 0, asked));
    // When they are due again, they come last.
    let old = round(&mut machine.purger(Rules { retry: SignedDuration::ZERO, ..rules() })).await;
    assert!(old.failed.iter().all(|failed| failed.again) && old.failed.len() == 2);
    fake.on_removal(&id(1), Removal::Done);
    let done = round(&mut machine.purger(Rules { retry: SignedDuration::ZERO, ..rules() })).await;
    assert_eq!(done.removed, ["registry.example.org/lab:w_1"]);
}
