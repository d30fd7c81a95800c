//! Lab images: which images exist, which are wanted, and what holds them.
//!
//! Read in this order:
//!
//! - [`reference`] names: repositories, tags, digests, platforms
//! - [`tag`] what a tag says, by four schemes, and the order of a menu
//! - [`policy`] which tags are wanted and why: pure
//! - [`catalogue`] the wanted images as a document, and [`published`] the names under which a cluster has it
//! - [`registry`] a client for registries; [`scan`] asks it what the policy needs to know and makes the catalogue
//! - [`runtime`] containerd (CRI) and Docker: list, pull with progress, what is in use, remove; the disk guard
//! - [`settings`] the settings that daemons around lab images share

pub mod catalogue;
pub mod policy;
pub mod published;
pub mod reference;
pub mod registry;
pub mod runtime;
pub mod scan;
pub mod settings;
pub mod tag;
