//! The checkpoint reader: whatever it accepts, it writes back unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use log_shipper::checkpoint;

fuzz_target!(|input: &[u8]| {
    if let Ok(saved) = checkpoint::parse(input) {
        assert_eq!(checkpoint::parse(&checkpoint::render(&saved)).unwrap(), saved);
    }
});
