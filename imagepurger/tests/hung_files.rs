//! Files on a mount that hangs: the daemon serves, logs what hangs, and ends; a plan also ends.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::Path;
use std::process::Command;

use imagepurger::history::History;
use support::{Machine, catalogue, history};
use testbed::cri::{FakeCri, FakeImage};
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::silent_file_system::{Silence, SilentFileSystem};
use testbed::wait::{self, LIMIT};

fn settings<'a>(endpoint: &'a str, catalogue: &'a Path, state: &'a Path) -> Vec<(&'static str, &'a str)> {
    vec![
        ("RUNTIME_ENDPOINT", endpoint),
        ("CATALOGUE_FILE", catalogue.to_str().unwrap()),
        ("STATE_DIR", state.to_str().unwrap()),
        ("PURGE_GRACE", "1ms"),
        ("PURGE_INTERVAL", "1s"),
    ]
}

fn until_logged(daemon: &Daemon, words: &str) {
    let logged = || daemon.log().contains(words).then_some(());
    assert!(wait::until(LIMIT, logged).is_some(), "{words} is not in {}", daemon.log());
}

fn serves_and_ends(mut daemon: Daemon) {
    assert_eq!(daemon.get("/livez").unwrap().0, 200);
    assert!(daemon.get("/readyz").is_some());
    assert!(daemon.get("/metrics").unwrap().1.contains("labhands_imagepurger_images"));
    daemon.process().signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.process().wait(LIMIT).unwrap().code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("draining did not finish"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_catalogue_counts_as_missing_and_a_hung_history_is_waited_for() {
    let image = |number: usize| FakeImage {
        id: format!("sha256:{number:064x}"),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        ..FakeImage::default()
    };
    let fake = FakeCri::start(vec![image(0), image(1)]).unwrap();
    let (endpoint, machine) = (fake.endpoint(), Machine::new(&fake.endpoint()).await);
    machine.write(&catalogue(&["registry.example.org/lab:w_0"], &[]));
    let (good_catalogue, good_state) = (machine.catalogue_file(), machine.history_file().parent().unwrap().to_owned());
    let program = env!("CARGO_BIN_EXE_imagepurger");

    let killable = SilentFileSystem::mount(Silence::Killable).unwrap();
    let beyond = SilentFileSystem::mount(Silence::BeyondSigkill).unwrap();
    for (silent, words) in [(&killable, "no answer from its file system for"), (&beyond, "can't be killed")] {
        let hung = silent.path().join("catalogue.json");
        let daemon = Daemon::start(program, &["run"], &settings(&endpoint, &hung, &good_state)).unwrap();
        until_logged(&daemon, "there is no catalogue");
        until_logged(&daemon, words);
        serves_and_ends(daemon);

        let daemon = Daemon::start(program, &["run"], &settings(&endpoint, &good_catalogue, silent.path())).unwrap();
        until_logged(&daemon, "the history of images cannot be read yet");
        serves_and_ends(daemon);
    }

    // A plan and a purge also end, and report it.
    let (hung, folder) = (killable.path().join("catalogue.json"), Folder::new("hung").unwrap());
    for command in ["plan", "purge"] {
        let mut process = Command::new(program);
        process.arg(command).env_clear().envs(settings(&endpoint, &hung, folder.path()));
        let output = process.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            printed.contains("Nothing is removed: there is no catalogue") && printed.contains("no answer"),
            "{output:?}"
        );
        assert_eq!(output.status.success(), command == "plan", "{output:?}");
    }
    assert_eq!(fake.images().len(), 2);

    // A file that hangs and then answers is read, and not overwritten before that.
    let state = Folder::new("state").unwrap();
    std::fs::copy(machine.history_file(), state.path().join("history.json")).unwrap();
    let before = history(&state.path().join("history.json"));
    let silent = SilentFileSystem::mount_over(state.path(), Silence::Killable).unwrap();
    let kept = vec![("PURGE_GRACE", "24h")];
    let settings: Vec<_> = settings(&endpoint, &good_catalogue, state.path()).into_iter().chain(kept).collect();
    let daemon = Daemon::start(program, &["run"], &settings).unwrap();
    until_logged(&daemon, "the history of images cannot be read yet");
    drop(silent);
    let path = state.path().join("history.json");
    let grown = || {
        let now = history(&path);
        let first_seen =
            |history: &History| -> Vec<_> { history.images.values().map(|record| record.first_seen).collect() };
        (now.clock != before.clock && first_seen(&now) == first_seen(&before)).then_some(())
    };
    assert!(wait::until(LIMIT, grown).is_some(), "{}", daemon.log());
    serves_and_ends(daemon);
}
