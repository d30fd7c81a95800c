//! Scans at an interval and on request. A scan that failed or found nothing leaves the last good catalogue as it is. A
//! catalogue that could not be published is published again without another scan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab_images::catalogue::Catalogue;
use lab_images::registry::Registry;
use sidecar::retry::{BackoffBuilder, forever};
use sidecar::schedule::with_jitter;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::publish::Publisher;
use super::scan_requests::ScanRequests;
use super::shared::Shared;
use super::telemetry::Telemetry;
use crate::catalogue::{ScanResult, find};
use crate::overview::ScanState;
use crate::settings::CatalogueSettings;

/// The pause before another try to publish.
const PUBLISH_RETRY: Duration = Duration::from_secs(10);

/// Scans until the end.
pub(super) struct Scanner {
    pub(super) registry: Registry,
    pub(super) settings: CatalogueSettings,
    pub(super) interval: Duration,
    pub(super) publisher: Publisher,
    pub(super) shared: Shared,
    pub(super) asked: Arc<ScanRequests>,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Scanner {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! { () = shutdown.cancelled() => {}, () = self.scan_for_ever() => {} }
    }

    async fn scan_for_ever(&mut self) {
        self.read_back().await;
        loop {
            self.asked.scan_begins();
            let mut unpublished = self.scan().await;
            self.asked.scan_ended(Instant::now());
            let next = Instant::now() + with_jitter(self.interval);
            loop {
                let retry = unpublished.is_some().then(|| Instant::now() + PUBLISH_RETRY);
                let wake = retry.map_or(next, |retry| retry.min(next));
                tokio::select! {
                    () = sleep_until(wake.into()) => {}
                    () = self.asked.due() => break,
                }
                if wake == next {
                    break;
                }
                if let Some(catalogue) = unpublished.take() {
                    unpublished = self.publish(catalogue).await;
                }
            }
        }
    }

    /// Continues with the catalogue that an earlier process published. Without an answer from the cluster there is
    /// nothing to plan, so this waits for one.
    async fn read_back(&mut self) {
        for pause in forever().build() {
            match self.publisher.read_back().await {
                Ok(Some(catalogue)) => {
                    tracing::info!(images = catalogue.images.len(), generated = %catalogue.generated, "continuing with the published catalogue");
                    self.shared.change(|cluster| {
                        let now = (Timestamp::now(), Instant::now());
                        cluster.take_catalogue(catalogue, std::collections::HashMap::new(), now);
                    });
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error, "the published catalogue cannot be read");
                    self.shared.update(|cluster| cluster.scan.problem = Some(error));
                }
            }
            sleep(pause).await;
        }
    }

    /// Scans once. Returns a catalogue that could not be published.
    async fn scan(&mut self) -> Option<Catalogue> {
        let (begun, began) = (Instant::now(), Timestamp::now());
        let (last, platforms) = self.shared.look(|cluster| (cluster.catalogue().cloned(), cluster.platforms()));
        let found = find(&self.registry, &self.settings, &platforms, last.as_deref()).await;
        let found = found.map_err(|error| error.to_string()).and_then(require_useful);
        let seconds = begun.elapsed().as_secs_f64();
        let now = Timestamp::now();
        let wanted = found.as_ref().map(|found| found.catalogue.wanted().count());
        self.telemetry.scanned(wanted.map_err(String::as_str), last.is_none(), now);
        match found {
            Ok(ScanResult { catalogue, manifests, problems, .. }) => {
                tracing::info!(
                    images = catalogue.images.len(),
                    wanted = catalogue.wanted().count(),
                    seconds,
                    "scanned"
                );
                let found = catalogue.clone();
                self.telemetry.repositories(&found.repositories);
                self.shared.change(|cluster| {
                    cluster.scan = ScanState {
                        last: Some(now),
                        last_good: Some(now),
                        last_good_began: Some(began),
                        problem: in_one_line(&problems),
                    };
                    cluster.take_catalogue(catalogue, manifests, (now, Instant::now()));
                });
                self.publish(found).await
            }
            Err(problem) => {
                tracing::warn!(problem, seconds, "the scan failed; keeping the last good catalogue");
                self.shared.change(|cluster| {
                    cluster.scan.last = Some(now);
                    cluster.scan.problem = Some(problem);
                });
                if let Err(error) = self.publisher.heal().await {
                    tracing::warn!(error, "cannot restore the published catalogue");
                }
                None
            }
        }
    }

    /// Publishes. Returns the catalogue if that failed.
    async fn publish(&mut self, catalogue: Catalogue) -> Option<Catalogue> {
        let published = self.publisher.publish(&catalogue).await;
        self.telemetry.published(published.as_ref().map(drop).map_err(String::as_str));
        published.is_err().then_some(catalogue)
    }
}

/// Whether a scan found anything new. Repositories that it could not scan keep their last good part.
fn require_useful(found: ScanResult) -> Result<ScanResult, String> {
    if found.is_of_use {
        return Ok(found);
    }
    Err(in_one_line(&found.problems).unwrap_or_else(|| "the scan is incomplete".to_owned()))
}

fn in_one_line(problems: &[String]) -> Option<String> {
    match problems {
        [] => None,
        [only] => Some(only.clone()),
        [first, others @ ..] => Some(format!("{first} (and {} more)", others.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_one_line() {
        let line = |problems: &[&str]| in_one_line(&problems.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&[]), None);
        assert_eq!(line(&["down"]).as_deref(), Some("down"));
        assert_eq!(line(&["down", "gone"]).as_deref(), Some("down (and 1 more)"));
    }
}
