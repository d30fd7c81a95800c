//! Sessions (RFC 8881, section 18): the calls that open and close one.

use super::{CompoundError, Operation, Results};
use crate::wire::rpc::xdr::{Reader, Writer, XdrError};

const MOST_NAME_BYTES: u32 = 1024;
/// The size of requests and results; ours are much smaller.
const CHANNEL_BYTES: u32 = 16 * 1024;

/// The server's identity, from EXCHANGE_ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The server's owner name (`so_major_id`).
    pub owner: Vec<u8>,
    /// The server's scope (`eir_server_scope`).
    pub scope: Vec<u8>,
    /// The first half of the client id. Servers derive it from the time of their start.
    pub epoch: u32,
}

/// A client as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client id.
    pub id: u64,
    sequence: u32,
    /// The server's identity.
    pub identity: Identity,
}

/// A session of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    id: [u8; 16],
    next: u32,
}

/// The arguments of EXCHANGE_ID. `verifier` differs in each round, so that no state of an earlier round remains.
pub fn exchange_id(owner: &str, verifier: u64) -> Vec<u8> {
    const USE_NON_PNFS: u32 = 0x0001_0000;
    const NO_PROTECTION: u32 = 0;
    const NO_IMPLEMENTATION: u32 = 0;
    Writer::default()
        .u64(verifier)
        .opaque(owner.as_bytes())
        .u32(USE_NON_PNFS)
        .u32(NO_PROTECTION)
        .u32(NO_IMPLEMENTATION)
        .bytes()
}

/// Parses the result of EXCHANGE_ID.
///
/// # Errors
///
/// [`CompoundError`].
pub fn exchanged(results: &mut Results<'_>) -> Result<Client, CompoundError> {
    let reader = results.next(Operation::EXCHANGE_ID)?;
    let id = reader.u64()?;
    let sequence = reader.u32()?;
    let _flags = reader.u32()?;
    match reader.u32()? {
        0 => (),
        // We requested none.
        value => return Err(XdrError::Impossible { at: 0, value }.into()),
    }
    let _minor_id = reader.u64()?;
    let owner = reader.opaque(MOST_NAME_BYTES)?.to_vec();
    let scope = reader.opaque(MOST_NAME_BYTES)?.to_vec();
    for _ in 0..reader.length(1)? {
        let _implementation = (reader.opaque(MOST_NAME_BYTES)?, reader.opaque(MOST_NAME_BYTES)?, reader.take(12)?);
    }
    let epoch = u32::try_from(id >> 32).unwrap_or(0);
    Ok(Client { id, sequence, identity: Identity { owner, scope, epoch } })
}

/// The arguments of CREATE_SESSION.
pub fn create_session(client: &Client) -> Vec<u8> {
    const NO_FLAGS: u32 = 0;
    const CALLBACK_PROGRAM: u32 = 0x4000_0000;
    Writer::default()
        .u64(client.id)
        .u32(client.sequence)
        .u32(NO_FLAGS)
        .raw(&channel())
        .raw(&channel())
        .u32(CALLBACK_PROGRAM)
        .u32(1)
        .u32(0 /* AUTH_NONE: nobody listens to callbacks */)
        .bytes()
}

fn channel() -> Vec<u8> {
    const OPERATIONS: u32 = 64;
    const SLOTS: u32 = 1;
    Writer::default()
        .u32(0 /* no header padding */)
        .u32(CHANNEL_BYTES)
        .u32(CHANNEL_BYTES)
        .u32(CHANNEL_BYTES)
        .u32(OPERATIONS)
        .u32(SLOTS)
        .u32(0 /* no RDMA */)
        .bytes()
}

/// Parses the result of CREATE_SESSION.
///
/// # Errors
///
/// [`CompoundError`].
pub fn created(results: &mut Results<'_>) -> Result<Session, CompoundError> {
    let reader = results.next(Operation::CREATE_SESSION)?;
    let id = reader.fixed()?;
    let _ = (reader.u32()?, reader.u32()?);
    for _channel in 0..2 {
        skip_channel(reader)?;
    }
    Ok(Session { id, next: 1 })
}

