//! Dates and calendar versions.

use super::{assert_sorted, describe};
use crate::tag::{Tag, TagScheme};

#[test]
fn dotted_tags_are_dates_or_versions_by_repository() {
    let classes = |tags: &[&str]| -> Vec<String> {
        TagScheme::Calendar.parse_all(tags, tags, &[]).iter().map(|tag| format!("{}", tag.class)).collect()
    };
    assert_eq!(classes(&["2026.11.22", "2026.01.05", "2026-11-21"]), ["daily"; 3]);
    assert_eq!(classes(&["2026.1.5", "2025.11.10", "2025.11.9"]), ["release"; 3]);
    assert_eq!(classes(&["2025.11.45", "2025.11.10-gpu", "2025.11.123"]), ["release"; 3]);
    assert_eq!(
        classes(&["2026.1.5", "2026.2.0b3", "2026.2.0rc1", "20261122", "2026-02-30"]),
        ["release", "candidate", "candidate", "daily", "unknown"]
    );
    let tags = ["2025.11.9", "2026.1.5", "2025.11.10", "2026.1.12"];
    let mut tags = TagScheme::Calendar.parse_all(&tags, &tags, &[]);
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
        assert_eq!(describe(&scheme.parse(text)), expected, "{text}");
    }
    assert_sorted(&scheme, &["2026.11", "2026.09", "2026-11-22", "20261121", "2025.12.31", "latest"]);
}
