//! Handles the end of a channel or a connection: what happens to unconfirmed messages.

use std::time::Instant;

use super::lane::{Entry, Refused};
use super::{InFlight, Outbox, Settled, body};
use crate::amqp::Blame;
use crate::container::Container;

/// After this many lost connections without any confirm, each message is published alone, because one of them may be
/// the reason.
const LOSSES_BEFORE_DOUBT: u32 = 3;

/// A broker that refuses smaller messages for their size has another reason.
const LEAST_LIMIT: usize = 4096;

impl Outbox {
    /// The broker closed the channel. Unconfirmed messages are published again, in their order, with tags from 1; `key`
    /// gives the routing key of a container's messages.
    pub fn channel_closed(&mut self, blame: &Blame, key: impl Fn(&Container) -> String, now: Instant) -> Settled {
        let entries: Vec<_> = self.take_in_flight();
        match blame {
            Blame::Everything => self.requeue(entries.into_iter().map(|in_flight| in_flight.entry)),
            Blame::Size(limit) => {
                let size = |in_flight: &InFlight| {
                    self.held[in_flight.entry.slot].as_ref().map_or(0, |held| body(held, &in_flight.entry).len())
                };
                let largest = entries.iter().map(size).max().unwrap_or(0);
                if largest <= *limit && largest < LEAST_LIMIT {
                    self.suspect(entries, Refused::Alone, now);
                } else {
                    // The broker may count more than the body. How much more shows after a few refusals.
                    let limit = if largest > *limit { *limit } else { largest - largest / 16 };
                    self.size_limit = Some(self.size_limit.map_or(limit, |known| known.min(limit)));
                    self.requeue(entries.into_iter().map(|in_flight| in_flight.entry));
                }
            }
            Blame::Key(_) | Blame::DeadLetters | Blame::OneMessage => {
                let is_guilty = |in_flight: &InFlight| match blame {
                    Blame::DeadLetters => in_flight.dead_letter,
                    Blame::Key(refused) => self.held[in_flight.entry.slot]
                        .as_ref()
                        .is_some_and(|held| key(&held.batch.receipt.source.container) == *refused),
                    _ => false,
                };
                let (guilty, innocent): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_guilty);
                if guilty.is_empty() {
                    self.suspect(innocent, Refused::Alone, now);
                } else {
                    self.requeue(innocent.into_iter().map(|in_flight| in_flight.entry));
                    for in_flight in guilty {
                        self.settled.failed += 1;
                        self.count_out(in_flight.entry.slot);
                        self.refused(in_flight.entry, Refused::Key, now);
                    }
                }
            }
        }
        self.take_settled()
    }

    /// The connection was lost. Unconfirmed messages are published again, in their order, with tags from 1.
    pub fn disconnected(&mut self, now: Instant) {
        // Another broker may have another limit, and this one's may have been changed.
        self.size_limit = None;
        let entries = self.take_in_flight();
        if !entries.is_empty() {
            let in_vain = self.confirms == self.confirms_at_loss;
            self.losses = if in_vain { self.losses + 1 } else { 1 };
            self.confirms_at_loss = self.confirms;
        }
        if self.losses >= LOSSES_BEFORE_DOUBT {
            self.suspect(entries, Refused::Lost, now);
        } else {
            self.requeue(entries.into_iter().map(|in_flight| in_flight.entry));
        }
        for lane in self.lanes.values_mut() {
            lane.end_pause();
        }
        self.list_all();
    }

    /// One of these is the reason why the channel or the connection ended. If it was the only one, it is that one; else
    /// each is published alone.
    pub(super) fn suspect(&mut self, entries: Vec<InFlight>, how: Refused, now: Instant) {
        if let [in_flight] = entries[..] {
            self.settled.failed += 1;
            self.count_out(in_flight.entry.slot);
            return self.refused(in_flight.entry, how, now);
        }
        for in_flight in entries.into_iter().rev() {
            self.count_out(in_flight.entry.slot);
            self.suspects.push_front(in_flight.entry);
        }
    }

    /// Takes back all unconfirmed messages. They then count for no lane.
    pub(super) fn take_in_flight(&mut self) -> Vec<InFlight> {
        let entries: Vec<_> = std::mem::take(&mut self.in_flight).into_iter().flatten().collect();
        (self.first_tag, self.unconfirmed, self.alone) = (1, 0, false);
        for in_flight in &entries {
            let id = self.log_id(in_flight.entry.slot);
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.out -= 1;
            }
        }
        entries
    }

    pub(super) fn requeue(&mut self, entries: impl DoubleEndedIterator<Item = Entry>) {
        for entry in entries.rev() {
            let (id, place) = (self.log_id(entry.slot), self.place(&entry));
            match self.lanes.get_mut(&id) {
                Some(lane) => {
                    lane.queue_up(entry, place);
                    self.list(id);
                }
                None => self.again.push_front(entry),
            }
        }
    }

    pub(super) fn count_out(&mut self, slot: usize) {
        let id = self.log_id(slot);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.out += 1;
        }
    }

    /// How many messages of a log are unconfirmed or about to be published.
    pub(super) fn elsewhere(&self, log: u64) -> usize {
        let waiting = self.again.iter().chain(&self.suspects);
        let all = self.in_flight.iter().flatten().map(|in_flight| &in_flight.entry).chain(waiting);
        all.filter(|entry| self.log_id(entry.slot) == log).count()
    }
}
