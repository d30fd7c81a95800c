//! Removes lab images that nobody wants and nobody uses, before a node's disk fills.
//!
//! See: [`catalogue`] (a file, or the ConfigMap with its Lease), [`pods`] bound to this node, the runtime's images and
//! containers, the disk, and the [`history`] of when each image was first seen and last used. Decide: [`plan`](mod@plan), a pure
//! function to a [`verdict`] for every image, over [`names`] in all their spellings and the settings' [`pattern`]s. Act:
//! [`round`], which looks and decides anew before each single removal. [`mod@run`] repeats rounds by the clock and when the
//! disk is full, [`report`] prints a plan, and [`kubelet`] says where kubelet's own garbage collection would begin.

pub mod catalogue;
pub mod history;
pub mod kubelet;
pub mod metrics;
pub mod names;
pub mod pattern;
pub mod plan;
pub mod pods;
pub mod report;
pub mod round;
pub mod run;
pub mod settings;
pub mod verdict;
