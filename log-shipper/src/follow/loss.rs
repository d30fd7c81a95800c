//! Reports what was lost before it could be read.

use std::path::Path;

use super::segment::Segment;
use super::{ContainerLog, Inner, Reading};

/// A part of a file that is gone and was not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// What was read ends here.
    pub(super) from: u64,
    /// The last known end of the file.
    pub(super) to: u64,
    /// Whether more may have been written after that.
    pub(super) open_ended: bool,
}

impl ContainerLog {
    /// Notes the sizes of all files. A truncated one is noticed here, too: readers may wait for the broker while a file is
    /// truncated again.
    pub(super) fn notice_truncations(&self, inner: &mut Inner) {
        for index in (0..inner.segments.len()).rev() {
            // A copy may have been removed meanwhile.
            if inner.segments.get_mut(index).is_some_and(|segment| !segment.note_size()) {
                self.truncated(inner, index);
            }
        }
    }

    /// Logs that the unread part of a segment is lost. An open line does not continue behind it.
    pub(super) fn give_up(&self, inner: &mut Inner, index: usize, why: &str, reading: &Reading) {
        let segment = &mut inner.segments[index];
        let open_ended = segment.is_truncated();
        let loss = Loss { from: segment.read.offset, to: segment.size, open_ended };
        segment.end();
        self.lost(&self.path_of(segment), loss, if open_ended { "the file was truncated" } else { why }, reading);
        if loss.from < loss.to {
            self.end_lines_after(inner, index);
        }
    }

    /// Ends open lines where content is missing between this segment and the next.
    pub(super) fn end_lines_after(&self, inner: &mut Inner, index: usize) {
        // What was written after a truncation is marked.
        if inner.segments[index].is_truncated() {
            return;
        }
        match inner.segments.get_mut(index + 1) {
            Some(next) => self.begins_after_loss(next),
            None => inner.end_is_lost = true,
        }
    }

    pub(super) fn begins_after_loss(&self, segment: &mut Segment) {
        segment.after_loss = true;
        self.record(segment);
    }

    /// Counts and logs a loss.
    pub(super) fn lost(&self, path: &Path, loss: Loss, why: &str, reading: &Reading) {
        let Loss { from, to, open_ended } = loss;
        if from < to {
            reading.metrics.bytes_lost.inc_by(to - from);
            tracing::error!(
                file = %path.display(), container = %self.container(), from, to, bytes = to - from,
                "lost log lines before they could be read: {why}"
            );
        }
        if open_ended {
            reading.metrics.losses_unknown.inc();
            tracing::warn!(
                file = %path.display(), container = %self.container(), after = to.max(from),
                "log lines may be lost, and how many is unknown: {why}, perhaps after more had been written"
            );
        }
    }
}
