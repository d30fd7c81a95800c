//! The messages of one container after the broker refused one of them. They wait here, in their order, while others
//! continue.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sidecar::retry;

/// The first pause of a lane after a refusal. The pause doubles while nothing is confirmed, up to a limit.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pauses of a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    /// After a nack or a return.
    refused: Duration,
    /// If each refusal closes the channel.
    closing: Duration,
}

impl Pauses {
    /// For a shipper in normal operation.
    pub(super) const PATIENT: Self = Self { refused: Duration::from_secs(5), closing: Duration::from_secs(60) };

    /// For a shipper that ends: messages that the broker accepts again must not wait.
    pub(super) const HASTY: Self = Self { refused: Duration::from_millis(500), closing: Duration::from_secs(5) };

    fn longest(self, how: Refused) -> Duration {
        if how.closes() { self.closing } else { self.refused }
    }
}

/// A message that was refused this often no longer blocks the others of its container.
const ASIDE_AFTER: u32 = 3;
/// At most this many messages are put aside: if all are refused, all wait.
const MOST_ASIDE: usize = 8;

/// A message of a batch that is unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: usize,
    pub(super) index: usize,
    /// Which of the messages that replaced it.
    pub(super) part: usize,
    /// How often it was refused, returned or lost while it was alone.
    pub(super) failures: u32,
    /// How often it was refused again after others had been confirmed.
    pub(super) evidence: u32,
    /// How many others had been confirmed at its last refusal.
    pub(super) seen: u64,
    /// Whether it no longer blocks the others of its container.
    pub(super) aside: bool,
}

/// A batch that is published from this message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    pub(super) slot: usize,
    pub(super) next: usize,
}

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A nack or a return, usually because of a full or missing queue.
    Nack,
    /// The broker closed the channel because of its routing key.
    Key,
    /// The broker closed the channel or the connection while this message was the only unconfirmed one.
    Alone,
    /// The connection was lost while this message was the only unconfirmed one.
    Lost,
}

impl Refused {
    /// Whether each refusal of this kind closes the channel.
    fn closes(self) -> bool {
        self != Self::Nack
    }

    /// How often a message must be refused again, after others were confirmed, until it counts as one that the broker
    /// never accepts.
    pub(super) fn evidence_needed(self) -> Option<u32> {
        match self {
            Self::Alone => Some(2),
            // A full queue refuses a message now and accepts it later, so a nack says nothing about the message.
            Self::Nack | Self::Key | Self::Lost => None,
        }
    }
}

/// The lane of one container; see the module.
#[derive(Debug)]
pub(super) struct Lane {
    /// In the order of the log, each with its position there.
    queue: VecDeque<((u64, usize, usize), Entry)>,
    /// Messages that were refused several times, and when each is retried.
    aside: Vec<(Instant, Entry)>,
    /// Batches that were not published yet.
    pub(super) rest: VecDeque<Fresh>,
    /// How many of this container's messages are elsewhere: unconfirmed, or about to be published.
    pub(super) out: usize,
    /// The most that may be unconfirmed: halved after a refusal, and increased by one with each confirm, as in TCP.
    allowed: usize,
    /// Whether a refusal reduces the limit.
    narrow: bool,
    paused_until: Option<Instant>,
    pause: Duration,
    /// How many of this container's messages were confirmed, and how many had been at the last refusal.
    confirms: u64,
    refused_at: Option<u64>,
    /// Whether its next message is published only when no other one is unconfirmed, because the last refusal closed the
    /// channel.
    pub(super) alone: bool,
    /// Whether it is in the list of lanes that may publish.
    pub(super) listed: bool,
}

/// The next thing that a lane publishes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Entry(Entry),
    Fresh(Fresh),
}

