//! The catalogue in a cluster: a ConfigMap with the JSON, and a Lease of the same name that vouches for it.
//!
//! The Lease has the time at which a scan last found this content, and a hash of the content. If another writer changes
//! the ConfigMap, the hash no longer matches.

use sha2::{Digest, Sha256};

/// The name of the ConfigMap and of the Lease.
pub const NAME: &str = "lab-images";

/// The ConfigMap's key.
pub const KEY: &str = "catalogue.json";

/// The Lease's annotation with the [`content_hash`] of the content that it vouches for.
pub const VOUCHED: &str = "labhands.dev/catalogue-sha256";

/// The SHA-256 of a published catalogue's text, in lower-case hexadecimal digits.
pub fn content_hash(json: &str) -> String {
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        assert_eq!(content_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
