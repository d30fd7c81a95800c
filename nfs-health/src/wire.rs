//! The protocols on the wire: [`rpc`] is ONC RPC (records, messages, XDR), with a limit for every size; on it [`nfs3`]
//! and [`nfs4`], each with the few calls that a probe needs.

pub mod nfs3;
pub mod nfs4;
pub mod rpc;
