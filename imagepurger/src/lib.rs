//! Removes lab images that are neither wanted nor in use, before the disk of a node fills.
//!
//! Read in this order:
//!
//! - [`verdict`] the possible decisions on an image, and their reasons
//! - [`plan`](mod@plan) the decision: a pure function that gives a verdict on every image, from [`names`] in all their
//!   spellings, the [`pattern`]s of the settings and the [`succession`] of tags
//! - [`round`] looks, decides, and looks and decides again before each single removal
//! - [`environment`] what a round looks at: [`catalogue`] (a file, or the ConfigMap with its Lease), [`pods`] bound to
//!   this node, the images and containers of the runtime, the disk
//! - [`memory`] keeps the [`history`] of when each image was first seen, last used and last wanted, by a [`clock`] that
//!   cannot jump; [`files`] reads and writes through a child process, because a mount may hang
//! - [`mod@run`] repeats rounds at an interval and whenever the disk is full; [`purge`] does one round; [`report`]
//!   prints a plan
//! - [`settings`] of all three commands; [`kubelet`] reads the thresholds of kubelet's own garbage collection

pub mod catalogue;
pub mod clock;
pub mod environment;
pub mod files;
pub mod history;
pub mod kubelet;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod pattern;
pub mod plan;
pub mod pods;
pub mod purge;
pub mod report;
pub mod round;
pub mod run;
pub mod settings;
pub mod succession;
pub mod verdict;
