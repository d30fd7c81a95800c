//! Decides when a log gets its next turn.

use std::time::Duration;

use super::Inner;
use super::lines::Work;
use super::unfinished::Rewound;

/// The shortest and longest pause of a log without new lines. Each pause is a sixth longer than the last one, so that a
/// line waits at most for about a sixth of its container's silence. Meanwhile the discovery checks the file and wakes a
/// log that has grown.
pub(super) const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(40);

/// When a log needs its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to read.
    Ready,
    /// There is more to read, but not now.
    Later(Duration),
    /// Everything was read; check again after this time.
    Idle(Duration),
}

impl Work<'_> {
    /// The time of the next check, if everything was read.
    pub(super) fn rest(&self, inner: &mut Inner) -> Next {
        if inner.joiner.has_trace() {
            return Next::Later(SHORTEST_REST);
        }
        let rest = inner.rest;
        inner.rest = (rest + rest / 6).min(LONGEST_REST);
        if !inner.has_open_line() {
            return Next::Idle(rest);
        }
        let since = match inner.rewound {
            Rewound::Since(since) => since,
            _ => inner.grew,
        };
        let wait = self.reading.quiet.saturating_sub(since.elapsed()).max(SHORTEST_REST);
        if self.reading.until_idle { Next::Later(wait) } else { Next::Idle(rest.min(wait)) }
    }
}