impl Lane {
    pub(super) fn new(window: usize, out: usize, narrow: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            aside: Vec::new(),
            rest: VecDeque::new(),
            out,
            allowed: window,
            narrow,
            paused_until: None,
            pause: FIRST_PAUSE,
            confirms: 0,
            refused_at: None,
            alone: false,
            listed: false,
        }
    }

    /// One of its messages was confirmed.
    pub(super) fn confirmed(&mut self, window: usize) {
        self.confirms += 1;
        self.pause = FIRST_PAUSE;
        self.allowed = (self.allowed + 1).min(window);
        self.alone = false;
    }

    /// One of its messages was refused; `others` is how many messages of all containers were confirmed so far.
    pub(super) fn refused(
        &mut self,
        mut entry: Entry,
        place: (u64, usize, usize),
        how: Refused,
        others: u64,
        pauses: Pauses,
        now: Instant,
    ) -> Entry {
        entry.failures = entry.failures.saturating_add(1);
        let passed = if how == Refused::Nack { self.confirms } else { others };
        if entry.failures > 1 && passed > entry.seen {
            entry.evidence += 1;
        }
        entry.seen = passed;
        let in_vain = self.refused_at.replace(self.confirms) == Some(self.confirms);
        self.alone |= how.closes();
        let is_it = how == Refused::Alone || how == Refused::Lost;
        let was_aside = entry.aside;
        entry.aside = (is_it || entry.failures >= ASIDE_AFTER) && self.aside.len() < MOST_ASIDE;
        let last_pause = pauses.longest(how);
        // A message that was put aside, or found to be the reason, says nothing about the others. Messages that were
        // unconfirmed when a pause began count as the same sign.
        let is_a_sign = !was_aside && (!is_it || in_vain);
        if is_a_sign && self.paused_until.is_none_or(|until| now >= until) {
            self.paused_until = Some(now + self.pause);
            self.pause = (2 * self.pause).min(last_pause);
            if self.narrow {
                self.allowed = (self.allowed / 2).max(1);
            }
        }
        if how == Refused::Key {
            self.allowed = 1;
        }
        if entry.aside {
            let wait = retry::pause(FIRST_PAUSE, entry.failures.saturating_add(1), last_pause);
            self.aside.push((now + wait, entry));
        } else {
            self.queue_up(entry, place);
        }
        entry
    }

    /// Removes the message that was refused last.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let is_it = |other: &Entry| (other.slot, other.index, other.part) == (entry.slot, entry.index, entry.part);
        self.aside.retain(|(_, other)| !is_it(other));
        self.queue.retain(|(_, other)| !is_it(other));
    }

    /// Inserts a message at its position in the order of the log.
    pub(super) fn queue_up(&mut self, entry: Entry, place: (u64, usize, usize)) {
        let at = self.queue.partition_point(|(other, _)| *other < place);
        self.queue.insert(at, (place, entry));
    }

    /// The next message to publish, if there is one now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        if let Some(due) = self.aside.iter().position(|(at, _)| *at <= now) {
            return Some(Next::Entry(self.aside.remove(due).1));
        }
        if self.paused_until.is_some_and(|until| now < until) || self.out >= self.allowed {
            return None;
        }
        if let Some((_, entry)) = self.queue.pop_front() {
            return Some(Next::Entry(entry));
        }
        self.rest.pop_front().map(Next::Fresh)
    }

    /// When to check it again, if nothing else happens.
    pub(super) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let waits = !self.queue.is_empty() || !self.rest.is_empty();
        let pause = self.paused_until.filter(|until| waits && *until > now);
        self.aside.iter().map(|(at, _)| *at).chain(pause).min()
    }

    /// A new connection was opened, which may accept everything.
    pub(super) fn end_pause(&mut self) {
        if !self.alone {
            self.paused_until = None;
        }
    }

    /// All waiting messages may be published now.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        self.paused_until = None;
        self.pause = FIRST_PAUSE;
        for (at, _) in &mut self.aside {
            *at = now.min(*at);
        }
    }

    /// Whether it only waits, and nothing was accepted since the refusal.
    pub(super) fn is_stuck(&self) -> bool {
        self.refused_at == Some(self.confirms)
    }

    /// How many waiting messages were published before.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.aside.len()
    }

    /// Whether the container no longer needs a lane.
    pub(super) fn is_over(&self, window: usize) -> bool {
        self.waiting() == 0 && (self.rest.is_empty() && self.out == 0 || self.allowed >= window)
    }
}
