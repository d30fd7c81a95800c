//! `prepuller` scans a registry, decides which lab images are wanted, and pulls them to machines before anyone asks.
//!
//! - [`settings`] what the environment and flags say; [`old_names`] what the seed called it
//! - [`tags`], [`scan`], [`pull`], [`node`], [`status`], [`wait`]: one command each; [`catalogue`] where they get the catalogue from
//! - [`plan`] decides for a whole cluster which node pulls what now; [`page`] shows it, [`planner_client`] asks it from elsewhere
//! - [`puller`] pulls the ordered images on one machine: which pull starts next, what is there already, one pull in flight
//! - [`node_images`] an order and its report, as the custom resource `NodeImages` has them
//!
//! See, decide, act: `puller/schedule.rs` and `puller/presence.rs` decide and are pure; the rest sees and acts.

pub mod catalogue;
pub mod cli;
pub mod node;
pub mod node_images;
pub mod old_names;
pub mod overview;
pub mod page;
pub mod plan;
pub mod planner_client;
pub mod pull;
pub mod puller;
pub mod scan;
pub mod settings;
pub mod status;
pub mod tags;
pub mod wait;
