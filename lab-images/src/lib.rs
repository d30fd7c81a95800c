//! Lab images: which images exist, which are wanted, and which container runtimes have them.
//!
//! Read in this order:
//!
//! - [`reference`] names: repositories, tags, digests, platforms
//! - [`tag`] parses tags by four schemes, and orders them for a menu
//! - [`policy`] decides which tags are wanted and why; pure
//! - [`catalogue`] the images as a document, and [`published`] the names of its objects in a cluster
//! - [`registry`] a client for registries; [`scan`] asks it what the policy needs, and builds the catalogue
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
