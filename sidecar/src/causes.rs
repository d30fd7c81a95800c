//! An error together with its causes, for the last line of a program that fails.

use std::error::Error;

/// The error and its causes, separated by colons. A cause whose text was already included is left out, because many
/// errors repeat their cause's text.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("cannot start: {0}")]
    struct Outer(#[source] Middle);

    #[derive(Debug, Error)]
    #[error("cannot read /x: {0}")]
    struct Middle(#[source] std::io::Error);

    #[derive(Debug, Error)]
    #[error("cannot start")]
    struct Short(#[source] Middle);

    #[test]
    fn each_cause_is_printed_once() {
        let io = || std::io::Error::other("permission denied");
        assert_eq!(with_causes(&Outer(Middle(io()))), "cannot start: cannot read /x: permission denied");
        assert_eq!(with_causes(&Short(Middle(io()))), "cannot start: cannot read /x: permission denied");
        assert_eq!(with_causes(&io()), "permission denied");
    }
}
