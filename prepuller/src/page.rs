//! The planner's web page and its live updates, and JSON for `prepuller status` and for clients of Nublado's documents.
//!
//! - `query` the parameters of a request; `view` what the page shows for them, from an overview, pure
//! - `summary` sentences about a view; `text` formats numbers, times and names; `reason` shortens a runtime's error
//! - `html`, `page.css`, `page.js` the page; `nublado` the two documents of Nublado's API
//! - `routes` serves all of it over HTTP

mod html;
pub mod nublado;
pub mod query;
pub(crate) mod reason;
mod routes;
pub mod summary;
pub mod text;
pub mod view;

pub use routes::routes;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) mod sample;
}
