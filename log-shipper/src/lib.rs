//! Draft.
pub mod container;
pub mod encode;
pub mod parse;
