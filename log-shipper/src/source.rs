//! What a log shares with its batches: the container, and the ledger of confirmed lines.

use std::sync::{Arc, Mutex, MutexGuard};

use sidecar::sync::lock;

use crate::container::Container;
use crate::ledger::Ledger;

/// The source of batches.
#[derive(Debug)]
pub struct Source {
    /// A number that is unique within the process.
    pub id: u64,
    /// The container of the log.
    pub container: Container,
    ledger: Mutex<Ledger>,
}

impl Source {
    /// A source with this ledger.
    pub fn new(id: u64, container: Container, ledger: Ledger) -> Self {
        Self { id, container, ledger: Mutex::new(ledger) }
    }

    /// The ledger of what was confirmed.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// Confirms a batch.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The source of the batch.
    pub source: Arc<Source>,
    /// Its number in the source's ledger.
    pub number: u64,
}

impl Receipt {
    /// Confirms the batch, so that its log's checkpoint can advance.
    pub fn confirm(&self) {
        self.source.ledger().finish(self.number);
    }
}
