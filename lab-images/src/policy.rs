//! Which tags are wanted, and why: pure.
//!
//! [`Policy::tags`] reads and orders what a registry listed. [`decide`] says which are wanted, and which digests it would
//! need to know first: different tags of one digest count once, so the next older tag may come in. Ask, add, decide again,
//! until nothing is needed; every round names at least one digest more, so it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use thiserror::Error;

use crate::reference::Digest;
use crate::tag::{Class, Tag, TagScheme};

/// `LAB_KEEP` where it is unset.
pub const DEFAULT_KEEP: &str = "release=1,weekly=2,daily=3";

/// `LAB_ALIASES` where it is unset.
pub const DEFAULT_ALIASES: &str = "recommended,latest,latest_release,latest_weekly,latest_daily";

/// Unknown tags are looked at for aliases by digest where there are no more than this: one request each.
const MOST_UNKNOWN_LOOKED_AT: usize = 20;

/// The most that may be kept of one class.
const MOST_KEPT: u32 = 1000;

/// How many of the newest to keep of each class. A class that is not named is not kept, and neither is one with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep(BTreeMap<Class, u32>);

/// Why `LAB_KEEP` could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeepError {
    /// No `class=number`.
    #[error("{0:?} is not of the form class=number")]
    Form(String),
    /// No such class.
    #[error("{0:?} is not a class that can be kept; use release, weekly, daily, candidate, experimental or unknown")]
    Class(String),
    /// No number.
    #[error("{0:?} is not a number of images to keep, from 0 to {MOST_KEPT}")]
    Number(String),
    /// Twice the same class.
    #[error("{0} is named twice")]
    Twice(Class),
}

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let mut keep = BTreeMap::new();
        for item in sidecar::settings::values::list(text) {
            let (word, number) = item.split_once('=').ok_or_else(|| KeepError::Form(item.to_owned()))?;
            let class = Class::of_word(word.trim()).filter(|class| *class != Class::Alias);
            let class = class.ok_or_else(|| KeepError::Class(word.trim().to_owned()))?;
            let number = number.trim();
            let count = number.parse().ok().filter(|count| *count <= MOST_KEPT);
            let count = count.ok_or_else(|| KeepError::Number(number.to_owned()))?;
            if keep.insert(class, count).is_some() {
                return Err(KeepError::Twice(class));
            }
        }
        Ok(Self(keep))
    }
}

impl Keep {
    /// How many are kept of a class.
    pub fn of(&self, class: Class) -> usize {
        self.0.get(&class).map_or(0, |count| *count as usize)
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How tags are read.
    pub scheme: TagScheme,
    /// How many of each class.
    pub keep: Keep,
    /// Tags that are always kept.
    pub pinned: Vec<String>,
    /// Tags that stand for others and are always wanted.
    pub aliases: Vec<String>,
}

/// What is known of a tag's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownDigest {
    /// It is this one.
    Is(Digest),
    /// The registry was asked and did not say.
    Unanswered,
}

/// Whether a tag is wanted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is wanted.
    pub wanted: bool,
    /// A sentence's worth of reason.
    pub why: String,
    /// What a menu calls it: with what it stands for, where that is known.
    pub name: String,
    /// It is an alias, by configuration or because it shares its digest with a classified tag.
    pub is_alias: bool,
    /// Aliases that stand for it.
    pub aliases: Vec<String>,
}

/// The verdicts, and what would have to be known to be sure of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One for each tag, in the order given.
    pub verdicts: Vec<Verdict>,
    /// Tags whose digests are needed, in the order given. Empty: the verdicts are settled.
    pub needs: Vec<String>,
}

impl Policy {
    /// The tags that a registry listed, each once, in the order of a menu.
    pub fn tags<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Vec<Tag> {
        let texts: BTreeSet<String> = texts.into_iter().map(|text| text.as_ref().to_owned()).collect();
        let mut tags: Vec<Tag> = texts.iter().map(|text| self.scheme.parse_with_aliases(text, &self.aliases)).collect();
        tags.sort_by(Tag::menu_order);
        tags.dedup_by(|a, b| a.text == b.text);
        tags
    }
}

