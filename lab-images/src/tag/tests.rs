use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn rubin(text: &str) -> Tag {
    TagScheme::Rubin.parse(text)
}

/// `class | name | version | cycle.build | rsp | rest | arch`, `-` for none.
fn said(tag: &Tag) -> String {
    let number = |number: Option<&Number>| number.map_or("-".to_owned(), |number| number.value().to_string());
    let cycle = tag
        .cycle
        .as_ref()
        .map_or("-".to_owned(), |cycle| format!("{}.{}", cycle.number.value(), number(cycle.build.as_ref())));
    let text = |text: Option<&String>| text.cloned().unwrap_or("-".to_owned());
    let version = tag.version.as_ref().map_or("-".to_owned(), ToString::to_string);
    let rsp = number(tag.rsp_build.as_ref());
    format!(
        "{} | {} | {version} | {cycle} | {rsp} | {} | {}",
        tag.class,
        tag.name,
        text(tag.rest.as_ref()),
        text(tag.arch.as_ref())
    )
}

#[test]
fn every_form_of_the_rubin_grammar() {
    for (text, expected) in [
        ("r22_0_0_rc1", "candidate | Release Candidate r22.0.0-rc1 | 22.0.0-rc1 | - | - | - | -"),
        (
            "r22_0_0_rc1_c0020.001_20210527",
            "candidate | Release Candidate r22.0.0-rc1 (SAL Cycle 0020, Build 001) [20210527] | 22.0.0-rc1 | 20.1 | - | 20210527 | -",
        ),
        ("r21_0_1", "release | Release r21.0.1 | 21.0.1 | - | - | - | -"),
        ("r23_0_0_c0020.001", "release | Release r23.0.0 (SAL Cycle 0020, Build 001) | 23.0.0 | 20.1 | - | - | -"),
        ("r21_0_1_20210527", "release | Release r21.0.1 [20210527] | 21.0.1 | - | - | 20210527 | -"),
        ("r21_0_1_rcx", "release | Release r21.0.1 [rcx] | 21.0.1 | - | - | rcx | -"),
        ("r170", "release | Release r17.0.0 | 17.0.0 | - | - | - | -"),
        ("r170_c0020.001", "unknown | r170 (SAL Cycle 0020, Build 001) | - | 20.1 | - | - | -"),
        ("r170-amd64", "unknown | r170 [amd64] | - | - | - | - | amd64"),
        ("w_2021_22", "weekly | Weekly 2021_22 | 2021.22 | - | - | - | -"),
        ("w_2021_2", "weekly | Weekly 2021_2 | 2021.2 | - | - | - | -"),
        ("w_2022_53", "weekly | Weekly 2022_53 | 2022.53 | - | - | - | -"),
        ("w_2022_54", "unknown | w_2022_54 | - | - | - | - | -"),
        ("w_2022_00", "unknown | w_2022_00 | - | - | - | - | -"),
        ("w_2021_22_c0020", "weekly | Weekly 2021_22 (SAL Cycle 0020) | 2021.22 | 20.- | - | - | -"),
        ("w_2021_22_rsp19", "weekly | Weekly 2021_22 (RSP Build 19) | 2021.22 | - | 19 | - | -"),
        (
            "w_2021_22_c0020.001_rsp19",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) (RSP Build 19) | 2021.22 | 20.1 | 19 | - | -",
        ),
        (
            "w_2021_22_rsp19_c0020.001",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) (RSP Build 19) | 2021.22 | 20.1 | 19 | - | -",
        ),
        (
            "w_2021_22_c0020.001_foo_bar-amd64",
            "weekly | Weekly 2021_22 (SAL Cycle 0020, Build 001) [foo_bar] [amd64] | 2021.22 | 20.1 | - | foo_bar | amd64",
        ),
        ("w_2021_22-arm64", "weekly | Weekly 2021_22 [arm64] | 2021.22 | - | - | - | arm64"),
        ("w_2021_22_my-branch", "weekly | Weekly 2021_22 [my-branch] | 2021.22 | - | - | my-branch | -"),
        ("w_2021_22_", "unknown | w_2021_22_ | - | - | - | - | -"),
        ("w_2021_22x", "unknown | w_2021_22x | - | - | - | - | -"),
        ("w_2021_22_c1_c2", "weekly | Weekly 2021_22 (SAL Cycle 1) [c2] | 2021.22 | 1.- | - | c2 | -"),
        ("d_2021_05_27", "daily | Daily 2021_05_27 | 2021.5.27 | - | - | - | -"),
        ("d_2024_02_29", "daily | Daily 2024_02_29 | 2024.2.29 | - | - | - | -"),
        ("d_2021_02_30", "unknown | d_2021_02_30 | - | - | - | - | -"),
        ("d_2021_13_01", "unknown | d_2021_13_01 | - | - | - | - | -"),
        (
            "d_2021_05_27_c0019.001_rsp7_x",
            "daily | Daily 2021_05_27 (SAL Cycle 0019, Build 001) (RSP Build 7) [x] | 2021.5.27 | 19.1 | 7 | x | -",
        ),
        ("exp_random", "experimental | Experimental random | - | - | - | - | -"),
        ("exp_my-branch", "experimental | Experimental my-branch | - | - | - | - | -"),
        (
            "exp_random_c0027-amd64",
            "experimental | Experimental random (SAL Cycle 0027) [amd64] | - | 27.- | - | - | amd64",
        ),
        (
            "exp_w_2021_22_c0020.001_foo",
            "experimental | Experimental Weekly 2021_22 (SAL Cycle 0020, Build 001) [foo] | 2021.22 | 20.1 | - | foo | -",
        ),
        (
            "exp_w_2021_05_13_nosudo",
            "experimental | Experimental Weekly 2021_05 [13_nosudo] | 2021.5 | - | - | 13_nosudo | -",
        ),
        ("exp_exp_x", "experimental | Experimental exp_x | - | - | - | - | -"),
        ("exp_", "unknown | exp_ | - | - | - | - | -"),
        ("recommended", "unknown | recommended | - | - | - | - | -"),
        ("recommended_c0027", "unknown | recommended (SAL Cycle 0027) | - | 27.- | - | - | -"),
        ("sha-abc123", "unknown | sha-abc123 | - | - | - | - | -"),
        ("2024-01-02", "unknown | 2024-01-02 | - | - | - | - | -"),
        ("MiXeD_CaSe_TaG", "unknown | MiXeD_CaSe_TaG | - | - | - | - | -"),
        ("", "unknown | latest | - | - | - | - | -"),
        ("w_2021_22\n", "unknown | w_2021_22? | - | - | - | - | -"),
        ("r1_2_99999999999999999999", "unknown | r1_2_99999999999999999999 | - | - | - | - | -"),
    ] {
        assert_eq!(said(&rubin(text)), expected, "{text:?}");
    }
}

