//! The released program as operators call it: plan and purge on a single machine, and invalid settings.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use jiff::SignedDuration;
use support::{Machine, catalogue, history};
use testbed::cri::{FakeCri, FakeImage, Removal};
use testbed::folder::Folder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_imagepurger");

fn id(number: usize) -> String {
    format!("sha256:{number:064x}")
}

fn images(count: usize) -> Vec<FakeImage> {
    let image = |number: usize| FakeImage {
        id: id(number),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        ..FakeImage::default()
    };
    (0..count).map(image).collect()
}

/// A site whose catalogue wants `w_0`, and a way to call the program there.
struct Site {
    fake: FakeCri,
    machine: Machine,
}

impl Site {
    async fn new(count: usize) -> Self {
        let fake = FakeCri::start(images(count)).unwrap();
        let machine = Machine::new(&fake.endpoint()).await;
        machine.write(&catalogue(&["registry.example.org/lab:w_0"], &[]));
        Self { fake, machine }
    }

    fn call(&self, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("RUNTIME_ENDPOINT", self.fake.endpoint());
        command.env("CATALOGUE_FILE", self.machine.catalogue_file());
        command.env("STATE_DIR", self.machine.history_file().parent().unwrap()).envs(settings.iter().copied());
        outcome(&command.output().unwrap())
    }
}

