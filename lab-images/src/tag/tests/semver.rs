//! Semantic versions, and the forms of Python and chartpress.

use super::{assert_sorted, describe};
use crate::policy::{Choice, DEFAULT_KEEP, Policy};
use crate::tag::{Class, TagScheme};

#[test]
fn semantic_versions() {
    let scheme = TagScheme::Semver;
    for (text, expected) in [
        ("4.2.1", "release | Release 4.2.1 | 4.2.1 | - | - | - | -"),
        ("v4.2.1-py312", "release | Release v4.2.1 [py312] | 4.2.1 | - | - | py312 | -"),
        ("v4.2.1-py312-amd64", "release | Release v4.2.1 [py312] [amd64] | 4.2.1 | - | - | py312 | amd64"),
        ("5.0.0-rc.2", "candidate | Release Candidate 5.0.0-rc.2 | 5.0.0-rc2 | - | - | - | -"),
        ("5.0.0-beta3", "candidate | Release Candidate 5.0.0-beta3 | 5.0.0-beta3 | - | - | - | -"),
        ("5.0.0-rc-3", "candidate | Release Candidate 5.0.0-rc-3 | 5.0.0-rc3 | - | - | - | -"),
        ("5.0.0-rc.1-gpu", "candidate | Release Candidate 5.0.0-rc.1 [gpu] | 5.0.0-rc1 | - | - | gpu | -"),
        ("5.0.0-gpu-rc1", "candidate | Release Candidate 5.0.0 [gpu-rc1] | 5.0.0-rc1 | - | - | gpu-rc1 | -"),
        ("5.0.0-SNAPSHOT", "candidate | Release Candidate 5.0.0-SNAPSHOT | 5.0.0-SNAPSHOT | - | - | - | -"),
        (
            "5.0.0-nightly.20261128",
            "candidate | Release Candidate 5.0.0-nightly.20261128 | 5.0.0-nightly20261128 | - | - | - | -",
        ),
        ("5.0.0rc1", "candidate | Release Candidate 5.0.0rc1 | 5.0.0-rc1 | - | - | - | -"),
        ("5.0.0.rc1", "candidate | Release Candidate 5.0.0.rc1 | 5.0.0-rc1 | - | - | - | -"),
        ("5.0.0_rc1", "candidate | Release Candidate 5.0.0_rc1 | 5.0.0-rc1 | - | - | - | -"),
        ("5.0.0b3", "candidate | Release Candidate 5.0.0b3 | 5.0.0-beta3 | - | - | - | -"),
        ("5.0.0a1-gpu", "candidate | Release Candidate 5.0.0a1 [gpu] | 5.0.0-alpha1 | - | - | gpu | -"),
        ("5.0.0a1.dev2", "candidate | Release Candidate 5.0.0a1.dev2 | 5.0.0-alpha1.dev2 | - | - | - | -"),
        ("5.0.0.dev3", "candidate | Release Candidate 5.0.0.dev3 | 5.0.0.dev3 | - | - | - | -"),
        ("5.0.0.post1", "release | Release 5.0.0.post1 | 5.0.0.post1 | - | - | - | -"),
        (
            "0.11.1-n221.h84f79652",
            "candidate | Release Candidate 0.11.1-n221.h84f79652 | 0.11.1-n221h84f79652 | - | - | - | -",
        ),
        (
            "0.11.1-0.dev.git.221.h84f79652",
            "candidate | Release Candidate 0.11.1-0.dev.git.221.h84f79652 | 0.11.1-0devgit221h84f79652 | - | - | - | -",
        ),
        ("0.11.1-5-g84f7965", "candidate | Release Candidate 0.11.1-5 [g84f7965] | 0.11.1-5 | - | - | g84f7965 | -"),
        ("4.2.1_build.7", "release | Release 4.2.1 [build.7] | 4.2.1 | - | - | build.7 | -"),
        ("4.2.1-py312_b3", "release | Release 4.2.1 [py312_b3] | 4.2.1 | - | - | py312_b3 | -"),
        ("4.2.1_b3", "release | Release 4.2.1 [b3] | 4.2.1 | - | - | b3 | -"),
        ("4.2.1-arm64v8", "release | Release 4.2.1 [arm64v8] | 4.2.1 | - | - | - | arm64v8"),
        ("4.2.1-gpu-linux-arm-v7", "release | Release 4.2.1 [gpu] [linux-arm-v7] | 4.2.1 | - | - | gpu | linux-arm-v7"),
        ("4.2.1_arm64", "release | Release 4.2.1 [arm64] | 4.2.1 | - | - | - | arm64"),
        ("4.2.1.7", "unknown | 4.2.1.7 | - | - | - | - | -"),
        ("4.2.1foo", "unknown | 4.2.1foo | - | - | - | - | -"),
        ("4.2.1-", "unknown | 4.2.1- | - | - | - | - | -"),
        ("4.2", "release | Release 4.2 | 4.2 | - | - | - | -"),
        ("v4.2-gpu-arm64", "release | Release v4.2 [gpu] [arm64] | 4.2 | - | - | gpu | arm64"),
        ("4.2rc1", "candidate | Release Candidate 4.2rc1 | 4.2-rc1 | - | - | - | -"),
        ("4.2-rc.1", "candidate | Release Candidate 4.2-rc.1 | 4.2-rc1 | - | - | - | -"),
        ("4.2.dev3", "candidate | Release Candidate 4.2.dev3 | 4.2.dev3 | - | - | - | -"),
        ("4.2.post1", "release | Release 4.2.post1 | 4.2.post1 | - | - | - | -"),
        ("4.2_build.7", "release | Release 4.2 [build.7] | 4.2 | - | - | build.7 | -"),
        ("24.04", "release | Release 24.04 | 24.4 | - | - | - | -"),
        ("2024.10", "release | Release 2024.10 | 2024.10 | - | - | - | -"),
        ("4.2.x", "unknown | 4.2.x | - | - | - | - | -"),
        ("4.x", "unknown | 4.x | - | - | - | - | -"),
        ("4.2.", "unknown | 4.2. | - | - | - | - | -"),
        ("4..2", "unknown | 4..2 | - | - | - | - | -"),
        ("4.2foo", "unknown | 4.2foo | - | - | - | - | -"),
        ("4.9999999999999999999", "unknown | 4.9999999999999999999 | - | - | - | - | -"),
        ("4", "unknown | 4 | - | - | - | - | -"),
        ("v4", "unknown | v4 | - | - | - | - | -"),
        ("4-gpu", "unknown | 4-gpu | - | - | - | - | -"),
        ("04.2", "unknown | 04.2 | - | - | - | - | -"),
        ("2026.01.3", "release | Release 2026.01.3 | 2026.1.3 | - | - | - | -"),
        ("24.04.2-gpu", "release | Release 24.04.2 [gpu] | 24.4.2 | - | - | gpu | -"),
        ("V4.2.1", "release | Release V4.2.1 | 4.2.1 | - | - | - | -"),
        ("5.0.0-ea.1", "candidate | Release Candidate 5.0.0-ea.1 | 5.0.0-ea1 | - | - | - | -"),
        ("5.0.0-M26-jdk21", "candidate | Release Candidate 5.0.0-M26 [jdk21] | 5.0.0-M26 | - | - | jdk21 | -"),
        ("5.0.0-m6g", "release | Release 5.0.0 [m6g] | 5.0.0 | - | - | m6g | -"),
        ("5.0.0-m", "release | Release 5.0.0 [m] | 5.0.0 | - | - | m | -"),
        ("5.0.0-b.2", "candidate | Release Candidate 5.0.0-b.2 | 5.0.0-b2 | - | - | - | -"),
        ("5.0.0-unstable", "candidate | Release Candidate 5.0.0-unstable | 5.0.0-unstable | - | - | - | -"),
        ("5.0.0-gpu-edge", "candidate | Release Candidate 5.0.0 [gpu-edge] | 5.0.0-edge | - | - | gpu-edge | -"),
        ("04.2.1", "unknown | 04.2.1 | - | - | - | - | -"),
        ("main", "unknown | main | - | - | - | - | -"),
    ] {
        assert_eq!(describe(&scheme.parse(text)), expected, "{text}");
    }
    assert_sorted(
        &scheme,
        &["10.0.0", "9.1.0", "9.0.10", "9.0.9", "10.0.0-rc.10", "10.0.0-rc.2", "10.0.0-beta.3", "main"],
    );
    // Semantic Versioning 2.0, section 11, with its own example.
    let example = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ];
    assert_sorted(&scheme, &example.into_iter().rev().collect::<Vec<_>>());
    // In any case.
    assert_sorted(
        &scheme,
        &["1.0.0-RC10", "1.0.0-rc9", "1.0.0-Rc2", "1.0.0-M3", "1.0.0-beta4", "1.0.0-Beta3", "1.0.0-ALPHA5"],
    );
    // Zeros in front, as in calendar versions.
    assert_sorted(&scheme, &["2026.10.1", "2026.01.3", "2025.12.9", "2025.09.10", "2025.9.1"]);
    // PEP 440.
    assert_sorted(
        &scheme,
        &[
            "5.0.0.post2",
            "5.0.0.post1",
            "5.0.0",
            "5.0.0rc2",
            "5.0.0rc1",
            "5.0.0b3",
            "5.0.0a2",
            "5.0.0a1",
            "5.0.0a1.dev2",
            "5.0.0.dev10",
            "5.0.0.dev9",
        ],
    );
    // chartpress: commits after a release.
    assert_sorted(&scheme, &["0.11.1", "0.11.0", "0.11.1-n221.h84f79652", "0.11.1-n99.h00112233", "0.11.1-rc.1"]);
}

