//! What the planner serves in addition to the page: `/catalogue.json`, and `/scan` to request a scan.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use lab_images::catalogue::{Catalogue, CatalogueImage, RepositoryState};
use serde::Serialize;

use super::scan_requests::{Begins, ScanRequests};
use super::shared::Shared;
use super::state::ClusterState;

#[derive(Clone)]
struct Served {
    shared: Shared,
    asked: Arc<ScanRequests>,
}

pub(super) fn routes(shared: Shared, asked: Arc<ScanRequests>) -> Router {
    Router::new()
        .route("/catalogue.json", get(catalogue))
        .route("/scan", post(scan))
        .with_state(Served { shared, asked })
}

/// Requests a scan; several requests at once are one. If the last scan was a moment ago, the answer says when the next
/// one begins.
async fn scan(State(served): State<Served>) -> Response {
    let seconds = |pause: std::time::Duration| pause.as_secs_f64().ceil() as u64;
    let (pause, words) = match served.asked.ask(Instant::now()) {
        Begins::Now => return (StatusCode::ACCEPTED, "a scan begins\n").into_response(),
        Begins::AfterThisOne(pause) => {
            (pause, format!("a scan is under way; the next one begins {} s after it\n", seconds(pause)))
        }
        Begins::In(pause) => {
            (pause, format!("there was a scan just now; the next one begins in {} s\n", seconds(pause)))
        }
    };
    (StatusCode::ACCEPTED, [(header::RETRY_AFTER, seconds(pause).to_string())], words).into_response()
}

async fn catalogue(State(served): State<Served>, headers: HeaderMap) -> Response {
    served.shared.look(|cluster| {
        let Some(catalogue) = cluster.catalogue() else {
            let why = cluster.scan.problem.as_deref().unwrap_or("the first scan has not finished");
            return (StatusCode::SERVICE_UNAVAILABLE, format!("there is no catalogue yet: {why}\n")).into_response();
        };
        let tag = tag(cluster, catalogue);
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
        let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, tag)];
        match serde_json::to_vec(&document(cluster, catalogue)) {
            Ok(json) => (headers, json).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    })
}

/// An ETag that changes with everything in the document.
fn tag(cluster: &ClusterState, catalogue: &Catalogue) -> String {
    let mut hasher = DefaultHasher::new();
    catalogue.generated.hash(&mut hasher);
    for repository in &catalogue.repositories {
        (repository.complete, repository.scanned, &repository.problem).hash(&mut hasher);
    }
    cluster.scan.problem.hash(&mut hasher);
    cluster.standings()[0].hash(&mut hasher);
    for (image, spread) in cluster.waves() {
        (image.reference.to_string(), spread.present, spread.eligible).hash(&mut hasher);
    }
    format!("\"{:016x}\"", hasher.finish())
}

/// The catalogue in its served form.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    generated: Timestamp,
    complete: bool,
    /// What was wrong with the last scan, if the catalogue is from an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    repositories: &'a [RepositoryState],
    images: Vec<Image<'a>>,
}

#[derive(Serialize)]
struct Image<'a> {
    #[serde(flatten)]
    image: &'a CatalogueImage,
    nodes: Nodes,
}

/// How many eligible nodes are known to have an image, and how many eligible nodes there are.
#[derive(Serialize)]
struct Nodes {
    present: usize,
    eligible: usize,
}

fn document<'a>(cluster: &'a ClusterState, catalogue: &'a Catalogue) -> Document<'a> {
    let mut waves = cluster.waves();
    let all = cluster.standings()[0];
    let image = |image: &'a CatalogueImage| {
        let spread = if image.wanted { waves.next() } else { None };
        let nodes = spread.map_or(Nodes { present: 0, eligible: all }, |(_, spread)| Nodes {
            present: spread.present,
            eligible: spread.eligible,
        });
        Image { image, nodes }
    };
    Document {
        version: catalogue.version,
        generated: catalogue.generated,
        complete: catalogue.complete,
        problem: cluster.scan.problem.as_deref(),
        repositories: &catalogue.repositories,
        images: catalogue.images.iter().map(image).collect(),
    }
}
