//! Settings: names, strings and help by clap; values and problems by plain functions over a map.
//!
//! The process environment is read once, in `main`, into an [`Environment`]; tests give a literal one. A flag wins over the
//! variable of the same name, an empty variable counts as unset.

mod arguments;
mod environment;
mod problems;
pub mod values;

pub use arguments::parse;
pub use environment::{Environment, Now, OldName};
pub use problems::{Problem, Problems};

/// Exit code for bad settings or usage (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
