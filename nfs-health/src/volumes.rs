//! `nfs-health volumes`: creates a volume and a bound claim for a Service; repeated runs do no harm.
//!
//! - [`wanted`] the wanted state; [`names`] names of created objects; [`plan`] the decision, pure; [`trouble`] what
//!   administrators have to do
//! - [`observe`](mod@observe) reads the cluster; [`apply`](mod@apply) carries out one step; [`objects`] the created objects
//! - [`settings`], [`changes`] when to look again, [`claims`] the page, [`metrics`]; and [`run`](mod@run), which puts
//!   them together

pub mod apply;
pub mod changes;
pub mod claims;
pub mod metrics;
pub mod names;
pub mod objects;
pub mod observe;
pub mod plan;
pub mod run;
pub mod settings;
pub mod trouble;
pub mod wanted;