#[test]
fn two_numbers_are_a_version_if_no_tag_has_three() {
    let scheme = TagScheme::Semver;
    assert_sorted(&scheme, &["1.10", "1.10-arm64", "1.10-gpu", "1.9", "v1.8", "0.10", "1.11rc2", "1.11rc1"]);
    assert_sorted(&scheme, &["25.04", "24.10", "24.04", "9.1"]);
    assert_sorted(&scheme, &["2.0.0", "1.10", "1.9.3", "1.9"]);
    let classes =
        |tags: &[&str]| -> Vec<Class> { scheme.parse_all(tags, tags, &[]).iter().map(|tag| tag.class).collect() };
    use Class::{Candidate, Release, Unknown};
    assert_eq!(classes(&["1.10", "1.9", "1.9-gpu"]), [Release; 3]);
    // Docker's official images: `3.13` is the newest `3.13.N`.
    assert_eq!(classes(&["3.13", "v3.13", "3.13-arm64", "3", "3.13.1"]), [Unknown, Unknown, Unknown, Unknown, Release]);
    assert_eq!(classes(&["3.13-slim", "3.13.1", "3.13", "3.13.1-slim"]), [Unknown, Release, Unknown, Release]);
    // Only for the same series and the same variant.
    assert_eq!(classes(&["1.10", "1.9", "1.9.3", "1.10.1-gpu"]), [Release, Unknown, Release, Release]);
    assert_eq!(classes(&["1.10-gpu", "1.10.1-arm64", "1.10"]), [Release, Release, Unknown]);
    // Candidates of a later version do not change a release, and are not moving tags.
    assert_eq!(classes(&["1.10", "1.10.1-rc.1"]), [Release, Candidate]);
    assert_eq!(classes(&["1.10rc1", "1.10.0", "1.10.post1"]), [Candidate, Release, Release]);
}

#[test]
fn a_tag_that_is_not_chosen_makes_no_tag_a_moving_one() {
    let policy = |only: Option<&str>| Policy {
        scheme: TagScheme::Semver,
        keep: DEFAULT_KEEP.parse().unwrap(),
        pinned: Vec::new(),
        aliases: Vec::new(),
        choice: Choice::new(only.map(|pattern| pattern.parse().unwrap()), None),
    };
    let read = |only| -> Vec<(String, Class)> {
        let tags = policy(only).tags(["3", "3.9", "3.13", "3.13.1", "3.12"]);
        tags.into_iter().map(|tag| (tag.text, tag.class)).collect()
    };
    let all = |tags: [(&str, Class); 5]| tags.map(|(text, class)| (text.to_owned(), class));
    use Class::{Release, Unknown};
    assert_eq!(
        read(None),
        all([("3.13.1", Release), ("3.12", Release), ("3.9", Release), ("3.13", Unknown), ("3", Unknown)])
    );
    assert_eq!(
        read(Some(r"^3\.\d+$")),
        all([("3.13.1", Release), ("3.13", Release), ("3.12", Release), ("3.9", Release), ("3", Unknown)])
    );
}
