//! Wrong answers of a registry: each becomes an error that names the registry and says what to do.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod lists;
mod logins;
mod pace;
mod scripted;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::stream;
use lab_images::reference::{Digest, Platform};
use lab_images::registry::{Registry, RegistryConfig};

use scripted::{DEADLINE, DIGEST, Fake, assert_contains, credentials, digest_of, unauthorized};

#[tokio::test]
async fn a_401_without_a_challenge_is_explained() {
    let fake = Fake::start(|_, _| unauthorized(None)).await;
    assert_contains(
        &fake.tags_fail().await,
        &["list the tags of", &fake.host, "401 without a usable challenge", "is it a registry?"],
    );
    let fake = Fake::start(|_, _| unauthorized(Some("Negotiate".into()))).await;
    assert_contains(&fake.tags_fail().await, &["without a usable challenge", "Negotiate"]);
}

#[tokio::test]
async fn a_realm_on_another_host_gets_no_credential() {
    let elsewhere = "Bearer realm=\"https://tokens.example.org/token\",service=\"x\"".to_owned();
    let fake = Fake::start(move |_, _| unauthorized(Some(elsewhere.clone()))).await;
    let json = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#, fake.host);
    let (_folder, credentials) = credentials(&json);
    let registry = Registry::new(RegistryConfig { credentials, ..fake.config() }).unwrap();
    let error = registry.tags(&fake.repository()).await.unwrap_err().to_string();
    assert_contains(&error, &["tokens.example.org", "another host", "not sent"]);
    assert!(fake.asked().iter().all(|(_, headers)| !headers.contains_key(header::AUTHORIZATION)));
}

