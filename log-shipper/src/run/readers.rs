//! The threads that find and read logs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sidecar::readiness::Latch;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use crate::discover::{Choice, Discovery, Findings};
use crate::follow::Reading;
use crate::logs::FollowedLogs;
use crate::outgoing::{Batch, Budget};
use crate::own::Own;
use crate::pool::{self, Pool};
use crate::settings::RunSettings;
use crate::threads::{Ended, thread};

/// How often [`Readers::join_until`] checks whether the threads have ended.
const JOIN_CHECK: Duration = Duration::from_millis(5);

/// One thread that finds logs, and others that read them.
pub(super) struct Readers {
    pool: Arc<Pool>,
    budget: Budget,
    first_look_done: Arc<OnceLock<()>>,
    stop_looking: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads. `at_end`: existing files are read from their end.
    pub(super) fn start(
        settings: &RunSettings,
        reading: &Arc<Reading>,
        (logs, at_end): (Arc<FollowedLogs>, bool),
        found: (Latch, Findings),
        batches: UnboundedSender<Batch>,
        ended: &UnboundedSender<Ended>,
    ) -> anyhow::Result<Self> {
        let pool = Arc::<Pool>::default();
        let (first_look_done, stop_looking) = (Arc::<OnceLock<()>>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for _ in 0..settings.logs.reader_threads {
            let (pool, reading, batches) = (pool.clone(), reading.clone(), batches.clone());
            let first_look_done = first_look_done.clone();
            threads.push(thread("reader", ended, move || {
                // The state of each log is then allocated before the events, whose memory can only be released from its
                // end.
                first_look_done.wait();
                pool::read(&pool, &reading, &batches);
            })?);
        }
        let (roots, choice, pinned) = (settings.logs.paths.clone(), choice(settings), settings.logs.pinned_bytes_max);
        let (budget, reading, pool_of_discovery) = (reading.budget.clone(), reading.clone(), pool.clone());
        let (stop, done) = (stop_looking.clone(), first_look_done.clone());
        threads.push(thread("discovery", ended, move || {
            let mut discovery = Discovery::new(roots, choice, pinned, at_end, reading, pool_of_discovery, logs, found);
            discovery.first_look();
            done.get_or_init(|| ());
            discovery.run(&stop);
        })?);
        Ok(Self { pool, budget, first_look_done, stop_looking, threads })
    }

    /// Whether all folders were scanned once.
    pub(super) fn has_looked(&self) -> bool {
        self.first_look_done.get().is_some()
    }

    /// Whether everything that exists was read and confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.has_looked() && self.pool.is_idle() && self.unconfirmed() == 0
    }

    /// The bytes of unconfirmed events.
    pub(super) fn unconfirmed(&self) -> usize {
        self.budget.used()
    }

    /// Waits until much was confirmed since the last call.
    pub(super) async fn much_confirmed(&self) {
        self.budget.much_given().await;
    }

    /// Asks the threads to end.
    pub(super) fn end(&self) {
        self.stop_looking.store(true, Ordering::Relaxed);
        self.pool.close();
        self.budget.close();
    }

    /// Waits for the threads. One may be in the middle of a large compressed file; the next run reads it again.
    pub(super) async fn join_until(&self, limit: Instant) {
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < limit {
            sleep(JOIN_CHECK).await;
        }
    }
}

/// Which logs are read.
fn choice(settings: &RunSettings) -> Choice {
    Choice {
        namespaces: settings.logs.namespaces.clone(),
        excluded_namespaces: settings.logs.excluded_namespaces.clone(),
        labels: settings.logs.labels.clone(),
        asks_pods: settings.watch_pods,
        own: Own::of_process(settings.pod_uid.as_deref()),
    }
}
