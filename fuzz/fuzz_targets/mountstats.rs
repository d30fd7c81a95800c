//! mountstats: any text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for statistics in nfs_mounts::mountstats::parse(input) {
        let _ = statistics.retransmissions();
    }
});
