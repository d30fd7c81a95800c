//! Standard output and standard error. Either may be closed or full.

use std::io::{self, Write};

use anyhow::Context;
use rustix::fs::{FileType, OFlags};

/// Prints to standard output.
///
/// # Errors
///
/// As [`printed`].
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    printed(output.write_all(text.as_bytes()).and_then(|()| output.flush()))
}

/// The result of a write to standard output. A closed pipe, as with `| head`, is not an error.
///
/// # Errors
///
/// Any other error of the write.
pub(crate) fn printed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Prints a line to standard error. If that fails, nothing can be reported.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard output was closed when the process began: Rust's runtime then opens the null device for reading and
/// writing, as daemon(3) does. A shell opens it only for writing (`>/dev/null`).
pub fn is_output_closed() -> bool {
    let output = io::stdout();
    let (Ok(flags), Ok(file)) = (rustix::fs::fcntl_getfl(&output), rustix::fs::fstat(&output)) else { return true };
    let is_null = FileType::from_raw_mode(file.st_mode) == FileType::CharacterDevice
        && rustix::fs::stat("/dev/null").is_ok_and(|null| null.st_rdev == file.st_rdev);
    is_null && flags & OFlags::RWMODE == OFlags::RDWR
}
