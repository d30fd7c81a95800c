//! Handles a confirm, a refusal or a return.

use std::time::Instant;

use super::lane::{Entry, Lane, Refused};
use super::{InFlight, Outbox, Settled, body, id};
use crate::fit::{fit, halves};
use crate::outgoing::{Batch, MessageId};
use crate::source::Source;

/// A message that the broker never accepts is cut in half while it is larger than this, in bytes.
const SMALL: usize = 64 * 1024;

impl Outbox {
    /// The message with this id could not be routed. The ack that follows does not count. Returns the message's source,
    /// if the message was unconfirmed.
    pub fn returned(&mut self, returned: MessageId) -> Option<&Source> {
        let Self { in_flight, held, .. } = self;
        let is_it = |in_flight: &&mut InFlight| {
            let held = held[in_flight.entry.slot].as_ref();
            !in_flight.returned && held.is_some_and(|held| id(held, &in_flight.entry) == returned)
        };
        let in_flight = in_flight.iter_mut().flatten().find(is_it)?;
        in_flight.returned = true;
        held[in_flight.entry.slot].as_ref().map(|held| &*held.batch.receipt.source)
    }

    /// The broker confirmed (`taken`) or refused the message with this tag, or all up to it. Tag 0 with `multiple`
    /// means all (AMQP 0-9-1, `basic.ack`); unknown tags are ignored.
    pub fn settle(&mut self, tag: u64, multiple: bool, taken: bool, now: Instant) -> Settled {
        let given = self.in_flight.len();
        let end = match tag.checked_sub(self.first_tag).and_then(|at| usize::try_from(at).ok()) {
            Some(at) if at < given => at + 1,
            Some(_) if multiple => given,
            None if multiple && tag == 0 => given,
            _ => return self.take_settled(),
        };
        for at in if multiple { 0 } else { end - 1 }..end {
            let Some(in_flight) = self.in_flight.get_mut(at).and_then(Option::take) else { continue };
            self.unconfirmed -= 1;
            if taken && !in_flight.returned {
                self.settled.confirmed += 1;
                self.confirmed(in_flight.entry);
            } else {
                self.settled.failed += 1;
                self.refused(in_flight.entry, Refused::Nack, now);
            }
        }
        while self.in_flight.pop_front_if(|in_flight| in_flight.is_none()).is_some() {
            self.first_tag += 1;
        }
        self.alone &= self.unconfirmed > 0;
        self.take_settled()
    }

    pub(super) fn confirmed(&mut self, entry: Entry) {
        self.confirms += 1;
        if !self.lanes.is_empty()
            && let Some(held) = self.held[entry.slot].as_ref()
            && let Some(lane) = self.lanes.get_mut(&held.batch.receipt.source.id)
        {
            lane.out -= 1;
            lane.confirmed(self.window);
            let source = held.batch.receipt.source.clone();
            source.ledger().hold(false);
            let done = self.done_with(entry.slot);
            self.settled.batches.extend(done);
            return self.look_after(source.id);
        }
        let done = self.done_with(entry.slot);
        self.settled.batches.extend(done);
    }

    /// One message less is to be confirmed. Returns the batch if it was the last one.
    pub(super) fn done_with(&mut self, slot: usize) -> Option<Batch> {
        let held = self.held[slot].as_mut()?;
        held.unconfirmed -= 1;
        if held.unconfirmed > 0 {
            return None;
        }
        self.free.push(slot);
        let held = self.held[slot].take()?;
        if held.parked {
            self.parked -= held.batch.bytes.len();
        }
        Some(held.batch)
    }

    pub(super) fn refused(&mut self, entry: Entry, how: Refused, now: Instant) {
        let Some(source) = self.held[entry.slot].as_ref().map(|held| held.batch.receipt.source.clone()) else { return };
        let place = self.place(&entry);
        if !self.lanes.contains_key(&source.id) {
            let out = 1 + self.elsewhere(source.id);
            self.lanes.insert(source.id, Lane::new(self.window, out, self.dead_letter_after.is_none()));
        }
        let mut entry = entry;
        if let Some(after) = self.dead_letter_after.filter(|_| how == Refused::Alone) {
            entry.failures = entry.failures.max(after.saturating_sub(1));
        }
        let others = self.confirms;
        let Some(lane) = self.lanes.get_mut(&source.id) else { return };
        lane.out -= 1;
        let entry = lane.refused(entry, place, how, others, self.pauses, now);
        source.ledger().hold(lane.is_stuck());
        let dead_letters_failed = self.dead_letter_after.is_none_or(|after| entry.failures > after + 1);
        if how.evidence_needed().is_some_and(|needed| entry.evidence >= needed) && dead_letters_failed {
            lane.remove(&entry);
            lane.out += 1;
            self.never_taken(entry);
        }
        self.park(entry.slot);
        self.look_after(source.id);
    }

    /// The broker accepts others but never this one, so it is split or cut as long as that may help.
    pub(super) fn never_taken(&mut self, entry: Entry) {
        let Some(held) = self.held[entry.slot].as_ref() else { return };
        let body = body(held, &entry);
        let smaller = halves(body).or_else(|| fit(body, (body.len() / 2).max(SMALL)).filter(|_| body.len() > SMALL));
        match smaller {
            Some(fitted) => {
                self.remake(&entry, fitted);
                self.suspects.push_back(Entry { failures: 0, evidence: 0, seen: 0, aside: false, ..entry });
            }
            None => self.give_up(entry),
        }
    }
}
