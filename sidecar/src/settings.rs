//! Settings: clap provides names, strings and help; plain functions over a map parse values and collect problems.
//!
//! The process environment is read once, in `main`, into an [`Environment`]; tests use a literal one. A flag overrides
//! the variable of the same name, and an empty variable counts as unset.

mod arguments;
mod environment;
mod problems;
pub mod values;

pub use arguments::parse;
pub(crate) use environment::without_newline;
pub use environment::{Environment, Now, OldName};
pub use problems::{Problem, Problems};

/// Exit code for bad settings or usage (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
