//! The runtime of every daemon, wired in one place: log, signals, health, metrics, admin server, drain.
//!
//! ```no_run
//! # async fn work(_: sidecar::readiness::Latch) {}
//! # async fn run(log: sidecar::log::LogSettings, address: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
//! let mut daemon = sidecar::daemon::Daemon::start("thing", "1.0.0", log)?;
//! let latch = daemon.health.latch("work");
//! daemon.serve(address, axum::Router::new()).await?;
//! daemon.run(work(latch)).await;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminServer, BindError};
use crate::log::{self, LogSettings};
use crate::metrics::Metrics;
use crate::readiness::Health;
use crate::shutdown::Shutdown;

/// How long clients of the admin server may take for their last answer.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// A running daemon: it logs, handles signals, and serves its admin address.
#[derive(Debug)]
pub struct Daemon {
    /// Readiness and liveness of its parts.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Cancelled when the daemon is to end.
    pub shutdown: Shutdown,
    admin: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Daemon {
    /// Starts the log and the signal handlers. The metrics are named after `name`.
    ///
    /// # Errors
    ///
    /// If a signal handler cannot be set.
    pub fn start(name: &str, version: &'static str, log: LogSettings) -> io::Result<Self> {
        log::init(log);
        let shutdown = Shutdown::listen()?;
        Ok(Self { health: Health::default(), metrics: Metrics::new(name, version), shutdown, admin: None })
    }

    /// Starts the admin server with the daemon's own `routes`, and returns its address. Create every latch first: a
    /// part without a latch counts as ready.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is not available.
    pub async fn serve(&mut self, address: SocketAddr, routes: Router) -> Result<SocketAddr, BindError> {
        let server = AdminServer::bind(address, self.health.clone(), self.metrics.clone(), routes).await?;
        let (bound, token) = (server.address(), CancellationToken::new());
        self.admin = Some((tokio::spawn(server.serve(token.clone())), token));
        Ok(bound)
    }

    /// Runs `work` to its end, then ends the admin server. After a signal the work has [`crate::shutdown::DRAIN_LIMIT`]
    /// left. `None` if it did not end in time.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let done = self.shutdown.drain(work).await;
        self.end().await;
        done
    }

    /// Ends the admin server, for a daemon that does its own draining.
    pub async fn end(self) {
        self.shutdown.begin();
        let Some((serving, token)) = self.admin else { return };
        token.cancel();
        match timeout(LAST_ANSWERS, serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the admin server failed"),
            Err(_) => tracing::debug!("a client of the admin server did not receive its whole answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Problems;
    use axum::routing::get;
    use clap::Parser;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        log: log::LogArguments,
    }

    fn daemon() -> Daemon {
        let arguments =
            crate::settings::parse::<Arguments>(&crate::settings::Environment::default(), ["thing".into()]).unwrap();
        Daemon::start("thing", "1", arguments.log.settings(&mut Problems::default()).unwrap()).unwrap()
    }

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn it_answers_until_its_work_ends() {
        let mut daemon = daemon();
        let address = daemon.serve(ANY_PORT, Router::new()).await.unwrap();
        assert_eq!(daemon.run(async { TcpStream::connect(address).await.is_ok() }).await, Some(true));
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_stays_does_not_delay_the_end() {
        let mut daemon = daemon();
        let asked = Arc::new(Notify::new());
        let heard = asked.clone();
        let endless = async move || {
            heard.notify_one();
            std::future::pending::<()>().await;
        };
        let address = daemon.serve(ANY_PORT, Router::new().route("/endless", get(endless))).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(daemon.run(asked.notified()).await, Some(()));
    }
}
