//! `prepuller scan` of a real registry with its own CA and a password, with the different ways to configure
//! credentials.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use testbed::folder::Folder;
use testbed::images::{Image, Layer};
use testbed::registry::{Options, Registry};

const HELPER: &str = "docker-credential-labhands";

/// Runs the real program with exactly these settings. Returns its exit code and its output.
fn scan(settings: &[(&str, &str)]) -> (i32, String) {
    let mut prepuller = Command::new(env!("CARGO_BIN_EXE_prepuller"));
    prepuller.arg("scan").env_clear().envs(settings.iter().copied());
    let output = prepuller.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_private_registry_is_reached_as_other_programs_reach_it() {
    let password = Some(("reader".to_owned(), "sesame-47".to_owned()));
    let mut registry = Registry::with(&Options { password, tls: true, ..Options::default() }).unwrap();
    Image::new([Layer::random(3, 1000)]).push(&registry, "lab", "w_2026_47").unwrap();
    let (host, folder) = (registry.host(), Folder::new("private").unwrap());
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let authority = write("ca.pem", registry.authority().unwrap().to_owned());
    let entry = |password: &str| format!(r#"{{"auths":{{"{host}":{{"username":"reader","password":"{password}"}}}}}}"#);
    let by_helper = format!(r#"{{"auths":{{"{host}":{{}}}},"credsStore":"labhands"}}"#);
    let containers = write("run/containers/auth.json", entry("sesame-47"));
    write("config/containers/auth.json", entry("sesame-47"));
    write("docker/config.json", entry("sesame-47"));
    let helped = write("helped/config.json", by_helper);
    let helper = write(
        &format!("bin/{HELPER}"),
        format!(
            "#!/bin/sh\nread -r server\ntest \"$1 $server\" = \"get {host}\" || exit 1\necho '{{\"Username\":\"reader\",\"Secret\":\"sesame-47\"}}'\n"
        ),
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let stale = write("stale.json", entry("wrong-47"));
    let place = |name: &str| folder.join(name).display().to_string();
    let (run, config, docker, helped_folder) = (place("run"), place("config"), place("docker"), place("helped"));
    let programs = format!("{}:/usr/bin:/bin", place("bin"));

    let (repository, cluster) = (format!("{host}/lab"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1"));
    let both = [("LAB_REPOSITORIES", repository.as_str()), ("SSL_CERT_FILE", &authority), ("PATH", &programs)];
    for (more, code, words) in [
        (vec![("REGISTRY_AUTH_FILE", containers.as_str())], 0, vec![]),
        (vec![("XDG_RUNTIME_DIR", &run)], 0, vec![]),
        (vec![("XDG_CONFIG_HOME", &config)], 0, vec![]),
        (vec![("DOCKER_CONFIG", &docker)], 0, vec![]),
        (vec![("DOCKER_CONFIG", &helped_folder)], 0, vec![]),
        (vec![("REGISTRY_AUTH_FILE", &helped)], 0, vec![]),
        // In a cluster it searches no files and runs no helper.
        (vec![("DOCKER_CONFIG", &docker), cluster], 1, vec!["put credentials for", "REGISTRY_AUTH_FILE"]),
        (vec![("REGISTRY_AUTH_FILE", &helped), cluster], 1, vec!["credsStore", "not run in a cluster"]),
        (vec![("REGISTRY_AUTH_FILE", &stale)], 1, vec!["were refused", "stale.json"]),
        (vec![("REGISTRY_AUTH_FILE", "/nonexistent")], 1, vec!["/nonexistent"]),
        (vec![("LAB_TOKEN_SERVERS", "auth.example.org/token")], 64, vec!["LAB_TOKEN_SERVERS", "has a path"]),
        (vec![("LAB_INSECURE_REGISTRIES", "https://r")], 64, vec!["LAB_INSECURE_REGISTRIES", "a scheme other than"]),
    ] {
        let (actual, stderr) = scan(&[&both[..], &more[..]].concat());
        assert_eq!(actual, code, "{more:?}: {stderr}");
        assert!(words.iter().all(|words| stderr.contains(words)), "{more:?}: {words:?} not in {stderr}");
        assert!(!stderr.contains("wrong-47") && !stderr.contains("sesame-47"), "{stderr}");
        assert!(stderr.matches("No such file").count() <= 1, "one error is printed once: {stderr}");
    }

    // Its CA is not among the system's; retries would not change that.
    let (code, stderr) = scan(&[("LAB_REPOSITORIES", repository.as_str()), ("REGISTRY_AUTH_FILE", &containers)]);
    assert!(code == 1 && stderr.contains("its CA is not known") && stderr.contains("SSL_CERT_FILE"), "{stderr}");
    assert!(!stderr.contains("before the next try") && !stderr.contains("LAB_INSECURE_REGISTRIES"), "{stderr}");

    // Nothing listens there now: the first retry is logged, and the others are not.
    registry.stop();
    let (code, stderr) = scan(&[&both[..], &[("REGISTRY_AUTH_FILE", &containers)]].concat());
    assert!(code == 1 && stderr.contains("before the next try, and trying until about"), "{stderr}");
    assert_eq!(stderr.matches("before the next try").count(), 1, "{stderr}");
}
