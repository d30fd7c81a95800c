//! How writes to the cluster went.

use sidecar::kubernetes::{explain, is_refused};

/// A write that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// A sentence that names the object.
    pub(super) words: String,
    /// The API server refused this one, which says nothing of others; otherwise it did not answer, or is overloaded.
    pub(super) refused: bool,
}

impl Failed {
    /// `what` was tried, such as `cannot write the orders of node1`.
    pub(super) fn new(what: &str, error: &kube::Error) -> Self {
        Self { words: format!("{what}: {}", explain(error)), refused: is_refused(error) }
    }
}

/// How several writes went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many failed.
    pub(super) failed: usize,
    /// The first failure, in words.
    pub(super) first: Option<String>,
    /// The API server does not answer, so that no further ones were begun.
    pub(super) stopped: bool,
}

impl Outcome {
    /// Takes note of a failure. One that is refused does not hold up the others; without an answer none is begun any more.
    pub(super) fn note(&mut self, Failed { words, refused }: Failed) {
        self.failed += 1;
        self.first.get_or_insert(words);
        self.stopped |= !refused;
    }
}
