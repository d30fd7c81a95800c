//! Which message is published next, and what a confirm, refusal, return or lost connection means. No I/O, no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::outgoing::{Batch, MessageId};

/// After a refusal nothing is published for this long, then, while nothing is confirmed, for twice as long …
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A message of a batch that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    slot: usize,
    index: usize,
    /// How often it was refused or returned.
    failures: u32,
}

/// A message that waits for its confirm.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    entry: Entry,
    sent: Instant,
    returned: bool,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    unconfirmed: usize,
}

/// A message to publish now.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Its id.
    pub id: &'a MessageId,
    /// Its body.
    pub body: &'a [u8],
    /// Whether it goes to the dead letter exchange.
    pub dead_letter: bool,
}

/// What an answer of the broker came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Batches of which every message is confirmed.
    pub batches: Vec<Batch>,
    /// How many messages were confirmed.
    pub confirmed: u64,
    /// How many are to be tried again.
    pub failed: u64,
}

/// All messages between the readers and the broker's confirm.
#[derive(Debug)]
pub struct Outbox {
    window: usize,
    /// After so many failures a message goes to the dead letter exchange; `None` where there is none.
    dead_letter_after: Option<u32>,
    held: Vec<Option<Held>>,
    free: Vec<usize>,
    /// Batches not published yet, and how far the first of them is.
    fresh: VecDeque<usize>,
    next_index: usize,
    /// To be published again: they were refused, or their connection was lost.
    again: VecDeque<Entry>,
    /// How many messages may be unconfirmed now. All go the same way, so a refusal says that the way is full: half as many
    /// then, and one more with each confirm, as TCP does.
    limit: usize,
    /// Nothing is published before this.
    paused_until: Option<Instant>,
    /// How long the next pause is.
    pause: Duration,
    /// By delivery tag, from `first_tag` on; `None` once settled.
    in_flight: VecDeque<Option<InFlight>>,
    first_tag: u64,
    unconfirmed: usize,
}

impl Outbox {
    /// With at most `window` messages unconfirmed at a time.
    pub fn new(window: usize, dead_letter_after: Option<u32>) -> Self {
        Self {
            window,
            dead_letter_after,
            held: Vec::new(),
            free: Vec::new(),
            fresh: VecDeque::new(),
            next_index: 0,
            again: VecDeque::new(),
            limit: window,
            paused_until: None,
            pause: FIRST_PAUSE,
            in_flight: VecDeque::new(),
            first_tag: 1,
            unconfirmed: 0,
        }
    }

    /// Takes a batch in.
    pub fn push(&mut self, batch: Batch) {
        let held = Some(Held { unconfirmed: batch.messages.len(), batch });
        let slot = self.free.pop().unwrap_or(self.held.len());
        if slot == self.held.len() {
            self.held.push(held);
        } else {
            self.held[slot] = held;
        }
        self.fresh.push_back(slot);
    }

