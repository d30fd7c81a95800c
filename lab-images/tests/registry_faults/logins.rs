//! Tokens and credentials: what registries and token servers require and reject, and the errors that they make.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use lab_images::registry::{CredentialSources, Registry, RegistryConfig};

use crate::scripted::{DEADLINE, DIGEST, Fake, assert_contains, authorization, basic, credentials, unauthorized};

const TAGS: &str = r#"{"tags":["a"]}"#;

/// A registry with a token server at `/token` of the same host, which answers as `token` says.
async fn with_tokens<A, R>(scope: &'static str, token: A) -> Fake
where
    A: Fn(usize, &str, &HeaderMap) -> R + Clone + Send + Sync + 'static,
    R: IntoResponse,
{
    let asked = Arc::new(AtomicUsize::new(0));
    Fake::start(move |path: &str, headers: &HeaderMap| {
        if path.starts_with("/token") {
            return token(asked.fetch_add(1, Ordering::Relaxed) + 1, path, headers).into_response();
        }
        if authorization(headers) == "Bearer good" {
            return ([("docker-content-digest", DIGEST)], TAGS).into_response();
        }
        let host = headers[header::HOST].to_str().unwrap();
        unauthorized(Some(format!(r#"Bearer realm="http://{host}/token",service="r"{scope}"#)))
    })
    .await
}

async fn lists(fake: &Fake, credentials: CredentialSources) -> Result<Vec<String>, String> {
    let config = RegistryConfig { credentials, patience: DEADLINE, ..fake.config() };
    let registry = Registry::new(config).map_err(|error| error.to_string())?;
    registry.tags(&fake.repository()).await.map(|list| list.tags).map_err(|error| error.to_string())
}

fn token(more: &str) -> Response {
    format!(r#"{{"token":"good"{more}}}"#).into_response()
}

fn tokens_asked(fake: &Fake) -> usize {
    fake.asked().iter().filter(|(path, _)| path.starts_with("/token")).count()
}

/// Replaces the file, as logins and Secrets do. Written in place, it might keep its length and the time of its last change.
fn renew(folder: &tempfile::TempDir, json: &str) {
    sidecar::files::replace(&folder.path().join("config.json"), json.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_token_server_is_treated_like_a_registry() {
    for status in [429, 500, 502, 503, 504] {
        let fake = with_tokens("", move |times, _, _| match times {
            1 => (StatusCode::from_u16(status).unwrap(), [(header::RETRY_AFTER, "0")]).into_response(),
            _ => token(""),
        })
        .await;
        assert_eq!(lists(&fake, CredentialSources::default()).await.unwrap(), ["a"], "{status}");
        assert_eq!(tokens_asked(&fake), 2, "{status}");
    }
    let fake = with_tokens("", |_, _, _| StatusCode::INTERNAL_SERVER_ERROR).await;
    let error = lists(&fake, CredentialSources::default()).await.unwrap_err();
    assert_contains(&error, &["gave no token", "answered 500"]);
    assert!(!error.contains("REGISTRY_AUTH_FILE"), "the credentials are not to blame: {error}");
}

#[tokio::test]
async fn numbers_and_scopes_of_token_servers_are_limited() {
    for life in [r#","expires_in":0"#, r#","expires_in":-1"#, r#","expires_in":"60""#, r#","expires_in":null"#, ""] {
        let fake = with_tokens("", move |_, _, _| token(life)).await;
        assert_eq!(lists(&fake, CredentialSources::default()).await.unwrap(), ["a"], "{life}");
        assert_eq!(tokens_asked(&fake), 1, "{life}");
    }
    for scope in ["", r#",scope="""#, r#",scope=" ""#] {
        let fake =
            with_tokens(scope, |_, path: &str, _| match path.contains("scope=repository%3Aowner%2Flab%3Apull") {
                true => token(""),
                false => r#"{"token":"other"}"#.into_response(),
            })
            .await;
        assert_eq!(lists(&fake, CredentialSources::default()).await.unwrap(), ["a"], "{scope}");
    }
}

#[tokio::test]
async fn many_requests_that_need_a_token_request_it_once() {
    let fake = with_tokens("", |_, _, _| token("")).await;
    let (registry, repository) = (fake.registry(), fake.repository());
    let tags: Vec<_> = (0..24).map(|number| format!("w_2026_{number:02}").parse().unwrap()).collect();
    for answer in join_all(tags.iter().map(|tag| registry.digest(&repository, tag))).await {
        answer.unwrap();
    }
    assert_eq!(tokens_asked(&fake), 1);
}

#[tokio::test]
async fn a_refusal_is_remembered_and_another_login_is_tried() {
    // The registry accepts no token: it gets one token for all, and one try for each request.
    let fake = with_tokens("", |_, _, _| r#"{"token":"no good"}"#).await;
    let (registry, repository) = (fake.registry(), fake.repository());
    for _ in 0..10 {
        assert_contains(
            &registry.tags(&repository).await.unwrap_err().to_string(),
            &["does not allow it (401)", "put credentials"],
        );
    }
    assert!(tokens_asked(&fake) <= 2, "{}", tokens_asked(&fake));

    // A password that the token server refuses.
    let fake = with_tokens("", |_, _, headers: &HeaderMap| match authorization(headers) == basic("me:new") {
        true => token(""),
        false => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let entry =
        |password: &str| format!(r#"{{"auths":{{"{}":{{"username":"me","password":"{password}"}}}}}}"#, fake.host);
    let (folder, sources) = credentials(&entry("old"));
    let registry = Registry::new(RegistryConfig { credentials: sources, ..fake.config() }).unwrap();
    for _ in 0..10 {
        assert_contains(
            &registry.tags(&fake.repository()).await.unwrap_err().to_string(),
            &["refused", "REGISTRY_AUTH_FILE"],
        );
    }
    assert_eq!(tokens_asked(&fake), 1, "ten tries of a wrong password lock an account");
    renew(&folder, &entry("new"));
    assert_eq!(registry.tags(&fake.repository()).await.unwrap().tags, ["a"], "the renewed one is tried at once");
}

/// A registry that requires this password, and answers `refusal` to any other.
async fn with_password(pair: &'static str, refusal: u16, body: &'static str) -> Fake {
    Fake::start(move |_: &str, headers: &HeaderMap| match authorization(headers) {
        shown if shown == basic(pair) => TAGS.into_response(),
        "" => unauthorized(Some("Basic realm=\"r\"".to_owned())),
        _ if refusal == 401 => unauthorized(Some("Basic realm=\"r\"".to_owned())),
        _ => (StatusCode::from_u16(refusal).unwrap(), body).into_response(),
    })
    .await
}

#[tokio::test]
async fn an_expired_password_is_forgotten_once_the_file_has_another() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#;
    for refusal in [401, 403, 400] {
        let fake = with_password("AWS:new", refusal, denied).await;
        let entry =
            |password: &str| format!(r#"{{"auths":{{"{}":{{"username":"AWS","password":"{password}"}}}}}}"#, fake.host);
        let (folder, sources) = credentials(&entry("old"));
        let registry = Registry::new(RegistryConfig { credentials: sources, ..fake.config() }).unwrap();
        let error = registry.tags(&fake.repository()).await.unwrap_err().to_string();
        assert_contains(&error, &[&refusal.to_string(), "were refused", "REGISTRY_AUTH_FILE"]);
        renew(&folder, &entry("new"));
        assert_eq!(registry.tags(&fake.repository()).await.unwrap().tags, ["a"], "{refusal}");
    }
}

#[tokio::test]
async fn several_credentials_are_tried_the_exact_key_first() {
    for refusal in [401, 403] {
        for (good, tries) in [("me:exact", 1), ("me:scheme", 2), ("me:wildcard", 3)] {
            let fake = with_password(good, refusal, "").await;
            let port = fake.host.rsplit(':').next().unwrap();
            let entry = |key: &str, password: &str| format!(r#""{key}":{{"username":"me","password":"{password}"}}"#);
            let json = format!(
                r#"{{"auths":{{{},{},{},{}}}}}"#,
                entry(&format!("127.*.0.1:{port}"), "wildcard"),
                entry(&format!("https://{}", fake.host), "scheme"),
                entry(&fake.host, "exact"),
                entry("127.0.0.1:1", "other port"),
            );
            let (_folder, sources) = credentials(&json);
            assert_eq!(lists(&fake, sources).await.unwrap(), ["a"], "{refusal} {good}");
            let shown = fake.asked().iter().filter(|(_, headers)| !authorization(headers).is_empty()).count();
            assert_eq!(shown, tries, "{refusal} {good}");
        }
    }
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let fake = with_tokens("", |_, _, _| StatusCode::UNAUTHORIZED).await;
    let (_folder, sources) = credentials(&format!(r#"{{"auths":{{"{}":{{"registrytoken":"good"}}}}}}"#, fake.host));
    assert_eq!(lists(&fake, sources).await.unwrap(), ["a"]);
    assert_eq!(tokens_asked(&fake), 0);
}

#[tokio::test]
async fn a_token_server_elsewhere_is_asked_only_if_it_is_named() {
    let tokens = Fake::start(|_, _| token("")).await;
    let port = tokens.host.rsplit(':').next().unwrap().to_owned();
    let realm = format!(r#"Bearer realm="http://auth.invalid:{port}/token""#);
    let fake = Fake::start(move |_: &str, headers: &HeaderMap| match authorization(headers) {
        "Bearer good" => TAGS.into_response(),
        _ => unauthorized(Some(realm.clone())),
    })
    .await;
    assert_contains(&fake.tags_fail().await, &["auth.invalid", "LAB_TOKEN_SERVERS"]);
    let named = RegistryConfig { token_servers: vec!["auth.invalid".to_owned()], ..fake.config() };
    let registry = Registry::new(named.clone()).unwrap();
    let error = registry.tags(&fake.repository()).await.unwrap_err().to_string();
    assert_contains(&error, &["auth.invalid", "plain HTTP", "LAB_INSECURE_REGISTRIES"]);
    // With both settings it is asked; now only the name fails to resolve.
    let mut insecure = named.insecure.clone();
    insecure.push(format!("auth.invalid:{port}"));
    let registry = Registry::new(RegistryConfig { insecure, ..named }).unwrap();
    let error = registry.tags(&fake.repository()).await.unwrap_err().to_string();
    assert_contains(&error, &["auth.invalid", "does not answer"]);
    assert!(tokens.asked().is_empty());
}

#[tokio::test]
async fn helpers_are_run_on_a_single_host_and_named_elsewhere() {
    let fake = with_password("me:from a helper", 401, "").await;
    let folder = tempfile::tempdir().unwrap();
    let name = format!("labhands-test-{}", std::process::id());
    let (_file, sources) = credentials(&format!(r#"{{"auths":{{"{}":{{}}}},"credsStore":"{name}"}}"#, fake.host));
    let error = lists(&fake, sources.clone()).await.unwrap_err();
    assert_contains(&error, &["put credentials", "credsStore", &name, "not run in a cluster"]);

    // The name of a program is looked up in PATH, which a test can't change for itself alone.
    let program = folder.path().join(format!("docker-credential-{name}"));
    let script = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = \"get {}\" ] && echo '{{\"Username\":\"me\",\"Secret\":\"from a helper\"}}'\n",
        fake.host
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let sources = CredentialSources { run_helpers: true, ..sources };
    let error = lists(&fake, sources).await.unwrap_err();
    assert_contains(&error, &["put credentials", &format!("docker-credential-{name} is not installed")]);
}
