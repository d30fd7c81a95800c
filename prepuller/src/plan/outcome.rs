//! Results of writes to the cluster.

use sidecar::kubernetes::{explain, is_refused};

/// A write that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// A sentence that names the object.
    pub(super) words: String,
    /// Whether the API server refused this write, which says nothing about others. If not, it did not answer or is
    /// overloaded.
    pub(super) refused: bool,
}

impl Failed {
    /// `what` is the operation that failed, such as `cannot write the orders of node1`.
    pub(super) fn new(what: &str, error: &kube::Error) -> Self {
        Self { words: format!("{what}: {}", explain(error)), refused: is_refused(error) }
    }
}

/// The results of several writes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many failed.
    pub(super) failed: usize,
    /// The first failure, in words.
    pub(super) first: Option<String>,
    /// Whether the API server stopped answering, so that no further writes were started.
    pub(super) stopped: bool,
}

impl Outcome {
    /// Records a failure. A refused write does not stop the others; a missing answer does.
    pub(super) fn note(&mut self, Failed { words, refused }: Failed) {
        self.failed += 1;
        self.first.get_or_insert(words);
        self.stopped |= !refused;
    }
}
