//! Tests against a server that accepts every Event, or none.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kube::Config;

use super::*;

#[derive(Clone, Default)]
struct Server {
    seen: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    refuses: Arc<Mutex<Vec<u16>>>,
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    if let Some(code) = server.refuses.lock().unwrap().pop() {
        let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"});
        return (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response();
    }
    server.seen.lock().unwrap().push((what, body));
    r#"{"metadata": {"name": "a"}}"#.into_response()
}

async fn start() -> (Server, EventRecorder) {
    let server = Server::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    config.default_retry = false;
    let routes = Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (server, EventRecorder::new(Client::try_from(config).unwrap(), "prepuller-plan", "pod"))
}

#[tokio::test]
async fn the_same_cause_is_counted_and_other_causes_are_separate_events() {
    let (server, events) = start().await;
    let node = node_reference("node1");
    for note in ["w_1: broken pipe", "w_1: broken pipe", "w_2: not found"] {
        events.raise(&node, EventType::Warning, "ImagePullFailed", "Pull", note);
    }
    events.flush(Duration::from_secs(60)).await;
    let seen = server.seen.lock().unwrap();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    assert!(seen[0].0 == format!("POST {path}") && seen[1].0.starts_with(&format!("PATCH {path}/node1.")), "{seen:?}");
    assert_eq!(seen[1].1["series"]["count"], 2);
    assert_eq!((&seen[0].1["note"], &seen[2].1["note"]), (&json!("w_1: broken pipe"), &json!("w_2: not found")));
    assert_eq!(seen[0].1["regarding"]["uid"], "node1");
}

#[tokio::test]
async fn an_event_is_tried_again_unless_it_is_refused() {
    let (server, events) = start().await;
    server.refuses.lock().unwrap().extend([500, 403]); // the last one first
    events.raise(&node_reference("a"), EventType::Normal, "GateOpened", "OpenGate", "refused");
    events.raise(&node_reference("b"), EventType::Normal, "GateOpened", "OpenGate", "taken in the end");
    events.flush(Duration::from_secs(60)).await;
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(_, body)| &body["note"]).collect::<Vec<_>>(), ["taken in the end"]);
    assert_eq!(events.lost.get(), 1);
}

#[tokio::test]
async fn recovery_records_one_event() {
    let (server, events) = start().await;
    let trouble = Trouble::new(&events, &node_reference("a"), "Scan", ("ScanFailed", "ScanRecovered"));
    assert!(!trouble.ends("well"));
    assert!(trouble.begins("down") && !trouble.begins("still down"));
    assert!(trouble.ends("well") && !trouble.ends("well"));
    events.flush(Duration::from_secs(60)).await;
    let seen = server.seen.lock().unwrap();
    let reasons: Vec<_> = seen.iter().map(|(_, body)| body["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["ScanFailed", "ScanFailed", "ScanRecovered"]);
}
