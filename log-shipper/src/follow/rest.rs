//! When a log gets its next turn.

use std::time::Duration;

use super::Inner;
use super::last_words::Rewound;
use super::lines::Work;

/// The shortest and longest time that a log without new lines rests; each rest is an eighth longer than the one before, so
/// that a line waits for about an eighth of its container's silence at most. The discovery looks at the file meanwhile and wakes
/// a log that has grown.
pub(super) const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(40);

/// When a log wants its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to read.
    Ready,
    /// There is more to read, but not now.
    Later(Duration),
    /// All was read; look again after this time.
    Idle(Duration),
}

impl Work<'_> {
    /// When the log is looked at again, now that all was read.
    pub(super) fn rest(&self, inner: &mut Inner) -> Next {
        if inner.joiner.has_trace() {
            return Next::Later(SHORTEST_REST);
        }
        let rest = inner.rest;
        inner.rest = (rest + rest / 8).min(LONGEST_REST);
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
