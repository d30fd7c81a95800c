//! Which message is published next, and what a confirm, refusal, return or lost connection means. No I/O, no clock.
//!
//! What the broker refuses waits in a lane of its container ([`lane`]), and the others go on. When the broker closes the channel
//! and doesn't say because of which message, each that was on its way is published alone, until it is found.

mod lane;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use self::lane::{Entry, Fresh, Lane, Next, Refused};
use crate::amqp::Blame;
use crate::container::Container;
use crate::fit::{Fitted, fit, halves};
use crate::follow::ContainerLog;
use crate::outgoing::{Batch, MessageId};

/// After so many lost connections on which nothing was confirmed, each message goes out alone: one of them may be why.
const LOSSES_BEFORE_DOUBT: u32 = 3;

/// A message that the broker never takes is cut to half its size as long as it is larger than this, in bytes.
const SMALL: usize = 64 * 1024;

/// A broker that refuses smaller messages for their size means something else.
const LEAST_LIMIT: usize = 4096;

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
    /// What took the place of messages that were too large, by their index.
    remade: BTreeMap<usize, Remade>,
    /// Whether its bytes are counted in [`Outbox::parked`].
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
    /// Whose it is.
    pub log: &'a ContainerLog,
    /// Its id.
    pub id: MessageId,
    /// Its body.
    pub body: &'a [u8],
    /// Whether it goes to the dead letter exchange.
    pub dead_letter: bool,
}

/// What was done about a message that the broker never takes.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whose it is.
    pub log: Arc<ContainerLog>,
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
    /// It was cut and marked, and goes where messages go.
    Cut,
    /// It was cut and marked, and goes to the dead letter exchange.
    CutForDeadLetters,
    /// It is not published any more.
    GivenUp,
}

/// What an answer of the broker came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Batches of which every message is confirmed or given up.
    pub batches: Vec<Batch>,
    /// How many messages were confirmed.
    pub confirmed: u64,
    /// How many are to be tried again.
    pub failed: u64,
    /// What was done about messages that the broker never takes.
    pub verdicts: Vec<Verdict>,
}

/// All messages between the readers and the broker's confirm.
#[derive(Debug)]
pub struct Outbox {
    window: usize,
    /// After so many failures a message goes to the dead letter exchange; `None` where there is none.
    dead_letter_after: Option<u32>,
    /// The largest message that the broker takes, in bytes, once it said so.
    size_limit: Option<usize>,
    held: Vec<Option<Held>>,
    free: Vec<usize>,
    /// Batches not published yet.
    fresh: VecDeque<Fresh>,
    /// To be published again: their channel or connection was lost.
    again: VecDeque<Entry>,
    /// To be published alone.
    suspects: VecDeque<Entry>,
    /// By the log's id: containers of which a message was refused.
    lanes: HashMap<u64, Lane>,
    /// Lanes that may have something to publish, those that will at a time, and whether it is the lanes' turn.
    listed: VecDeque<u64>,
    wakes: BTreeSet<(Instant, u64)>,
    lanes_turn: bool,
    /// Bytes of batches in lanes.
    parked: usize,
    /// By delivery tag, from `first_tag` on; `None` once settled.
    in_flight: VecDeque<Option<InFlight>>,
    first_tag: u64,
    unconfirmed: usize,
    /// Whether what is on its way must be the only one.
    alone: bool,
    /// Confirms so far, those at the last lost connection, and how many connections were lost since without any.
    confirms: u64,
    confirms_at_loss: u64,
    losses: u32,
    /// What [`Outbox::take`] brought about.
    aftermath: Settled,
}

