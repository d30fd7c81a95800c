//! `nfs-health volumes`: from a Service to a bound volume and claim, again and again without harm.
//!
//! - [`wanted`] what there is to be; [`names`] of what is made; [`plan`] the decision, pure; [`trouble`] what people have to do
//! - [`see`](mod@see) what the cluster has; [`act`](mod@act) one step; [`objects`] what is made
//! - [`settings`], [`changes`] when to look again, [`claims`] the page, [`metrics`]; and [`run`](mod@run), which puts them together

pub mod act;
pub mod changes;
pub mod claims;
pub mod metrics;
pub mod names;
pub mod objects;
pub mod plan;
pub mod run;
pub mod see;
pub mod settings;
pub mod trouble;
pub mod wanted;