/// Decides over `tags`, given in the order of a menu, with the digests known so far.
pub fn decide(policy: &Policy, tags: &[Tag], digests: &HashMap<String, KnownDigest>) -> Decision {
    let mut desk = Desk { policy, tags, digests, reasons: vec![None; tags.len()], needs: BTreeSet::new() };
    for class in [Class::Release, Class::Weekly, Class::Daily, Class::Candidate, Class::Experimental, Class::Unknown] {
        desk.keep_newest(class);
    }
    desk.keep_named();
    desk.look_at_unknown();
    let mut verdicts = (0..tags.len()).map(|index| desk.verdict(index)).collect::<Vec<_>>();
    desk.name_aliases(&mut verdicts);
    let needs = desk.needs.iter().map(|index| tags[*index].text.clone()).collect();
    Decision { verdicts, needs }
}

/// A decision in the making.
struct Desk<'a> {
    policy: &'a Policy,
    tags: &'a [Tag],
    digests: &'a HashMap<String, KnownDigest>,
    /// Why a tag is wanted.
    reasons: Vec<Option<String>>,
    needs: BTreeSet<usize>,
}

impl<'a> Desk<'a> {
    /// The tag's digest; a tag that was not asked about is noted as needed.
    fn digest(&mut self, index: usize) -> Option<&'a Digest> {
        match self.digests.get(&self.tags[index].text) {
            Some(KnownDigest::Is(digest)) => Some(digest),
            Some(KnownDigest::Unanswered) => None,
            None => {
                self.needs.insert(index);
                None
            }
        }
    }

    /// Wants the newest images of a class; a tag of an image that counts already comes with it.
    fn keep_newest(&mut self, class: Class) {
        let most = self.policy.keep.of(class);
        let mut kept: HashMap<&Digest, usize> = HashMap::new();
        let mut count = 0;
        for index in 0..self.tags.len() {
            let tag = &self.tags[index];
            if tag.class != class || tag.arch.is_some() {
                continue;
            }
            if count == most {
                break;
            }
            let digest = self.digest(index);
            if let Some(first) = digest.and_then(|digest| kept.get(digest)) {
                self.reasons[index] = Some(format!("same image as {}", self.tags[*first].text));
                continue;
            }
            if let Some(digest) = digest {
                kept.insert(digest, index);
            }
            count += 1;
            self.reasons[index] = Some(format!("{} {class}", nth_newest(count)));
        }
    }

    fn keep_named(&mut self) {
        for index in 0..self.tags.len() {
            let tag = &self.tags[index];
            let reason = if self.policy.pinned.contains(&tag.text) {
                "pinned".to_owned()
            } else if tag.class == Class::Alias {
                format!("alias {}", tag.text)
            } else {
                continue;
            };
            self.digest(index);
            self.reasons[index].get_or_insert(reason);
        }
    }

    /// A few unknown tags may be aliases by their digest.
    fn look_at_unknown(&mut self) {
        let unknown: Vec<usize> =
            (0..self.tags.len()).filter(|index| self.tags[*index].class == Class::Unknown).collect();
        if unknown.len() <= MOST_UNKNOWN_LOOKED_AT {
            for index in unknown {
                self.digest(index);
            }
        }
    }

    fn verdict(&self, index: usize) -> Verdict {
        let tag = &self.tags[index];
        let verdict = |wanted, why| Verdict {
            wanted,
            why,
            name: tag.name.clone(),
            is_alias: tag.class == Class::Alias,
            aliases: Vec::new(),
        };
        match &self.reasons[index] {
            Some(reason) => verdict(true, reason.clone()),
            None => verdict(false, self.why_not(tag)),
        }
    }

    fn why_not(&self, tag: &Tag) -> String {
        match (&tag.arch, self.policy.keep.of(tag.class)) {
            (Some(arch), _) => format!("for {arch} only"),
            (None, 0) => format!("{} tags are not kept", tag.class),
            (None, 1) => format!("older than the newest {}", tag.class),
            (None, count) => format!("older than the newest {count} {} images", tag.class),
        }
    }

    /// Tells aliases what they stand for, and classified tags which aliases stand for them.
    fn name_aliases(&self, verdicts: &mut [Verdict]) {
        let known = |index: usize| match self.digests.get(&self.tags[index].text) {
            Some(KnownDigest::Is(digest)) => Some(digest),
            _ => None,
        };
        let classified = |tag: &Tag| !matches!(tag.class, Class::Alias | Class::Unknown) && tag.arch.is_none();
        let mut targets: HashMap<&Digest, usize> = HashMap::new();
        for index in (0..self.tags.len()).filter(|index| classified(&self.tags[*index])) {
            if let Some(digest) = known(index) {
                // The first in menu order is the best name.
                targets.entry(digest).or_insert(index);
            }
        }
        for (index, tag) in self.tags.iter().enumerate() {
            if !matches!(tag.class, Class::Alias | Class::Unknown) {
                continue;
            }
            let Some(target) = known(index).and_then(|digest| targets.get(digest)).copied() else { continue };
            let alias = self.policy.scheme.parse_with_aliases(&tag.text, std::slice::from_ref(&tag.text));
            verdicts[index].is_alias = true;
            verdicts[index].name = format!("{} ({})", alias.name, self.tags[target].name);
            verdicts[target].aliases.push(tag.text.clone());
        }
    }
}

