//! fs-keepalive writes a small record to each shared volume once a minute, so that the file server does not go to sleep
//! and its clients keep their connection. It reads the record back from the server, so that it notices a hang.
//!
//! Read in this order:
//!
//! - [`record`] the 512 bytes
//! - [`touch`] one round on one volume, in a child process (see `nfs_mounts`); [`removal`] decides which old files of
//!   other writers it removes
//! - [`place`] whether the path is on a mount; [`trouble`] what can be wrong with a volume
//! - [`volume`] the rounds of one volume, with its [`metrics`] and its entry on the [`page`]
//! - [`run`] wires everything from the [`settings`]

pub mod metrics;
pub mod page;
pub mod place;
pub mod record;
pub mod removal;
pub mod run;
pub mod settings;
pub mod touch;
pub mod trouble;
pub mod volume;