fn outcome(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_removes_unwanted_images_once_and_prints_what_it_did() {
    let site = Site::new(4).await;
    // The very first purge only creates the history.
    let (code, text) = site.call(&["purge"], &[]);
    assert!(
        code == Some(0) && text.contains("0 images removed") && text.contains("There was no history before this"),
        "{text}"
    );
    assert_eq!((history(&site.machine.history_file()).images.len(), site.fake.images().len()), (4, 4));

    site.machine.age_images(SignedDuration::from_hours(25)).await;
    let (code, text) = site.call(&["purge", "--dry-run"], &[]);
    assert!(code == Some(0) && text.contains("would remove  registry.example.org/lab:w_1\n"), "{text}");
    assert_eq!(site.fake.images().len(), 4);
    site.fake.on_removal(&id(3), Removal::InUse);
    let (code, text) = site.call(&["purge"], &[]);
    assert!(code == Some(0) && text.contains("removed  registry.example.org/lab:w_1\n"), "{text}");
    assert!(
        text.contains("not removed  registry.example.org/lab:w_3: ") && text.contains("2 images removed, "),
        "{text}"
    );
    assert_eq!(site.fake.images().len(), 2);

    // The command waits for a grace that ends within a moment.
    site.fake.on_removal(&id(3), Removal::Pretended);
    std::fs::remove_file(site.machine.history_file()).unwrap();
    let (code, text) = site.call(&["purge"], &[("PURGE_GRACE", "1ms")]);
    assert!(code == Some(1) && text.contains("still lists it"), "{text}");

    // Whatever prevents a removal makes the exit code 1.
    site.machine.write(&catalogue(&[], &["registry.example.org/lab:w_0"]));
    let (code, text) = site.call(&["purge"], &[]);
    assert!(code == Some(1) && text.contains("Nothing is removed: the catalogue is empty"), "{text}");
    let (code, text) = site.call(&["purge"], &[("RUNTIME_ENDPOINT", "unix:///not/there.sock")]);
    assert!(code == Some(1) && text.contains("/not/there.sock"), "{text}");
    let (code, text) = site.call(&["purge"], &[("PURGE_GRACE", "soon")]);
    assert!(code == Some(64) && text.starts_with("PURGE_GRACE: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_shows_a_missing_history_later_removals_and_the_source_of_its_limits() {
    let site = Site::new(4).await;
    let folder = Folder::new("kubelet").unwrap();
    let kubelet =
        folder.write("config.yaml", "imageGCHighThresholdPercent: 90\nimageGCLowThresholdPercent: 70\n").unwrap();
    drop(folder.write("drop-ins/10.conf", "imageGCLowThresholdPercent: 80\n").unwrap());
    let drop_ins = folder.join("drop-ins");
    let files =
        [("KUBELET_CONFIG_FILE", kubelet.to_str().unwrap()), ("KUBELET_CONFIG_DIR", drop_ins.to_str().unwrap())];
    let (code, table) = site.call(&["plan"], &files);
    assert_eq!(code, Some(0), "{table}");
    for words in [
        "0 to go",
        "There is no history yet",
        "3 more to go once PURGE_GRACE (1 d) is over",
        &format!("runtime: {}", site.fake.endpoint()),
        &format!("from 90 % to 80 %, read from {}, {}", kubelet.display(), drop_ins.join("10.conf").display()),
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(!site.machine.history_file().exists());
    let (_, json) = site.call(&["plan", "--output", "json"], &files);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["runtime"], site.fake.endpoint());
    assert_eq!((&json["history"]["known"], &json["after_grace"]["images"]), (&false.into(), &3.into()));
    assert_eq!(json["kubelet"]["low_percent"], 80);

    site.machine.age_images(SignedDuration::from_hours(25)).await;
    let (_, table) = site.call(&["plan"], &[]);
    assert!(table.contains("\n3 to go") && !table.contains("no history") && !table.contains("more to go"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_file_that_is_set_and_cannot_be_used_is_a_problem() {
    let site = Site::new(1).await;
    let folder = Folder::new("kubelet").unwrap();
    let odd = folder.write("odd.yaml", "imageGCHighThresholdPercent: many\n").unwrap();
    let early =
        folder.write("early.yaml", "imageGCHighThresholdPercent: 70\nimageGCLowThresholdPercent: 60\n").unwrap();
    let missing = folder.join("missing.yaml");
    let table: [(&str, &Path, &str); 5] = [
        ("KUBELET_CONFIG_FILE", &missing, "there is no such file"),
        ("KUBELET_CONFIG_FILE", folder.path(), "is a directory"),
        ("KUBELET_CONFIG_FILE", &odd, "imageGCHighThresholdPercent is \"many\""),
        ("KUBELET_CONFIG_DIR", &missing, "there is no such folder"),
        ("KUBELET_CONFIG_FILE", &early, "not below kubelet's own thresholds (70 % and 60 %), read from"),
    ];
    for command in ["run", "plan", "purge"] {
        for (setting, path, words) in table {
            let (code, text) =
                site.call(&[command], &[(setting, path.to_str().unwrap()), ("ADMIN_ADDR", "127.0.0.1:0")]);
            let named = text.contains(&format!("{setting}: ")) || words.starts_with("not below");
            assert!(code == Some(64) && named && text.contains(words), "{command} {setting} {words}: {text}");
        }
    }
}

/// Two runtimes on usual sockets, in a separate mount namespace.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_runtimes_on_one_machine_one_has_to_be_named() {
    let (one, other) = (Site::new(1).await, Site::new(1).await);
    let folder = Folder::new("two").unwrap();
    let places = ["/run/containerd/containerd.sock", "/run/k0s/containerd.sock", "/run/cri-dockerd.sock"];
    let call = |command: &str, sockets: &[(&FakeCri, &str)], settings: &[(&str, &str)]| {
        let mut script = String::from("set -e; mount -t tmpfs none /run; mkdir /run/containerd /run/k0s;");
        for (fake, place) in sockets {
            script += &format!("ln -s {} {place};", fake.endpoint().trim_start_matches("unix://"));
        }
        // The machine's other sockets are hidden.
        script += "if [ -d /var/snap ]; then mount -t tmpfs none /var/snap; fi; if [ ! -L /var/run ]; then mount -t tmpfs none /var/run; fi;";
        script += &format!("exec {PROGRAM} {command}");
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env_clear();
        shell.env("PATH", std::env::var_os("PATH").unwrap());
        shell.env("CATALOGUE_FILE", one.machine.catalogue_file()).env("STATE_DIR", folder.path());
        shell.env("ADMIN_ADDR", "127.0.0.1:0").envs(settings.iter().copied());
        outcome(&shell.output().unwrap())
    };
    for command in ["run", "plan", "purge"] {
        let (code, text) = call(command, &[(&one.fake, places[0]), (&other.fake, places[1])], &[]);
        assert_eq!(code, Some(64), "{command}: {text}");
        assert!(text.contains("RUNTIME_ENDPOINT: ") && places[..2].iter().all(|place| text.contains(place)), "{text}");
    }
    // A configured endpoint, a single runtime, or one runtime under two names is used.
    let named = format!("unix://{}", places[1]);
    let (code, text) =
        call("plan", &[(&one.fake, places[0]), (&other.fake, places[1])], &[("RUNTIME_ENDPOINT", &named)]);
    assert!(code == Some(0) && text.contains(&format!("runtime: {named}")), "{text}");
    for sockets in [vec![(&one.fake, places[2])], vec![(&one.fake, places[0]), (&one.fake, places[1])]] {
        let (code, text) = call("plan", &sockets, &[]);
        assert!(code == Some(0) && text.contains(&format!("runtime: unix://{}", sockets[0].1)), "{text}");
    }
}
