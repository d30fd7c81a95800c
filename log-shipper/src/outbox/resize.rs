//! Replaces messages that are too large, or gives them up.

use super::lane::Entry;
use super::{Fate, Outbox, Remade, Verdict, body, id};
use crate::fit::{Fitted, fit};
use crate::outgoing::MessageId;

impl Outbox {
    /// The message itself, or the first of its replacements; `None` if it cannot be made to fit.
    pub(super) fn made_to_fit(&mut self, entry: Entry) -> Option<Entry> {
        let Some(limit) = self.size_limit else { return Some(entry) };
        let held = self.held[entry.slot].as_ref()?;
        let body = body(held, &entry);
        if body.len() <= limit {
            return Some(entry);
        }
        match fit(body, limit) {
            Some(fitted) => {
                self.remake(&entry, fitted);
                Some(entry)
            }
            None => {
                self.give_up(entry);
                None
            }
        }
    }

    /// Replaces one message by others.
    pub(super) fn remake(&mut self, entry: &Entry, fitted: Fitted) {
        let Some(held) = self.held[entry.slot].as_mut() else { return };
        let (id, bytes, log_id) = (id(held, entry), body(held, entry).len(), held.batch.receipt.source.id);
        let remade = held.remade.entry(entry.index).or_insert_with(|| Remade { bodies: vec![Vec::new()], cut: false });
        remade.cut |= fitted.cut;
        let mut bodies = fitted.bodies.into_iter();
        remade.bodies[entry.part] = bodies.next().unwrap_or_default();
        let first = remade.bodies.len();
        remade.bodies.extend(bodies);
        let others = first..remade.bodies.len();
        held.unconfirmed += others.len();
        for part in others.rev() {
            self.again.push_front(Entry { part, failures: 0, evidence: 0, seen: 0, aside: false, ..*entry });
            if let Some(lane) = self.lanes.get_mut(&log_id) {
                lane.out += 1;
            }
        }
        if fitted.cut {
            let fate = if self.dead_letter_after.is_some() { Fate::CutForDeadLetters } else { Fate::Cut };
            self.record_fate(entry.slot, id, bytes, fate);
        }
    }

    pub(super) fn record_fate(&mut self, slot: usize, id: MessageId, bytes: usize, fate: Fate) {
        if let Some(held) = &self.held[slot] {
            self.settled.verdicts.push(Verdict { source: held.batch.receipt.source.clone(), id, bytes, fate });
        }
    }

    pub(super) fn give_up(&mut self, entry: Entry) {
        let Some(held) = self.held[entry.slot].as_ref() else { return };
        let (id, bytes, log_id) = (id(held, &entry), body(held, &entry).len(), held.batch.receipt.source.id);
        self.record_fate(entry.slot, id, bytes, Fate::GivenUp);
        if let Some(lane) = self.lanes.get_mut(&log_id) {
            lane.out -= 1;
        }
        let done = self.done_with(entry.slot);
        self.settled.batches.extend(done);
        self.look_after(log_id);
    }
}
