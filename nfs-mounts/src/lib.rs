//! Finds NFS mounts, and touches them without being hung by them.
//!
//! On a hung NFS mount nearly every system call blocks, some of them beyond SIGKILL. So a daemon never touches a mount itself. Read in this
//! order:
//!
//! - [`mountinfo`] and [`mountstats`] parse what the kernel says of mounts in `/proc`; reading these never blocks.
//! - [`helper`] is the daemon's side: it starts the daemon's own binary again with a hidden subcommand, judges the age of the child's
//!   heartbeat, kills a child that is overdue, and reports it as stuck when even that does not end it. There is one child per volume: none
//!   is started while the one before is still there.
//! - [`child`] is the other side, behind [`child::SUBCOMMAND`]: it takes one order, reports the start and the end of each [`Phase`] (its
//!   heartbeat), answers, and ends.
//! - [`failure`] distinguishes the errors of file operations on NFS.

pub mod child;
pub mod failure;
pub mod helper;
pub mod mountinfo;
pub mod mountstats;
mod phase;

pub use phase::Phase;
