//! Tests against a server that sends only what each test needs, over plain HTTP.

use std::net::SocketAddr;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, WatchParams};
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::kubernetes::client_of;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

/// For answers that do not begin.
const NO_ANSWER: Limits = Limits { answer: SHORT, body: LONG, watch: LONG };
/// For answers that do not end.
const NO_END: Limits = Limits { answer: LONG, body: SHORT, watch: SHORT };

/// Accepts connections, answers each request with these words, and then stays silent.
async fn server(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    stream.write_all(words.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

fn client(address: SocketAddr, limits: Limits) -> Client {
    let config = Config::new(format!("http://{address}").parse().unwrap());
    client_of(config, limits).unwrap()
}

#[tokio::test]
async fn no_call_waits_forever_for_an_answer() {
    let pods: Api<Pod> = Api::default_namespaced(client(server("").await, NO_ANSWER));
    let patch = Patch::Merge(serde_json::json!({}));
    let answers = [
        pods.get("a").await.map(drop),
        pods.list(&ListParams::default()).await.map(drop),
        pods.patch("a", &PatchParams::default(), &patch).await.map(drop),
        pods.delete("a", &Default::default()).await.map(drop),
        pods.watch(&WatchParams::default(), "0").await.map(drop),
    ];
    for answer in answers {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("the Kubernetes API gave no answer within"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_begins_and_does_not_end_is_given_up() {
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"kind\":";
    let pods: Api<Pod> = Api::default_namespaced(client(server(begun).await, NO_END));
    for answer in [pods.list(&ListParams::default()).await.map(drop), pods.get("a").await.map(drop)] {
        let error = format!("{:?}", answer.unwrap_err());
        assert!(error.contains("Body(300ms)"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_of_503_that_never_ends_is_given_up_too() {
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n";
    let pods: Api<Pod> = Api::default_namespaced(client(server(busy).await, NO_ANSWER));
    assert!(pods.get("a").await.is_err());
}

#[tokio::test]
async fn a_silent_watch_ends_and_is_not_a_failure() {
    let line = "{\"type\":\"BOOKMARK\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"7\",\"creationTimestamp\":null}}}\n";
    let words = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n", line.len());
    let pods: Api<Pod> = Api::default_namespaced(client(server(words.leak()).await, NO_END));
    let events = pods.watch(&WatchParams::default(), "0").await.unwrap();
    let events: Vec<_> = events.collect().await;
    assert!(events.len() == 1 && events[0].is_ok(), "{events:?}");
}

#[test]
fn a_watch_is_recognized_by_its_query() {
    assert!(asks_to_watch("watch=true&timeoutSeconds=290") && asks_to_watch("a=b&watch=1"));
    assert!(!asks_to_watch("limit=5&fieldSelector=watch%3Dtrue") && !asks_to_watch("watch=false"));
}
