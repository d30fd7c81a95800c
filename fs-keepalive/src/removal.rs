//! Decides which files of other writers are removed: those whose writer has been gone for more than a day.

use std::time::Duration;

use crate::record::SIZE;

/// A record that is older than our own by this much belongs to a writer that is gone.
pub const GONE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The most entries that are listed of one folder.
pub const MOST_ENTRIES: usize = 100_000;

/// The most entries that are examined in one round. The next round continues from there.
pub const MOST_EXAMINED: usize = 500;

/// This many entries share the time limit of one step.
pub const ENTRIES_PER_STEP: usize = 100;

/// The end of the name of the file that a writer creates and removes at once, to detect a used-up quota of files.
pub const NEW_FILE: &str = ".new";

/// What `stat` shows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its name in the folder.
    pub name: &'a [u8],
    /// Whether it is a regular file.
    pub regular: bool,
    /// Its size, in bytes.
    pub size: u64,
    /// When it was written, in seconds by the server's clock.
    pub written: i64,
}

/// Whether a record may have this file name: node and pod, with an underscore between them.
pub fn may_be_a_record(name: &[u8]) -> bool {
    name.contains(&b'_')
}

/// Whether a file may be removed; `own` is our own file, just written. Both times are the server's, so that a wrong
/// clock on this node removes nothing. The file's content decides in the end: only a whole record is
/// removed, or an empty new file.
pub fn is_candidate(file: &Seen<'_>, own: &Seen<'_>) -> bool {
    let age = own.written.saturating_sub(file.written);
    file.name != own.name
        && file.regular
        && (file.size == SIZE as u64 || is_new_file(file))
        && may_be_a_record(file.name)
        && u64::try_from(age).is_ok_and(|age| age > GONE_AFTER.as_secs())
}

/// Whether this is a new file whose writer was killed before it removed the file.
pub fn is_new_file(file: &Seen<'_>) -> bool {
    file.size == 0 && file.name.ends_with(NEW_FILE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    #[test]
    fn only_old_records_of_others_go() {
        let own = Seen { name: b"n_own", regular: true, size: 512, written: NOW };
        let old = Seen { name: b"n_old", regular: true, size: 512, written: NOW - DAY - 1 };
        assert!(is_candidate(&old, &own));
        let new = Seen { name: b"n_old.new", size: 0, ..old.clone() };
        assert!(is_candidate(&new, &own));
        for (kept, why) in [
            (Seen { written: NOW - DAY, ..old.clone() }, "not older than a day"),
            (Seen { written: NOW + 9 * DAY, ..old.clone() }, "from the future"),
            (Seen { name: own.name, ..old.clone() }, "our own"),
            (Seen { regular: false, ..old.clone() }, "a link or a folder"),
            (Seen { size: 511, ..old.clone() }, "another size"),
            (Seen { size: 0, ..old.clone() }, "an empty file of another name"),
            (Seen { size: 1, ..new.clone() }, "somebody wrote to it"),
            (Seen { written: NOW - DAY, ..new.clone() }, "not older than a day either"),
            (Seen { name: b"notes", ..old.clone() }, "another name"),
        ] {
            assert!(!is_candidate(&kept, &own), "{why}");
        }
    }
}
