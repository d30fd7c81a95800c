//! Counts the requests of a whole `prepuller scan` at the server: whatever a registry answers, it gets at most the
//! configured number per second.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lab_images::published::content_hash;
use lab_images::registry::RegistryConfig;

/// A request as the server received it: its time, its path, and whether it had a password.
type Asked = (Instant, String, bool);

/// A registry that answers as a test defines.
struct Fake {
    host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    // Dropped last, because it runs the server.
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn start(answer: impl Fn(&str, &HeaderMap, usize) -> Response + Clone + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let note = asked.clone();
        let routes = Router::new().fallback(move |request: Request| {
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let secret = request.headers().contains_key(header::AUTHORIZATION);
            let number = {
                let mut asked = note.lock().unwrap();
                asked.push((Instant::now(), path.clone(), secret));
                asked.len()
            };
            let response = answer(&path, request.headers(), number);
            async move { response }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { host, asked, _runtime: runtime }
    }

    /// Runs the real program at its own rate. Returns its exit code, its standard output and its standard error.
    fn scan(&self, settings: &[(&str, &str)]) -> (i32, String, String) {
        let mut prepuller = Command::new(env!("CARGO_BIN_EXE_prepuller"));
        prepuller.arg("scan").env_clear().envs(settings.iter().copied());
        prepuller
            .env("LAB_REPOSITORIES", format!("{}/owner/lab", self.host))
            .env("LAB_INSECURE_REGISTRIES", &self.host);
        let output = prepuller.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Makes sure that no second had more requests than the configured number. Requests that the client sends a second apart may
    /// arrive a little closer, and on a machine that stood still those on their way arrive together with the next ones.
    fn assert_pace(&self) {
        let asked = self.asked();
        let within =
            |from: Instant| asked.iter().filter(move |one| one.0 >= from && one.0 - from < Duration::from_millis(900));
        let most = asked.iter().map(|from| within(from.0).count()).max().unwrap_or(0);
        let RegistryConfig { per_second, parallel, .. } = RegistryConfig::default();
        assert!(most <= per_second + parallel, "{most} requests in a second of {}", asked.len());
    }
}

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux"}"#;

fn digest(content: &str) -> String {
    format!("sha256:{}", content_hash(content))
}

/// An image that nodes can use, the same for all tags.
fn manifest() -> String {
    let layer = format!("sha256:{}", "1".repeat(64));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":7}}]}}"#,
        digest(CONFIG),
        CONFIG.len()
    )
}

/// The answers of a registry with these tags, in pages of a thousand.
fn repository(tags: &[String], path: &str, gone: impl Fn(&str) -> bool) -> Response {
    if path.contains("/tags/list") {
        let from = path.split_once("last=").map_or(0, |(_, last)| last.parse::<usize>().unwrap());
        let to = (from + 1000).min(tags.len());
        let page = serde_json::json!({"tags": tags[from..to]}).to_string();
        return match to == tags.len() {
            true => page.into_response(),
            false => ([(header::LINK, format!("<?n=1000&last={to}>; rel=next"))], page).into_response(),
        };
    }
    if path.contains("/blobs/") {
        return CONFIG.into_response();
    }
    if gone(path) {
        let gone = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return (StatusCode::NOT_FOUND, gone).into_response();
    }
    let manifest = manifest();
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/vnd.oci.image.manifest.v1+json".to_owned()),
        ("docker-content-digest", digest(&manifest)),
    ];
    (headers, manifest).into_response()
}

fn tags(count: usize) -> Vec<String> {
    let tag = |number: usize| format!("d_{}_{:02}_{:02}", 1990 + number / 300, number / 25 % 12 + 1, number % 25 + 1);
    (0..count).map(tag).collect()
}

#[test]
fn ten_thousand_tags_with_ten_that_dangle() {
    let all = tags(10_000);
    let dangling: Vec<String> = all[9_990..].to_vec();
    let fake =
        Fake::start(move |path, _, _| repository(&all, path, |path| dangling.iter().any(|tag| path.ends_with(tag))));
    let (code, printed, stderr) = fake.scan(&[("LAB_KEEP", "daily=1")]);
    assert!(code == 0 && printed.contains(":d_2023_04_15 "), "{printed}{stderr}");
    fake.assert_pace();
    assert!(fake.asked().len() < 100, "{} requests", fake.asked().len());
}

#[test]
fn a_storm_of_429_is_one_request_for_each_pause() {
    let all = tags(100);
    // `Retry-After: 0` is not a permission to retry at once.
    let fake = Fake::start(move |path, _, number| match number {
        1..=3 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response(),
        _ => repository(&all, path, |_| false),
    });
    let (code, printed, stderr) = fake.scan(&[("LAB_KEEP", "daily=5")]);
    assert!(code == 0 && printed.contains(":d_"), "{printed}{stderr}");
    assert!(stderr.contains("before the next try"), "the first retry says what is waited for: {stderr}");
    // One request after each pause of 1 s, 2 s, 4 s.
    let asked = fake.asked();
    assert!(asked[3].0 - asked[0].0 >= Duration::from_secs(6), "{asked:?}");
    fake.assert_pace();
}

#[test]
fn an_expired_password_is_shown_once() {
    let fake = Fake::start(|path, headers, _| {
        if path.starts_with("/token") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let host = headers[header::HOST].to_str().unwrap();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="r""#);
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let json = format!(r#"{{"auths":{{"{}":{{"username":"me","password":"expired"}}}}}}"#, fake.host);
    std::fs::write(&file, json).unwrap();
    let (code, printed, stderr) =
        fake.scan(&[("LAB_KEEP", "daily=5"), ("REGISTRY_AUTH_FILE", &file.display().to_string())]);
    assert!(code == 1 && stderr.contains("refused"), "{printed}{stderr}");
    let asked = fake.asked();
    assert_eq!(asked.iter().filter(|(_, _, secret)| *secret).count(), 1, "{asked:?}");
    assert!(asked.len() <= 4, "{asked:?}");
}
