//! `nfs-health run`: checks exports continuously, on every node.
//!
//! - [`run`](mod@run) wires it; [`rounds`] starts a [`round`] of each export when it is due
//! - [`exports`] has the verdict of each export, [`debounce`]d; [`metrics`] and the node's [`reporter`] publish it

pub mod debounce;
pub mod exports;
pub mod metrics;
pub mod reporter;
pub mod round;
pub mod rounds;
pub mod run;
