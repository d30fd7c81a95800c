//! The space of a file system.

use std::fmt;

use serde::{Deserialize, Serialize};
use sidecar::human::bytes;

/// The space of a file system for ordinary users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes that can still be written.
    pub available: u64,
    /// Bytes in total.
    pub total: u64,
    /// How many files can still be created, if the file system counts them.
    pub files_available: Option<u64>,
    /// Files in total.
    pub files: Option<u64>,
}

impl Space {
    /// Whether nothing more can be written. A file system without a size is not full.
    pub fn is_full(&self) -> bool {
        let no_files = self.files.is_some_and(|files| files > 0) && self.files_available == Some(0);
        (self.total > 0 && self.available == 0) || no_files
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} left", bytes(self.available), bytes(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_means_no_bytes_or_no_files() {
        let space = |available, total, files_available, files| Space { available, total, files_available, files };
        assert!(space(0, 10, None, None).is_full());
        assert!(space(5, 10, Some(0), Some(7)).is_full());
        assert!(!space(5, 10, Some(1), Some(7)).is_full());
        assert!(!space(5, 10, Some(0), Some(0)).is_full());
        assert!(!space(0, 0, None, None).is_full());
    }
}
