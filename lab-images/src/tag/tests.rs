mod calendar;
mod order;
mod rubin;
mod semver;

use super::*;

/// `class | name | version | cycle.build | rsp | rest | arch`, `-` for none.
fn describe(tag: &Tag) -> String {
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

fn assert_sorted(scheme: &TagScheme, expected: &[&str]) {
    let mut tags: Vec<Tag> = expected.iter().rev().map(|text| scheme.parse(text)).collect();
    tags.sort_by(Tag::menu_order);
    assert_eq!(tags.iter().map(|tag| tag.text.as_str()).collect::<Vec<_>>(), expected);
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
        assert_eq!(describe(&scheme.parse(text)), expected, "{text}");
    }
    assert_sorted(&scheme, &["lab-2026.10", "lab-2026.9", "lab-2026.9rc10", "lab-2026.9rc2"]);
    let by_class: TagScheme = r"regex:(?P<class>weekly|daily)-(?P<version>[\d.]+)".parse().unwrap();
    assert_sorted(&by_class, &["weekly-1.10", "weekly-1.9", "daily-7"]);
}

#[test]
fn an_unknown_scheme_is_named() {
    for (text, expected) in [
        ("rubik", "rubin, semver"),
        ("regex:(", "regular expression"),
        ("regex:(?P<color>.)", "color"),
        ("regex:.*", "version"),
    ] {
        let error = text.parse::<TagScheme>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
