//! Parses architectures at the end of a tag.

/// The architectures at the end of a tag after a dash, as OCI, the kernel, Docker's official images and Debian spell them.
const ARCHITECTURES: [&str; 43] = [
    "386",
    "aarch64",
    "amd64",
    "amd64v2",
    "amd64v3",
    "amd64v4",
    "arm",
    "arm32",
    "arm32v5",
    "arm32v6",
    "arm32v7",
    "arm64",
    "arm64v8",
    "arm64v9",
    "armel",
    "armhf",
    "armv5",
    "armv6",
    "armv6hf",
    "armv6l",
    "armv7",
    "armv7hf",
    "armv7l",
    "armv8",
    "armv8l",
    "i386",
    "i486",
    "i586",
    "i686",
    "loong64",
    "loongarch64",
    "mips64el",
    "mips64le",
    "mipsle",
    "ppc64",
    "ppc64el",
    "ppc64le",
    "riscv64",
    "s390x",
    "x64",
    "x86",
    "x86-64",
    "x86_64",
];

/// Variants after an architecture, and systems before one: `arm-v7`, `linux-amd64`.
const VARIANTS: [&str; 8] = ["v5", "v6", "v7", "v8", "v9", "v2", "v3", "v4"];

/// Splits an architecture off the end, after a dash.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    split_after(text, &['-'])
}

/// Splits an architecture off the end, after any separator, with its system and variant: `-linux-arm64-v8`.
pub(super) fn split_loosely(text: &str) -> (&str, Option<&str>) {
    let separators = ['-', '_'];
    // A variant counts only after an architecture.
    let without_variant = text.rsplit_once(separators).filter(|(_, last)| VARIANTS.contains(last));
    let (base, Some(_)) = split_after(without_variant.map_or(text, |(base, _)| base), &separators) else {
        return (text, None);
    };
    let base = separators.iter().find_map(|separator| base.strip_suffix(&format!("{separator}linux"))).unwrap_or(base);
    if base.is_empty() {
        return (text, None);
    }
    (base, Some(&text[base.len() + 1..]))
}

fn split_after<'a>(text: &'a str, separators: &[char]) -> (&'a str, Option<&'a str>) {
    let lower = text.to_ascii_lowercase();
    let ends =
        |arch: &&&str| lower.strip_suffix(**arch).is_some_and(|base| base.len() > 1 && base.ends_with(separators));
    // The longest match: `x86-64`, not a name that ends in `64`.
    match ARCHITECTURES.iter().filter(ends).max_by_key(|arch| arch.len()) {
        Some(arch) => {
            let at = text.len() - arch.len();
            (&text[..at - 1], Some(&text[at..]))
        }
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_split_off() {
        for arch in ARCHITECTURES {
            assert_eq!(split(&format!("1.0.0-{arch}")), ("1.0.0", Some(arch)));
        }
        for (text, base, arch) in [
            ("1.0.0-linux-amd64", "1.0.0", Some("linux-amd64")),
            ("1.0.0_arm64", "1.0.0", Some("arm64")),
            ("1.0.0-arm-v7", "1.0.0", Some("arm-v7")),
            ("1.0.0-linux-arm64-v8", "1.0.0", Some("linux-arm64-v8")),
            ("1.0.0-ARM64", "1.0.0", Some("ARM64")),
            ("1.0.0-x86-64", "1.0.0", Some("x86-64")),
            ("1.0.0-v7", "1.0.0-v7", None),
            ("1.0.0-charm", "1.0.0-charm", None),
            ("amd64", "amd64", None),
            ("-amd64", "-amd64", None),
            ("linux-amd64", "linux", Some("amd64")),
        ] {
            assert_eq!(split_loosely(text), (base, arch), "{text}");
        }
    }
}
