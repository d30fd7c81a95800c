//! Semantic versions, and what Python and chartpress make of them.

use super::{assert_sorted, said};
use crate::tag::TagScheme;

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
        ("4.2", "unknown | 4.2 | - | - | - | - | -"),
        ("04.2.1", "unknown | 04.2.1 | - | - | - | - | -"),
        ("main", "unknown | main | - | - | - | - | -"),
    ] {
        assert_eq!(said(&scheme.parse(text)), expected, "{text}");
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
