//! Limits the requests to one host: concurrently, per second, while it is too busy, and after too many failures.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sidecar::sync::lock;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::backoff;
use super::error::Problem;

/// After this many requests in a row without any answer, despite retries, the host is not asked for a while.
const MOST_UNREACHABLE: u32 = 8;

const SECOND: Duration = Duration::from_secs(1);

/// The state that all requests to one host share.
#[derive(Debug)]
pub(super) struct Host {
    name: String,
    places: Semaphore,
    state: Mutex<State>,
    /// Signals a change of the state to requests that wait for a probe.
    changed: Notify,
}

/// The permission to send one request now. Dropping a probe allows the next one.
pub(super) struct Turn<'a> {
    host: &'a Host,
    began: Instant,
    probe: bool,
    _place: SemaphorePermit<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.probe {
            if let Some(busy) = &mut lock(&self.host.state).busy {
                busy.probing = false;
            }
            self.host.changed.notify_waiters();
        }
    }
}

impl Host {
    /// At most `parallel` concurrent requests, and `per_second` in any second.
    pub(super) fn new(name: String, parallel: usize, per_second: usize) -> Self {
        Self {
            name,
            places: Semaphore::new(parallel.max(1)),
            state: Mutex::new(State::new(per_second.max(1))),
            changed: Notify::new(),
        }
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    ///
    /// If the host is not asked for a while, after too many failures.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, Problem> {
        let place = self.places.acquire().await.expect("nobody closes this semaphore");
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            let step = lock(&self.state).step(now);
            match step {
                Step::Go { probe } => return Ok(Turn { host: self, began: now, probe, _place: place }),
                Step::Wait(pause) => tokio::time::sleep(pause).await,
                Step::WaitForProbe => changed.await,
                Step::LeaveAlone { pause, reason } => {
                    let seconds = pause.as_secs().max(1);
                    return Err(Problem::LeftAlone { host: self.name.clone(), seconds, reason });
                }
            }
        }
    }

    /// The host answered or refused the request.
    pub(super) fn answered(&self, turn: &Turn<'_>) {
        lock(&self.state).answered(turn.began);
        self.changed.notify_waiters();
    }

    /// The host is too busy; `asked` is the pause that it asks for. Returns how long nothing is sent, or `None` if the
    /// time limit is exceeded.
    pub(super) fn busy(
        &self,
        turn: &Turn<'_>,
        first: Duration,
        asked: Option<Duration>,
        patience: Duration,
    ) -> Option<Duration> {
        let pause = lock(&self.state).busy(turn.began, Instant::now(), first, asked, patience);
        self.changed.notify_waiters();
        pause
    }

    /// A request got no answer at all.
    pub(super) fn unreachable(&self, longest: Duration, reason: &str) {
        lock(&self.state).unreachable(Instant::now(), longest, reason);
    }

    /// Whether the current trouble was not logged yet. True once until the host answers again.
    pub(super) fn is_new_trouble(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).logged, true)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Go {
        probe: bool,
    },
    Wait(Duration),
    /// One request is probing whether the host is still too busy.
    WaitForProbe,
    LeaveAlone {
        pause: Duration,
        reason: String,
    },
}

#[derive(Debug)]
struct State {
    per_second: usize,
    /// When the last requests were sent; at most `per_second`.
    sent: VecDeque<Instant>,
    busy: Option<Busy>,
    unreachable: u32,
    alone: Option<(Instant, String)>,
    logged: bool,
}

#[derive(Debug)]
struct Busy {
    since: Instant,
    /// When it last said that it is too busy.
    last: Instant,
    times: u32,
    until: Instant,
    probing: bool,
}

impl State {
    fn new(per_second: usize) -> Self {
        Self { per_second, sent: VecDeque::new(), busy: None, unreachable: 0, alone: None, logged: false }
    }

    fn step(&mut self, now: Instant) -> Step {
        if let Some((until, reason)) = self.alone.as_ref().filter(|(until, _)| *until > now) {
            return Step::LeaveAlone { pause: *until - now, reason: reason.clone() };
        }
        match &self.busy {
            Some(busy) if busy.until > now => return Step::Wait(busy.until - now),
            Some(busy) if busy.probing => return Step::WaitForProbe,
            _ => {}
        }
        while self.sent.front().is_some_and(|sent| now.duration_since(*sent) >= SECOND) {
            self.sent.pop_front();
        }
        if let Some(oldest) = self.sent.front().filter(|_| self.sent.len() >= self.per_second) {
            return Step::Wait((*oldest + SECOND).saturating_duration_since(now));
        }
        self.sent.push_back(now);
        if let Some(busy) = &mut self.busy {
            busy.probing = true;
        }
        Step::Go { probe: self.busy.is_some() }
    }

    fn answered(&mut self, began: Instant) {
        self.unreachable = 0;
        // An answer to a request from before the host said that it is too busy does not count.
        if self.busy.as_ref().is_none_or(|busy| began > busy.last) {
            self.busy = None;
            self.alone = None;
            self.logged = false;
        }
    }

