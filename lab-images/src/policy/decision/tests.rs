use proptest::prelude::*;

use super::*;
use crate::policy::{Choice, DEFAULT_ALIASES, DEFAULT_KEEP};
use crate::tag::TagScheme;

fn policy(keep: &str, pinned: &[&str]) -> Policy {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let aliases: Vec<&str> = DEFAULT_ALIASES.split(',').collect();
    Policy {
        scheme: TagScheme::Rubin,
        keep: keep.parse().unwrap(),
        pinned: words(pinned),
        aliases: words(&aliases),
        choice: Choice::default(),
    }
}

fn digest(number: usize) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

/// The number of a tag whose manifest is gone.
const NO_MANIFEST: usize = 1_000_000;

/// An image that no machine can use.
const NO_USE: usize = 2_000_000;

/// Decides until nothing is needed, with each tag's digest derived from its number. Returns how many tags were
/// requested, too.
fn settled(policy: &Policy, world: &[(&str, usize)]) -> (Vec<Tag>, Decision, usize) {
    let tags = policy.tags(world.iter().map(|(text, _)| *text));
    let mut known = Known::default();
    loop {
        let decision = decide(policy, &tags, &known);
        if decision.needs.is_empty() {
            return (tags, decision, known.tags.len());
        }
        for need in decision.needs.tags.iter().chain(&decision.needs.perhaps) {
            let number = world.iter().find(|(text, _)| text == need).unwrap().1;
            let is = if number == NO_MANIFEST { KnownTag::Gone } else { KnownTag::Is(digest(number)) };
            assert!(known.tags.insert(need.clone(), is).is_none(), "asked twice");
        }
        for need in &decision.needs.images {
            let usable = *need != digest(NO_USE);
            let is = if usable { KnownImage::Usable } else { KnownImage::Unusable("it is a chart".to_owned()) };
            assert!(known.images.insert(need.clone(), is).is_none(), "asked twice");
        }
    }
}

fn wanted(policy: &Policy, world: &[(&str, usize)]) -> Vec<String> {
    let (tags, decision, _) = settled(policy, world);
    let wanted = tags.iter().zip(&decision.verdicts).filter(|(_, verdict)| verdict.wanted);
    wanted.map(|(tag, verdict)| format!("{}: {}", tag.text, verdict.why)).collect()
}

#[test]
fn the_newest_of_each_class() {
    let world = [
        ("r22_0_1", 1),
        ("r22_0_0", 2),
        ("w_2026_47", 3),
        ("w_2026_46", 4),
        ("w_2026_45", 5),
        ("d_2026_11_22", 6),
        ("r23_0_0_rc1", 7),
        ("exp_x", 8),
    ];
    assert_eq!(
        wanted(&policy(DEFAULT_KEEP, &[]), &world),
        [
            "r22_0_1: newest release",
            "w_2026_47: newest weekly",
            "w_2026_46: 2nd newest weekly",
            "d_2026_11_22: newest daily"
        ]
    );
    assert_eq!(wanted(&policy("weekly=0,candidate=1", &[]), &world), ["r23_0_0_rc1: newest candidate"]);
    assert_eq!(wanted(&policy("", &["exp_x"]), &world), ["exp_x: pinned"]);
}

#[test]
fn tags_of_one_digest_count_once() {
    let world = [("w_2026_47_rsp2", 1), ("w_2026_47", 1), ("w_2026_46", 2), ("w_2026_45", 3)];
    assert_eq!(
        wanted(&policy("weekly=2", &[]), &world),
        ["w_2026_47_rsp2: newest weekly", "w_2026_47: same image as w_2026_47_rsp2", "w_2026_46: 2nd newest weekly"]
    );
}

#[test]
fn builds_of_one_week_count_each() {
    let world = [("w_2026_47_c0020.003", 1), ("w_2026_47_c0020.002", 2), ("w_2026_47_c0020.001", 3)];
    assert_eq!(wanted(&policy("weekly=2", &[]), &world).len(), 2);
}

#[test]
fn one_architecture_is_listed_and_never_counted() {
    let world = [("w_2026_47-arm64", 1), ("w_2026_46", 2)];
    assert_eq!(wanted(&policy("weekly=1", &[]), &world), ["w_2026_46: newest weekly"]);
    let (_, decision, _) = settled(&policy("weekly=1", &[]), &world);
    assert_eq!(decision.verdicts[0].why, "for arm64 only");
}

#[test]
fn aliases_are_wanted_and_named_after_their_targets() {
    let world = [("recommended", 2), ("w_2077_43", 2), ("w_2077_44", 1), ("stable", 1)];
    let (tags, decision, _) = settled(&policy("weekly=2", &[]), &world);
    let named: Vec<_> = tags
        .iter()
        .zip(&decision.verdicts)
        .map(|(tag, verdict)| (tag.text.as_str(), verdict.name.as_str(), verdict.wanted))
        .collect();
    assert_eq!(
        named,
        [
            ("recommended", "Recommended (Weekly 2077_43)", true),
            ("w_2077_44", "Weekly 2077_44", true),
            ("w_2077_43", "Weekly 2077_43", true),
            ("stable", "Stable (Weekly 2077_44)", false),
        ]
    );
    assert_eq!(decision.verdicts[2].aliases, ["recommended"]);
    assert!(decision.verdicts[3].is_alias);
}

#[test]
fn digests_are_requested_only_for_tags_that_count() {
    let texts: Vec<String> =
        (1..=53).flat_map(|week| (2000..2100).map(move |year| format!("w_{year}_{week:02}"))).collect();
    let mut world: Vec<(&str, usize)> =
        texts.iter().enumerate().map(|(number, text)| (text.as_str(), number)).collect();
    world.push(("recommended", 7));
    // Two kept tags, the alias, and one that might have the same digest.
    assert_eq!(settled(&policy(DEFAULT_KEEP, &[]), &world).2, 4);
}

