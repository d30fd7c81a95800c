//! nfs-health probes NFS servers over the network, checks what is in front of them and the mounts on this node, and says in one word what is
//! wrong: the server, the way to it, or this node.
//!
//! Read in this order:
//!
//! - [`probe`] one round of one [`server`] over the network ([`wire`]), one look at one mount, and the verdict on both
//! - [`targets`] what to check; [`check`] one round of it, for people and for probes that run a command
//! - [`report`] what a node says of its exports, as the custom resource `NfsReport`: agents and the judge meet there
//! - [`agent`] rounds without end on a node, and its report
//! - [`judge`] reads the reports of all nodes, and writes conditions and Events
//! - [`volumes`] from a Service to a bound volume and claim
//! - [`settings`] of all; [`space`] the free space of an export

pub mod agent;
pub mod check;
pub mod judge;
pub mod probe;
pub mod report;
pub mod server;
pub mod settings;
pub mod space;
pub mod targets;
pub mod volumes;
pub mod wire;
