//! The wanted state: a claim for an export; and names of objects in namespaces.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The length limit of most objects' names.
pub(super) const LONGEST: usize = 253;

/// The length limit of a Service's name, which is one label of a DNS name.
pub(super) const LONGEST_SERVICE: usize = 63;

/// The wanted state: one claim for one export of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The server's Service.
    pub service: Named,
    /// The export's path.
    pub export: String,
    /// The claim.
    pub claim: Named,
    /// The driver that mounts it.
    pub driver: Driver,
    /// Options of mount(8).
    pub mount_options: Vec<String>,
    /// The size of volume and claim; NFS does not enforce it.
    pub size: String,
}

/// The driver that mounts the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// kubelet itself, by the Service's address, because nodes do not use the cluster's DNS.
    Nfs,
    /// csi-driver-nfs, by the Service's name in this cluster domain.
    Csi(String),
}

/// An object in a namespace: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_label(namespace) && is_name(name, LONGEST) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not namespace/name, each of lower-case letters, digits and hyphens")),
        }
    }
}

/// Whether the API server accepts it as an object's name (RFC 1123, section 2.1, in lower case).
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.split('.').all(is_part)
}

/// Whether it is a name without dots, as namespaces have.
fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_SERVICE && is_part(text)
}

fn is_part(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

/// The path without needless slashes. Volumes and settings write the same export with more or fewer of them.
pub(super) fn plain_path(path: &str) -> String {
    Path::new(path).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_namespaces() {
        assert_eq!("a/b.c".parse::<Named>().unwrap().to_string(), "a/b.c");
        for text in ["", "a", "/b", "a/", "A/b", "a/b/c", "a/-b", "a /b", "ä/b", "a.b/c", "a/b..c", "a/b.-c"] {
            assert!(text.parse::<Named>().unwrap_err().contains("namespace/name"), "{text}");
        }
    }
}
