//! The admin server: `/livez`, `/readyz`, `/metrics`, and the daemon's own routes.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Format, Metrics};
use crate::readiness::Health;
use crate::settings::Problems;

/// The most connections at a time: probes, scrapers, and some hundred users with a page open. Further connections
/// wait.
const MOST_CONNECTIONS: usize = 512;

/// How long a client may take to send a request, and may wait before the next one.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// The pause after `accept` failed, usually because of too many open files.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Flags and variables of the admin server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Admin server")]
pub struct AdminArguments {
    /// Address of the admin server with /livez, /readyz and /metrics; port 0 picks a free port
    #[arg(long, env = "ADMIN_ADDR", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub admin_addr: String,
}

impl AdminArguments {
    /// The address, or `None` with the problem recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<SocketAddr> {
        problems.parse("ADMIN_ADDR", &self.admin_addr, "0.0.0.0:8080", |text| {
            text.parse().map_err(|_| format!("{text:?} is not an IP address and port"))
        })
    }
}

/// Why the admin server could not start.
#[derive(Debug, Error)]
#[error("cannot listen on ADMIN_ADDR {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A server that listens but does not answer yet.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    routes: Router,
}

impl AdminServer {
    /// Listens on `address`; `more` are the daemon's own routes.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address cannot be bound.
    pub async fn bind(address: SocketAddr, health: Health, metrics: Metrics, more: Router) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %bound, "admin server listens");
        Ok(Self { listener, address: bound, routes: routes(health, metrics).merge(more) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled, then lets open requests end.
    ///
    /// Trouble with single connections does not stop it: an error of `accept` is logged, and a client that does not
    /// send its request in time is disconnected. At the limit, new connections wait.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { listener, routes, .. } = self;
        let open = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let serving = TaskTracker::new();
        loop {
            let next = async {
                // Nothing closes this semaphore.
                let permit = open.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! { next = next => next, () = shutdown.cancelled() => break };
            match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, routes.clone(), shutdown.clone());
                    serving.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin server cannot accept a connection");
                    tokio::select! { () = sleep(ACCEPT_RETRY) => (), () = shutdown.cancelled() => break }
                }
            }
        }
        drop(listener);
        serving.close();
        serving.wait().await;
    }
}

/// Answers the requests of one client.
async fn connection(stream: TcpStream, routes: Router, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(routes);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Clients may disconnect at any time.
        tracing::debug!(%error, "a connection to the admin server ended early");
    }
}

fn routes(health: Health, metrics: Metrics) -> Router {
    let alive = health.clone();
    Router::new()
        .route("/livez", get(async move || verdict(&alive.not_alive(Instant::now()))))
        .route("/readyz", get(async move || verdict(&health.not_ready())))
        .route("/metrics", get(async move |headers| scrape(&metrics, &headers)))
}

fn scrape(metrics: &Metrics, headers: &HeaderMap) -> Response {
    // Several header lines form one list (RFC 9110, section 5.3).
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(Some(&accept.join(",")));
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    (headers, metrics.encode(format)).into_response()
}

fn verdict(problems: &[String]) -> Response {
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_names_the_part_and_the_server_drains() {
        let health = Health::default();
        let latch = health.latch("scan");
        let address = "127.0.0.1:0".parse().unwrap();
        let server = AdminServer::bind(address, health, Metrics::new("thing", "1"), Router::new()).await.unwrap();
        let (address, shutdown) = (server.address(), CancellationToken::new());
        let serving = tokio::spawn(server.serve(shutdown.clone()));

        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("scan: not started yet"), "{answer}");
        latch.ready();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("labhands_thing_build_info"));

        shutdown.cancel();
        serving.await.unwrap();
    }

    async fn started() -> (SocketAddr, CancellationToken) {
        let address = "127.0.0.1:0".parse().unwrap();
        let metrics = Metrics::new("thing", "1");
        let server = AdminServer::bind(address, Health::default(), metrics, Router::new()).await.unwrap();
        let (address, shutdown) = (server.address(), CancellationToken::new());
        tokio::spawn(server.serve(shutdown.clone()));
        (address, shutdown)
    }

    #[tokio::test]
    async fn metrics_are_in_the_requested_format() {
        let (address, _shutdown) = started().await;
        let classic = ask(address, "/metrics").await;
        assert!(classic.contains("content-type: text/plain; version=0.0.4") && !classic.contains("# EOF"), "{classic}");
        assert!(classic.contains("# TYPE labhands_thing_build_info gauge"), "{classic}");
        let open = "/metrics HTTP/1.1\r\naccept: text/html\r\naccept: application/openmetrics-text\r\nx:";
        let open = ask(address, open).await;
        assert!(open.contains("content-type: application/openmetrics-text") && open.ends_with("# EOF\n"), "{open}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_disconnected() {
        let (address, _shutdown) = started().await;
        for begun in ["", "GET /livez HTTP/1.1\r\nhost:", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            // Ends only when the server closes the connection.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_too_many_connections_the_latest_are_served_later() {
        let (address, _shutdown) = started().await;
        let mut idle = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let asking = tokio::spawn(ask(address, "/livez"));
        drop(idle);
        assert!(asking.await.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let bound = AdminServer::bind(address, Health::default(), Metrics::new("thing", "1"), Router::new()).await;
        assert!(bound.unwrap_err().to_string().contains(&address.to_string()));
    }
}
