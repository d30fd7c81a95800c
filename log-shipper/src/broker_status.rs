//! Logs that the broker refuses messages: once a minute while it lasts, and when it ends.

use std::time::{Duration, Instant};

use sidecar::readiness::Latch;

use crate::metrics::Metrics;
use crate::outbox::{Fate, Verdict};

/// How often a message about many refusals is repeated.
const AGAIN: Duration = Duration::from_secs(60);

/// A broker that refuses messages and confirms nothing for this long is an obstacle, and not just a full queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// The current refusals.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Since when, why, and when the broker last confirmed a message.
    now: Option<(Instant, &'static str)>,
    confirmed: Option<Instant>,
    said: Option<(Instant, &'static str)>,
    obstructed: bool,
}

impl Trouble {
    /// A broker is connected, and is assumed to accept messages.
    pub fn connected(&self, latch: &Latch) {
        match self.now.filter(|_| self.obstructed) {
            Some((_, what)) => latch.not_ready(what),
            None => latch.ready(),
        }
    }

    /// A message was refused.
    pub fn refused(&mut self, what: &'static str) {
        let now = Instant::now();
        self.now.get_or_insert((now, what)).1 = what;
        if self.said.is_none_or(|(at, said)| said != what || now.duration_since(at) > AGAIN) {
            tracing::warn!("{what}");
            self.said = Some((now, what));
        }
    }

    /// A message was confirmed.
    pub fn confirmed(&mut self, latch: &Latch) {
        if self.now.is_none() {
            return;
        }
        self.confirmed = Some(Instant::now());
        if std::mem::take(&mut self.obstructed) {
            latch.ready();
        }
    }

    /// Call it about every second; `refused` is whether a container still waits.
    pub fn look(&mut self, refused: bool, latch: &Latch) {
        let Some((since, what)) = self.now else { return };
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
        *self = Self { said: self.said.filter(|(at, _)| at.elapsed() < AGAIN), ..Self::default() };
        latch.ready();
    }
}

/// Counts and logs what was done about a message that the broker never accepts.
pub fn judge(verdict: &Verdict, metrics: &Metrics) {
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
                "gave up a message that the broker never accepts, although it accepts others"
            );
        }
    }
}
