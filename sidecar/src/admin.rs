//! The admin server: `/livez`, `/readyz`, `/metrics`, and what the daemon adds.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::readiness::Health;
use crate::settings::Problems;

/// Flags and variables of the admin server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Admin server")]
pub struct AdminArguments {
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one
    #[arg(long, env = "ADMIN_ADDR", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub admin_addr: String,
}

impl AdminArguments {
    /// The address, or `None` with the problem noted.
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

/// A server that listens and does not answer yet.
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
    /// [`BindError`] when the address can't be had.
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
    /// # Errors
    ///
    /// What the system said when the listener broke.
    pub async fn serve(self, shutdown: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, self.routes).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }
}

fn routes(health: Health, metrics: Metrics) -> Router {
    let alive = health.clone();
    Router::new()
        .route("/livez", get(async move || verdict(&alive.not_alive(Instant::now()))))
        .route("/readyz", get(async move || verdict(&health.not_ready())))
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())))
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
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
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
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let bound = AdminServer::bind(address, Health::default(), Metrics::new("thing", "1"), Router::new()).await;
        assert!(bound.unwrap_err().to_string().contains(&address.to_string()));
    }
}
