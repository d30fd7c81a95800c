//! A registry with scripted answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lab_images::policy::{Choice, Keep, Policy};
use lab_images::reference::{Digest, Platform, Repository};
use lab_images::registry::{CredentialSources, Registry, RegistryConfig};
use lab_images::scan::{Scanned, scan};
use lab_images::settings::Source;
use lab_images::tag::TagScheme;

pub(crate) const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// How long what succeeds in the end may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// A server with scripted answers, and the requests that it received.
pub(crate) struct Fake {
    pub(crate) host: String,
    asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Fake {
    pub(crate) async fn start<A, R>(answer: A) -> Self
    where
        A: Fn(&str, &HeaderMap) -> R + Clone + Send + Sync + 'static,
        R: IntoResponse,
    {
        Self::start_with_method(move |_, path, headers| answer(path, headers)).await
    }

    pub(crate) async fn start_with_method<A, R>(answer: A) -> Self
    where
        A: Fn(&Method, &str, &HeaderMap) -> R + Clone + Send + Sync + 'static,
        R: IntoResponse,
    {
        let asked = Arc::<Mutex<Vec<(String, HeaderMap)>>>::default();
        let note = asked.clone();
        let routes = Router::new().fallback(move |request: Request| {
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            note.lock().unwrap().push((path.clone(), request.headers().clone()));
            let response = answer(request.method(), &path, request.headers()).into_response();
            async move { response }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { host, asked }
    }

    pub(crate) fn repository(&self) -> Repository {
        format!("{}/owner/lab", self.host).parse().unwrap()
    }

    /// A client with plain HTTP allowed, for which what fails has failed soon.
    pub(crate) fn registry(&self) -> Registry {
        Registry::new(self.config()).unwrap()
    }

    pub(crate) fn config(&self) -> RegistryConfig {
        RegistryConfig {
            insecure: vec![self.host.clone()],
            patience: Duration::from_millis(300),
            first_pause: Duration::from_millis(1),
            per_second: 1000,
            ..RegistryConfig::default()
        }
    }

    pub(crate) fn asked(&self) -> Vec<(String, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }

    /// The error of listing the tags.
    pub(crate) async fn tags_fail(&self) -> String {
        self.registry().tags(&self.repository()).await.unwrap_err().to_string()
    }

    pub(crate) async fn manifest_fails(&self, digest: &str) -> String {
        let digest: Digest = digest.parse().unwrap();
        let read = self.registry().manifest(&self.repository(), &digest, &[Platform::of_this_machine()]).await;
        read.unwrap_err().to_string()
    }

    pub(crate) async fn scan(&self) -> Scanned {
        let source = Source { repositories: vec![self.repository()], fixed: Vec::new(), infrastructure: Vec::new() };
        let policy = Policy {
            scheme: TagScheme::Rubin,
            keep: "weekly=2".parse::<Keep>().unwrap(),
            pinned: Vec::new(),
            aliases: Vec::new(),
            choice: Choice::default(),
        };
        scan(&self.registry(), &source, &policy, &[Platform::of_this_machine()]).await
    }
}

pub(crate) fn assert_contains(error: &str, all: &[&str]) {
    for words in all {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
}

pub(crate) fn unauthorized(challenge: Option<String>) -> Response {
    let challenge = challenge.map(|challenge| [(header::WWW_AUTHENTICATE, challenge)]);
    match challenge {
        Some(challenge) => (StatusCode::UNAUTHORIZED, challenge).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

pub(crate) fn digest_of(content: &str) -> String {
    use sha2::Digest as _;
    let bytes = sha2::Sha256::digest(content);
    format!("sha256:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A file of credentials, and the folder that it is in.
pub(crate) fn credentials(json: &str) -> (tempfile::TempDir, CredentialSources) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, json).unwrap();
    (folder, CredentialSources { files: vec![file], required: true, run_helpers: false })
}

/// The value of `Authorization`.
pub(crate) fn authorization(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap())
}

/// `Basic` and the pair, as a client sends it.
pub(crate) fn basic(pair: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}
