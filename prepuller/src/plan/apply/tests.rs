//! Tests against a server that refuses single objects, or everything.

use std::sync::Mutex;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kube::Config;

use super::*;

#[derive(Clone, Default)]
struct Server {
    /// The status code for each object whose path ends with this suffix.
    refuses: Arc<Vec<(&'static str, u16)>>,
    asked: Arc<Mutex<usize>>,
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    *server.asked.lock().unwrap() += 1;
    let path = request.uri().path();
    if let Some((_, code)) = server.refuses.iter().find(|(end, _)| path.ends_with(end)) {
        let reason = if *code == 404 { "NotFound" } else { "" };
        let body = format!(
            r#"{{"kind": "Status", "status": "Failure", "code": {code}, "reason": "{reason}", "message": "not this one"}}"#
        );
        return (StatusCode::from_u16(*code).unwrap(), body).into_response();
    }
    r#"{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"generation": 2, "uid": "u"}}"#
        .into_response()
}

async fn write(refuses: &[(&'static str, u16)], nodes: usize) -> (Outcome, Vec<String>, usize) {
    let server = Server { refuses: Arc::new(refuses.to_vec()), asked: Arc::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    config.default_retry = false;
    let routes = Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let writer = Writer::new(&Client::try_from(config).unwrap(), "labhands-node");
    let writes = (0..nodes).map(|number| Write::of_nothing(&format!("node{number}"))).collect();
    let mut not_written = Vec::new();
    let outcome = writer
        .write(writes, |tried| match tried {
            Tried::Written(written) => assert_eq!(written.generation, 2),
            Tried::Refused(node, _) => not_written.push(node.to_string()),
            Tried::Unanswered => not_written.push("?".to_owned()),
        })
        .await;
    let asked = *server.asked.lock().unwrap();
    (outcome, not_written, asked)
}

#[tokio::test]
async fn a_refused_node_delays_no_other() {
    for code in [403, 404, 409, 422] {
        let (outcome, refused, asked) = write(&[("/node0", code), ("/node7", code)], 100).await;
        assert_eq!((outcome.failed, outcome.stopped, asked), (2, false, 100));
        assert_eq!(refused, ["node0", "node7"]);
        let first = outcome.first.unwrap();
        assert_eq!(first, format!("cannot write the orders of node0: not this one ({code})"));
    }
}

#[tokio::test]
async fn without_an_answer_no_further_writes_are_started() {
    let (outcome, not_written, asked) = write(&[("", 500)], 1000).await;
    assert!(outcome.stopped && asked <= 2 * PARALLEL && outcome.failed == asked, "{asked}");
    assert!(not_written.iter().all(|node| node == "?"));
}
