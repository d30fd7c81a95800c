//! Request rates: whatever a registry answers, it gets at most the documented number of requests per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::future::join_all;
use lab_images::registry::{Registry, RegistryConfig};

use crate::scripted::{DEADLINE, DIGEST, Fake, assert_contains, authorization, credentials, unauthorized};

/// The default configuration except for plain HTTP, so the counts are those of users.
fn as_shipped(fake: &Fake) -> RegistryConfig {
    RegistryConfig { insecure: vec![fake.host.clone()], ..RegistryConfig::default() }
}

/// How many requests the server may have received since `began`, counting each started second as whole.
fn at_most(began: Instant) -> usize {
    RegistryConfig::default().per_second * (began.elapsed().as_secs() as usize + 1)
}

#[tokio::test]
async fn ten_thousand_tags_with_ten_that_dangle() {
    let tags: Vec<String> = (0..10_000)
        .map(|number| format!("d_{}_{:02}_{:02}", 1990 + number / 300, number / 25 % 12 + 1, number % 25 + 1))
        .collect();
    let newest: Vec<String> = tags[9_990..].to_vec();
    let fake = Fake::start(move |path: &str, _: &HeaderMap| {
        if path.contains("/tags/list") {
            let from = path.split_once("last=").map_or(0, |(_, last)| last.parse::<usize>().unwrap());
            let page = serde_json::json!({ "tags": tags[from..from + 1000] }).to_string();
            return match from + 1000 {
                10_000 => page.into_response(),
                next => ([(header::LINK, format!("<?n=1000&last={next}>; rel=next"))], page).into_response(),
            };
        }
        let gone = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        match newest.iter().any(|tag| path.ends_with(tag)) {
            true => (StatusCode::NOT_FOUND, gone).into_response(),
            false => ([("docker-content-digest", DIGEST)], r#"{"schemaVersion":2}"#).into_response(),
        }
    })
    .await;
    let began = Instant::now();
    let registry = Registry::new(as_shipped(&fake)).unwrap();
    let list = registry.tags(&fake.repository()).await.unwrap();
    assert_eq!((list.tags.len(), list.partial.is_none(), fake.asked().len()), (10_000, true, 10));
    let (repository, mut gone) = (fake.repository(), 0);
    let asked = list.tags[9_960..].iter().map(|tag| tag.parse().unwrap()).collect::<Vec<_>>();
    for digest in join_all(asked.iter().map(|tag| registry.digest(&repository, tag))).await {
        gone += usize::from(digest.is_err_and(|error| error.is_gone()));
    }
    assert_eq!(gone, 10);
    // A list of ten pages, forty digests, and a GET for each that HEAD did not find.
    assert_eq!(fake.asked().len(), 10 + 40 + 10);
    assert!(fake.asked().len() <= at_most(began), "{} in {:?}", fake.asked().len(), began.elapsed());
}

#[tokio::test]
async fn a_storm_of_429_is_one_request_for_each_pause() {
    for retry_after in ["0", "Tue, 14 Nov 2023 22:14:20 GMT", "soon", ""] {
        let fake = Fake::start(move |_, _| (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, retry_after)])).await;
        let patience = Duration::from_secs(3);
        let registry = Registry::new(RegistryConfig { patience, ..as_shipped(&fake) }).unwrap();
        let (began, repository) = (Instant::now(), fake.repository());
        let tags: Vec<_> = (0..100).map(|number| format!("d_2026_11_{number}").parse().unwrap()).collect();
        let all = join_all(tags.iter().map(|tag| registry.digest(&repository, tag))).await;
        let problems: Vec<String> = all.into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
        assert!(problems.iter().all(|error| error.contains("too busy")), "{problems:?}");
        // Eight requests were running when it began; then comes one for each pause of 1 s, 2 s, …
        assert!(
            fake.asked().len() <= 8 + 3,
            "{retry_after:?}: {} requests in {:?}",
            fake.asked().len(),
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_registry_that_recovers_is_asked_for_the_rest() {
    let times = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |_, _| match times.fetch_add(1, Ordering::Relaxed) {
        0..3 => StatusCode::TOO_MANY_REQUESTS.into_response(),
        _ => ([("docker-content-digest", DIGEST)], "").into_response(),
    })
    .await;
    let patience = DEADLINE;
    let registry = Registry::new(RegistryConfig { patience, ..fake.config() }).unwrap();
    let repository = fake.repository();
    let tags: Vec<_> = (0..50).map(|number| format!("d_2026_11_{number}").parse().unwrap()).collect();
    for digest in join_all(tags.iter().map(|tag| registry.digest(&repository, tag))).await {
        digest.unwrap();
    }
    assert_eq!(fake.asked().len(), 53);
}

#[tokio::test]
async fn an_expired_password_is_shown_once() {
    let fake = Fake::start(|path: &str, headers: &HeaderMap| {
        let host = headers[header::HOST].to_str().unwrap();
        let realm = format!(r#"Bearer realm="http://{host}/token",service="r""#);
        if path.starts_with("/token") { StatusCode::UNAUTHORIZED.into_response() } else { unauthorized(Some(realm)) }
    })
    .await;
    let json = format!(r#"{{"auths":{{"{}":{{"username":"me","password":"expired"}}}}}}"#, fake.host);
    let (_folder, sources) = credentials(&json);
    let began = Instant::now();
    let registry = Registry::new(RegistryConfig { credentials: sources, ..as_shipped(&fake) }).unwrap();
    let repository = fake.repository();
    let tags: Vec<_> = (0..50).map(|number| format!("d_2026_11_{number}").parse().unwrap()).collect();
    for digest in join_all(tags.iter().map(|tag| registry.digest(&repository, tag))).await {
        assert_contains(&digest.unwrap_err().to_string(), &["refused"]);
    }
    let shown = fake.asked().iter().filter(|(_, headers)| !authorization(headers).is_empty()).count();
    assert_eq!(shown, 1);
    assert!(fake.asked().len() <= at_most(began), "{} in {:?}", fake.asked().len(), began.elapsed());
}

#[tokio::test]
async fn a_host_that_never_answers_is_left_alone_after_a_while() {
    // Nothing listens there.
    let host = "127.0.0.1:1".to_owned();
    let insecure = vec![host.clone()];
    let first_pause = Duration::from_millis(1);
    let registry = Registry::new(RegistryConfig { insecure, first_pause, ..RegistryConfig::default() }).unwrap();
    let repository = format!("{host}/owner/lab").parse().unwrap();
    for _ in 0..8 {
        assert_contains(&registry.tags(&repository).await.unwrap_err().to_string(), &[&host, "does not answer"]);
    }
    assert_contains(
        &registry.tags(&repository).await.unwrap_err().to_string(),
        &[&host, "no requests are sent to", "refused"],
    );
}
