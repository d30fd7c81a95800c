//! The part of a shared limit that one log uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that one log uses; released when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(Option<(Arc<AtomicUsize>, usize)>);

impl Share {
    /// How many bytes it uses.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// Replaces the bytes that it used by this many bytes of `total`.
    pub(super) fn set(&mut self, total: &Arc<AtomicUsize>, bytes: usize) {
        if bytes == self.bytes() {
            return;
        }
        self.give_back();
        if bytes > 0 {
            total.fetch_add(bytes, Ordering::Relaxed);
            self.0 = Some((total.clone(), bytes));
        }
    }

    fn give_back(&mut self) {
        if let Some((total, bytes)) = self.0.take() {
            total.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}
