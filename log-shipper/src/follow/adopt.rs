//! Adopts files: decides whether a file is new, one of the checkpoint, or another copy of one that is being read.

use std::os::unix::fs::FileExt;

use sidecar::sync::lock;

use super::loss::Loss;
use super::segment::{Copy, Origin, Segment};
use super::{ContainerLog, FileEvent, Inner, Opened, Reading};
use crate::content;
use crate::encode::Frame;
use crate::identity::{FileKey, Head, Mark, TAIL_BYTES};
use crate::ledger::{FileRecord, Step};
use crate::names::{Age, LogName};
use crate::pods::PodInfo;

impl ContainerLog {
    /// Handles what the discovery saw. After the first scan every file is known, so files that only the checkpoint
    /// knows are gone.
    pub(super) fn drain_events(&self, inner: &mut Inner, reading: &Reading) {
        let news = std::mem::take(&mut *lock(&self.inbox));
        if news.is_empty() {
            return;
        }
        for segment in inner.segments.iter_mut().filter(|segment| segment.head.is_growing()) {
            // A file that was empty when it was found may have been compressed since. Its copy is recognized by the
            // beginning.
            segment.note_size();
            let _ = segment.learn_beginning(self.container());
        }
        let first_new = inner.next_number;
        for item in news {
            match item {
                FileEvent::Opened(opened) => self.adopt(inner, opened, reading),
                FileEvent::Gone(key) => {
                    inner.segments.iter_mut().for_each(|segment| segment.unlist(key));
                    inner.unplaced.retain(|(unplaced, _)| *unplaced != key);
                }
            }
        }
        inner.segments.sort_by(|a, b| a.age.cmp(&b.age));
        inner.at_end = false;
        if inner.end_is_lost
            && let Some(next) = inner.segments.iter_mut().find(|segment| segment.number >= first_new)
        {
            self.begins_after_loss(next);
            inner.end_is_lost = false;
        }
        for record in std::mem::take(&mut inner.saved) {
            let (path, age) = (self.path(&record.name), LogName::age_of(&record.name).0);
            // What was live then is older than all content that the checkpoint does not have. What was truncated then has
            // no file, and what came after it is marked.
            let was_live = age == Age::Live && record.key != FileKey::default();
            let is_newer = |segment: &Segment| if was_live { !segment.was_recorded } else { segment.age > age };
            if record.done.offset < record.size
                && let Some(next) = inner.segments.iter_mut().find(|segment| is_newer(segment))
            {
                self.begins_after_loss(next);
            }
            // The live file was written to until it was deleted or truncated.
            let open_ended = age == Age::Live && record.head.length > 0;
            let loss = Loss { from: record.done.offset, to: record.size, open_ended };
            self.lost(&path, loss, "the file was deleted or truncated while log-shipper was not running", reading);
        }
        let known: Vec<_> = inner.segments.iter().map(|segment| segment.number).collect();
        let steps: Vec<_> =
            self.ledger().numbers().filter(|number| !known.contains(number)).map(Step::Forget).collect();
        if !steps.is_empty() {
            self.take_steps(steps);
        }
    }