/// `newest`, `2nd newest`, `3rd newest`, `11th newest`.
fn nth_newest(n: usize) -> String {
    let ending = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    if n == 1 { "newest".to_owned() } else { format!("{n}{ending} newest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(keep: &str, pinned: &[&str]) -> Policy {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let aliases: Vec<&str> = DEFAULT_ALIASES.split(',').collect();
        Policy {
            scheme: TagScheme::Rubin,
            keep: keep.parse().unwrap(),
            pinned: words(pinned),
            aliases: words(&aliases),
        }
    }

    fn digest(number: usize) -> Digest {
        format!("sha256:{number:064x}").parse().unwrap()
    }

    /// Decides until nothing is needed, with every tag's digest by its number.
    fn settled(policy: &Policy, world: &[(&str, usize)]) -> (Vec<Tag>, Decision, usize) {
        let tags = policy.tags(world.iter().map(|(text, _)| *text));
        let mut known = HashMap::new();
        loop {
            let decision = decide(policy, &tags, &known);
            if decision.needs.is_empty() {
                return (tags, decision, known.len());
            }
            for need in &decision.needs {
                let number = world.iter().find(|(text, _)| text == need).unwrap().1;
                assert!(known.insert(need.clone(), KnownDigest::Is(digest(number))).is_none(), "asked twice");
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
            [
                "w_2026_47_rsp2: newest weekly",
                "w_2026_47: same image as w_2026_47_rsp2",
                "w_2026_46: 2nd newest weekly"
            ]
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
    fn aliases_are_wanted_and_named_for_what_they_stand_for() {
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
    fn digests_are_asked_for_what_counts_only() {
        let texts: Vec<String> =
            (1..=53).flat_map(|week| (2000..2100).map(move |year| format!("w_{year}_{week:02}"))).collect();
        let mut world: Vec<(&str, usize)> =
            texts.iter().enumerate().map(|(number, text)| (text.as_str(), number)).collect();
        world.push(("recommended", 7));
        assert_eq!(settled(&policy(DEFAULT_KEEP, &[]), &world).2, 3);
    }

    #[test]
    fn a_digest_that_is_not_told_counts_as_an_image() {
        let policy = policy("weekly=1", &[]);
        let tags = policy.tags(["w_2026_47", "w_2026_46"]);
        let known = HashMap::from([("w_2026_47".to_owned(), KnownDigest::Unanswered)]);
        let decision = decide(&policy, &tags, &known);
        assert_eq!((decision.verdicts[0].wanted, decision.verdicts[1].wanted, decision.needs.len()), (true, false, 0));
    }

    #[test]
    fn what_is_wrong_with_keep_is_said() {
        for (text, said) in [
            ("weekly", "class=number"),
            ("weekly=x", "\"x\""),
            ("weekly=-1", "\"-1\""),
            ("weekly=1001", "1000"),
            ("monthly=1", "\"monthly\""),
            ("alias=1", "\"alias\""),
            ("weekly=1,weekly=2", "twice"),
        ] {
            let error = text.parse::<Keep>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
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
        fn as_many_distinct_images_as_asked_for(
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
}
