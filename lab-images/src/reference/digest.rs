//! Digests, by the OCI image specification ("Descriptor").

use std::fmt;
use std::str::FromStr;

use super::{ReferenceError, wrong};

/// A digest of content: `sha256:…` or `sha512:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// The digest with its algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The algorithm: `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |problem: &'static str| wrong(text, "a digest", problem);
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| wrong("it has no algorithm"))?;
        let digits = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(wrong("its algorithm is neither sha256 nor sha512")),
        };
        if hex.len() != digits || !hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
            return Err(wrong("it does not have as many lower-case hexadecimal digits as its algorithm requires"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
