//! Wrong runtime sockets: each gets an error that says what to do, and none hangs.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;

use lab_images::runtime::{RuntimeEndpoint, RuntimeError, connect, discover};
use lab_images::settings::unclear_runtime;
use testbed::cri::FakeCri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

fn both(path: &Path) -> [RuntimeEndpoint; 2] {
    [RuntimeEndpoint::Cri(path.into()), RuntimeEndpoint::Docker(path.into())]
}

async fn refusal(endpoint: &RuntimeEndpoint) -> RuntimeError {
    let error = connect(endpoint).await.map(|_| ()).expect_err("no runtime is there");
    let path = endpoint.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error} does not name {path}");
    error
}

#[tokio::test]
async fn an_invalid_socket_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let dead = folder.path().join("dead.sock");
    drop(StdListener::bind(&dead).unwrap());
    let cases = [
        (folder.path().join("none.sock"), "does not exist"),
        (folder.path().to_owned(), "is a folder"),
        (plain, "plain file"),
        (dead, "no process listens"),
    ];
    for (path, reason) in cases {
        for endpoint in both(&path) {
            let error = refusal(&endpoint).await;
            assert!(error.to_string().contains(reason), "{endpoint}: {error}");
        }
    }
}

#[tokio::test]
async fn another_protocol_is_distinguished_from_a_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let speaker = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 16];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        }
    });
    for endpoint in both(&path) {
        let error = refusal(&endpoint).await;
        assert!(matches!(error, RuntimeError::Protocol { .. }), "{endpoint}: {error}");
    }
    speaker.abort();
}

#[tokio::test]
async fn a_socket_that_never_answers_is_given_up_after_ten_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let [cri, docker] = both(&path);
    let (first, second) = tokio::join!(refusal(&cri), refusal(&docker));
    for error in [first, second] {
        assert!(matches!(error, RuntimeError::NoAnswer { .. }), "{error}");
    }
}

#[tokio::test]
async fn discovery_that_finds_nothing_lists_what_it_tried() {
    let folder = tempfile::tempdir().unwrap();
    let candidates: Vec<_> = both(&folder.path().join("none.sock")).into();
    let error = discover(&candidates).await.map(|_| ()).expect_err("no runtime is there").to_string();
    for endpoint in &candidates {
        assert!(error.contains(&endpoint.to_string()), "{error}");
    }
    assert!(error.contains("RUNTIME_ENDPOINT"), "{error}");
}

#[tokio::test]
async fn of_several_runtimes_none_is_guessed() {
    let fake = || FakeCri::start(Vec::new()).unwrap();
    let (one, other) = (fake(), fake());
    let endpoints: Vec<RuntimeEndpoint> = [&one, &other].map(|fake| fake.endpoint().parse().unwrap()).into();
    let error = discover(&endpoints).await.map(drop).unwrap_err();
    let problem = unclear_runtime(&error).unwrap().to_string();
    assert!(
        problem.starts_with("RUNTIME_ENDPOINT: ")
            && endpoints.iter().all(|endpoint| problem.contains(&endpoint.to_string()))
    );
    assert!(endpoints.iter().all(|endpoint| error.to_string().contains(&endpoint.to_string())), "{error}");

    // The same socket under another name is the same runtime, and a dead socket is none.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.sock");
    std::os::unix::fs::symlink(endpoints[0].path(), &link).unwrap();
    drop(UnixListener::bind(folder.path().join("dead.sock")).unwrap());
    let others = ["link.sock", "dead.sock", "none.sock"].map(|name| RuntimeEndpoint::Cri(folder.path().join(name)));
    let candidates: Vec<_> = [endpoints[0].clone()].into_iter().chain(others).collect();
    let (found, _) = discover(&candidates).await.unwrap();
    assert_eq!(found, endpoints[0]);

    // A runtime that accepts the call and does not answer may be the intended one.
    let silent = folder.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let candidates = [endpoints[0].clone(), RuntimeEndpoint::Cri(silent)];
    assert!(matches!(discover(&candidates).await.map(drop), Err(RuntimeError::NoAnswer { .. })));
}
