//! Starts the real parts that tests and the demo use.

pub mod silent_file_system;
