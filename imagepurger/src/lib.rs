//! Removes lab images that nobody wants and nobody uses, before a node's disk fills.
//!
//! See: [`environment`] opens what is around: [`catalogue`] (a file, or the ConfigMap with its Lease), [`pods`] bound to this
//! node, the runtime's images and containers, the disk. [`memory`] keeps the [`history`] of when each image was first seen, last
//! used and last wanted, by a [`clock`] that cannot jump; [`files`] reads and writes through a child process, since a mount may
//! hang. Decide: [`plan`](mod@plan), a pure function to a [`verdict`] for every image, over [`names`] in all their spellings, the
//! settings' [`pattern`]s and the [`succession`] of tags. Act: [`round`], which looks and decides again before each single
//! removal. [`mod@run`] repeats rounds by the clock and when the disk is full, [`purge`] does one, [`report`] prints a plan, and
//! [`kubelet`] says where kubelet's own garbage collection would begin.

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
