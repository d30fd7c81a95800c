//! The order of tags is total in every scheme, and the same rules apply in all except the Rubin scheme.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::assert_sorted;
use crate::tag::{Tag, TagScheme};

#[test]
fn the_plain_tag_comes_before_its_variants_which_are_ordered_by_value() {
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
    // In a semantic version, a number after a dash marks a candidate, so builds use `_`.
    assert_sorted(
        &TagScheme::Semver,
        &["4.2.1", "4.2.1-arm64v8", "4.2.1-gpu", "4.2.1_build.11", "4.2.1_build.9", "4.2.0"],
    );
}

/// Tags close to the grammar, where mistakes are likely.
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

/// A tag of one of ten odd kinds: a version or date, and a possible suffix.
fn odd() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        "[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}",
        "[0-9]{1,2}\\.[0-9]{1,2}",
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

/// Schemes, each with a plain tag.
const PLAIN: [(&str, &str); 5] = [
    ("semver", "4.2.1"),
    ("semver", "4.2"),
    ("calendar", "2026-11-22"),
    ("calendar", "2026.1.5"),
    ("regex:(?P<version>[0-9.]+)(?P<rest>.*)", "4.2.1"),
];

/// Whether sorted tags are in order: checks every seventh pair, near and far, which shows that the order is total and transitive.
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
            let mut tags = scheme.parse_all(&texts, &texts, &[]);
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
        prop_assume!(!["dev", "next", "nightly", "pre", "preview", "rc", "snapshot", "post", "milestone", "edge", "wip"].contains(&word.as_str()));
        for (scheme, plain) in PLAIN {
            let scheme: TagScheme = scheme.parse().unwrap();
            let parsed = |text: String| {
                let tags = [text.as_str(), plain];
                scheme.parse_all(&tags, &tags, &[]).swap_remove(0)
            };
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
            // The displayed tag parses to the same again.
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
