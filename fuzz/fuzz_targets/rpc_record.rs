//! Record marking: however the bytes are split, the same records come out, and none is longer than the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs_health::wire::rpc::record::{Assembler, MOST_BYTES};

fn records(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut assembler, mut records) = (Assembler::default(), Vec::new());
    for mut piece in pieces.iter().copied() {
        loop {
            match assembler.take(&mut piece) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(_) => return (records, false),
            }
        }
    }
    (records, true)
}

fuzz_target!(|input: &[u8]| {
    let whole = records(&[input]);
    assert!(whole.0.iter().all(|record| record.len() <= MOST_BYTES));
    let (front, back) = input.split_at(input.len() / 2);
    assert_eq!(records(&[front, back]), whole);
    assert_eq!(records(&input.chunks(1).collect::<Vec<_>>()), whole);
});
