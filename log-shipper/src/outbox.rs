//! Decides which message is published next, and handles confirms, refusals, returns and lost connections. No I/O, no
//! clock.
//!
//! Messages that the broker refuses wait in a lane for their container ([`lane`]), and the others continue. If the
//! broker closes the channel without saying which message is the reason, each unconfirmed one is published alone until
//! it is found.

mod answer;
mod lane;
mod loss;
mod next;
mod resize;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use self::lane::{Entry, Fresh, Lane, Pauses};
use crate::outgoing::{Batch, MessageId};
use crate::source::Source;

/// A message that waits for its confirm.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    entry: Entry,
    sent: Instant,
    returned: bool,
    dead_letter: bool,
}

#[derive(Debug)]
struct Held {
    batch: Batch,
    unconfirmed: usize,
    /// Replacements of messages that were too large, by their index.
    remade: BTreeMap<usize, Remade>,
    /// Whether its bytes are included in [`Outbox::parked`].
    parked: bool,
}

#[derive(Debug)]
struct Remade {
    bodies: Vec<Vec<u8>>,
    /// Whether something was cut off.
    cut: bool,
}

/// A message to publish now.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Its source.
    pub source: &'a Source,
    /// Its id.
    pub id: MessageId,
    /// Its body.
    pub body: &'a [u8],
    /// Whether it goes to the dead letter exchange.
    pub dead_letter: bool,
}

/// What was done about a message that the broker never accepts.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its source.
    pub source: Arc<Source>,
    /// Its id.
    pub id: MessageId,
    /// Its size, in bytes.
    pub bytes: usize,
    /// What was done.
    pub fate: Fate,
}

/// See [`Verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was cut and marked, and is published as usual.
    Cut,
    /// It was cut and marked, and goes to the dead letter exchange.
    CutForDeadLetters,
    /// It is no longer published.
    GivenUp,
}

/// The result of an answer from the broker.
#[derive(Debug, Default)]
pub struct Settled {
    /// Batches of which every message is confirmed or given up.
    pub batches: Vec<Batch>,
    /// How many messages were confirmed.
    pub confirmed: u64,
    /// How many messages must be retried.
    pub failed: u64,
    /// What was done about messages that the broker never accepts.
    pub verdicts: Vec<Verdict>,
}

/// All messages between the readers and the broker's confirm.
#[derive(Debug)]
pub struct Outbox {
    window: usize,
    /// After this many failures a message goes to the dead letter exchange; `None` if there is none.
    dead_letter_after: Option<u32>,
    /// The largest message that the broker accepts, in bytes, once it is known.
    size_limit: Option<usize>,
    held: Vec<Option<Held>>,
    free: Vec<usize>,
    /// Batches not published yet.
    fresh: VecDeque<Fresh>,
    /// Messages to publish again, because their channel or connection was lost.
    again: VecDeque<Entry>,
    /// Messages to publish alone.
    suspects: VecDeque<Entry>,
    /// Containers of which a message was refused, by the log's id.
    lanes: HashMap<u64, Lane>,
    /// Lanes that may have something to publish, lanes that will at a certain time, and whether it is the lanes' turn.
    listed: VecDeque<u64>,
    wakes: BTreeSet<(Instant, u64)>,
    lanes_turn: bool,
    /// The longest pauses of lanes.
    pauses: Pauses,
    /// How many bytes are in batches in lanes.
    parked: usize,
    /// Unconfirmed messages by delivery tag, from `first_tag` on; `None` once settled.
    in_flight: VecDeque<Option<InFlight>>,
    first_tag: u64,
    unconfirmed: usize,
    /// Whether a published message must be the only unconfirmed one.
    alone: bool,
    /// The number of confirms, their number at the last lost connection, and how many connections were lost since then
    /// without any.
    confirms: u64,
    confirms_at_loss: u64,
    losses: u32,
    /// The results of calls of [`Outbox::take`].
    settled: Settled,
}

impl Outbox {
    /// An outbox with at most `window` unconfirmed messages.
    pub fn new(window: usize, dead_letter_after: Option<u32>) -> Self {
        Self {
            window,
            dead_letter_after,
            size_limit: None,
            held: Vec::new(),
            free: Vec::new(),
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            suspects: VecDeque::new(),
            lanes: HashMap::new(),
            listed: VecDeque::new(),
            wakes: BTreeSet::new(),
            lanes_turn: false,
            pauses: Pauses::PATIENT,
            parked: 0,
            in_flight: VecDeque::new(),
            first_tag: 1,
            unconfirmed: 0,
            alone: false,
            confirms: 0,
            confirms_at_loss: 0,
            losses: 0,
            settled: Settled::default(),
        }
    }

    /// Adds a batch.
    pub fn push(&mut self, batch: Batch) {
        let held = Held { unconfirmed: batch.messages.len(), batch, remade: BTreeMap::new(), parked: false };
        let slot = self.free.pop().unwrap_or(self.held.len());
        if slot == self.held.len() {
            self.held.push(Some(held));
        } else {
            self.held[slot] = Some(held);
        }
        self.fresh.push_back(Fresh { slot, next: 0 });
    }