impl Outbox {
    /// With at most `window` messages unconfirmed at a time.
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
            parked: 0,
            in_flight: VecDeque::new(),
            first_tag: 1,
            unconfirmed: 0,
            alone: false,
            confirms: 0,
            confirms_at_loss: 0,
            losses: 0,
            aftermath: Settled::default(),
        }
    }

    /// Takes a batch in.
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
        Some(Sending { log: &held.batch.log, id: id(held, &entry), body, dead_letter })
    }

    fn next(&mut self, now: Instant) -> Option<(Entry, bool)> {
        if !self.has_room() {
            return None;
        }
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            self.list(id);
        }
        for _ in 0..2 {
            if !self.suspects.is_empty() {
                break;
            }
            self.lanes_turn = !self.lanes_turn;
            let next = if self.lanes_turn { self.next_of_lanes(now) } else { self.next_of_others() };
            if let Some(entry) = next {
                return Some((entry, false));
            }
        }
        if self.unconfirmed > 0 {
            return None;
        }
        self.suspects.pop_front().map(|entry| (entry, true))
    }

    /// `None`, too, when what is next must go alone: it is then among the suspects.
    fn next_of_lanes(&mut self, now: Instant) -> Option<Entry> {
        while let Some(id) = self.listed.pop_front() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.listed = false;
            let Some(next) = lane.next(now) else {
                self.wakes.extend(lane.wakes_at(now).map(|at| (at, id)));
                continue;
            };
            lane.out += 1;
            let alone = lane.alone;
            let entry = match next {
                Next::Entry(entry) => entry,
                Next::Fresh(fresh) => {
                    let (entry, rest) = self.first_of(fresh);
                    if let (Some(rest), Some(lane)) = (rest, self.lanes.get_mut(&id)) {
                        lane.rest.push_front(rest);
                    }
                    entry
                }
            };
            self.list(id);
            if !alone {
                return Some(entry);
            }
            self.suspects.push_back(entry);
            return None;
        }
        None
    }

    fn next_of_others(&mut self) -> Option<Entry> {
        while let Some(entry) = self.again.pop_front() {
            let (id, place) = (self.log_id(entry.slot), self.place(&entry));
            let Some(lane) = self.lanes.get_mut(&id) else { return Some(entry) };
            lane.out -= 1;
            lane.queue_up(entry, place);
            self.list(id);
        }
        while let Some(fresh) = self.fresh.pop_front() {
            if !self.lanes.is_empty() {
                let id = self.log_id(fresh.slot);
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.rest.push_back(fresh);
                    self.park(fresh.slot);
                    self.list(id);
                    continue;
                }
            }
            let (entry, rest) = self.first_of(fresh);
            if let Some(rest) = rest {
                self.fresh.push_front(rest);
            }
            return Some(entry);
        }
        None
    }

    fn first_of(&self, fresh: Fresh) -> (Entry, Option<Fresh>) {
        let Fresh { slot, next } = fresh;
        let entry = Entry { slot, index: next, part: 0, failures: 0, evidence: 0, seen: 0, aside: false };
        let more = self.held[slot].as_ref().is_some_and(|held| next + 1 < held.batch.messages.len());
        (entry, more.then_some(Fresh { slot, next: next + 1 }))
    }

    /// The message itself, or the first of those that take its place; `None` if it can't be made to fit.
    fn made_to_fit(&mut self, entry: Entry) -> Option<Entry> {
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

    /// Puts other messages in the place of one.
    fn remake(&mut self, entry: &Entry, fitted: Fitted) {
        let Some(held) = self.held[entry.slot].as_mut() else { return };
        let (id, bytes, log_id) = (id(held, entry), body(held, entry).len(), held.batch.log.id);
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
            self.judge(entry.slot, id, bytes, fate);
        }
    }

    fn judge(&mut self, slot: usize, id: MessageId, bytes: usize, fate: Fate) {
        if let Some(held) = &self.held[slot] {
            self.aftermath.verdicts.push(Verdict { log: held.batch.log.clone(), id, bytes, fate });
        }
    }

    fn give_up(&mut self, entry: Entry) {
        let Some(held) = self.held[entry.slot].as_ref() else { return };
        let (id, bytes, log_id) = (id(held, &entry), body(held, &entry).len(), held.batch.log.id);
        self.judge(entry.slot, id, bytes, Fate::GivenUp);
        if let Some(lane) = self.lanes.get_mut(&log_id) {
            lane.out -= 1;
        }
        let done = self.done_with(entry.slot);
        self.aftermath.batches.extend(done);
        self.look_after(log_id);
    }

    fn is_dead_letter(&self, entry: &Entry) -> bool {
        let Some(after) = self.dead_letter_after else { return false };
        let cut =
            self.held[entry.slot].as_ref().and_then(|held| held.remade.get(&entry.index)).is_some_and(|it| it.cut);
        // If that refuses it, too, both ways are tried in turn.
        let after = if cut { 0 } else { after };
        entry.failures >= after && (entry.failures - after).is_multiple_of(2)
    }

    /// Whether another message may be on its way.
    pub fn has_room(&self) -> bool {
        self.unconfirmed < self.window && !self.alone
    }

    /// Whether there is so much room that filling it up is worth a write.
    pub fn has_much_room(&self) -> bool {
        self.unconfirmed <= self.window * 3 / 4
    }

    /// How many messages were published and are not confirmed, those to be published again included.
    pub fn pending(&self) -> usize {
        let lanes: usize = self.lanes.values().map(Lane::waiting).sum();
        self.unconfirmed + self.again.len() + self.suspects.len() + lanes
    }

    /// How many bytes belong to containers of which a message was refused.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// How many containers wait because the broker refused a message of theirs.
    pub fn refused_containers(&self) -> usize {
        self.lanes.len()
    }

    /// What publishing brought about since the last call.
    pub fn aftermath(&mut self) -> Settled {
        std::mem::take(&mut self.aftermath)
    }

    /// No queue wants the message with this id. Its ack, which follows, does not count. `true` if it was on its way.
    pub fn returned(&mut self, returned: MessageId) -> bool {
        let Self { in_flight, held, .. } = self;
        let is_it = |in_flight: &&mut InFlight| {
            let held = held[in_flight.entry.slot].as_ref();
            !in_flight.returned && held.is_some_and(|held| id(held, &in_flight.entry) == returned)
        };
        match in_flight.iter_mut().flatten().find(is_it) {
            Some(in_flight) => {
                in_flight.returned = true;
                true
            }
            None => false,
        }
    }

    /// The broker confirmed (`taken`) or refused the message with this tag, or all up to it. Tag 0 with `multiple` is all (AMQP
    /// 0-9-1, `basic.ack`); tags that were never given mean nothing.
    pub fn settle(&mut self, tag: u64, multiple: bool, taken: bool, now: Instant) -> Settled {
        let given = self.in_flight.len();
        let end = match tag.checked_sub(self.first_tag).and_then(|at| usize::try_from(at).ok()) {
            Some(at) if at < given => at + 1,
            Some(_) if multiple => given,
            None if multiple && tag == 0 => given,
            _ => return self.aftermath(),
        };
        for at in if multiple { 0 } else { end - 1 }..end {
            let Some(in_flight) = self.in_flight.get_mut(at).and_then(Option::take) else { continue };
            self.unconfirmed -= 1;
            if taken && !in_flight.returned {
                self.aftermath.confirmed += 1;
                self.confirmed(in_flight.entry);
            } else {
                self.aftermath.failed += 1;
                self.refused(in_flight.entry, Refused::Nack, now);
            }
        }
        while self.in_flight.pop_front_if(|in_flight| in_flight.is_none()).is_some() {
            self.first_tag += 1;
        }
        self.alone &= self.unconfirmed > 0;
        self.aftermath()
    }

    fn confirmed(&mut self, entry: Entry) {
        self.confirms += 1;
        if !self.lanes.is_empty()
            && let Some(held) = self.held[entry.slot].as_ref()
            && let Some(lane) = self.lanes.get_mut(&held.batch.log.id)
        {
            lane.out -= 1;
            lane.confirmed(self.window);
            let log = held.batch.log.clone();
            log.ledger().hold(false);
            let done = self.done_with(entry.slot);
            self.aftermath.batches.extend(done);
            return self.look_after(log.id);
        }
        let done = self.done_with(entry.slot);
        self.aftermath.batches.extend(done);
    }

    /// One message less to confirm; gives the batch when it was the last.
    fn done_with(&mut self, slot: usize) -> Option<Batch> {
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

    fn refused(&mut self, entry: Entry, how: Refused, now: Instant) {
        let Some(log) = self.held[entry.slot].as_ref().map(|held| held.batch.log.clone()) else { return };
        let place = self.place(&entry);
        if !self.lanes.contains_key(&log.id) {
            let out = 1 + self.elsewhere(log.id);
            self.lanes.insert(log.id, Lane::new(self.window, out));
        }
        let mut entry = entry;
        if let Some(after) = self.dead_letter_after.filter(|_| how == Refused::Alone) {
            entry.failures = entry.failures.max(after.saturating_sub(1));
        }
        let (narrow, others) = (self.dead_letter_after.is_none(), self.confirms);
        let Some(lane) = self.lanes.get_mut(&log.id) else { return };
        lane.out -= 1;
        let entry = lane.refused(entry, place, how, others, narrow, now);
        log.ledger().hold(lane.is_stuck());
        let dead_letters_failed = self.dead_letter_after.is_none_or(|after| entry.failures > after + 1);
        if how.evidence_needed().is_some_and(|needed| entry.evidence >= needed) && dead_letters_failed {
            lane.remove(&entry);
            lane.out += 1;
            self.never_taken(entry);
        }
        self.park(entry.slot);
        self.look_after(log.id);
    }

    /// The broker takes others and never this one: it is split or cut as long as that may help.
    fn never_taken(&mut self, entry: Entry) {
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

    /// The broker closed the channel, and what it did not confirm is published again, in its order, with tags from 1; `key` is
    /// the routing key of a container's messages.
    pub fn channel_closed(&mut self, blame: &Blame, key: impl Fn(&Container) -> String, now: Instant) -> Settled {
        let entries: Vec<_> = self.take_in_flight();
        match blame {
            Blame::Everything => self.put_back(entries.into_iter().map(|in_flight| in_flight.entry)),
            Blame::Size(limit) => {
                let size = |in_flight: &InFlight| {
                    self.held[in_flight.entry.slot].as_ref().map_or(0, |held| body(held, &in_flight.entry).len())
                };
                let largest = entries.iter().map(size).max().unwrap_or(0);
                if largest <= *limit && largest < LEAST_LIMIT {
                    self.suspect(entries, Refused::Alone, now);
                } else {
                    // A broker that counts more than the body means less; how much less takes a few refusals to know.
                    let limit = if largest > *limit { *limit } else { largest - largest / 16 };
                    self.size_limit = Some(self.size_limit.map_or(limit, |known| known.min(limit)));
                    self.put_back(entries.into_iter().map(|in_flight| in_flight.entry));
                }
            }
            Blame::Key(_) | Blame::DeadLetters | Blame::OneMessage => {
                let is_guilty = |in_flight: &InFlight| match blame {
                    Blame::DeadLetters => in_flight.dead_letter,
                    Blame::Key(refused) => self.held[in_flight.entry.slot]
                        .as_ref()
                        .is_some_and(|held| key(&held.batch.log.container) == *refused),
                    _ => false,
                };
                let (guilty, innocent): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_guilty);
                if guilty.is_empty() {
                    self.suspect(innocent, Refused::Alone, now);
                } else {
                    self.put_back(innocent.into_iter().map(|in_flight| in_flight.entry));
                    for in_flight in guilty {
                        self.aftermath.failed += 1;
                        self.count_out(in_flight.entry.slot);
                        self.refused(in_flight.entry, Refused::Key, now);
                    }
                }
            }
        }
        self.aftermath()
    }

    /// The connection is lost: what it did not confirm is published again, in its order, with tags from 1.
    pub fn disconnected(&mut self, now: Instant) {
        // Another broker may have another limit, and this one may have been given a new one.
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
            self.put_back(entries.into_iter().map(|in_flight| in_flight.entry));
        }
        for lane in self.lanes.values_mut() {
            lane.end_pause();
        }
        let lanes: Vec<_> = self.lanes.keys().copied().collect();
        for id in lanes {
            self.list(id);
        }
    }

    /// One of these is why channel or connection ended: if it was alone it is that one, else each is published alone.
    fn suspect(&mut self, entries: Vec<InFlight>, how: Refused, now: Instant) {
        if let [in_flight] = entries[..] {
            self.aftermath.failed += 1;
            self.count_out(in_flight.entry.slot);
            return self.refused(in_flight.entry, how, now);
        }
        for in_flight in entries.into_iter().rev() {
            self.count_out(in_flight.entry.slot);
            self.suspects.push_front(in_flight.entry);
        }
    }

    /// Takes back all that is on its way; it counts for no lane then.
    fn take_in_flight(&mut self) -> Vec<InFlight> {
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

    fn put_back(&mut self, entries: impl DoubleEndedIterator<Item = Entry>) {
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

    fn count_out(&mut self, slot: usize) {
        let id = self.log_id(slot);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.out += 1;
        }
    }

    /// How many messages of a log are on their way or to be published next.
    fn elsewhere(&self, log: u64) -> usize {
        let waiting = self.again.iter().chain(&self.suspects);
        let all = self.in_flight.iter().flatten().map(|in_flight| &in_flight.entry).chain(waiting);
        all.filter(|entry| self.log_id(entry.slot) == log).count()
    }

    /// Lets a lane publish if it can, or ends it.
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
        for held in held.iter_mut().flatten().filter(|held| held.parked && held.batch.log.id == id) {
            held.parked = false;
            *parked -= held.batch.bytes.len();
            held.batch.log.ledger().hold(false);
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
        self.held[slot].as_ref().map_or(u64::MAX, |held| held.batch.log.id)
    }

    /// Where a message is in its log's order.
    fn place(&self, entry: &Entry) -> (u64, usize, usize) {
        (self.held[entry.slot].as_ref().map_or(0, |held| held.batch.number), entry.index, entry.part)
    }

    /// Until when nothing is published, if only time is waited for.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        let first = self.wakes.first().map(|(at, _)| *at);
        let lanes = self.listed.iter().filter_map(|id| self.lanes.get(id)?.wakes_at(now));
        lanes.chain(first).min().filter(|until| now < *until)
    }

    /// When the message was published that waits longest for its confirm.
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

/// A part's id is its message's, counted on: offsets within the bytes of its first event name no other message.
fn id(held: &Held, entry: &Entry) -> MessageId {
    let id = held.batch.messages[entry.index].id;
    MessageId { offset: id.offset + entry.part as u64, ..id }
}

#[cfg(test)]
mod tests;