    /// The message to publish next, if one may be: those to be published again first, then new ones.
    pub fn take(&mut self, now: Instant) -> Option<Sending<'_>> {
        if !self.has_room() || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let entry = match self.again.pop_front() {
            Some(entry) => entry,
            None => self.next_fresh()?,
        };
        self.in_flight.push_back(Some(InFlight { entry, sent: now, returned: false }));
        self.unconfirmed += 1;
        let dead_letter = self.dead_letter_after.is_some_and(|failures| entry.failures >= failures);
        let batch = &self.held[entry.slot].as_ref()?.batch;
        Some(Sending { id: &batch.messages[entry.index].id, body: batch.body(entry.index), dead_letter })
    }

    fn next_fresh(&mut self) -> Option<Entry> {
        let slot = *self.fresh.front()?;
        let entry = Entry { slot, index: self.next_index, failures: 0 };
        self.next_index += 1;
        if self.held[slot].as_ref().is_none_or(|held| self.next_index >= held.batch.messages.len()) {
            self.fresh.pop_front();
            self.next_index = 0;
        }
        Some(entry)
    }

    /// Whether another message may be on its way.
    pub fn has_room(&self) -> bool {
        self.unconfirmed < self.limit
    }

    /// Whether there is so much room that filling it up is worth a write.
    pub fn has_much_room(&self) -> bool {
        self.unconfirmed <= self.limit * 3 / 4
    }

    /// How many messages were published and are not confirmed, those to be published again included.
    pub fn pending(&self) -> usize {
        self.unconfirmed + self.again.len()
    }

    /// No queue wants the message with this id. Its ack, which follows, does not count. `true` if it was on its way.
    pub fn returned(&mut self, id: &str) -> bool {
        let Self { in_flight, held, .. } = self;
        let is_it = |in_flight: &&mut InFlight| {
            let held = held[in_flight.entry.slot].as_ref();
            !in_flight.returned && held.is_some_and(|held| held.batch.messages[in_flight.entry.index].id.text() == id)
        };
        match in_flight.iter_mut().flatten().find(is_it) {
            Some(in_flight) => {
                in_flight.returned = true;
                true
            }
            None => false,
        }
    }

    /// The broker confirmed (`taken`) or refused the message with this tag, or all up to it.
    pub fn settle(&mut self, tag: u64, multiple: bool, taken: bool, now: Instant) -> Settled {
        let mut settled = Settled::default();
        let Some(last) = tag.checked_sub(self.first_tag).map(|at| at as usize) else { return settled };
        let first = if multiple { 0 } else { last };
        for at in first..=last {
            let Some(in_flight) = self.in_flight.get_mut(at).and_then(Option::take) else { continue };
            self.unconfirmed -= 1;
            if taken && !in_flight.returned {
                settled.confirmed += 1;
                self.limit = (self.limit + 1).min(self.window);
                self.pause = FIRST_PAUSE;
                settled.batches.extend(self.confirm(in_flight.entry.slot));
            } else {
                settled.failed += 1;
                self.refused(in_flight.entry, now);
            }
        }
        while self.in_flight.pop_front_if(|in_flight| in_flight.is_none()).is_some() {
            self.first_tag += 1;
        }
        settled
    }

    fn confirm(&mut self, slot: usize) -> Option<Batch> {
        let held = self.held[slot].as_mut()?;
        held.unconfirmed -= 1;
        if held.unconfirmed > 0 {
            return None;
        }
        self.free.push(slot);
        self.held[slot].take().map(|held| held.batch)
    }

    fn refused(&mut self, entry: Entry, now: Instant) {
        self.again.push_back(Entry { failures: entry.failures.saturating_add(1), ..entry });
        if self.paused_until.is_some_and(|until| now < until) {
            // One of those that were on their way when the pause began.
            return;
        }
        self.paused_until = Some(now + self.pause);
        self.pause = (2 * self.pause).min(LAST_PAUSE);
        if self.dead_letter_after.is_none() {
            self.limit = (self.limit / 2).max(1);
        }
    }

    /// The connection is lost: what it did not confirm is published again, in its order, with tags from 1.
    pub fn disconnected(&mut self) {
        let unconfirmed = std::mem::take(&mut self.in_flight);
        let entries = unconfirmed.into_iter().flatten().map(|in_flight| in_flight.entry);
        self.again = entries.chain(std::mem::take(&mut self.again)).collect();
        (self.first_tag, self.unconfirmed) = (1, 0);
        (self.limit, self.paused_until) = (self.window, None);
    }

    /// Until when nothing is published.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }

    /// When the message was published that waits longest for its confirm.
    pub fn oldest_sent(&self) -> Option<Instant> {
        self.in_flight.iter().flatten().next().map(|in_flight| in_flight.sent)
    }

    /// Whether every message was confirmed.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.pending() == 0
    }
}

#[cfg(test)]
mod tests;