    fn busy(
        &mut self,
        began: Instant,
        now: Instant,
        first: Duration,
        asked: Option<Duration>,
        patience: Duration,
    ) -> Option<Duration> {
        let busy = self.busy.get_or_insert(Busy { since: now, last: now, times: 0, until: now, probing: false });
        // Concurrent requests count once.
        if busy.times == 0 || began > busy.last {
            busy.times += 1;
            busy.last = now;
        }
        let pause = backoff::pause(first, busy.times).max(asked.unwrap_or_default());
        if now.duration_since(busy.since) + pause > patience {
            let reason = "it was too busy for too long".to_owned();
            self.alone = Some((now + pause.min(patience), reason));
            self.busy = None;
            return None;
        }
        busy.until = busy.until.max(now + pause);
        Some(pause)
    }

    fn unreachable(&mut self, now: Instant, longest: Duration, reason: &str) {
        self.unreachable += 1;
        if self.unreachable >= MOST_UNREACHABLE {
            self.alone = Some((now + longest, reason.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(300);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn while_it_is_too_busy_one_request_finds_out_whether_it_still_is() {
        let (start, mut state) = (Instant::now(), State::new(20));
        for _ in 0..8 {
            assert_eq!(state.step(start), Step::Go { probe: false });
        }
        // All eight were concurrent: one pause, not eight.
        for _ in 0..8 {
            let pause = state.busy(start, start + ms(10), FIRST, Some(Duration::ZERO), PATIENCE).unwrap();
            assert!(pause >= FIRST && pause < FIRST * 2, "{pause:?}");
        }
        assert!(matches!(state.step(start + ms(20)), Step::Wait(_)));
        let later = start + ms(2000);
        assert_eq!(state.step(later), Step::Go { probe: true });
        assert_eq!(state.step(later), Step::WaitForProbe);
        let pause = state.busy(later, later + ms(10), FIRST, None, PATIENCE).unwrap();
        assert!(pause >= FIRST * 2, "{pause:?}");
        // An answer to an older request changes nothing, but the probe's answer does.
        state.answered(start);
        assert!(state.busy.is_some());
        state.answered(later + ms(4000));
        assert_eq!(state.step(later + ms(4000)), Step::Go { probe: false });
    }

    #[test]
    fn patience_ends_and_the_host_is_left_alone_for_a_while() {
        let (mut now, mut state) = (Instant::now(), State::new(20));
        let began = now;
        let mut requests = 0;
        loop {
            match state.step(now) {
                Step::Wait(pause) => now += pause,
                Step::Go { .. } => {
                    requests += 1;
                    if state.busy(now, now + ms(1), FIRST, Some(Duration::ZERO), PATIENCE).is_none() {
                        break;
                    }
                    // The turn is over.
                    if let Some(busy) = &mut state.busy {
                        busy.probing = false;
                    }
                }
                step => panic!("{step:?}"),
            }
        }
        assert!(requests <= 12 && now.duration_since(began) <= PATIENCE, "{requests}");
        assert!(matches!(state.step(now + ms(2)), Step::LeaveAlone { .. }));
        assert_eq!(state.step(now + PATIENCE), Step::Go { probe: false });
        // A requested pause of an hour is too long: the request fails at once, and the host is not asked for as long as
        // a request may wait.
        let mut state = State::new(20);
        assert_eq!(state.busy(now, now, FIRST, Some(Duration::from_secs(3600)), PATIENCE), None);
        assert!(matches!(state.step(now + PATIENCE - ms(1)), Step::LeaveAlone { .. }));
        assert_eq!(state.step(now + PATIENCE), Step::Go { probe: false });
    }

    #[test]
    fn a_host_that_never_answers_is_left_alone_and_an_answer_ends_it() {
        let (now, mut state) = (Instant::now(), State::new(20));
        for _ in 0..MOST_UNREACHABLE {
            assert!(matches!(state.step(now), Step::Go { .. }));
            state.unreachable(now, FIRST, "connection refused");
        }
        assert!(matches!(state.step(now), Step::LeaveAlone { reason, .. } if reason == "connection refused"));
        assert!(matches!(state.step(now + FIRST), Step::Go { .. }));
        state.answered(now + FIRST);
        state.unreachable(now + FIRST, FIRST, "x");
        assert!(matches!(state.step(now + FIRST), Step::Go { .. }));
    }

    proptest! {
        #[test]
        fn never_more_in_any_second_than_allowed(most in 1_usize..30, gaps in proptest::collection::vec(0_u64..200, 1..300)) {
            let (mut now, mut state, mut sent) = (Instant::now(), State::new(most), Vec::new());
            for gap in gaps {
                now += ms(gap);
                while let Step::Wait(pause) = state.step(now) {
                    now += pause;
                }
                sent.push(now);
            }
            for (index, at) in sent.iter().enumerate().skip(most) {
                prop_assert!(at.duration_since(sent[index - most]) >= SECOND);
            }
        }
    }
}
