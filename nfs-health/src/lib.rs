//! nfs-health probes NFS servers over the network, checks the addresses in front of them and the mounts on this node,
//! and names the cause of trouble in one word: the server, the path to it, or this node.
//!
//! Read in this order:
//!
//! - [`probe`] one round of one [`server`] over the network ([`wire`]), one look at one mount, and the verdict on both
//! - [`targets`] lists what to check; [`check`] runs one round of it, for operators and for exec probes
//! - [`report`] the custom resource `NfsReport`, which agents write and the judge reads
//! - [`agent`] repeats rounds on a node, and writes its report
//! - [`judge`] reads the reports of all nodes, and writes conditions and Events
//! - [`volumes`] creates volumes and claims for a Service
//! - [`settings`] of all commands; [`space`] the free space of an export

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