    /// The process ends once everything is confirmed: refused messages are retried at once, and from now on without
    /// long pauses.
    pub fn end_pauses(&mut self, now: Instant) {
        self.pauses = Pauses::HASTY;
        for lane in self.lanes.values_mut() {
            lane.end_pauses(now);
        }
        self.list_all();
    }

    /// The message to publish next, if one may be.
    pub fn take(&mut self, now: Instant) -> Option<Sending<'_>> {
        let (entry, alone) = loop {
            let (entry, alone) = self.next(now)?;
            if let Some(entry) = self.made_to_fit(entry) {
                break (entry, alone);
            }
        };
        let dead_letter = self.is_dead_letter(&entry);
        self.in_flight.push_back(Some(InFlight { entry, sent: now, returned: false, dead_letter }));
        self.unconfirmed += 1;
        self.alone = alone;
        let held = self.held[entry.slot].as_ref()?;
        let body = body(held, &entry);
        Some(Sending { source: &held.batch.receipt.source, id: id(held, &entry), body, dead_letter })
    }

    /// Whether another message may be published.
    pub fn has_room(&self) -> bool {
        self.unconfirmed < self.window && !self.alone
    }

    /// Whether there is enough room to be worth a write.
    pub fn has_much_room(&self) -> bool {
        self.unconfirmed <= self.window * 3 / 4
    }

    /// How many published messages are unconfirmed, including those to be published again.
    pub fn pending(&self) -> usize {
        let lanes: usize = self.lanes.values().map(Lane::waiting).sum();
        self.unconfirmed + self.again.len() + self.suspects.len() + lanes
    }

    /// How many bytes belong to containers of which a message was refused.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// How many containers wait because the broker refused one of their messages.
    pub fn refused_containers(&self) -> usize {
        self.lanes.len()
    }

    /// Returns the results of publishing since the last call.
    pub fn take_settled(&mut self) -> Settled {
        std::mem::take(&mut self.settled)
    }

    /// Lets a lane publish if it can, or removes it.
    fn look_after(&mut self, id: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if !lane.is_over(self.window) {
            return self.list(id);
        }
        let rest = std::mem::take(&mut lane.rest);
        self.lanes.remove(&id);
        for fresh in rest.into_iter().rev() {
            self.fresh.push_front(fresh);
        }
        let Self { held, parked, .. } = self;
        for held in held.iter_mut().flatten().filter(|held| held.parked && held.batch.receipt.source.id == id) {
            held.parked = false;
            *parked -= held.batch.bytes.len();
            held.batch.receipt.source.ledger().hold(false);
        }
    }

    fn list_all(&mut self) {
        let lanes: Vec<_> = self.lanes.keys().copied().collect();
        for id in lanes {
            self.list(id);
        }
    }

    fn list(&mut self, id: u64) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && !lane.listed
        {
            lane.listed = true;
            self.listed.push_back(id);
        }
    }

    fn park(&mut self, slot: usize) {
        if let Some(held) = self.held[slot].as_mut()
            && !held.parked
        {
            held.parked = true;
            self.parked += held.batch.bytes.len();
        }
    }

    fn log_id(&self, slot: usize) -> u64 {
        self.held[slot].as_ref().map_or(u64::MAX, |held| held.batch.receipt.source.id)
    }

    /// The position of a message in its log.
    fn place(&self, entry: &Entry) -> (u64, usize, usize) {
        (self.held[entry.slot].as_ref().map_or(0, |held| held.batch.receipt.number), entry.index, entry.part)
    }

    /// Until when nothing is published, if only time has to pass.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        let first = self.wakes.first().map(|(at, _)| *at);
        let lanes = self.listed.iter().filter_map(|id| self.lanes.get(id)?.wakes_at(now));
        lanes.chain(first).min().filter(|until| now < *until)
    }

    /// When the oldest unconfirmed message was published.
    pub fn oldest_sent(&self) -> Option<Instant> {
        self.in_flight.iter().flatten().next().map(|in_flight| in_flight.sent)
    }

    /// Whether every message was confirmed or given up.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.pending() == 0 && self.lanes.values().all(|lane| lane.rest.is_empty())
    }
}

fn body<'a>(held: &'a Held, entry: &Entry) -> &'a [u8] {
    match held.remade.get(&entry.index) {
        Some(remade) => &remade.bodies[entry.part],
        None => held.batch.body(entry.index),
    }
}

/// The id of a part: its message's id plus its number. Offsets within the first event's bytes are not used by any other
/// message.
fn id(held: &Held, entry: &Entry) -> MessageId {
    let id = held.batch.messages[entry.index].id;
    MessageId { offset: id.offset + entry.part as u64, ..id }
}

#[cfg(test)]
mod tests;
