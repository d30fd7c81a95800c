//! Finding NFS mounts, and touching them without being hung by them.
//!
//! On a hung NFS mount nearly every system call blocks, some of them beyond SIGKILL. So a daemon never touches a mount itself:
//!
//! - [`mountinfo`] and [`mountstats`] parse what the kernel says of mounts in `/proc`; reading these never blocks.
//! - [`child`] is the other side of a daemon's hidden subcommand [`child::SUBCOMMAND`]: it takes one order, tells at the start
//!   and the end of each [`Phase`] (its heartbeat), answers, and ends.
//! - [`helper`] is the daemon's side: it starts the daemon's own binary again with that subcommand, judges the age of the
//!   heartbeat, kills a child that is overdue, and reports it as stuck when even that does not end it. One child per volume:
//!   none is started while the one before is still there.
//! - [`failure`] tells the errors of file operations on NFS apart.

pub mod child;
pub mod failure;
pub mod helper;
pub mod mountinfo;
pub mod mountstats;
mod phase;

pub use phase::Phase;
