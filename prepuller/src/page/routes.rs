//! Serves the page and its documents over HTTP.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::Stream;
use serde::Serialize;
use sidecar::sync::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::html;
use super::nublado::{self, Config};
use super::query::Query;
use super::view::View;
use crate::overview::{Overview, OverviewSource};

/// How many readers get live updates at the same time. The page works without them.
const MOST_LIVE: usize = 64;

/// The shortest time between live updates, and between two overviews for all readers together.
const LEAST_PAUSE: Duration = Duration::from_millis(500);

/// The page is sent again after this time even if nothing changed, because it says how long ago the last scan was.
const MOST_PAUSE: Duration = Duration::from_secs(30);

const SECURITY: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What all routes share.
#[derive(Clone)]
struct Shown {
    source: OverviewSource,
    /// The last overview. All readers share it, so each further reader costs little.
    last: Arc<Mutex<Option<Made>>>,
    config: Arc<Config>,
    live: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// An overview, and when it was made.
type Made = (Instant, Arc<Overview>);

/// The page at `/` and its documents; live updates end when `shutdown` is cancelled.
pub fn routes(source: OverviewSource, config: Config, shutdown: CancellationToken) -> Router {
    router(Shown::new(source, config, shutdown))
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/status.json", get(status))
        .route("/spawner/v1/images", get(spawner_images))
        .route("/spawner/v1/prepulls", get(spawner_prepulls))
        .route("/page.css", get(async || asset("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/page.js", get(async || asset("text/javascript; charset=utf-8", include_str!("page.js"))))
        .layer(map_response(guarded))
        .with_state(shown)
}

async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}

impl Shown {
    fn new(source: OverviewSource, config: Config, shutdown: CancellationToken) -> Self {
        let live = Arc::new(Semaphore::new(MOST_LIVE));
        Self { source, last: Arc::default(), config: Arc::new(config), live, shutdown }
    }

    fn overview(&self) -> Arc<Overview> {
        let mut last = lock(&self.last);
        if let Some((made, overview)) = &*last
            && made.elapsed() < LEAST_PAUSE
        {
            return overview.clone();
        }
        let overview = Arc::new(self.source.now());
        *last = Some((Instant::now(), overview.clone()));
        overview
    }

    fn view(&self, query: &Query) -> View {
        View::new(&self.overview(), query)
    }
}

fn asked(RawQuery(text): RawQuery) -> Query {
    Query::parse(text.as_deref().unwrap_or_default())
}

async fn page(State(shown): State<Shown>, query: RawQuery) -> Response {
    let text = html::page(&shown.view(&asked(query))).into_string();
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn status(State(shown): State<Shown>, query: RawQuery) -> Response {
    json(&shown.view(&asked(query)))
}

async fn spawner_images(State(shown): State<Shown>) -> Response {
    json(&nublado::images(&shown.overview(), &shown.config))
}

async fn spawner_prepulls(State(shown): State<Shown>) -> Response {
    json(&nublado::prepulls(&shown.overview(), &shown.config))
}

fn json(document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a document could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn events(State(shown): State<Shown>, query: RawQuery) -> Response {
    let Ok(permit) = shown.live.clone().try_acquire_owned() else {
        let words = "too many readers have live updates now; reload the page instead\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], words).into_response();
    };
    let reader = Reader { shown, query: asked(query), sent: None, _permit: permit };
    Sse::new(reader.updates()).keep_alive(KeepAlive::default()).into_response()
}

/// One reader with live updates.
struct Reader {
    shown: Shown,
    query: Query,
    /// A hash of what was sent last.
    sent: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn updates(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, async |mut reader| {
            let shutdown = reader.shown.shutdown.clone();
            let html = shutdown.run_until_cancelled(reader.next()).await.flatten()?;
            Some((Ok(Event::default().data(html)), reader))
        })
    }

    /// Waits until the changing part of the page differs from what was sent last, and returns it; `None` once the
    /// planner has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.sent.is_some() {
                if let Ok(false) = timeout(MOST_PAUSE, self.shown.source.changed()).await {
                    return None;
                }
                // After this pause, an overview that is shared with other readers was made after the change, too.
                sleep(LEAST_PAUSE).await;
            }
            let html = html::live(&self.shown.view(&self.query)).into_string();
            let mut hasher = DefaultHasher::new();
            html.hash(&mut hasher);
            if self.sent.replace(hasher.finish()) != Some(hasher.finish()) {
                return Some(html);
            }
        }
    }
}

#[cfg(test)]
mod tests;
