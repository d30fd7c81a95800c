//! NULs that no container wrote: what a power failure leaves of a page, or the hole before what a writer without
//! O_APPEND writes into a truncated file. They produce no event; their number is logged and counted.

use std::ops::Range;

use super::segment::Segment;
use crate::content;
use crate::identity::{Mark, TAIL_BYTES};
use crate::parse;

/// How many runs of NULs within a line are examined, because each may require parsing the rest of the line.
const MOST_RUNS: usize = 16;

/// A run of NULs that ends a line without its newline is at least this long: no runtime writes so long a line.
const LEAST_HOLE: usize = 64 * 1024;

/// What precedes a line that follows NULs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The beginning of another line whose rest was lost; empty if the NULs come first.
    pub(super) torn: Range<usize>,
    /// The end of the NULs after it.
    pub(super) next: usize,
}

/// The pieces before the last line of a text that ends with one newline. NULs that are not followed by a complete line
/// of a runtime were written by the container.
pub(super) fn pieces(line: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    for _ in 0..MOST_RUNS {
        let Some(run) = memchr::memchr(0, &line[at..]).map(|found| at + found) else { break };
        let next = run + content::leading_nuls(&line[run..]);
        let begins_line = matches!(line.get(next), Some(b'{' | b'0'..=b'9')) && parse::line(&line[next..]).is_ok();
        if run == from || begins_line {
            pieces.push(Piece { torn: from..run, next });
            from = next;
        }
        at = next;
    }
    pieces
}

/// Where a line without a newline ends because only a hole follows it; `None` if it may continue.
pub(super) fn torn_before_hole(data: &[u8]) -> Option<usize> {
    let end = data.iter().rposition(|byte| *byte != 0)? + 1;
    if data.len() - end >= LEAST_HOLE { Some(end) } else { None }
}

impl Segment {
    /// Skips the NULs that follow the first `before` bytes of `buffer`, and the hole after them, if a line may begin
    /// here. Returns how many bytes of the buffer that were. At the end of the file this happens only with `at_end`,
    /// because a network file system may briefly show NULs instead of data that is being written.
    pub(super) fn pass_nuls(&mut self, buffer: &[u8], before: usize, at_end: bool) -> usize {
        if self.cut_from().is_some() || buffer.get(before) != Some(&0) {
            return 0;
        }
        let nuls = content::leading_nuls(&buffer[before..]);
        let offset = self.read.offset + nuls as u64;
        if nuls < buffer.len() - before {
            self.pass(Mark::at(offset, &buffer[..before + nuls]), nuls as u64);
            return nuls;
        }
        let at_end = at_end || self.is_compressed();
        let after = self.plain_file().map_or(Some(offset), |file| content::next_data(file, offset));
        match after {
            Some(data) if data >= offset + TAIL_BYTES as u64 => {
                self.pass(Mark::at(data, &[0; TAIL_BYTES]), nuls as u64 + data - offset);
            }
            Some(_) if at_end || offset < self.asked_size() => self.pass(Mark::at(offset, buffer), nuls as u64),
            None if at_end && self.asked_size() >= offset + TAIL_BYTES as u64 => {
                let end = self.asked_size();
                self.pass(Mark::at(end, &[0; TAIL_BYTES]), nuls as u64 + end - offset);
            }
            None if at_end => self.pass(Mark::at(offset, buffer), nuls as u64),
            // Only NULs up to the end of the file: wait for more data.
            _ => {
                let end = self.asked_size().max(offset);
                self.advance(self.read, end);
            }
        }
        nuls
    }

    fn pass(&mut self, mark: Mark, nuls: u64) {
        self.skip_nuls(nuls);
        let looked = mark.offset;
        self.advance(mark, looked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2026-11-22T10:00:00Z stdout F x";
    const JSON: &str = "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-22T10:00:00Z\"}";

    fn texts(line: &str) -> Vec<String> {
        let pieces = pieces(line.as_bytes());
        let last = pieces.last().map_or(0, |piece| piece.next);
        let torn = pieces.iter().map(|piece| piece.torn.clone()).filter(|torn| !torn.is_empty());
        torn.map(|torn| line[torn].to_owned()).chain([line[last..].to_owned()]).collect()
    }

    #[test]
    fn a_line_is_found_behind_nuls_and_behind_a_torn_one() {
        for line in [LINE, JSON] {
            assert_eq!(texts(&format!("\0\0{line}")), [line]);
            assert_eq!(texts(&format!("torn\0\0{line}")), ["torn", line]);
            assert_eq!(texts(&format!("\0torn\0\0torn too\0{line}")), ["torn\0\0torn too", line]);
            assert_eq!(texts(line), [line]);
        }
        assert_eq!(texts("\0\0"), [""]);
    }

    #[test]
    fn nuls_that_a_container_wrote_stay() {
        let line = format!("{LINE}\0a\0\0{{\0 9\0");
        assert_eq!(texts(&line), [line]);
    }

    #[test]
    fn many_runs_cost_no_more_than_some() {
        let line = "{\"a\":[".repeat(20_000).replace('[', "[\0");
        assert!(pieces(line.as_bytes()).len() <= MOST_RUNS);
    }
}
