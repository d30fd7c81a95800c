//! What the planner shows of itself: a page for people, its live updates, and JSON for `prepuller status` and for those who read
//! Nublado's documents.
//!
//! - `query` what a reader asked for; `view` what is shown then, from an overview, pure
//! - `summary` what a view says, in sentences; `text` numbers, times and names; `reason` what a runtime means
//! - `html`, `page.css`, `page.js` the page; `nublado` the two documents that users of Nublado know
//! - `routes` all of it over HTTP

mod html;
pub mod nublado;
pub mod query;
pub(crate) mod reason;
mod routes;
#[cfg(test)]
pub(crate) mod sample;
pub mod summary;
pub mod text;
pub mod view;

pub use routes::routes;
