//! A gzip file that is read in steps of any length from any offset gives its content; a broken one gives an error.
#![no_main]

use std::fs::File;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use log_shipper::content::{self, Chunk, Decoders, GzipReader};
use log_shipper::identity::Mark;

fuzz_target!(|input: (Vec<u8>, Vec<(u8, u8)>, u16, bool)| {
    let (content, steps, start, broken) = input;
    let bytes = if broken {
        content.clone()
    } else {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap()
    };
    let file = in_memory(&bytes);
    let _ = content::beginning(&file, true);
    let mut at = usize::from(start).min(content.len());
    let mut reader = GzipReader::open(&file, &Decoders::default()).unwrap().unwrap();
    let mut slab = Vec::new();
    for (want, advance) in steps {
        let mark = if broken { Mark::default() } else { Mark::at(at as u64, &content[..at]) };
        let read = reader.read(mark, want.into(), &mut slab);
        if broken {
            let _ = read;
            return;
        }
        let Chunk::Data { before, .. } = read.unwrap() else { panic!("no data") };
        assert!(slab[before..].starts_with(&content[at..(at + usize::from(want)).min(content.len())]));
        at += usize::from(advance).min(slab.len() - before);
        reader.consumed(at as u64);
    }
});

/// A file without a name.
fn in_memory(bytes: &[u8]) -> File {
    let fd = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    file
}
