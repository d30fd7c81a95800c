//! fs-keepalive: writes a small record to each shared volume once a minute, so that the file server does not fall asleep and
//! its clients keep their connection, and reads it back from the server, so that a hang is noticed.
//!
//! - [`settings`] what the environment says
//! - [`record`] the 512 bytes; [`touch`] one round on one volume, which happens in a child process (see `nfs_mounts`);
//!   [`removal`] which files of writers long gone are removed
//! - [`place`] is the path on a mount at all; [`trouble`] what can be wrong, told apart
//! - [`volume`] the loop over rounds of one volume, with its [`metrics`] and its line on the [`page`]; ready means that rounds are made
//! - [`run`] puts it together

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
