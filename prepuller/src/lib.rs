//! `prepuller` scans a registry, decides which lab images are wanted, and pulls them to machines before anyone asks.
//!
//! Read in this order:
//!
//! - [`node_images`] an order and its report, as the custom resource `NodeImages` has them: planner and agents meet there
//! - [`plan`] decides for a whole cluster which node pulls what now; `plan/decide.rs` is the decision
//! - [`overview`] what the planner knows at one moment; [`page`] shows it, and [`planner_client`] asks for it from elsewhere
//! - [`node`] the agent, which gives the orders to the [`puller`]; `puller/schedule.rs` and `puller/presence.rs` are its decisions
//! - [`cli`] the commands; [`tags`], [`scan`], [`pull`], [`status`] and [`wait`] are one each; [`catalogue`] where they find the wanted images
//! - [`settings`] what the environment and flags say; [`old_names`] the names in LSST's Jupyter Lab Demo

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