    fn adopt(&self, inner: &mut Inner, opened: Opened, reading: &Reading) {
        let Opened { key, name, file } = opened;
        let (age, gzip) = LogName::age_of(&name);
        inner.unplaced.retain(|(unplaced, _)| *unplaced != key);
        for segment in &mut inner.segments {
            if let Some(copy) = segment.open_copy(key) {
                copy.name = name;
                copy.listed = true;
                segment.come_back();
                segment.sort_copies();
                return self.renamed(segment, inner.pod.as_deref(), reading);
            }
        }
        let (beginning, failure) = match content::beginning(&file, gzip) {
            Ok(beginning) => (beginning, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut copy = Copy { key, name: name.clone(), gzip, listed: true, file: Some(file) };
        let has_record = inner.saved.iter().any(|record| record.key == key && is_saved(record, &copy, &beginning));
        let mut others = inner.segments.iter_mut().filter(|_| !has_record);
        if let Some(segment) = others.find(|segment| segment.has_content_of(&copy, &beginning)) {
            let being_read = segment.has_file();
            if segment.is_ended() || (being_read && copy.gzip) {
                // The open original is read to its end. Of the compressed file only the name is needed.
                copy.file = None;
            }
            segment.add(copy);
            return self.renamed(segment, inner.pod.as_deref(), reading);
        }
        let saved = take_saved(&mut inner.saved, &copy, &beginning);
        if age == Age::Aside && saved.is_none() {
            return inner.unplaced.push((key, name));
        }
        let frame = self.frame(inner.pod.as_deref(), &name, reading);
        let number = inner.next_number();
        let mut segment = Segment::new(number, age, copy, frame);
        if let Some(error) = failure {
            self.unreadable(&mut segment, &error);
        }
        segment.note_size();
        if let Some(Copy { gzip: true, file: Some(file), .. }) = segment.copies.first() {
            // This many bytes are lost if the file disappears before it is read.
            segment.size = content::uncompressed_size(file);
        }
        segment.head = Head::of(&beginning);
        segment.name_by(&beginning, self.container());
        match saved {
            Some(record) => {
                segment.start_at(record.done);
                segment.after_loss = record.after_loss;
                segment.was_recorded = true;
                if segment.is_compressed() && was_complete(&record) {
                    segment.end_here();
                }
                segment.size = segment.size.max(record.size);
            }
            None if inner.at_end => start_at_end(&mut segment),
            // The checkpoint has other content for this file: it was truncated while log-shipper was not running.
            None => {
                let other = |record: &FileRecord| {
                    let same_place = record.name == name || LogName::age_of(&record.name).0 == Age::Live;
                    record.key == key && same_place && (record.after_loss || !record.head.begins(&beginning))
                };
                segment.after_loss = inner.saved.iter().any(other);
            }
        }
        if !segment.is_compressed() && segment.age != Age::Live && segment.read.offset == 0 {
            segment.origin = Origin::Unknown;
        }
        self.record(&segment);
        inner.segments.reserve_exact(1); // there is usually one, and a node has many containers
        inner.segments.push(segment);
    }

    fn renamed(&self, segment: &mut Segment, pod: Option<&PodInfo>, reading: &Reading) {
        self.reframe(segment, pod, reading);
        self.record(segment);
    }

    fn reframe(&self, segment: &mut Segment, pod: Option<&PodInfo>, reading: &Reading) {
        if let Some(copy) = segment.copies.first() {
            segment.frame = self.frame(pod, &copy.name, reading);
        }
    }

    fn frame(&self, pod: Option<&PodInfo>, name: &str, reading: &Reading) -> Frame {
        reading.encoder.frame(self.container(), pod, &self.path(name).to_string_lossy())
    }

    /// Renders frames again if the pod's metadata changed.
    pub(super) fn refresh(&self, inner: &mut Inner, reading: &Reading) {
        let generation = reading.pods.generation();
        let Some(pod) = self.container().pod.as_ref().filter(|_| generation != inner.pods_seen) else { return };
        inner.pods_seen = generation;
        let now = reading.pods.get(&pod.uid);
        // Metadata that is no longer available was true until now.
        if now.is_none() || now == inner.pod {
            return;
        }
        inner.pod = now;
        for segment in &mut inner.segments {
            self.reframe(segment, inner.pod.as_deref(), reading);
        }
    }

    /// Updates the ledger's record by which a file is recognized later.
    pub(super) fn record(&self, segment: &Segment) {
        let Some(copy) = segment.copies.first() else { return };
        // The inode of a file that is neither listed nor open may be reused.
        let key = if copy.listed || copy.file.is_some() { copy.key } else { FileKey::default() };
        let record = FileRecord {
            name: copy.name.clone(),
            key,
            head: segment.head,
            size: segment.size,
            done: segment.recorded,
            after_loss: segment.after_loss,
        };
        self.ledger().know(segment.number, record);
    }

    /// Records in the ledger that a file has grown, so that the next run recognizes it by its beginning and, if it is gone
    /// by then, can report what was lost.
    pub(super) fn record_growth(&self, segment: &mut Segment) {
        let growth = (segment.size, segment.head);
        if growth != segment.recorded_growth {
            segment.recorded_growth = growth;
            self.record(segment);
        }
    }

    /// Handles a file whose content was replaced. The old content continues in a copy, if there is one. Its last line
    /// may continue in the new content, which counts as a separate file.
    pub(super) fn truncated(&self, inner: &mut Inner, index: usize) {
        let truncated = inner.segments[index].number;
        self.recognize_copies(inner);
        let Some(index) = inner.segments.iter().position(|segment| segment.number == truncated) else { return };
        let number = inner.next_number();
        let segment = &mut inner.segments[index];
        tracing::info!(file = %self.path_of(segment).display(), read = segment.read.offset, "a log file was truncated");
        let first = &mut segment.copies[0];
        let closed = Copy { key: first.key, name: first.name.clone(), gzip: first.gzip, listed: false, file: None };
        let copy = std::mem::replace(first, closed);
        let (age, _) = LogName::age_of(&copy.name);
        let frame = segment.frame.clone();
        segment.unlist(copy.key);
        let read = segment.read;
        // An older copy has nothing more.
        segment.copies.iter_mut().filter(|copy| !copy.reaches(read)).for_each(|copy| copy.file = None);
        segment.sort_copies();
        let goes_on = segment.has_file();
        if !goes_on {
            // With the name of the new content, it would seem newer than files that are rotated from now on.
            segment.age = Age::OLDEST;
        }
        self.record(segment);
        let mut next = Segment::new(number, age, copy, frame);
        next.after_loss = !goes_on;
        next.note_size();
        // If the beginning cannot be read now, the first turn tries again.
        let _ = next.learn_beginning(self.container());
        self.record(&next);
        inner.segments.insert(index + 1, next);
    }
}

/// Takes the checkpoint's record of this file: by content, the same inode first.
fn take_saved(saved: &mut Vec<FileRecord>, copy: &Copy, beginning: &[u8]) -> Option<FileRecord> {
    let fitting = saved
        .iter()
        .enumerate()
        .filter(|(_, record)| is_saved(record, copy, beginning))
        .min_by_key(|(_, record)| (!record.head.matches(beginning), record.key != copy.key));
    let (index, _) = fitting?;
    Some(saved.remove(index))
}

/// Whether the checkpoint's record may be that of this file. For the same inode, a beginning that is too short to match
/// two files is enough.
fn is_saved(record: &FileRecord, copy: &Copy, beginning: &[u8]) -> bool {
    let same = record.key == copy.key && (record.head.length > 0 || beginning.is_empty());
    (record.head.matches(beginning) || same && record.head.begins(beginning)) && copy.reaches(record.done)
}

/// Whether everything in a file was processed when it was last written. A compressed file without readable content
/// counts as processed.
fn was_complete(record: &FileRecord) -> bool {
    let (age, gzip) = LogName::age_of(&record.name);
    let has_nothing = gzip && record.head.length == 0;
    age != Age::Live && (record.size > 0 || has_nothing) && record.done.offset == record.size
}

pub(super) fn start_at_end(segment: &mut Segment) {
    let size = segment.size;
    let Some(Copy { gzip: false, file: Some(file), .. }) = segment.copies.first() else { return segment.end() };
    let mut tail = [0; TAIL_BYTES];
    let length = Mark::tail_length(size);
    if file.read_exact_at(&mut tail[..length], size - length as u64).is_ok() {
        segment.start_at(Mark::at(size, &tail[..length]));
    }
}
