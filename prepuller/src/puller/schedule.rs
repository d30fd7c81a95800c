//! Decides which pull starts next, and when a failed one is retried. Pure.

use std::time::{Duration, Instant};

use lab_images::runtime::Phase;
use sidecar::retry;

/// A download that has not progressed for this long no longer blocks the next one.
const YIELD_AFTER: Duration = Duration::from_secs(10);

/// How long a node agent waits before it checks for room again.
const ROOM_RETRY: Duration = Duration::from_secs(60);

/// The state of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for its turn.
    Waiting,
    /// It is being pulled.
    Pulling {
        /// The phase of the pull.
        phase: Phase,
        /// How long no byte has arrived.
        idle: Duration,
    },
    /// It is present.
    Present,
    /// A different image than the ordered one has its name.
    OtherDigest {
        /// Both digests, and the possible cause.
        error: String,
        /// The image's names with a digest, from the runtime.
        arrived: Vec<String>,
        /// When it is retried; `None` for never.
        retry: Option<Instant>,
    },
    /// The last try failed.
    Failed {
        /// Why.
        error: String,
        /// When it is retried; `None` for never.
        retry: Option<Instant>,
    },
    /// The disk would become too full.
    Refused {
        /// The numbers, in a sentence.
        error: String,
        /// When it is retried; `None` for never.
        retry: Option<Instant>,
    },
}

impl State {
    /// What is wrong, if anything.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Failed { error, .. } | Self::Refused { error, .. } | Self::OtherDigest { error, .. } => Some(error),
            Self::Waiting | Self::Pulling { .. } | Self::Present => None,
        }
    }

    fn retry(&self) -> Option<Instant> {
        match self {
            Self::Failed { retry, .. } | Self::Refused { retry, .. } | Self::OtherDigest { retry, .. } => *retry,
            Self::Waiting | Self::Pulling { .. } | Self::Present => None,
        }
    }
}

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Start the pull of this order.
    Start(usize),
    /// Wait until this time, or until a pull ends or progresses.
    WaitUntil(Instant),
    /// Wait until a pull ends or progresses.
    WaitForPulls,
    /// Nothing is left to do.
    Settled,
}

/// Decides from the orders' states, given by priority. One image downloads at a time, so that the first one is complete
/// as early as possible. The next one starts when the previous download is complete, and at most `parallel` pulls run.
pub(super) fn next(states: &[State], parallel: usize, now: Instant) -> Next {
    let pulls = || states.iter().filter(|state| matches!(state, State::Pulling { .. }));
    let downloads = |state: &State| matches!(state, State::Pulling { phase, idle } if !matches!(phase, Phase::Unpacking | Phase::Done) && *idle < YIELD_AFTER);
    if states.iter().any(downloads) || pulls().count() >= parallel {
        return Next::WaitForPulls;
    }
    let waiting = states.iter().position(|state| *state == State::Waiting);
    let due = || states.iter().position(|state| state.retry().is_some_and(|retry| retry <= now));
    if let Some(order) = waiting.or_else(due) {
        return Next::Start(order);
    }
    match states.iter().filter_map(State::retry).min() {
        Some(retry) => Next::WaitUntil(retry),
        None if pulls().next().is_some() => Next::WaitForPulls,
        None => Next::Settled,
    }
}

/// How often a failed pull is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retries {
    /// Three times, for a single run on one machine.
    Few,
    /// Forever, with growing pauses.
    Forever,
}

impl Retries {
    /// The state after the `failures`th failure. `jitter` in [0, 1) spreads the retries of many nodes.
    pub(super) fn failed(self, failures: u32, error: String, now: Instant, jitter: f64) -> State {
        State::Failed { error, retry: self.after(failures, now, jitter) }
    }

    /// The state after a different image than the ordered one arrived, as the `failures`th failure. A single run gains
    /// nothing by retrying; on a node, a mirror may have caught up with the registry.
    pub(super) fn other_digest(
        self,
        failures: u32,
        (error, arrived): (String, Vec<String>),
        now: Instant,
        jitter: f64,
    ) -> State {
        let retry = if self == Self::Few { None } else { self.after(failures, now, jitter) };
        State::OtherDigest { error, arrived, retry }
    }

