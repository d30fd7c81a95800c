//! Finds NFS mounts, and touches them without hanging itself.
//!
//! On a hung NFS mount nearly every system call blocks, some of them even after SIGKILL. So a daemon never touches a
//! mount itself. Read in this order:
//!
//! - [`mountinfo`] and [`mountstats`] parse the kernel's data on mounts in `/proc`; reading these never blocks.
//! - [`helper`] is the daemon's side: it starts the daemon's own binary again with a hidden subcommand, checks the age
//!   of the child's heartbeat, kills a child that is overdue, and reports it as stuck if that does not end it. There is
//!   one child per volume: no new one is started while the last one is still there.
//! - [`child`] is the child process, behind [`child::SUBCOMMAND`]: it takes one order, reports the start and the end of
//!   each [`Phase`] (its heartbeat), answers, and ends.
//! - [`failure`] distinguishes the errors of file operations on NFS; [`path_bytes`] writes paths into orders.

pub mod child;
pub mod failure;
pub mod helper;
pub mod mountinfo;
pub mod mountstats;
pub mod path_bytes;
mod phase;

pub use phase::Phase;
