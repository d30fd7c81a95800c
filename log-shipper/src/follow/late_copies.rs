//! Copies that are found before they are complete, as `copytruncate` writes them. What is being read elsewhere is not
//! read again.

use std::fs::File;

use super::segment::{Origin, Segment};
use super::{ContainerLog, Inner};
use crate::content;
use crate::ledger::Step;
use crate::names::Age;

/// Where else the content of a file is.
enum Original {
    /// Nowhere, or there is no content yet.
    None,
    /// In another segment, of which more was read than is in the file.
    Longer,
    /// In the segment with this index.
    At(usize),
}

impl ContainerLog {
    /// Decides about new files whether they are copies, and adds those that are complete to the segment with their
    /// content.
    pub(super) fn recognize_copies(&self, inner: &mut Inner) {
        for index in (0..inner.segments.len()).rev() {
            if inner.segments[index].origin == Origin::Own {
                continue;
            }
            match original(&inner.segments, index) {
                Original::None => inner.segments[index].mark_own_content(),
                Original::Longer => inner.segments[index].mark_copied(),
                Original::At(at) => {
                    let copied = inner.segments.remove(index);
                    let segment = &mut inner.segments[at - usize::from(index < at)];
                    copied.copies.into_iter().for_each(|copy| segment.add(copy));
                    self.record(segment);
                    self.take_steps(vec![Step::Forget(copied.number)]);
                }
            }
        }
    }
}

fn original(segments: &[Segment], index: usize) -> Original {
    let Some((copy, file)) = segments[index].copies.first().zip(segments[index].plain_file()) else {
        return Original::None;
    };
    let Ok(beginning) = content::beginning(file, false) else { return Original::None };
    if beginning.is_empty() {
        return Original::None;
    }
    let is_original = |other: &Segment| other.read.offset > 0 || other.age == Age::Live || other.is_truncated();
    for (at, other) in segments.iter().enumerate().filter(|(at, other)| *at != index && is_original(other)) {
        if other.has_content_of(copy, &beginning) {
            return Original::At(at);
        }
        let begins = |file: &File| content::beginning(file, false).is_ok_and(|longer| longer.starts_with(&beginning));
        if other.head.matches(&beginning) || other.plain_file().is_some_and(begins) {
            return Original::Longer;
        }
    }
    Original::None
}
