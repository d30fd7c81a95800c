//! `nfs-health run`: rounds without end, on every node.
//!
//! - [`run`](mod@run) puts it together; [`rounds`] begins a [`round`] of each export at its time
//! - [`exports`] has the verdict of each export, [`debounce`]d; [`metrics`] and the node's [`reporter`] show it

pub mod debounce;
pub mod exports;
pub mod metrics;
pub mod reporter;
pub mod round;
pub mod rounds;
pub mod run;
