//! Replies of RPC, and the results of NFSv3, NFSv4 and its sessions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfs_health::wire::nfs4::{self, Operation, Results, attributes, elsewhere, session};
use nfs_health::wire::rpc::message;
use nfs_health::wire::rpc::xdr::Reader;
use nfs_health::wire::nfs3;

fuzz_target!(|input: &[u8]| {
    let _ = message::reply(0, input);
    let _ = (nfs3::port(input), nfs3::handle(input), nfs3::space(input));
    let _ = attributes::parse(&mut Reader::new(input));
    if let Ok(results) = Results::parse(input) {
        let _ = session::exchanged(&mut results.clone());
        let _ = session::created(&mut results.clone());
        let mut results = results;
        let _ = session::sequenced(&mut results);
        let _ = results.went_to(&nfs4::names("/a/b"));
        if let Ok(reader) = results.next(Operation::GETATTR) {
            let _ = (elsewhere::locations(&mut reader.clone()), elsewhere::flavors(&mut reader.clone()));
            let _ = elsewhere::link(&mut reader.clone());
            let _ = attributes::parse(reader);
        }
    }
});
