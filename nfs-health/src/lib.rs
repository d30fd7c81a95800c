//! nfs-health: looks at NFS servers over the wire, at what is in front of them, and at the mounts on this node; and tells in one
//! word what is wrong: the server, the way to it, or this node.
//!
//! - [`rpc`] ONC RPC (records, messages, XDR), every size capped; on it [`nfs3`] and [`nfs4`], each the few calls that tell something
//! - [`probe`] one round of one [`server`] over the wire; [`fault`] why a step failed
//! - [`mount`] one look at one mount, in a child process (see `nfs_mounts`); [`space`] the room on either
//! - [`verdict`] the pure judgement on what was seen; [`patience`] what passes and for how long; [`steady`] hysteresis, and restarts
//!   of the server
//! - [`targets`] what there is to look at; [`volume`] one round of one export from every place
//! - [`check`] one round for people and probes; [`run`] rounds without end ([`watch`], at their [`pace`], onto the [`board`])
//! - [`report`] what a node writes down, by its [`reporter`], and [`judge`] reads
//! - [`volumes`] from a Service to a bound volume and claim
//! - [`metrics`] and [`settings`] of all

pub mod board;
pub mod check;
pub mod fault;
pub mod judge;
pub mod metrics;
pub mod mount;
pub mod nfs3;
pub mod nfs4;
pub mod pace;
pub mod patience;
pub mod probe;
pub mod report;
pub mod reporter;
pub mod rpc;
pub mod run;
pub mod server;
pub mod settings;
pub mod space;
pub mod steady;
pub mod targets;
pub mod verdict;
pub mod volume;
pub mod volumes;
pub mod watch;