#[test]
fn aliases_are_named_for_people() {
    let aliases = ["recommended".to_owned(), "latest_weekly_c0046".to_owned()];
    let named = |text: &str| said(&TagScheme::Rubin.parse_with_aliases(text, &aliases));
    assert_eq!(named("recommended"), "alias | Recommended | - | - | - | - | -");
    assert_eq!(named("latest_weekly_c0046"), "alias | Latest Weekly (SAL Cycle 0046) | - | 46.- | - | - | -");
    assert_eq!(named("recommended_c0046"), "unknown | recommended (SAL Cycle 0046) | - | 46.- | - | - | -");
}

#[test]
fn the_order_of_a_menu() {
    let aliases = ["recommended".to_owned(), "latest".to_owned()];
    let expected = [
        "recommended",
        "latest",
        "r23_0_0",
        "r22_0_1_c0020.001_20210513",
        "r22_0_1_c0020.001",
        "r22_0_1_c0020",
        "r22_0_1_c0019.010",
        "r22_0_1_c0019.009",
        "r22_0_1_rsp20",
        "r22_0_1_rsp9",
        "r22_0_1_zeta",
        "r22_0_1_alpha",
        "r22_0_1",
        "r22_0_1-arm64",
        "r22_0_1-amd64",
        "r170",
        "w_2077_46",
        "w_2077_40_c0027.001",
        "w_2077_40_c0026.001",
        "w_2021_2",
        "w_2021_02",
        "w_2021_01",
        "d_2077_10_21",
        "d_2077_10_20",
        "d_2077_9_30",
        "r22_0_0_rc10",
        "r22_0_0_rc2",
        "exp_w_2021_22",
        "exp_w_2021_21",
        "exp_random_c0027",
        "exp_random_c0026",
        "exp_random",
        "exp_20230209",
        "zebra",
        "recommended_c0027",
        "recommended_c0026",
        "anything",
    ];
    let mut tags: Vec<Tag> = expected.iter().map(|text| TagScheme::Rubin.parse_with_aliases(text, &aliases)).collect();
    tags.reverse();
    tags.sort_by(Tag::menu_order);
    assert_eq!(tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn weeks_with_and_without_a_zero_are_the_same() {
    assert_eq!(rubin("w_2021_2").version, rubin("w_2021_02").version);
}

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

#[test]
fn the_plain_tag_comes_before_its_variants_which_go_by_value() {
    let variants = ["-arm64v8", "-11", "-10", "-9", "-py312", "-py312-2", "-py39", "-gpu", "-gpu-2", "-cpu"];
    for (scheme, plain) in [
        ("calendar", "2026.11.22"),
        ("calendar", "2026-11-22"),
        ("calendar", "2026.11"),
        ("regex:(?P<version>[0-9.]+)(?:-(?P<arch>arm64v8))?(?:[-_](?P<rest>.+))?", "4.2"),
    ] {
        let tags: Vec<String> =
            std::iter::once("").chain(variants).map(|variant| format!("{plain}{variant}")).collect();
        assert_sorted(&scheme.parse().unwrap(), &tags.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // A number after a dash is a candidate's in a semantic version, so builds have `_`.
    assert_sorted(
        &TagScheme::Semver,
        &["4.2.1", "4.2.1-arm64v8", "4.2.1-gpu", "4.2.1_build.11", "4.2.1_build.9", "4.2.0"],
    );
}

#[test]
fn dotted_tags_are_dates_or_versions_by_repository() {
    let classes = |tags: &[&str]| -> Vec<String> {
        TagScheme::Calendar.parse_all(tags, &[]).iter().map(|tag| format!("{}", tag.class)).collect()
    };
    assert_eq!(classes(&["2026.11.22", "2026.01.05", "2026-11-21"]), ["daily"; 3]);
    assert_eq!(classes(&["2026.1.5", "2025.11.10", "2025.11.9"]), ["release"; 3]);
    assert_eq!(classes(&["2025.11.45", "2025.11.10-gpu", "2025.11.123"]), ["release"; 3]);
    assert_eq!(
        classes(&["2026.1.5", "2026.2.0b3", "2026.2.0rc1", "20261122", "2026-02-30"]),
        ["release", "candidate", "candidate", "daily", "unknown"]
    );
    let mut tags = TagScheme::Calendar.parse_all(&["2025.11.9", "2026.1.5", "2025.11.10", "2026.1.12"], &[]);
    tags.sort_by(Tag::menu_order);
    assert_eq!(
        tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(),
        ["2026.1.12", "2026.1.5", "2025.11.10", "2025.11.9"]
    );
}

#[test]
fn dates() {
    let scheme = TagScheme::Calendar;
    for (text, expected) in [
        ("2026.11.22", "daily | Daily 2026.11.22 | 2026.11.22 | - | - | - | -"),
        ("2026-11-22", "daily | Daily 2026-11-22 | 2026.11.22 | - | - | - | -"),
        ("20261122", "daily | Daily 20261122 | 2026.11.22 | - | - | - | -"),
        ("2026-11-22-arm64", "daily | Daily 2026-11-22 [arm64] | 2026.11.22 | - | - | - | arm64"),
        ("2026.11.22-gpu", "daily | Daily 2026.11.22 [gpu] | 2026.11.22 | - | - | gpu | -"),
        ("2026.11", "release | Release 2026.11 | 2026.11 | - | - | - | -"),
        ("2026-02-30", "unknown | 2026-02-30 | - | - | - | - | -"),
        ("2026.13", "unknown | 2026.13 | - | - | - | - | -"),
        ("202611223", "unknown | 202611223 | - | - | - | - | -"),
    ] {
        assert_eq!(said(&scheme.parse(text)), expected, "{text}");
    }
    assert_sorted(&scheme, &["2026.11", "2026.09", "2026-11-22", "20261121", "2025.12.31", "latest"]);
}

#[test]
fn patterns_of_the_operator() {
    let scheme: TagScheme =
        r"regex:lab-(?P<year>\d+)\.(?P<build>\d+)(?:rc(?P<candidate>\d+))?(?:-(?P<arch>arm64))?".parse().unwrap();
    for (text, expected) in [
        ("lab-2026.7", "release | Release lab-2026.7 | 2026.7 | - | - | - | -"),
        ("lab-2026.7rc2", "candidate | Release Candidate lab-2026.7rc2 | 2026.7-2 | - | - | - | -"),
        ("lab-2026.7-arm64", "release | Release lab-2026.7 [arm64] | 2026.7 | - | - | - | arm64"),
        ("xlab-2026.7", "unknown | xlab-2026.7 | - | - | - | - | -"),
    ] {
        assert_eq!(said(&scheme.parse(text)), expected, "{text}");
    }
    assert_sorted(&scheme, &["lab-2026.10", "lab-2026.9", "lab-2026.9rc10", "lab-2026.9rc2"]);
    let by_class: TagScheme = r"regex:(?P<class>weekly|daily)-(?P<version>[\d.]+)".parse().unwrap();
    assert_sorted(&by_class, &["weekly-1.10", "weekly-1.9", "daily-7"]);
}

fn assert_sorted(scheme: &TagScheme, expected: &[&str]) {
    let mut tags: Vec<Tag> = expected.iter().rev().map(|text| scheme.parse(text)).collect();
    tags.sort_by(Tag::menu_order);
    assert_eq!(tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_scheme_that_is_none_is_named() {
    for (text, said) in [
        ("rubik", "rubin, semver"),
        ("regex:(", "regular expression"),
        ("regex:(?P<colour>.)", "colour"),
        ("regex:.*", "version"),
    ] {
        let error = text.parse::<TagScheme>().unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

/// Tags near the grammar, where mistakes are.
fn near() -> impl Strategy<Value = String> {
    prop_oneof![
        "[rwd]_?[0-9]{1,4}(_[0-9]{1,3}){0,3}(_rc[0-9]{1,2})?(_c[0-9]{1,4}(\\.[0-9]{1,3})?)?(_rsp[0-9]{1,2})?(_[a-z0-9]{1,4})?(-(amd64|arm64|x))?",
        "exp_[rwd]_?[0-9]{1,4}(_[0-9]{1,2}){0,2}(_c[0-9]{1,2})?",
        "v?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}(-[a-z0-9.]{1,6})?",
        "20[0-9]{2}[.-]?[0-9]{2}[.-]?[0-9]{2}(-[a-z0-9]{1,5})?",
        ".{0,12}",
    ]
}

fn schemes() -> [TagScheme; 4] {
    let pattern = r"regex:(?P<class>[a-z]+)?_?(?P<version>\d[\d._]*)(?P<rest>.*)";
    [TagScheme::Rubin, TagScheme::Semver, TagScheme::Calendar, pattern.parse().unwrap()]
}

/// A tag of one of ten odd kinds: a version or date, and what may follow it.
fn odd() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        "[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}",
        "20[0-9]{2}\\.1?[0-9]\\.[0-9]{1,3}",
        "202[56]-1[0-2]-[0-3][0-9]",
        "202[56]1[0-2][0-3][0-9]",
        "[wd]_202[56]_[0-5]?[0-9](_[0-3][0-9])?",
    ];
    let suffix = prop_oneof![
        Just(String::new()),
        "-[0-9]{1,30}",
        "-(gpu|py3[0-9]{1,2}|ubuntu)(-[0-9]{1,3})?",
        "[_+][a-z]{1,5}\\.?[0-9]{1,3}",
        "(a|b|rc|\\.dev|\\.post)[0-9]{1,2}",
        "-(alpha|beta|rc)[.-]?[0-9]{1,2}",
        "-n[0-9]{1,4}\\.h[0-9a-f]{8}",
        "-(arm64v8|arm32v7|i386|armhf|linux-amd64)",
        "-[0-9]{1,3}-g[0-9a-f]{7}",
        "_c00[0-9]{2}\\.00[0-9](_rsp[0-9]{1,2})?",
    ];
    (base, suffix).prop_map(|(base, suffix)| base + &suffix)
}

/// What a variant adds, before digits: `-gpu`, `-build`; and whether the Rubin scheme could have it.
const PLAIN: [(&str, &str); 4] = [
    ("semver", "4.2.1"),
    ("calendar", "2026-11-22"),
    ("calendar", "2026.1.5"),
    ("regex:(?P<version>[0-9.]+)(?P<rest>.*)", "4.2.1"),
];

/// Whether sorted tags are so: every seventh pair of them, near and far, which tells total and transitive at once.
fn is_sorted_throughout(tags: &[Tag]) -> bool {
    tags.iter().enumerate().all(|(index, a)| {
        tags[index..].iter().step_by(7).all(|b| {
            let order = a.menu_order(b);
            order.is_le() && b.menu_order(a) == order.reverse() && (order == Ordering::Equal) == (a.text == b.text)
        })
    })
}

proptest! {
    // Each case has 1,000 tags and compares 70,000 pairs in each scheme.
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn a_thousand_odd_tags_have_one_order(texts in prop::collection::vec(odd(), 1000)) {
        for scheme in schemes() {
            let mut tags = scheme.parse_all(&texts, &[]);
            tags.sort_by(Tag::menu_order);
            prop_assert!(is_sorted_throughout(&tags), "{}", scheme);
        }
    }
}

proptest! {
    #[test]
    fn plain_before_variant_and_numbers_by_value(
        word in "[d-z]{2,6}", less in 0..10_000_u64, more in 1..10_000_u64, zeros in 0..3_usize
    ) {
        prop_assume!(!["dev", "next", "nightly", "pre", "preview", "rc", "snapshot", "post", "milestone"].contains(&word.as_str()));
        for (scheme, plain) in PLAIN {
            let scheme: TagScheme = scheme.parse().unwrap();
            let parsed = |text: String| scheme.parse_all(&[text.as_str(), plain], &[]).swap_remove(0);
            let plain_tag = parsed(plain.to_owned());
            let zeros = "0".repeat(zeros);
            let lower = parsed(format!("{plain}-{word}.{zeros}{less}"));
            let higher = parsed(format!("{plain}-{word}.{}", less + more));
            prop_assert!(plain_tag.menu_order(&lower).is_lt(), "{} {}", plain, lower.text);
            prop_assert!(plain_tag.menu_order(&higher).is_lt());
            prop_assert!(higher.menu_order(&lower).is_lt(), "{} {}", higher.text, lower.text);
        }
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_keeps_the_text(text in near()) {
        for scheme in schemes() {
            let tag = scheme.parse(&text);
            prop_assert_eq!(&tag.text, if text.is_empty() { "latest" } else { &text });
            prop_assert!(!tag.name.chars().any(char::is_control));
            // What was shown parses to the same again.
            prop_assert_eq!(scheme.parse(&tag.text), tag);
        }
    }

    #[test]
    fn the_order_is_total(texts in prop::collection::vec(near(), 3)) {
        for scheme in schemes() {
            let tags: Vec<Tag> = texts.iter().map(|text| scheme.parse(text)).collect();
            let [a, b, c] = [&tags[0], &tags[1], &tags[2]];
            prop_assert_eq!(a.menu_order(b), b.menu_order(a).reverse());
            prop_assert_eq!(a.menu_order(b) == Ordering::Equal, a.text == b.text);
            if a.menu_order(b).is_le() && b.menu_order(c).is_le() {
                prop_assert!(a.menu_order(c).is_le());
            }
        }
    }
}
