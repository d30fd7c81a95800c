//! The decision about the tags of one repository. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Policy;
use crate::reference::Digest;
use crate::tag::{Class, Tag};

/// The digests of unknown tags are requested, to find aliases, only if there are at most this many of them: one request
/// each.
const MOST_UNKNOWN_LOOKED_AT: usize = 20;

/// Tags after the last one kept of a class are looked up while they have the digest of a kept image, but at most this
/// many.
const MOST_SAME_LOOKED_AT: usize = 20;

/// Why a listed tag without a manifest is left out.
pub(crate) const GONE: &str = "its manifest is gone from the registry";

/// What is known about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownTag {
    /// It has this digest.
    Is(Digest),
    /// The registry lists it but has no manifest for it.
    Gone,
    /// The registry was asked and did not answer.
    Unanswered,
}

/// What is known about the image with a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownImage {
    /// The machines can run it.
    Usable,
    /// The machines cannot run it, for this reason.
    Unusable(String),
    /// The registry was asked and did not answer.
    Unanswered,
}

/// The registry's answers so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By tag.
    pub tags: HashMap<String, KnownTag>,
    /// By digest.
    pub images: HashMap<Digest, KnownImage>,
}

impl Known {
    /// The tag's digest, if it is known.
    pub fn digest(&self, tag: &str) -> Option<&Digest> {
        match self.tags.get(tag) {
            Some(KnownTag::Is(digest)) => Some(digest),
            _ => None,
        }
    }
}

/// The answers that are still needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tags whose digests are needed, in the order given.
    pub tags: Vec<String>,
    /// Tags whose digests only show which image they belong to. Nothing else depends on the answer.
    pub perhaps: Vec<String>,
    /// Images for which it must be known whether the machines can run them.
    pub images: BTreeSet<Digest>,
}

impl Needs {
    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.perhaps.is_empty() && self.images.is_empty()
    }
}

/// The decision on a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is wanted.
    pub wanted: bool,
    /// The reason, in a few words.
    pub why: String,
    /// Its name in a menu, with the tag that it is an alias of, if that is known.
    pub name: String,
    /// Whether it is an alias, by configuration or because it has the digest of a classified tag.
    pub is_alias: bool,
    /// Its aliases.
    pub aliases: Vec<String>,
    /// Whether it would be wanted, but the registry has no usable image for it.
    pub is_left_out: bool,
}

/// The decisions, and what is still needed to be sure of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// One verdict for each tag, in the order given.
    pub verdicts: Vec<Verdict>,
    /// The answers that are needed. If empty, the verdicts are final.
    pub needs: Needs,
}

/// Decides about `tags`, given in the order of a menu, with the answers so far.
pub fn decide(policy: &Policy, tags: &[Tag], known: &Known) -> Decision {
    let chosen = tags.iter().map(|tag| policy.leaves_out(tag)).collect();
    let mut selection = Selection {
        policy,
        tags,
        known,
        not_chosen: chosen,
        reasons: vec![None; tags.len()],
        left_out: vec![None; tags.len()],
        needs_tags: BTreeMap::new(),
        needs_images: BTreeSet::new(),
    };
    for class in [Class::Release, Class::Weekly, Class::Daily, Class::Candidate, Class::Experimental, Class::Unknown] {
        selection.keep_newest(class);
    }
    selection.keep_named();
    selection.look_at_unknown();
    let mut verdicts = (0..tags.len()).map(|index| selection.verdict(index)).collect::<Vec<_>>();
    selection.name_aliases(&mut verdicts);
    let tags_that = |needed: bool| {
        let tags = selection.needs_tags.iter().filter(|(_, is)| **is == needed);
        tags.map(|(index, _)| selection.tags[*index].text.clone()).collect()
    };
    let needs = Needs { tags: tags_that(true), perhaps: tags_that(false), images: selection.needs_images.clone() };
    Decision { verdicts, needs }
}

/// The intermediate state of a decision.
struct Selection<'a> {
    policy: &'a Policy,
    tags: &'a [Tag],
    known: &'a Known,
    /// Why a tag is ignored.
    not_chosen: Vec<Option<&'static str>>,
    /// Why a tag is wanted.
    reasons: Vec<Option<String>>,
    /// Why a tag that would be wanted is left out.
    left_out: Vec<Option<String>>,
    /// Tags whose digests are needed, and whether a decision depends on the answer.
    needs_tags: BTreeMap<usize, bool>,
    needs_images: BTreeSet<Digest>,
}

/// The result of looking up a tag that would be wanted.
enum Look<'a> {
    /// Nodes can use it, as far as is known. Contains its digest, if it is known.
    Image(Option<&'a Digest>),
    /// There is no usable image, for this reason.
    Nothing(String),
}

