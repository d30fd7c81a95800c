//! Secrets: never printed, and read again when their file changes.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::settings::{Problems, without_newline};

/// The largest secret; a larger file is a mistake.
const MOST_BYTES: u64 = 64 * 1024;

/// A text that `Debug` does not show. There is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret comes from: the variable `X`, or the file that `X_FILE` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The value itself.
    Value(Secret),
    /// A file, without its trailing newline. Kubernetes and others replace the file when the secret changes.
    File(PathBuf),
}

/// Why a secret could not be read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read the secret in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is too large to be a secret.
    #[error("{path} has more than {MOST_BYTES} bytes; the file must contain only the secret")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl SecretSource {
    /// Builds the source from the two variables of a setting. Setting both is a problem.
    pub fn from_settings(
        problems: &mut Problems,
        setting: &'static str,
        value: Option<&str>,
        file: Option<&str>,
    ) -> Option<Self> {
        match (value, file) {
            (Some(_), Some(_)) => {
                problems.add(setting, format!("set either {setting} or {setting}_FILE, not both"), "***");
                None
            }
            (Some(value), None) => Some(Self::Value(Secret::new(value))),
            (None, Some(file)) => Some(Self::File(PathBuf::from(file))),
            (None, None) => None,
        }
    }

    /// The current secret. Call this whenever the secret is needed, because a file is read again.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if the file cannot be read or is too large.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => read_file(path),
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > MOST_BYTES {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(Secret::new(without_newline(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SecretSource::Value(Secret::new("hunter2"))), "Value(***)");
    }

    #[test]
    fn a_file_is_read_again_and_its_last_newline_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let source = SecretSource::File(path.clone());
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(source.read().unwrap().expose(), "two");
    }

    #[test]
    fn a_missing_or_huge_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(SecretSource::File(path.clone()).read().unwrap_err().to_string().contains("password"));
        std::fs::write(&path, vec![b'x'; MOST_BYTES as usize + 1]).unwrap();
        assert!(SecretSource::File(path).read().unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn value_and_file_at_once_is_a_problem() {
        let mut problems = Problems::default();
        assert_eq!(SecretSource::from_settings(&mut problems, "X", Some("a"), Some("/b")), None);
        assert!(problems.to_string().contains("X_FILE"));
    }
}
