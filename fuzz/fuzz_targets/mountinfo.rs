//! mountinfo: any text, and any path through its mounts.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nfs_mounts::mountinfo::Mounts;

fuzz_target!(|input: &[u8]| {
    let mounts = Mounts::parse(input);
    let lines = input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(mounts.mounts.len() + mounts.not_understood.len(), lines);
    for mount in mounts.nfs() {
        let _ = (mount.nfs_source(), mount.option("addr"));
    }
    if let Some(holder) = mounts.holding(Path::new("/home/ann/notebooks")) {
        assert!(Path::new("/home/ann/notebooks").starts_with(&holder.mount_point));
    }
});
