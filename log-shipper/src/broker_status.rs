//! Reports that the broker refuses messages: in the log once a minute while it lasts and when it ends, and in the readiness.

use std::time::{Duration, Instant};

use sidecar::readiness::Latch;

use crate::metrics::Metrics;
use crate::outbox::{Fate, Verdict};

/// How often a message about many refusals is repeated.
const AGAIN: Duration = Duration::from_secs(60);

/// A broker that refuses messages and confirms nothing for this long is an obstacle, and not just a full queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the broker accepts messages.
#[derive(Debug, Default)]
pub struct BrokerStatus {
    /// Since when it refuses messages, and why.
    refusing: Option<(Instant, &'static str)>,
    /// When it last confirmed a message meanwhile.
    confirmed: Option<Instant>,
    /// When that was last logged, and what.
    logged: Option<(Instant, &'static str)>,
    obstructed: bool,
}

impl BrokerStatus {
    /// A broker is connected, and is assumed to accept messages.
    pub fn connected(&self, latch: &Latch) {
        match self.refusing.filter(|_| self.obstructed) {
            Some((_, what)) => latch.not_ready(what),
            None => latch.ready(),
        }
    }

    /// A message was refused; `key` is its routing key, if known.
    pub fn refused(&mut self, what: &'static str, key: impl FnOnce() -> Option<String>) {
        let now = Instant::now();
        self.refusing.get_or_insert((now, what)).1 = what;
        if self.logged.is_none_or(|(at, logged)| logged != what || now.duration_since(at) > AGAIN) {
            tracing::warn!(routing_key = key(), "{what}");
            self.logged = Some((now, what));
        }
    }

    /// A message was confirmed.
    pub fn confirmed(&mut self, latch: &Latch) {
        if self.refusing.is_none() {
            return;
        }
        self.confirmed = Some(Instant::now());
        if std::mem::take(&mut self.obstructed) {
            latch.ready();
        }
    }

    /// Call it about every second; `refused` is whether a container still waits.
    pub fn update(&mut self, refused: bool, latch: &Latch) {
        let Some((since, what)) = self.refusing else { return };
        if refused {
            let last = self.confirmed.map_or(since, |confirmed| confirmed.max(since));
            if !self.obstructed && last.elapsed() > PATIENCE {
                self.obstructed = true;
                latch.not_ready(what);
            }
            return;
        }
        if self.confirmed.is_none_or(|confirmed| confirmed < since) {
            // The refused messages were given up, and there were no others.
            return;
        }
        tracing::info!(after_seconds = since.elapsed().as_secs(), "the broker accepts all messages again");
        *self = Self { logged: self.logged.filter(|(at, _)| at.elapsed() < AGAIN), ..Self::default() };
        latch.ready();
    }
}

/// Counts and logs what was done about a message that the broker never accepts.
pub fn report_fate(verdict: &Verdict, metrics: &Metrics) {
    let (container, id, bytes) = (&verdict.source.container, verdict.id.text(), verdict.bytes);
    match verdict.fate {
        Fate::Cut => {
            metrics.messages_cut.inc();
            tracing::warn!(%container, message_id = id, bytes, "a message was too large for the broker; it was cut and marked");
        }
        Fate::CutForDeadLetters => {
            metrics.messages_cut.inc();
            tracing::warn!(
                %container, message_id = id, bytes,
                "a message was too large for the broker; it was cut, marked, and sent to the dead letter exchange"
            );
        }
        Fate::GivenUp => {
            metrics.messages_given_up.inc();
            tracing::error!(
                %container, message_id = id, bytes, offset = verdict.id.offset,
                "gave up a message that the broker never accepts"
            );
        }
    }
}
