//! Decides what to do about a folder's files, from its current list and what is known of it. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::identity::FileKey;
use crate::names::{Age, LogName};

/// The change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An unknown file. It must be opened at once, so that a deletion loses nothing.
    Open(FileKey, Arc<str>),
    /// A known file has another name.
    Rename(FileKey, Arc<str>),
    /// A known file is no longer listed.
    Gone(FileKey),
}

/// Compares the lists. A compressed file waits while its original is there, because it may be incomplete.
pub fn changes(known: &[(FileKey, Arc<str>)], listed: &[(FileKey, Arc<str>)]) -> Vec<Change> {
    let names: BTreeSet<&str> = listed.iter().map(|(_, name)| &**name).collect();
    let keys: BTreeSet<FileKey> = listed.iter().map(|(key, _)| *key).collect();
    let gone = known.iter().filter(|(key, _)| !keys.contains(key)).map(|(key, _)| Change::Gone(*key));
    let known: BTreeMap<FileKey, &str> = known.iter().map(|(key, name)| (*key, &**name)).collect();
    let mut seen: Vec<(Age, Change)> = Vec::new();
    for (key, name) in listed {
        let (age, _) = LogName::age_of(name);
        let waits = name.strip_suffix(".gz").is_some_and(|original| names.contains(original));
        match known.get(key) {
            Some(before) if **before == **name => (),
            Some(_) => seen.push((age, Change::Rename(*key, name.clone()))),
            None if waits => (),
            None => seen.push((age, Change::Open(*key, name.clone()))),
        }
    }
    // Renames come before the file that is opened under the old name, and older files come first.
    seen.sort_by_key(|(age, change)| (matches!(change, Change::Open(..)), age.clone()));
    seen.into_iter().map(|(_, change)| change).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> FileKey {
        FileKey { device: 1, inode }
    }

    fn files(files: &[(u64, &str)]) -> Vec<(FileKey, Arc<str>)> {
        files.iter().map(|(inode, name)| (key(*inode), (*name).into())).collect()
    }

    fn plan(known: &[(u64, &str)], listed: &[(u64, &str)]) -> Vec<Change> {
        changes(&files(known), &files(listed))
    }

    #[test]
    fn the_first_look_opens_the_oldest_first() {
        let listed = [(1, "0.log"), (2, "0.log.20261122-100000"), (3, "0.log.20261122-090000.gz")];
        let opened = ["0.log.20261122-090000.gz", "0.log.20261122-100000", "0.log"];
        let expected: Vec<_> = [3, 2, 1].into_iter().zip(opened).map(|(i, n)| Change::Open(key(i), n.into())).collect();
        assert_eq!(plan(&[], &listed), expected);
    }

    #[test]
    fn a_rotation_is_a_rename_and_a_new_file() {
        let changes = plan(&[(1, "0.log")], &[(1, "0.log.20261122-100000"), (2, "0.log")]);
        assert_eq!(
            changes,
            [Change::Rename(key(1), "0.log.20261122-100000".into()), Change::Open(key(2), "0.log".into())]
        );
    }

    #[test]
    fn a_compressed_file_waits_until_its_original_is_gone() {
        let known = [(1, "0.log.20261122-100000")];
        let both = [(1, "0.log.20261122-100000"), (2, "0.log.20261122-100000.gz")];
        assert_eq!(plan(&known, &both), []);
        let after = [(2, "0.log.20261122-100000.gz")];
        assert_eq!(
            plan(&known, &after),
            [Change::Open(key(2), "0.log.20261122-100000.gz".into()), Change::Gone(key(1))]
        );
    }

    #[test]
    fn nothing_changes_for_files_that_stay() {
        assert_eq!(plan(&[(1, "0.log")], &[(1, "0.log")]), []);
    }
}
