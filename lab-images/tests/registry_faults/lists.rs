//! Lists of tags and manifests as registries and the proxies before them really answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use lab_images::registry::{Registry, RegistryConfig};

use crate::scripted::{Fake, assert_contains, digest_of};

const QUERY: &str = "?n=1000&last=b";

/// A list of two pages, with these `Link` fields on the first.
async fn two_pages(links: &[&str]) -> Fake {
    let fields: Vec<(HeaderName, String)> = links.iter().map(|link| (header::LINK, (*link).to_owned())).collect();
    Fake::start(move |path: &str, _: &HeaderMap| {
        if path.contains("last=b") {
            return r#"{"tags":["c"]}"#.into_response();
        }
        (AppendHeaders(fields.clone()), r#"{"tags":["a","b"]}"#).into_response()
    })
    .await
}

#[tokio::test]
async fn the_whole_list_is_found_under_any_name_of_the_server() {
    let next = |address: &str| format!(r#"<{address}{QUERY}>; rel="next""#);
    let other = r#"<https://docs.example.org/x>; rel="deprecation""#;
    for links in [
        vec![next("http://registry.internal:5000/v2/owner/lab/tags/list")],
        vec![next("https://127.0.0.1/repository/docker/v2/owner/lab/tags/list")],
        vec![next("/v2/lab/tags/list")],
        vec![next("")],
        vec![other.to_owned(), next("/v2/owner/lab/tags/list")],
    ] {
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        let fake = two_pages(&links).await;
        let list = fake.registry().tags(&fake.repository()).await.unwrap();
        assert_eq!(list.tags, ["a", "b", "c"], "{links:?}");
        assert!(list.partial.is_none(), "{links:?}");
        assert!(fake.asked().iter().all(|(path, _)| path.starts_with("/v2/owner/lab/tags/list?")), "{links:?}");
    }
    let fake = two_pages(&["nothing that can be read"]).await;
    assert_contains(
        &fake.registry().tags(&fake.repository()).await.unwrap().partial.unwrap().to_string(),
        &["can't be read"],
    );
}

#[tokio::test]
async fn the_next_page_is_requested_from_the_host_after_a_redirect() {
    let other = two_pages(&[r#"</v2/prod/lab/tags/list?last=b>; rel="next""#]).await;
    let target = format!("http://{}/v2/prod/lab/tags/list", other.host);
    let fake = Fake::start(move |_, _| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target.clone())])).await;
    let insecure = vec![fake.host.clone(), other.host.clone()];
    let registry = Registry::new(RegistryConfig { insecure, ..fake.config() }).unwrap();
    assert_eq!(registry.tags(&fake.repository()).await.unwrap().tags, ["a", "b", "c"]);
    assert_eq!((fake.asked().len(), other.asked().len()), (1, 2));
}

#[tokio::test]
async fn a_refused_page_size_is_reduced_and_remembered() {
    for (status, most) in [(400, Some(100)), (413, Some(100)), (422, None), (400, None)] {
        let fake = Fake::start(move |path: &str, _: &HeaderMap| {
            let asked = path.split_once("?n=").map(|(_, number)| number.parse::<usize>().unwrap());
            match asked {
                Some(number) if most.is_none_or(|most| number > most) => {
                    (StatusCode::from_u16(status).unwrap(), r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#)
                }
                _ => (StatusCode::OK, r#"{"tags":["a"]}"#),
            }
        })
        .await;
        let registry = fake.registry();
        assert_eq!(registry.tags(&fake.repository()).await.unwrap().tags, ["a"], "{status} {most:?}");
        let before = fake.asked().len();
        registry.tags(&fake.repository()).await.unwrap();
        assert_eq!(fake.asked().len(), before + 1, "{status} {most:?}");
    }
    // A registry that refuses all of them is asked only three times.
    let fake = Fake::start(|_, _| StatusCode::BAD_REQUEST).await;
    assert_contains(&fake.tags_fail().await, &["answered 400"]);
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn anything_but_a_list_of_tags_is_an_error_and_not_an_empty_repository() {
    for body in ["{}", "[]", r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, r#"{"tags":{}}"#, "<html>sign in</html>", ""] {
        let fake = Fake::start(move |_, _| body).await;
        assert_contains(&fake.tags_fail().await, &["list the tags of"]);
        let scanned = fake.scan().await;
        assert!(!scanned.catalogue(None, jiff::Timestamp::now()).complete, "{body}");
    }
    // An unexpected 304 is not an answer either.
    let fake = Fake::start(|_, _| StatusCode::NOT_MODIFIED).await;
    assert_contains(&fake.tags_fail().await, &["answered 304"]);
    for body in [r#"{"tags":null}"#, r#"{"name":"lab","tags":[]}"#] {
        let fake = Fake::start(move |_, _| body).await;
        assert!(fake.scan().await.catalogue(None, jiff::Timestamp::now()).complete, "{body}");
    }
}

#[tokio::test]
async fn a_digest_comes_from_get_where_head_does_not_have_it() {
    let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    let tag = "w_2026_47".parse().unwrap();
    let heads = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = heads.clone();
    let fake = Fake::start_with_method(move |method, _, _| match method {
        &Method::HEAD => {
            counted.fetch_add(1, Ordering::Relaxed);
            StatusCode::METHOD_NOT_ALLOWED.into_response()
        }
        _ => manifest.into_response(),
    })
    .await;
    let registry = fake.registry();
    for _ in 0..3 {
        assert_eq!(registry.digest(&fake.repository(), &tag).await.unwrap().to_string(), digest_of(manifest));
    }
    assert_eq!(heads.load(Ordering::Relaxed), 1, "a host that knows no HEAD is asked with it once");
    // The same if its header cannot be parsed.
    for header in ["", "latest", "sha256:", "sha256:abc", "blake3:0123456789abcdef0123456789abcdef"] {
        let fake = Fake::start(move |_, _| ([("docker-content-digest", header)], manifest)).await;
        let digest = fake.registry().digest(&fake.repository(), &tag).await.unwrap();
        assert_eq!(digest.to_string(), digest_of(manifest), "{header}");
    }
    // A proxy's page has a digest too, but not that of an image.
    for body in ["<html>sign in</html>", r#"{"errors":[{"code":"DENIED","message":"sign in"}]}"#] {
        let fake = Fake::start(move |_, _| body).await;
        let error = fake.registry().digest(&fake.repository(), &tag).await.unwrap_err();
        assert!(!error.is_gone());
        assert_contains(&error.to_string(), &[&fake.host]);
    }
}

#[tokio::test]
async fn no_compression_is_requested_and_gzip_is_read_nevertheless() {
    let list = r#"{"tags":["a"]}"#;
    let fake = Fake::start(move |_, _| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, list.as_bytes()).unwrap();
        ([(header::CONTENT_ENCODING, "gzip")], encoder.finish().unwrap())
    })
    .await;
    assert_eq!(fake.registry().tags(&fake.repository()).await.unwrap().tags, ["a"]);
    assert_eq!(fake.asked()[0].1[header::ACCEPT_ENCODING], "identity");
    let fake = Fake::start(move |_, _| ([(header::CONTENT_ENCODING, "br")], list)).await;
    assert_contains(&fake.tags_fail().await, &[&fake.host, "as br"]);
}
