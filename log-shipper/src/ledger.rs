//! How far each file of one container is done: moved only by confirms, in the order in which lines were read.

use std::collections::VecDeque;

use crate::identity::{FileKey, Head, Mark};
use crate::join::FileNumber;

/// A file as the checkpoint knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its name within the container's folder.
    pub name: String,
    /// Where it is on its file system.
    pub key: FileKey,
    /// How it begins.
    pub head: Head,
    /// The size it was last seen with, uncompressed, in bytes; 0 while unknown.
    pub size: u64,
    /// Everything before this was confirmed, or needs no confirm.
    pub done: Mark,
    /// Whether this content came after a truncation: no line that is open in an older file goes on in it.
    pub after_truncation: bool,
}

/// What the confirm of a batch moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The file is done up to here.
    Done(FileNumber, Mark),
    /// The file is no more.
    Forget(FileNumber),
}

/// The batches of one container that are on their way, and what was confirmed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// A few at most.
    files: Vec<(FileNumber, FileRecord)>,
    /// In the order of reading.
    batches: VecDeque<Pending>,
    /// The number of the first in `batches`.
    first: u64,
    changed: bool,
    /// Whether the broker refuses what comes from this log.
    held: bool,
}

/// A batch that is on its way, or that waits for an earlier one.
#[derive(Debug)]
struct Pending {
    steps: Vec<Step>,
    /// The size of its messages.
    bytes: usize,
    confirmed: bool,
}

/// A log with more unconfirmed batches than this is not read further …
const MOST_UNCONFIRMED: usize = 64;
/// … or than this, while the broker refuses what comes from it: enough to see that it takes other lines of it.
const MOST_UNCONFIRMED_HELD: usize = 12;
/// Confirmed batches wait for earlier ones, up to so many together.
const MOST_BATCHES: usize = 4096;

impl Ledger {
    /// Sets what is known of a file, but for how far it is done: only a new file starts at `record.done`.
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
                self.files.reserve_exact(1); // mostly there is one, and a node has many containers
                self.files.push((file, record));
            }
        }
        self.changed = true;
    }

    /// A batch of this size begins, whose confirm takes these steps; gives the number to [`Ledger::finish`] it by.
    pub fn begin(&mut self, steps: Vec<Step>, bytes: usize) -> u64 {
        self.batches.push_back(Pending { steps, bytes, confirmed: false });
        self.first + self.batches.len() as u64 - 1
    }

    /// The batch was confirmed. Its steps are taken once all batches before it were confirmed too.
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
    }

    fn record(&mut self, file: FileNumber) -> Option<&mut FileRecord> {
        self.files.iter_mut().find(|(known, _)| *known == file).map(|(_, record)| record)
    }

    /// How many batches are on their way.
    pub fn open_batches(&self) -> usize {
        self.batches.len()
    }

    /// Whether so much is on its way that the log should not be read further now: so many batches, or `share` bytes.
    pub fn is_full(&self, share: usize) -> bool {
        let unconfirmed = self.batches.iter().filter(|pending| !pending.confirmed);
        let (count, bytes) = unconfirmed.fold((0, 0), |(count, bytes), pending| (count + 1, bytes + pending.bytes));
        let most = if self.held { MOST_UNCONFIRMED_HELD } else { MOST_UNCONFIRMED };
        count >= most || bytes >= share || self.batches.len() >= MOST_BATCHES
    }

    /// Sets whether the broker refuses what comes from this log.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether the broker refuses what comes from this log.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// What the checkpoint should say of each file.
    pub fn records(&self) -> impl Iterator<Item = &FileRecord> {
        self.files.iter().map(|(_, record)| record)
    }

    /// The files it knows.
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
            after_truncation: false,
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
