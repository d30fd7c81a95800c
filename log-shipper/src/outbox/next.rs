//! Decides which message is published next: alternately from the lanes and from the others, and a suspect when no other
//! message is unconfirmed.

use std::time::Instant;

use super::Outbox;
use super::lane::{Entry, Fresh, Next};

impl Outbox {
    pub(super) fn next(&mut self, now: Instant) -> Option<(Entry, bool)> {
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

    /// Also `None` if the next message must be published alone; it is then among the suspects.
    pub(super) fn next_of_lanes(&mut self, now: Instant) -> Option<Entry> {
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

    pub(super) fn next_of_others(&mut self) -> Option<Entry> {
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

    pub(super) fn first_of(&self, fresh: Fresh) -> (Entry, Option<Fresh>) {
        let Fresh { slot, next } = fresh;
        let entry = Entry { slot, index: next, part: 0, failures: 0, evidence: 0, seen: 0, aside: false };
        let more = self.held[slot].as_ref().is_some_and(|held| next + 1 < held.batch.messages.len());
        (entry, more.then_some(Fresh { slot, next: next + 1 }))
    }

    pub(super) fn is_dead_letter(&self, entry: &Entry) -> bool {
        let Some(after) = self.dead_letter_after else { return false };
        let cut =
            self.held[entry.slot].as_ref().and_then(|held| held.remade.get(&entry.index)).is_some_and(|it| it.cut);
        // If the dead letter exchange refuses it, too, both exchanges are tried in turn.
        let after = if cut { 0 } else { after };
        entry.failures >= after && (entry.failures - after).is_multiple_of(2)
    }
}
