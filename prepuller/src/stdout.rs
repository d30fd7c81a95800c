//! Standard output, which somebody may close before the end.

use std::io::{self, Write};

/// Prints to standard output. Whoever closed it, as `| head` does, has seen enough.
///
/// # Errors
///
/// When it breaks otherwise.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
