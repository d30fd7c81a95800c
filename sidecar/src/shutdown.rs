//! Shutdown: the first SIGTERM or SIGINT asks every part to drain; the second ends the process at once.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long parts may take to drain.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The exit code after a second signal.
const EXIT_ABORTED: i32 = 130;

/// Cancelled by the first signal.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Installs the signal handlers. PID 1 of a container has no default action for signals, so call this early in
    /// `main`.
    ///
    /// # Errors
    ///
    /// The system's error if a handler could not be set.
    pub fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let token = shutdown.token();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
            tracing::info!("signal received, draining");
            token.cancel();
            tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
            tracing::warn!("second signal received, ending at once");
            end_at_once();
        });
        Ok(shutdown)
    }

    /// The token that the first signal cancels.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Asks every part to drain, as a signal does.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Runs `work` to its end. After the signal it has [`DRAIN_LIMIT`] left. `None` if it did not end in time.
    pub async fn drain<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return Some(done),
            () = self.0.cancelled() => (),
        }
        let done = tokio::time::timeout(DRAIN_LIMIT, work).await.ok();
        if done.is_none() {
            tracing::warn!("draining did not finish within {} s", DRAIN_LIMIT.as_secs());
        }
        done
    }
}

#[expect(clippy::disallowed_methods, reason = "a second signal asks for an end without destructors")]
fn end_at_once() -> ! {
    std::process::exit(EXIT_ABORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_drains_gives_its_result() {
        let shutdown = Shutdown::default();
        let token = shutdown.token();
        shutdown.begin();
        let work = async {
            token.cancelled().await;
            7
        };
        assert_eq!(shutdown.drain(work).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_drain_is_left() {
        let shutdown = Shutdown::default();
        shutdown.begin();
        assert_eq!(shutdown.drain(std::future::pending::<()>()).await, None);
    }
}