impl<'a> Selection<'a> {
    /// The tag's digest. If it was not requested yet, records that it is needed.
    fn tag(&mut self, index: usize, decides: bool) -> Option<&'a KnownTag> {
        let known = self.known.tags.get(&self.tags[index].text);
        if known.is_none() {
            *self.needs_tags.entry(index).or_insert(decides) |= decides;
        }
        known
    }

    fn look(&mut self, index: usize) -> Look<'a> {
        match self.tag(index, true) {
            Some(KnownTag::Gone) => Look::Nothing(GONE.to_owned()),
            Some(KnownTag::Unanswered) | None => Look::Image(None),
            Some(KnownTag::Is(digest)) => match self.known.images.get(digest) {
                Some(KnownImage::Unusable(why)) => Look::Nothing(why.clone()),
                Some(KnownImage::Usable | KnownImage::Unanswered) => Look::Image(Some(digest)),
                None => {
                    self.needs_images.insert(digest.clone());
                    Look::Image(Some(digest))
                }
            },
        }
    }

    /// Selects the newest images of a class. A tag of an image that already counts is kept with it, and an image that
    /// no node could use takes no place.
    fn keep_newest(&mut self, class: Class) {
        let most = self.policy.keep.of(class);
        if most == 0 {
            return;
        }
        let mut kept: HashMap<&Digest, usize> = HashMap::new();
        let (mut count, mut looked_further) = (0, 0);
        for index in 0..self.tags.len() {
            let tag = &self.tags[index];
            if tag.class != class || tag.arch.is_some() || self.not_chosen[index].is_some() {
                continue;
            }
            let first = |digest: Option<&Digest>| digest.and_then(|digest| kept.get(digest)).copied();
            if count == most {
                // The next tag may belong to a kept image.
                looked_further += 1;
                let same = match self.tag(index, false) {
                    Some(KnownTag::Is(digest)) => first(Some(digest)),
                    _ => None,
                };
                let Some(same) = same.filter(|_| looked_further <= MOST_SAME_LOOKED_AT) else { break };
                self.reasons[index] = Some(format!("same image as {}", self.tags[same].text));
                continue;
            }
            match self.look(index) {
                Look::Nothing(why) => self.left_out[index] = Some(why),
                Look::Image(digest) => {
                    if let Some(same) = first(digest) {
                        self.reasons[index] = Some(format!("same image as {}", self.tags[same].text));
                        continue;
                    }
                    if let Some(digest) = digest {
                        kept.insert(digest, index);
                    }
                    count += 1;
                    self.reasons[index] = Some(format!("{} {class}", nth_newest(count)));
                }
            }
        }
    }

    fn keep_named(&mut self) {
        for index in 0..self.tags.len() {
            let tag = &self.tags[index];
            let reason = if self.policy.pinned.contains(&tag.text) {
                "pinned".to_owned()
            } else if tag.class == Class::Alias && self.not_chosen[index].is_none() {
                format!("alias {}", tag.text)
            } else {
                continue;
            };
            match self.look(index) {
                Look::Image(_) => {
                    self.reasons[index].get_or_insert(reason);
                }
                Look::Nothing(why) => self.left_out[index] = Some(format!("{reason}, but {why}")),
            }
        }
    }

    /// A few unknown tags may be aliases by their digest.
    fn look_at_unknown(&mut self) {
        let is_unknown = |index: &usize| self.tags[*index].class == Class::Unknown && self.not_chosen[*index].is_none();
        let unknown: Vec<usize> = (0..self.tags.len()).filter(is_unknown).collect();
        if unknown.len() <= MOST_UNKNOWN_LOOKED_AT {
            for index in unknown {
                if let Some(KnownTag::Gone) = self.tag(index, false) {
                    self.left_out[index].get_or_insert(GONE.to_owned());
                }
            }
        }
    }

    fn verdict(&self, index: usize) -> Verdict {
        let tag = &self.tags[index];
        let (reason, left_out) = (&self.reasons[index], &self.left_out[index]);
        let why = match (reason, left_out) {
            (Some(why), None) | (_, Some(why)) => why.clone(),
            (None, None) => self.not_chosen[index].map_or_else(|| self.why_not(tag), str::to_owned),
        };
        Verdict {
            wanted: reason.is_some() && left_out.is_none(),
            why,
            name: tag.name.clone(),
            is_alias: tag.class == Class::Alias,
            aliases: Vec::new(),
            is_left_out: left_out.is_some(),
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

    /// Sets the targets of aliases, and the aliases of classified tags.
    fn name_aliases(&self, verdicts: &mut [Verdict]) {
        let known = |index: usize| self.known.digest(&self.tags[index].text);
        let classified = |tag: &Tag| !matches!(tag.class, Class::Alias | Class::Unknown) && tag.arch.is_none();
        let mut targets: HashMap<&Digest, usize> = HashMap::new();
        for index in (0..self.tags.len()).filter(|index| classified(&self.tags[*index])) {
            if let Some(digest) = known(index) {
                // The first in the order of the menu is the best name.
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
mod tests;