#[tokio::test]
async fn a_redirect_to_plain_http_or_without_end_is_not_followed() {
    let fake = Fake::start(|_, _| (StatusCode::FOUND, [(header::LOCATION, "http://mirror.example.org/v2/")])).await;
    assert_contains(&fake.tags_fail().await, &["redirects to http://mirror.example.org", "plain HTTP"]);
    let fake = Fake::start(|_, _| (StatusCode::FOUND, [(header::LOCATION, "/again")])).await;
    assert_contains(&fake.tags_fail().await, &["too many redirects"]);
    assert!(fake.asked().len() < 10);
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_no_credential() {
    let other = Fake::start(|_, _| r#"{"tags":["w_2026_47"]}"#).await;
    let target = format!("http://{}/v2/tags", other.host);
    let fake = Fake::start(move |_, headers: &HeaderMap| match headers.contains_key(header::AUTHORIZATION) {
        true => (StatusCode::FOUND, [(header::LOCATION, target.clone())]).into_response(),
        false => unauthorized(Some("Basic realm=\"x\"".into())),
    })
    .await;
    let json = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#, fake.host);
    let (_folder, credentials) = credentials(&json);
    let insecure = vec![fake.host.clone(), other.host.clone()];
    let registry = Registry::new(RegistryConfig { insecure, credentials, ..fake.config() }).unwrap();
    assert_eq!(registry.tags(&fake.repository()).await.unwrap().tags, ["w_2026_47"]);
    assert!(other.asked().iter().all(|(_, headers)| !headers.contains_key(header::AUTHORIZATION)));
}

#[tokio::test]
async fn pages_are_followed_and_a_loop_ends_with_the_pages_so_far() {
    let fake = Fake::start(|path: &str, _: &HeaderMap| {
        let (page, next) =
            if path.contains("last=b") { (r#"{"tags":["c"]}"#, "a") } else { (r#"{"tags":["a","b"]}"#, "b") };
        ([(header::LINK, format!("</v2/owner/lab/tags/list?last={next}&n=1000>; rel=\"next\""))], page)
    })
    .await;
    let list = fake.registry().tags(&fake.repository()).await.unwrap();
    assert_eq!(list.tags[..3], ["a", "b", "c"]);
    assert_contains(&list.partial.unwrap().to_string(), &["page", "pagination loops back"]);
    // Only the query of a link is used: no other host is asked, and a link without a query ends the list.
    let foreign = [(header::LINK, "<https://evil.example.org/v2/x>; rel=\"next\"")];
    let fake = Fake::start(move |_, _| (foreign.clone(), r#"{"tags":["a"]}"#)).await;
    let list = fake.registry().tags(&fake.repository()).await.unwrap();
    assert_eq!(list.tags, ["a"]);
    assert_contains(&list.partial.unwrap().to_string(), &["evil.example.org", "can't be read"]);
}

#[tokio::test]
async fn a_scan_that_misses_a_page_chooses_nothing_from_the_others() {
    let fake = Fake::start(|path: &str, _: &HeaderMap| {
        if path.contains("last=") {
            return (StatusCode::INTERNAL_SERVER_ERROR, "").into_response();
        }
        let link = [(header::LINK, "</v2/owner/lab/tags/list?last=x>; rel=\"next\"")];
        (link, r#"{"tags":["w_2026_46"]}"#).into_response()
    })
    .await;
    let scanned = fake.scan().await;
    let catalogue = scanned.catalogue(None, jiff::Timestamp::now());
    assert!(!catalogue.complete && catalogue.images.is_empty());
    let problems: Vec<String> = scanned.problems().map(ToString::to_string).collect();
    assert_contains(&problems.join("\n"), &["(page 2)", "answered 500"]);
    assert!(fake.asked().iter().all(|(path, _)| path.contains("tags/list")));
}

#[tokio::test]
async fn a_scan_that_misses_a_digest_is_partial_and_names_it() {
    let fake = Fake::start(|path: &str, _: &HeaderMap| match path.contains("tags/list") {
        true => r#"{"tags":["w_2026_46"]}"#.into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let scanned = fake.scan().await;
    let catalogue = scanned.catalogue(None, jiff::Timestamp::now());
    // The list is complete, so the tag is wanted, although its image is not known.
    assert!(!catalogue.complete && catalogue.images[0].wanted && catalogue.images[0].size.is_none());
    let problems: Vec<String> = scanned.problems().map(ToString::to_string).collect();
    assert_contains(&problems.join("\n"), &["w_2026_46", "answered 404"]);
}

#[tokio::test]
async fn a_manifest_is_gone_only_if_the_registry_itself_says_so() {
    let tag = "w_2026_47".parse().unwrap();
    for (status, code, gone) in [
        (404, "MANIFEST_UNKNOWN", true),
        (404, "NAME_UNKNOWN", true),
        (404, "NOT_FOUND", true),
        (410, "MANIFEST_UNKNOWN", true),
        (404, "PAGE_NOT_FOUND", false),
        (404, "", false),
        (400, "MANIFEST_UNKNOWN", false),
        (403, "DENIED", false),
        (405, "UNSUPPORTED", false),
        (500, "MANIFEST_UNKNOWN", false),
    ] {
        let fake = Fake::start(move |_, _| {
            let body = match code {
                "" => "<html>not found</html>".to_owned(),
                code => format!(r#"{{"errors":[{{"code":"{code}","message":"no such thing"}}]}}"#),
            };
            (StatusCode::from_u16(status).unwrap(), body)
        })
        .await;
        let error = fake.registry().digest(&fake.repository(), &tag).await.unwrap_err();
        assert_eq!(error.is_gone(), gone, "{status} {code}: {error}");
        assert_contains(&error.to_string(), &[&fake.host, &status.to_string()]);
    }
}

#[tokio::test]
async fn a_registry_that_refuses_head_is_asked_with_get() {
    let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    for status in [400, 403, 404, 405, 501] {
        let fake = Fake::start_with_method(move |method, _, _| match method {
            &Method::HEAD => StatusCode::from_u16(status).unwrap().into_response(),
            _ => manifest.into_response(),
        })
        .await;
        let digest = fake.registry().digest(&fake.repository(), &"w_2026_47".parse().unwrap()).await;
        assert_eq!(digest.unwrap().to_string(), digest_of(manifest), "{status}");
    }
}

#[tokio::test]
async fn too_many_requests_are_waited_out_and_given_up_in_the_end() {
    let fake = Fake::start(|_, _| StatusCode::TOO_MANY_REQUESTS).await;
    assert_contains(&fake.tags_fail().await, &["429 (too busy)", "log in for a higher limit"]);
    let times = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |_, _| match times.fetch_add(1, Ordering::Relaxed) {
        0 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response(),
        _ => r#"{"tags":null}"#.into_response(),
    })
    .await;
    let registry = Registry::new(RegistryConfig { patience: DEADLINE, ..fake.config() }).unwrap();
    assert!(registry.tags(&fake.repository()).await.unwrap().tags.is_empty());
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn truncated_json_is_an_error() {
    let fake = Fake::start(|_, _| r#"{"tags":["w_2026_47","#).await;
    assert_contains(&fake.tags_fail().await, &["list the tags of", "unexpected JSON in the response"]);
}

#[tokio::test]
async fn a_tag_list_of_a_gigabyte_is_cut_off() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let fake = Fake::start(move |_, _| {
        let sent = counted.clone();
        let chunk = Bytes::from(r#""w_2026_47","#.repeat(64 * 1024));
        let chunks = stream::iter((0..1400).map(move |_| {
            sent.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(chunk.clone())
        }));
        Body::from_stream(chunks)
    })
    .await;
    assert_contains(&fake.tags_fail().await, &["sent more than", "too much for this request"]);
    assert!(sent.load(Ordering::Relaxed) < 100 << 20, "{} bytes were taken", sent.load(Ordering::Relaxed));
}

#[tokio::test]
async fn manifests_that_no_runtime_could_use_are_distinguished() {
    let strange = r#"{"schemaVersion":2,"mediaType":"application/x-odd"}"#;
    let fake = Fake::start(move |_, _| strange).await;
    assert_contains(
        &fake.manifest_fails(&digest_of(strange)).await,
        &["media type", "application/x-odd", "push it again"],
    );

    assert_contains(&fake.manifest_fails(DIGEST).await, &["the content has digest", DIGEST, "changed in transit"]);

    let other = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":2,"platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#
    );
    let digest = digest_of(&other);
    let fake = Fake::start(move |_, _| other.clone()).await;
    assert_contains(
        &fake.manifest_fails(&digest).await,
        &["no image for linux/", "only for linux/s390x", "build it for"],
    );
}

#[tokio::test]
async fn a_malformed_manifest_is_known_to_be_unusable_and_the_next_older_image_is_wanted() {
    let image = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;
    let layer = |size: &str| image.replace("[]", &format!(r#"[{{"digest":"{DIGEST}"{size}}}]"#));
    for malformed in [
        layer(""),
        layer(r#","size":null"#),
        layer(r#","size":-5"#),
        layer(r#","size":"20000""#),
        image.replace("[]", r#"[{"digest":"sha256:abc","size":1}]"#),
        image.replace("[]", "7"),
        image.replace("2,", "2,,"),
    ] {
        let digest = digest_of(&malformed);
        let fake = Fake::start_with_method(move |method, path, _| {
            let body = match path {
                path if path.contains("tags/list") => r#"{"tags":["w_2026_46","w_2026_47"]}"#,
                path if path.ends_with("w_2026_47") || path.ends_with(&digest) => &malformed,
                _ => image,
            };
            let headers = [("docker-content-digest", digest_of(body))];
            (headers, if method == Method::HEAD { String::new() } else { body.to_owned() }).into_response()
        })
        .await;
        let catalogue = fake.scan().await.catalogue(None, jiff::Timestamp::now());
        let wanted: Vec<&str> =
            catalogue.images.iter().filter(|image| image.wanted).map(|image| image.tag.as_str()).collect();
        assert!(catalogue.complete && wanted == ["w_2026_46"], "{catalogue:?}");
        let newest = catalogue.images.iter().find(|image| !image.wanted).unwrap();
        assert_contains(&newest.why, &["its manifest is malformed", "push the image again"]);
    }
}

#[tokio::test]
async fn a_tag_with_control_characters_is_left_out_and_the_others_stay() {
    let fake = Fake::start(|path: &str, _: &HeaderMap| {
        if path.contains("tags/list") {
            return r#"{"tags":["w_2026_47\u0007\n","w_2026_46",""]}"#.into_response();
        }
        ([("docker-content-digest", DIGEST)], "").into_response()
    })
    .await;
    let catalogue = fake.scan().await.catalogue(None, jiff::Timestamp::now());
    let tags: Vec<&str> = catalogue.images.iter().map(|image| image.tag.as_str()).collect();
    assert_eq!(tags, ["w_2026_46"]);
}

#[tokio::test]
async fn plain_http_is_refused_unless_allowed() {
    let fake = Fake::start(|_, _| r#"{"tags":[]}"#).await;
    let registry = Registry::new(RegistryConfig { insecure: Vec::new(), ..fake.config() }).unwrap();
    let error = registry.tags(&fake.repository()).await.unwrap_err().to_string();
    assert_contains(&error, &[&fake.host, "does not use TLS", "LAB_INSECURE_REGISTRIES"]);
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn an_image_without_a_readable_configuration_is_usable_and_requested_once() {
    let config = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
    let image = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":7}}]}}"#
    );
    let digest: Digest = digest_of(&image).parse().unwrap();
    let fake = Fake::start(move |path: &str, _: &HeaderMap| match path.contains("/blobs/") {
        true => StatusCode::NOT_FOUND.into_response(),
        false => image.clone().into_response(),
    })
    .await;
    let (registry, platforms) = (fake.registry(), [Platform::of_this_machine()]);
    for _ in 0..3 {
        let manifest = registry.manifest(&fake.repository(), &digest, &platforms).await.unwrap();
        assert_eq!((manifest.size, manifest.platforms.len()), (7, 0), "the platform is not known");
    }
    assert_eq!(fake.asked().len(), 2);
}
