//! Schedules readers: logs with unread bytes take turns of the same length, the others rest.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidecar::sync::lock;
use tokio::sync::mpsc::UnboundedSender;

use crate::follow::{ContainerLog, Next, ReadBuffer, Reading};
use crate::outgoing::Batch;

/// Rests end at multiples of this, so that many logs wake a reader only once.
const TICK: Duration = Duration::from_millis(100);

/// All logs, and which of them are to be read.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Arc<ContainerLog>>,
    resting: BTreeMap<(Instant, u64), Arc<ContainerLog>>,
    states: HashMap<u64, QueueState>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Ready,
    /// A reader is reading it; `again` if it was woken meanwhile.
    Running {
        again: bool,
    },
    /// It rests until then; `idle` if everything was read.
    Resting {
        until: Instant,
        idle: bool,
    },
}

impl Default for Pool {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), started: Instant::now() }
    }
}

impl Pool {
    /// Adds a log, or wakes it.
    pub fn wake(&self, log: &Arc<ContainerLog>) {
        let mut state = self.state();
        match state.states.get(&log.id()).copied() {
            Some(QueueState::Ready | QueueState::Running { again: true }) => return,
            Some(QueueState::Running { again: false }) => {
                state.states.insert(log.id(), QueueState::Running { again: true });
                return;
            }
            Some(QueueState::Resting { until, .. }) => drop(state.resting.remove(&(until, log.id()))),
            None => (),
        }
        state.states.insert(log.id(), QueueState::Ready);
        state.ready.push_back(log.clone());
        self.changed.notify_one();
    }

    /// Removes a log.
    pub fn remove(&self, id: u64) {
        let mut state = self.state();
        if let Some(QueueState::Resting { until, .. }) = state.states.remove(&id) {
            state.resting.remove(&(until, id));
        }
        state.ready.retain(|log| log.id() != id);
    }

    /// Whether every log was read to its end and had no new data since.
    pub fn is_idle(&self) -> bool {
        self.state().states.values().all(|state| matches!(state, QueueState::Resting { idle: true, .. }))
    }

    /// Ends all readers.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next log to read. `None` once the pool is closed.
    fn next(&self) -> Option<Arc<ContainerLog>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            while let Some(first) = state.resting.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let log = first.remove();
                state.states.insert(log.id(), QueueState::Ready);
                state.ready.push_back(log);
            }
            if let Some(log) = state.ready.pop_front() {
                state.states.insert(log.id(), QueueState::Running { again: false });
                return Some(log);
            }
            let wait = state.resting.first_key_value().map(|((until, _), _)| *until - now);
            state = match wait {
                Some(wait) => self
                    .changed
                    .wait_timeout(state, wait)
                    .map_or_else(|poison| poison.into_inner().0, |(state, _)| state),
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn done(&self, log: Arc<ContainerLog>, next: Next) {
        let mut state = self.state();
        let again = match state.states.get(&log.id()) {
            Some(QueueState::Running { again }) => *again,
            // It was removed meanwhile.
            _ => return,
        };
        let (rest, idle) = match next {
            Next::Ready => (None, false),
            Next::Later(_) | Next::Idle(_) if again => (None, false),
            Next::Later(rest) => (Some(rest), false),
            Next::Idle(rest) => (Some(rest), true),
        };
        match rest {
            None => {
                state.states.insert(log.id(), QueueState::Ready);
                state.ready.push_back(log);
            }
            Some(rest) => {
                let until = self.tick(Instant::now() + rest);
                state.states.insert(log.id(), QueueState::Resting { until, idle });
                state.resting.insert((until, log.id()), log);
            }
        }
    }

    fn tick(&self, at: Instant) -> Instant {
        let ticks = (at - self.started).as_millis() / TICK.as_millis() + 1;
        self.started + TICK * ticks as u32
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A reader: reads logs from the pool in turn, as long as the budget has room. Returns when the pool or the budget is
/// closed.
pub fn read(pool: &Pool, reading: &Reading, batches: &UnboundedSender<Batch>) {
    let mut buffer = ReadBuffer::default();
    while reading.budget.wait() {
        let Some(log) = pool.next() else { return };
        let turn = log.turn(&mut buffer, reading);
        if let Some(batch) = turn.batch
            && batches.send(batch).is_err()
        {
            return;
        }
        pool.done(log, turn.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::LogKey;
    use crate::container::Container;

    fn log(id: u64) -> Arc<ContainerLog> {
        let key = LogKey { folder: std::path::Path::new("/x").into(), base: "0".into() };
        let container = Container { pod: None, docker: None, restart: "0".into() };
        Arc::new(ContainerLog::new(id, key, container, Vec::new(), false, 1024, Default::default()))
    }

    #[test]
    fn logs_take_turns() {
        let pool = Pool::default();
        pool.wake(&log(1));
        pool.wake(&log(2));
        let mut order = Vec::new();
        for _ in 0..6 {
            let log = pool.next().unwrap();
            order.push(log.id());
            pool.done(log, Next::Ready);
        }
        assert_eq!(order, [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_log_that_was_woken_during_its_turn_is_not_idle() {
        let pool = Pool::default();
        let one = log(1);
        pool.wake(&one);
        let running = pool.next().unwrap();
        pool.wake(&one);
        pool.done(running, Next::Idle(Duration::from_secs(60)));
        assert!(!pool.is_idle());
        let running = pool.next().unwrap();
        pool.done(running, Next::Idle(Duration::from_secs(60)));
        assert!(pool.is_idle());
    }

    #[test]
    fn a_rest_ends() {
        let pool = Pool::default();
        pool.wake(&log(1));
        let running = pool.next().unwrap();
        pool.done(running, Next::Later(Duration::from_millis(1)));
        assert_eq!(pool.next().unwrap().id(), 1);
    }

    #[test]
    fn a_closed_pool_gives_nothing() {
        let pool = Pool::default();
        pool.wake(&log(1));
        pool.close();
        assert!(pool.next().is_none());
    }
}