#[test]
fn an_unknown_digest_counts_as_an_image() {
    let policy = policy("weekly=1", &[]);
    let tags = policy.tags(["w_2026_47", "w_2026_46"]);
    let mut known = Known::default();
    known.tags.insert("w_2026_47".to_owned(), KnownTag::Unanswered);
    let decision = decide(&policy, &tags, &known);
    assert_eq!((decision.verdicts[0].wanted, decision.verdicts[1].wanted), (true, false));
    // No decision depends on whether the older one is the same image.
    assert_eq!((decision.needs.tags.len(), decision.needs.perhaps.len()), (0, 1));
}

#[test]
fn an_image_that_no_node_can_use_takes_no_place() {
    let world =
        [("w_2026_48", NO_MANIFEST), ("w_2026_47", NO_USE), ("w_2026_46", 2), ("w_2026_45", 3), ("w_2026_44", 4)];
    let policy = policy("weekly=2", &["w_2026_47", "w_2026_44"]);
    assert_eq!(
        wanted(&policy, &world),
        ["w_2026_46: newest weekly", "w_2026_45: 2nd newest weekly", "w_2026_44: pinned"]
    );
    let (_, decision, _) = settled(&policy, &world);
    let why: Vec<&str> = decision.verdicts.iter().map(|verdict| verdict.why.as_str()).collect();
    assert_eq!(why[..2], [GONE, "pinned, but it is a chart"]);
    let left_out: Vec<bool> = decision.verdicts.iter().map(|verdict| verdict.is_left_out).collect();
    assert_eq!(left_out, [true, true, false, false, false]);
}

#[test]
fn an_alias_or_unknown_tag_without_a_manifest_is_left_out() {
    let world = [("recommended", NO_MANIFEST), ("w_2026_46", 2), ("old-experiment", NO_MANIFEST)];
    assert_eq!(wanted(&policy("weekly=1", &[]), &world), ["w_2026_46: newest weekly"]);
    let (_, decision, _) = settled(&policy("weekly=1", &[]), &world);
    assert_eq!(decision.verdicts[0].why, format!("alias recommended, but {GONE}"));
    assert_eq!(decision.verdicts[2].why, GONE);
}

#[test]
fn a_tag_of_the_image_of_the_last_one_kept_comes_with_it() {
    let world = [("w_2026_47_rsp2", 1), ("w_2026_47", 1), ("w_2026_46", 1), ("w_2026_45", 2), ("w_2026_44", 1)];
    assert_eq!(
        wanted(&policy("weekly=1", &[]), &world),
        [
            "w_2026_47_rsp2: newest weekly",
            "w_2026_47: same image as w_2026_47_rsp2",
            "w_2026_46: same image as w_2026_47_rsp2"
        ]
    );
}

#[test]
fn tags_are_chosen_and_excluded() {
    let mut policy = policy("weekly=2,unknown=9", &["w_2026_43_nosudo"]);
    policy.choice = Choice::new(Some("^w_".parse().unwrap()), Some("nosudo|latest$".parse().unwrap()));
    let world = [
        ("recommended", 9),
        ("latest", 9),
        ("w_2026_47_nosudo", 1),
        ("w_2026_46", 2),
        ("w_2026_43_nosudo", 3),
        ("sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig", 5),
        ("other", 6),
    ];
    assert_eq!(
        wanted(&policy, &world),
        ["recommended: alias recommended", "w_2026_46: newest weekly", "w_2026_43_nosudo: 2nd newest weekly"]
    );
    let (tags, decision, _) = settled(&policy, &world);
    let why = |text: &str| {
        let index = tags.iter().position(|tag| tag.text == text).unwrap();
        decision.verdicts[index].why.clone()
    };
    assert_eq!(why("w_2026_47_nosudo"), "excluded by LAB_TAGS_EXCLUDED");
    assert_eq!(why("latest"), "excluded by LAB_TAGS_EXCLUDED");
    assert_eq!(why("other"), "does not match LAB_TAGS");
    assert!(why(world[5].0).contains("signature"));
}

#[test]
fn ordinals() {
    assert_eq!(
        [1, 2, 3, 4, 11, 12, 21, 22].map(nth_newest),
        [
            "newest",
            "2nd newest",
            "3rd newest",
            "4th newest",
            "11th newest",
            "12th newest",
            "21st newest",
            "22nd newest"
        ]
    );
}

proptest! {
    #[test]
    fn as_many_distinct_images_as_requested(
        weeks in prop::collection::btree_map(1..53_usize, 0..6_usize, 0..20), keep in 0..5_usize
    ) {
        let texts: Vec<(String, usize)> = weeks.iter().map(|(week, digest)| (format!("w_2026_{week:02}"), *digest)).collect();
        let world: Vec<(&str, usize)> = texts.iter().map(|(text, digest)| (text.as_str(), *digest)).collect();
        let (tags, decision, _) = settled(&policy(&format!("weekly={keep}"), &[]), &world);
        let digest_of = |text: &str| world.iter().find(|(other, _)| *other == text).unwrap().1;
        let wanted: BTreeSet<usize> = tags.iter().zip(&decision.verdicts)
            .filter(|(_, verdict)| verdict.wanted).map(|(tag, _)| digest_of(&tag.text)).collect();
        let distinct: BTreeSet<usize> = weeks.values().copied().collect();
        prop_assert_eq!(wanted.len(), keep.min(distinct.len()));
    }
}