fn skip_channel(reader: &mut Reader<'_>) -> Result<(), XdrError> {
    reader.take(6 * 4)?;
    for _ in 0..reader.length(1)? {
        reader.u32()?;
    }
    Ok(())
}

impl Session {
    /// The arguments of SEQUENCE for the next request.
    pub fn sequence(&mut self) -> Vec<u8> {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        let (slot, highest_slot, cache) = (0, 0, 0);
        Writer::default().raw(&self.id).u32(sequence).u32(slot).u32(highest_slot).u32(cache).bytes()
    }

    /// The server did not accept the last request, so the next one has the same number.
    pub fn did_not_count(&mut self) {
        self.next = self.next.wrapping_sub(1);
    }

    /// The arguments of DESTROY_SESSION.
    pub fn destroy(&self) -> Vec<u8> {
        self.id.to_vec()
    }
}

/// Skips the result of SEQUENCE.
///
/// # Errors
///
/// [`CompoundError`].
pub fn sequenced(results: &mut Results<'_>) -> Result<(), CompoundError> {
    results.next(Operation::SEQUENCE)?.take(16 + 5 * 4)?;
    Ok(())
}

/// The arguments of OPEN: to read `name`, which must exist. Such a file never exists, so a server answers that there is
/// none, or that it is in its grace period.
pub fn open_to_read(client: &Client, name: &str) -> Vec<u8> {
    const READ: u32 = 1;
    const DENY_NONE: u32 = 0;
    const NO_CREATE: u32 = 0;
    const CLAIM_NULL: u32 = 0;
    Writer::default()
        .u32(0 /* sequence, unused in sessions */)
        .u32(READ)
        .u32(DENY_NONE)
        .u64(client.id)
        .opaque(b"nfs-health")
        .u32(NO_CREATE)
        .u32(CLAIM_NULL)
        .opaque(name.as_bytes())
        .bytes()
}

/// The arguments of SETATTR that set nothing. A read-only server refuses even that.
pub fn set_nothing() -> Vec<u8> {
    Writer::default().raw(&[0; 16] /* the anonymous state */).u32(0 /* no attribute */).opaque(b"").bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exchange_result(implementation: bool) -> Vec<u8> {
        let body = Writer::default()
            .u64(0xaabb_ccdd_0000_0001)
            .u32(1)
            .u32(0)
            .u32(0)
            .u64(3)
            .opaque(b"owner")
            .opaque(b"scope")
            .u32(implementation.into());
        let body = if implementation { body.opaque(b"domain").opaque(b"name").u64(0).u32(0) } else { body };
        Writer::default().u32(0).opaque(b"").u32(1).u32(42).u32(0).raw(&body.bytes()).bytes()
    }

    #[test]
    fn the_servers_identity_is_read() {
        for implementation in [false, true] {
            let bytes = exchange_result(implementation);
            let client = exchanged(&mut Results::parse(&bytes).unwrap()).unwrap();
            let identity = Identity { owner: b"owner".to_vec(), scope: b"scope".to_vec(), epoch: 0xaabb_ccdd };
            assert_eq!((client.id, client.sequence, client.identity), (0xaabb_ccdd_0000_0001, 1, identity));
        }
    }

    #[test]
    fn each_request_has_the_next_number() {
        let mut session = Session { id: [7; 16], next: 1 };
        assert_eq!(session.sequence()[16..20], [0, 0, 0, 1]);
        assert_eq!(session.sequence()[16..20], [0, 0, 0, 2]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), operation in 42_u32..54) {
            let head = Writer::default().u32(0).opaque(b"").u32(1).u32(operation).u32(0).bytes();
            bytes.splice(0..0, head);
            let results = Results::parse(&bytes).unwrap();
            let _ = (exchanged(&mut results.clone()), created(&mut results.clone()), sequenced(&mut results.clone()));
        }
    }
}
