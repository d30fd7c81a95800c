//! Scans by the clock and when asked. A scan that failed or found nothing leaves the last good catalogue as it was. What was found and
//! could not be published is published again, without another scan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab_images::catalogue::Catalogue;
use lab_images::registry::Registry;
use sidecar::readiness::Latch;
use sidecar::retry::{BackoffBuilder, forever};
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::overview::ScanState;
use super::publish::Publisher;
use super::shared::Shared;
use super::tell::Teller;
use crate::catalogue::{Found, find};
use crate::settings::CatalogueSettings;

/// After how long a catalogue that could not be published is published again.
const PUBLISH_RETRY: Duration = Duration::from_secs(10);

/// Scans for ever.
pub(super) struct Scanner {
    pub(super) registry: Registry,
    pub(super) settings: CatalogueSettings,
    pub(super) interval: Duration,
    pub(super) publisher: Publisher,
    pub(super) shared: Shared,
    pub(super) asked: Arc<Asked>,
    pub(super) teller: Arc<Teller>,
    pub(super) latch: Latch,
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

    /// Goes on with what an earlier process published. Without an answer from the cluster there is nothing to plan, so this
    /// waits for one.
    async fn read_back(&mut self) {
        for pause in forever().build() {
            match self.publisher.read_back().await {
                Ok(Some(catalogue)) => {
                    tracing::info!(images = catalogue.images.len(), generated = %catalogue.generated, "goes on with the published catalogue");
                    self.shared.change(|world| {
                        let now = (Timestamp::now(), Instant::now());
                        world.take_catalogue(catalogue, std::collections::HashMap::new(), now);
                    });
                    self.latch.ready();
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error, "the published catalogue cannot be read");
                    self.latch.not_ready(error);
                }
            }
            sleep(pause).await;
        }
    }

    /// Scans once; gives back what was found and could not be published.
    async fn scan(&mut self) -> Option<Catalogue> {
        let (begun, began) = (Instant::now(), Timestamp::now());
        let had =
            self.shared.look(|world| world.catalogue().is_some_and(|catalogue| catalogue.wanted().next().is_some()));
        let found = find(&self.registry, &self.settings).await.map_err(|error| error.to_string());
        let found = found.and_then(|found| judge(found, had));
        let seconds = begun.elapsed().as_secs_f64();
        let now = Timestamp::now();
        self.teller.scanned(found.as_ref().map(|found| found.catalogue.wanted().count()).map_err(String::as_str), now);
        match found {
            Ok(Found { catalogue, manifests, .. }) => {
                tracing::info!(
                    images = catalogue.images.len(),
                    wanted = catalogue.wanted().count(),
                    seconds,
                    "scanned"
                );
                let found = catalogue.clone();
                self.shared.change(|world| {
                    world.scan = ScanState {
                        last: Some(now),
                        last_good: Some(now),
                        last_good_began: Some(began),
                        problem: None,
                    };
                    world.take_catalogue(catalogue, manifests, (now, Instant::now()));
                });
                self.latch.ready();
                self.publish(found).await
            }
            Err(problem) => {
                tracing::warn!(problem, seconds, "the scan is of no use; the last good catalogue stays");
                self.shared.change(|world| {
                    world.scan.last = Some(now);
                    world.scan.problem = Some(problem.clone());
                });
                if !had {
                    self.latch.not_ready(problem);
                }
                if let Err(error) = self.publisher.heal().await {
                    tracing::warn!(error, "the published catalogue cannot be looked after");
                }
                None
            }
        }
    }

    /// Publishes; gives the catalogue back when that did not work.
    async fn publish(&mut self, catalogue: Catalogue) -> Option<Catalogue> {
        let published = self.publisher.publish(&catalogue).await;
        self.teller.published(published.as_ref().map(drop).map_err(String::as_str));
        published.is_err().then_some(catalogue)
    }
}

/// Whether a scan may replace the last good catalogue: it saw everything, and something is wanted if something was before.
fn judge(found: Found, had: bool) -> Result<Found, String> {
    if !found.catalogue.complete {
        let more = found.problems.len().saturating_sub(1);
        let first = found.problems.first().map_or("the scan is incomplete".to_owned(), ToString::to_string);
        return Err(if more == 0 { first } else { format!("{first} (and {more} more)") });
    }
    if had && found.catalogue.wanted().next().is_none() {
        return Err("the scan found nothing that is wanted, and before there was something: see LAB_KEEP, and whether the repository was emptied".to_owned());
    }
    Ok(found)
}

/// The interval with up to a tenth more or less, so that several clusters do not ask a registry at the same moment.
fn with_jitter(interval: Duration) -> Duration {
    use std::hash::BuildHasher;
    let share = std::hash::RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    interval.mul_f64(0.9 + 0.2 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_images::catalogue::Catalogue;
    use std::collections::HashMap;

    #[test]
    fn only_a_whole_scan_replaces_a_good_catalogue() {
        let found = |complete| Found {
            catalogue: Catalogue::new(Timestamp::UNIX_EPOCH, complete, Vec::new()),
            manifests: HashMap::new(),
            problems: Vec::new(),
        };
        assert!(judge(found(true), false).is_ok());
        assert!(judge(found(true), true).is_err_and(|error| error.contains("nothing that is wanted")));
        assert!(judge(found(false), false).is_err());
    }
}
