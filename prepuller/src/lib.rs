//! `prepuller` scans a registry, decides which lab images are wanted, and pulls them to machines before users ask for them.
//!
//! Read in this order:
//!
//! - [`node_images`] the custom resource `NodeImages`: the planner's orders and the agent's report
//! - [`plan`] decides for a whole cluster which node pulls which image now; `plan/decide.rs` is the decision
//! - [`overview`] a snapshot of what the planner knows; [`page`] shows it, and [`planner_client`] reads it over HTTP
//! - [`node`] the agent, which passes the orders to the [`puller`]; `puller/schedule.rs` and `puller/presence.rs` are
//!   the puller's decisions
//! - [`cli`] the commands; [`tags`], [`scan`], [`pull`], [`status`] and [`wait`] are one each; [`catalogue`] gets the
//!   wanted images for them
//! - [`settings`] the environment and the flags; [`old_names`] the variables of LSST's Jupyter Lab Demo

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