    fn after(self, failures: u32, now: Instant, jitter: f64) -> Option<Instant> {
        let (first, most) = match self {
            Self::Few => (Duration::from_secs(1), Duration::from_secs(4)),
            Self::Forever => (Duration::from_secs(5), Duration::from_secs(600)),
        };
        let delay = retry::pause(first, failures, most);
        (self == Self::Forever || failures <= 3).then(|| now + delay.mul_f64(1.0 + jitter / 2.0))
    }

    /// The state after the disk guard refused. A refusal that only applies while other pulls are running is checked
    /// again.
    pub(super) fn refused(self, error: String, room_may_come: bool, now: Instant) -> State {
        let retry = match self {
            Self::Few if !room_may_come => None,
            Self::Few => Some(now + Duration::from_secs(1)),
            Self::Forever => Some(now + ROOM_RETRY),
        };
        State::Refused { error, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWNLOADS: State = State::Pulling { phase: Phase::Downloading, idle: Duration::ZERO };
    const STUCK: State = State::Pulling { phase: Phase::Downloading, idle: Duration::from_secs(11) };
    const UNPACKS: State = State::Pulling { phase: Phase::Unpacking, idle: Duration::from_secs(11) };
    const PRESENT: State = State::Present;
    use State::Waiting;

    fn failed(retry: Option<Instant>) -> State {
        State::Failed { error: "no".to_owned(), retry }
    }

    #[test]
    fn one_downloads_while_others_unpack() {
        let now = Instant::now();
        for (states, parallel, expected) in [
            (vec![Waiting, Waiting], 2, Next::Start(0)),
            (vec![DOWNLOADS, Waiting], 2, Next::WaitForPulls),
            (vec![UNPACKS, Waiting], 2, Next::Start(1)),
            (vec![UNPACKS, Waiting], 1, Next::WaitForPulls),
            (vec![UNPACKS, UNPACKS, Waiting], 2, Next::WaitForPulls),
            (vec![UNPACKS, DOWNLOADS, Waiting], 3, Next::WaitForPulls),
            (vec![STUCK, Waiting], 2, Next::Start(1)),
            (vec![STUCK, STUCK, Waiting], 2, Next::WaitForPulls),
            (vec![PRESENT, PRESENT], 2, Next::Settled),
            (vec![PRESENT, UNPACKS], 2, Next::WaitForPulls),
            (vec![], 2, Next::Settled),
        ] {
            assert_eq!(next(&states, parallel, now), expected, "{states:?}");
        }
    }

    #[test]
    fn a_failed_one_comes_after_those_not_tried_yet() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(next(&[failed(Some(now)), Waiting], 2, now), Next::Start(1));
        assert_eq!(next(&[failed(Some(now)), PRESENT], 2, now), Next::Start(0));
        assert_eq!(next(&[failed(Some(later)), PRESENT], 2, now), Next::WaitUntil(later));
        assert_eq!(next(&[failed(None), PRESENT], 2, now), Next::Settled);
    }

    #[test]
    fn a_few_retries_end_and_endless_ones_slow_down() {
        let now = Instant::now();
        let delays = |retries: Retries, failures: u32| match retries.failed(failures, String::new(), now, 0.0) {
            State::Failed { retry, .. } => retry.map(|retry| (retry - now).as_secs()),
            _ => None,
        };
        assert_eq!([1, 2, 3, 4].map(|failures| delays(Retries::Few, failures)), [Some(1), Some(2), Some(4), None]);
        assert_eq!(
            [1, 2, 8, 4_000_000_000].map(|failures| delays(Retries::Forever, failures)),
            [Some(5), Some(10), Some(600), Some(600)]
        );
    }

    #[test]
    fn another_digest_is_final_only_for_one_machine_once() {
        let now = Instant::now();
        let retry = |retries: Retries, failures| {
            retries.other_digest(failures, (String::new(), Vec::new()), now, 0.0).retry().map(|at| (at - now).as_secs())
        };
        assert_eq!(retry(Retries::Few, 1), None);
        assert_eq!([1, 2, 8].map(|failures| retry(Retries::Forever, failures)), [Some(5), Some(10), Some(600)]);
    }

    #[test]
    fn a_full_disk_is_final_only_for_one_machine_once() {
        let now = Instant::now();
        let retry = |retries: Retries, room: bool| retries.refused(String::new(), room, now).retry();
        assert_eq!(retry(Retries::Few, false), None);
        assert!(retry(Retries::Few, true).is_some() && retry(Retries::Forever, false).is_some());
    }
}
