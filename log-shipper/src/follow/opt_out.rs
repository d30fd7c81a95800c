//! `LOG_OPT_OUT`, `LOG_LABELS` and `LOG_LABELS_EXCLUDED`: excludes the logs of pods.

use std::time::Duration;

use super::adopt::start_at_end;
use super::{ContainerLog, Inner, Reading};

/// How long to wait for pod metadata before shipping.
const WAIT: Duration = Duration::from_secs(10);

/// Whether a pod is excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptOut {
    No,
    /// Not known yet: the log waits.
    Unknown,
    /// The log is skipped until this changes.
    Yes,
}

impl ContainerLog {
    pub(super) fn opt_out(&self, inner: &Inner, reading: &Reading) -> OptOut {
        match &inner.pod {
            _ if !(reading.opt_out || reading.asks_labels) || self.container().pod.is_none() => OptOut::No,
            Some(pod) if (reading.opt_out && pod.opted_out) || pod.left_out => OptOut::Yes,
            None if inner.since.elapsed() < WAIT => OptOut::Unknown,
            _ => OptOut::No,
        }
    }

    /// Treats everything that is there as processed.
    pub(super) fn pass_over(&self, inner: &mut Inner, reading: &Reading) {
        inner.joiner.close();
        inner.count_open_lines(reading);
        for segment in inner.segments.iter_mut().filter(|segment| !segment.is_ended()) {
            segment.note_size();
            segment.end_line();
            start_at_end(segment);
            if segment.is_gone() && segment.is_deleted() {
                segment.end();
            }
        }
        let steps = self.steps(inner);
        if !steps.is_empty() {
            self.take_steps(steps);
        }
    }
}
