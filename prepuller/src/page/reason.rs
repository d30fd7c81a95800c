//! Shortens a container runtime's error to one sentence. The full error is long, and is shown beside it.

/// An error up to this long is shown as it is.
const SHORT: usize = 90;

/// The meaning of errors of runtimes and registries; the first match counts.
const MEANINGS: [(&[&str], &str); 11] = [
    (&["no space left on device"], "the disk of the node is full"),
    (&["x509:", "certificate"], "the node does not trust the registry's certificate"),
    (
        &["401 unauthorized", "403 forbidden", "unauthorized:", "authorization failed", "access denied", "denied:"],
        "the registry does not let the node pull it",
    ),
    (&["429 too many requests", "toomanyrequests"], "the registry limits the rate of pulls"),
    (&["no such host", "server misbehaving"], "the node cannot resolve the registry's name"),
    (&["connection refused"], "nothing listens at the registry's address"),
    (
        &["connection reset", "broken pipe", "unexpected eof", "use of closed network connection"],
        "the connection was interrupted",
    ),
    (&["i/o timeout", "deadline exceeded", "tls handshake timeout"], "the registry does not answer in time"),
    (
        &["500 internal", "502 bad gateway", "503 service unavailable", "504 gateway"],
        "the registry reports an internal error",
    ),
    (&["no match for platform", "no matching manifest"], "it has no image for the node's architecture"),
    (&["not found", "manifest unknown", "blob unknown"], "a part of it is missing in the registry"),
];

/// One sentence, and whether the error contains more than that.
pub(crate) fn sentence(error: &str) -> (&str, bool) {
    if error.len() <= SHORT {
        return (error, false);
    }
    let lower = error.to_lowercase();
    let meaning = MEANINGS.iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    // Each program in the call chain prepends its own text to the cause.
    let last = || error.rsplit(": ").map(str::trim).find(|part| !part.is_empty()).unwrap_or(error);
    let text = meaning.map_or_else(last, |(_, meaning)| meaning);
    (&text[..text.floor_char_boundary(2 * SHORT)], true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_runtimes_become_a_sentence() {
        let begin = "could not pull registry.example.org/rubin/lab:w_2026_53: failed to pull and unpack image \"registry.example.org/rubin/lab:w_2026_53\": ";
        for (end, expected) in [
            (
                "failed to copy: httpReadSeeker: failed open: content at https://registry.example.org/v2/rubin/lab/blobs/sha256:b69fe344 not found: not found",
                "a part of it is missing in the registry",
            ),
            (
                "failed to resolve reference: pulling from host registry.example.org failed with status code [manifests w_2026_53]: 401 Unauthorized",
                "the registry does not let the node pull it",
            ),
            (
                "failed to do request: Head \"https://registry.example.org/v2/\": dial tcp: lookup registry.example.org: no such host",
                "the node cannot resolve the registry's name",
            ),
            (
                "failed to do request: dial tcp 10.0.0.1:443: connect: connection refused",
                "nothing listens at the registry's address",
            ),
            (
                "failed to extract layer: write /var/lib/containerd/x: no space left on device",
                "the disk of the node is full",
            ),
            ("something that nobody has seen before", "something that nobody has seen before"),
        ] {
            assert_eq!(sentence(&format!("{begin}{end}")), (expected, true), "{end}");
        }
        let short = "the disk would be 81 % full, which is above DISK_HIGH (75 %)";
        assert_eq!(sentence(short), (short, false));
        assert!(sentence(&"é".repeat(500)).0.len() <= 2 * SHORT);
    }
}
