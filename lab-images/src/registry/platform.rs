//! Chooses the manifest of an index as `github.com/containerd/platforms` and containerd's image handlers do, which
//! Docker and Kubernetes use as well.

use super::error::Problem;
use super::manifest::{Entry, EntryPlatform};
use crate::reference::{Digest, Platform};

impl Platform {
    /// Whether a machine of this platform can run an image for `image`, as containerd decides it.
    pub fn can_run(&self, image: &Platform) -> bool {
        distance(self, image).is_some()
    }
}

/// How far a platform is from the preferred one: 0 is the machine's own, higher is worse; `None` does not run there.
pub(super) fn distance(wanted: &Platform, offered: &Platform) -> Option<usize> {
    let offered = normal(offered);
    runs(&normal(wanted)).iter().position(|runs| *runs == offered)
}

/// Everything that a machine of this platform can run, the best first.
fn runs(wanted: &Platform) -> Vec<Platform> {
    let other = |architecture: &str, variant: Option<String>| Platform {
        os: wanted.os.clone(),
        architecture: architecture.to_owned(),
        variant: variant.filter(|variant| !variant.is_empty()),
    };
    let version = |platform: &Platform| -> Option<u32> { platform.variant.as_ref()?.strip_prefix('v')?.parse().ok() };
    let mut all = vec![wanted.clone()];
    match wanted.architecture.as_str() {
        "amd64" => {
            let below = version(wanted).unwrap_or(1).min(9);
            all.extend((1..below).rev().map(|below| normal(&other("amd64", Some(format!("v{below}"))))));
            all.push(other("386", None));
        }
        "arm" => {
            let below = version(wanted).unwrap_or(7).min(9);
            all.extend((5..below).rev().map(|below| other("arm", Some(format!("v{below}")))));
        }
        "arm64" => {
            let generation = version(wanted).unwrap_or(8).min(9);
            all.extend((8..generation).rev().map(|below| normal(&other("arm64", Some(format!("v{below}"))))));
            all.extend((5..=8).rev().map(|below| other("arm", Some(format!("v{below}")))));
        }
        _ => {}
    }
    all
}

/// Normalizes the spelling of a platform, and drops the default variant.
fn normal(platform: &Platform) -> Platform {
    let lower = |text: &str| text.to_ascii_lowercase();
    let architecture = lower(&platform.architecture);
    let variant = platform.variant.as_deref().map(lower).unwrap_or_default();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    Platform {
        os: lower(&platform.os),
        architecture: architecture.to_owned(),
        variant: (!variant.is_empty()).then(|| variant.to_owned()),
    }
}

/// The entry that a runtime uses for the first of these platforms that has one: the best named one, else the first
/// without a platform.
pub(super) fn choose<'a>(entries: &'a [Entry], wanted: &[Platform]) -> Option<(&'a Digest, Option<Platform>)> {
    for wanted in wanted {
        let distances = entries.iter().filter_map(|entry| match &entry.platform {
            EntryPlatform::Named(offered) => Some((distance(wanted, offered)?, entry)),
            EntryPlatform::Unnamed | EntryPlatform::None => None,
        });
        // The first of equals, as with a stable sort.
        if let Some((_, entry)) = distances.min_by_key(|(distance, _)| *distance) {
            return Some((&entry.digest, Some(wanted.clone())));
        }
    }
    let unnamed = entries.iter().find(|entry| entry.platform == EntryPlatform::Unnamed)?;
    Some((&unnamed.digest, None))
}

/// The error if there is nothing for these platforms.
pub(super) fn nothing_for(wanted: &[Platform], found: &[Platform]) -> Problem {
    let words =
        |platforms: &[Platform]| platforms.iter().map(ToString::to_string).take(20).collect::<Vec<_>>().join(", ");
    let found = if found.is_empty() { "unnamed platforms".to_owned() } else { words(found) };
    Problem::NoPlatform { wanted: words(wanted), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        format!("sha256:{number:064x}").parse().unwrap()
    }

    /// The index of the chosen entry. Entries are platforms, `-` for unnamed, `unknown/unknown` for an attestation.
    fn taken(entries: &[&str], wanted: &str) -> Option<usize> {
        let entry = |(number, text): (usize, &&str)| Entry {
            digest: digest(number),
            platform: match *text {
                "-" => EntryPlatform::Unnamed,
                "unknown/unknown" => EntryPlatform::None,
                named => EntryPlatform::Named(named.parse().unwrap()),
            },
        };
        let entries: Vec<Entry> = entries.iter().enumerate().map(entry).collect();
        let (chosen, _) = choose(&entries, &[wanted.parse().unwrap()])?;
        entries.iter().position(|entry| entry.digest == *chosen)
    }

    #[test]
    fn an_entry_is_chosen_as_containerd_chooses_it() {
        for (wanted, entries, expected) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v1"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64/v2"], None),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], Some(1)),
            ("linux/amd64", &["linux/386", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", "linux/386"], Some(1)),
            ("linux/amd64", &["Linux/x86_64"], Some(0)),
            ("linux/amd64", &["windows/amd64", "unknown/unknown"], None),
            ("linux/amd64", &["unknown/unknown", "linux/amd64", "linux/amd64"], Some(1)),
            ("linux/amd64", &["-", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", "-", "-"], Some(1)),
            ("linux/amd64", &[], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1)),
            ("linux/arm64", &["linux/arm64/v9", "linux/arm/v6", "linux/arm/v7"], Some(2)),
            ("linux/arm64/v9", &["linux/arm64/v8", "linux/arm64/v9"], Some(1)),
            ("linux/arm/v7", &["linux/arm/v8", "linux/arm/v6", "linux/arm/v5"], Some(1)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v6"], Some(1)),
            ("linux/arm/v8", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/s390x", &["linux/s390x"], Some(0)),
        ] {
            assert_eq!(taken(entries, wanted), expected, "{wanted} of {entries:?}");
        }
    }

    #[test]
    fn of_several_platforms_the_first_with_something_counts() {
        let entry = Entry { digest: digest(1), platform: EntryPlatform::Named("linux/arm64".parse().unwrap()) };
        let wanted: Vec<Platform> = ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(choose(&[entry], &wanted), Some((&digest(1), Some(wanted[1].clone()))));
    }
}
