//! Platforms, in the terms of the OCI image index.

use std::fmt;
use std::str::FromStr;

use super::{ReferenceError, wrong};

/// The platform of an image, in the terms of the OCI image index (`platform`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, …, if the architecture has variants.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this machine, in OCI terms.
    pub fn of_this_machine() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }
}

impl FromStr for Platform {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(wrong(text, "a platform", "its parts must be words, separated by slashes"));
        }
        match parts[..] {
            [os, architecture] => Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: None }),
            [os, architecture, variant] => {
                Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: Some(variant.to_owned()) })
            }
            _ => Err(wrong(text, "a platform", "it must have two or three parts")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}
