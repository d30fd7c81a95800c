//! What a log and its batches share: whose lines they are, and how far those were confirmed.

use std::sync::{Arc, Mutex, MutexGuard};

use sidecar::sync::lock;

use crate::container::Container;
use crate::ledger::Ledger;

/// Where batches come from.
#[derive(Debug)]
pub struct Source {
    /// A number for the process's lifetime.
    pub id: u64,
    /// Whose log it is.
    pub container: Container,
    ledger: Mutex<Ledger>,
}

impl Source {
    /// A source whose ledger starts like this.
    pub fn new(id: u64, container: Container, ledger: Ledger) -> Self {
        Self { id, container, ledger: Mutex::new(ledger) }
    }

    /// How far the log's files were confirmed.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// What confirms a batch.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Where the batch came from.
    pub source: Arc<Source>,
    /// Its number in the source's ledger.
    pub number: u64,
}

impl Receipt {
    /// Confirms the batch: the checkpoint of its log may move on.
    pub fn confirm(&self) {
        self.source.ledger().finish(self.number);
    }
}
