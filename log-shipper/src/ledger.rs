//! Tracks up to which position each file of one container is processed. Only confirms advance it, in the order in which
//! lines were read.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::identity::{FileKey, Head, Mark};
use crate::join::FileNumber;

/// A file's record in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its name within the container's folder.
    pub name: Arc<str>,
    /// Its device and inode.
    pub key: FileKey,
    /// The hash of its beginning.
    pub head: Head,
    /// Its last known size, uncompressed, in bytes; 0 while unknown.
    pub size: u64,
    /// Everything before this was confirmed, or needs no confirm.
    pub done: Mark,
    /// Whether content before this one was truncated or deleted unread. An open line of an older file does not continue
    /// here.
    pub after_loss: bool,
}

/// A change that the confirm of a batch makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file is processed up to here.
    Done(FileNumber, Mark),
    /// The file is gone.
    Forget(FileNumber),
}

/// The unconfirmed batches of one container, and what was confirmed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// A few at most, so a vector is enough.
    files: Vec<(FileNumber, FileRecord)>,
    /// In the order of reading.
    batches: VecDeque<Pending>,
    /// The number of the first in `batches`.
    first: u64,
    changed: bool,
    /// Whether the broker refuses messages of this log.
    held: bool,
}

/// A batch that is unconfirmed, or that waits for an earlier one.
#[derive(Debug)]
struct Pending {
    steps: Vec<Step>,
    /// The size of its messages.
    bytes: usize,
    confirmed: bool,
}

/// A log with more unconfirmed batches than this is not read further.
const MOST_UNCONFIRMED: usize = 64;
/// The same limit while the broker refuses messages of the log: enough to detect that it accepts other lines.
const MOST_UNCONFIRMED_HELD: usize = 12;
/// The most confirmed batches that wait for earlier ones.
const MOST_BATCHES: usize = 4096;

impl Ledger {
    /// Records a file, except for its progress: only a new file starts at `record.done`.
    pub fn know(&mut self, file: FileNumber, record: FileRecord) {
        match self.record(file) {
            Some(known) => {
                let record = FileRecord { done: known.done, ..record };
                if *known == record {
                    return;
                }
                *known = record;
            }
            None => {
                self.files.reserve_exact(1); // there is usually one, and a node has many containers
                self.files.push((file, record));
            }
        }
        self.changed = true;
    }

    /// Adds a batch of this size with the steps of its confirm. Returns its number for [`Ledger::finish`].
    pub fn begin(&mut self, steps: Vec<Step>, bytes: usize) -> u64 {
        self.batches.push_back(Pending { steps, bytes, confirmed: false });
        self.first + self.batches.len() as u64 - 1
    }

    /// The batch was confirmed. Its steps are applied once all earlier batches were confirmed, too.
    pub fn finish(&mut self, batch: u64) {
        let Some(entry) = batch.checked_sub(self.first).and_then(|at| self.batches.get_mut(at as usize)) else {
            return;
        };
        entry.confirmed = true;
        while let Some(pending) = self.batches.pop_front_if(|pending| pending.confirmed) {
            self.first += 1;
            for step in pending.steps {
                match step {
                    Step::Done(file, mark) => {
                        if let Some(record) = self.record(file) {
                            record.done = mark;
                        }
                    }
                    Step::Forget(file) => self.files.retain(|(known, _)| *known != file),
                }
                self.changed = true;
            }
        }
        if self.batches.is_empty() {
            // Most logs are silent, and a node has many.
            self.batches = VecDeque::new();
        }
    }

    fn record(&mut self, file: FileNumber) -> Option<&mut FileRecord> {
        self.files.iter_mut().find(|(known, _)| *known == file).map(|(_, record)| record)
    }

    /// How many batches are unconfirmed.
    pub fn open_batches(&self) -> usize {
        self.batches.len()
    }

    /// Whether the log should not be read further now, because of the number of unconfirmed batches, or because they
    /// have `share` bytes.
    pub fn is_full(&self, share: usize) -> bool {
        let unconfirmed = self.batches.iter().filter(|pending| !pending.confirmed);
        let (count, bytes) = unconfirmed.fold((0, 0), |(count, bytes), pending| (count + 1, bytes + pending.bytes));
        let most = if self.held { MOST_UNCONFIRMED_HELD } else { MOST_UNCONFIRMED };
        count >= most || bytes >= share || self.batches.len() >= MOST_BATCHES
    }

    /// Sets whether the broker refuses messages of this log.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether the broker refuses messages of this log.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The records of all files, for the checkpoint.
    pub fn records(&self) -> impl Iterator<Item = &FileRecord> {
        self.files.iter().map(|(_, record)| record)
    }

    /// The numbers of the recorded files.
    pub fn numbers(&self) -> impl Iterator<Item = FileNumber> {
        self.files.iter().map(|(file, _)| *file)
    }

    /// Whether anything changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> FileRecord {
        let key = FileKey { device: 1, inode: 2 };
        FileRecord {
            name: "0.log".into(),
            key,
            head: Head::default(),
            size: 0,
            done: Mark::default(),
            after_loss: false,
        }
    }

    fn done(offset: u64) -> Vec<Step> {
        vec![Step::Done(1, Mark { offset, tail: 0 })]
    }

    fn offset(ledger: &Ledger) -> u64 {
        ledger.records().next().unwrap().done.offset
    }

    #[test]
    fn a_later_confirm_waits_for_the_earlier_one() {
        let mut ledger = Ledger::default();
        ledger.know(1, record());
        let (first, second) = (ledger.begin(done(10), 1), ledger.begin(done(20), 1));
        ledger.finish(second);
        assert_eq!(offset(&ledger), 0);
        ledger.finish(first);
        assert_eq!((offset(&ledger), ledger.open_batches()), (20, 0));
    }

    #[test]
    fn a_rename_keeps_the_offset() {
        let mut ledger = Ledger::default();
        ledger.know(1, record());
        let batch = ledger.begin(done(10), 1);
        ledger.finish(batch);
        assert!(ledger.take_changed() && !ledger.take_changed());
        ledger.know(1, FileRecord { name: "0.log.20261122-100000".into(), ..record() });
        assert_eq!(offset(&ledger), 10);
        assert!(ledger.take_changed());
    }

    #[test]
    fn a_file_is_forgotten_after_what_was_read_from_it() {
        let mut ledger = Ledger::default();
        ledger.know(1, record());
        let (read, gone) = (ledger.begin(done(10), 1), ledger.begin(vec![Step::Forget(1)], 1));
        ledger.finish(gone);
        assert_eq!(ledger.records().count(), 1);
        ledger.finish(read);
        assert_eq!(ledger.records().count(), 0);
    }

    proptest! {
        #[test]
        fn done_is_always_the_longest_confirmed_prefix(order in Just((0usize..20).collect::<Vec<_>>()).prop_shuffle()) {
            let mut ledger = Ledger::default();
            ledger.know(1, record());
            let batches: Vec<_> = (1..=20).map(|offset| ledger.begin(done(offset), 1)).collect();
            let mut confirmed = [false; 20];
            for index in order {
                ledger.finish(batches[index]);
                ledger.finish(batches[index]);
                confirmed[index] = true;
                let prefix = confirmed.iter().take_while(|confirmed| **confirmed).count();
                prop_assert_eq!(offset(&ledger), prefix as u64);
            }
        }
    }
}
