//! `LOG_OPT_OUT`, `LOG_LABELS` and `LOG_LABELS_EXCLUDED`: pods whose logs are not wanted.

use std::time::Duration;

use super::adopt::start_at_end;
use super::{ContainerLog, Inner, Reading};

/// How long a new log waits for Kubernetes' word on its pod.
const WAIT: Duration = Duration::from_secs(10);

/// Whether a log is to be shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    Ship,
    /// Not known yet.
    Wait,
    /// What is there, and what comes until it changes, is passed over.
    Off,
}

impl ContainerLog {
    pub(super) fn consent(&self, inner: &Inner, reading: &Reading) -> Consent {
        match &inner.pod {
            _ if !(reading.opt_out || reading.asks_labels) || self.container().pod.is_none() => Consent::Ship,
            Some(pod) if (reading.opt_out && pod.opted_out) || pod.left_out => Consent::Off,
            None if inner.since.elapsed() < WAIT => Consent::Wait,
            _ => Consent::Ship,
        }
    }

    /// Takes all that is there for done.
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
