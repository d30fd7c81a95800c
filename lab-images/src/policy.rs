//! Which tags are wanted, and why: pure.
//!
//! [`Policy::tags`] reads and orders what a registry listed. [`decide`] says which are wanted, and what it would need to know
//! first: different tags of one digest count once, and what no node could use takes no place, so the next older tag may come in.
//! Ask, add, decide again, until nothing is needed; every round names at least one thing more, so it ends.

mod choice;
mod decision;
mod keep;

use std::collections::BTreeSet;

pub use choice::{Choice, TagPattern, TagPatternError};
pub(crate) use decision::GONE;
pub use decision::{Decision, Known, KnownImage, KnownTag, Needs, Verdict, decide};
pub use keep::{DEFAULT_KEEP, Keep, KeepError};

use crate::tag::{Tag, TagScheme};

/// `LAB_ALIASES` where it is unset.
pub const DEFAULT_ALIASES: &str = "recommended,latest,latest_release,latest_weekly,latest_daily";

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
    /// Which tags are looked at.
    pub choice: Choice,
}

impl Policy {
    /// The tags that a registry listed, each once, in the order of a menu.
    pub fn tags<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Vec<Tag> {
        let texts: BTreeSet<String> = texts.into_iter().map(|text| text.as_ref().to_owned()).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let chosen: Vec<&String> = texts.iter().filter(|text| self.choice.leaves_out(text).is_none()).collect();
        let mut tags = self.scheme.parse_all(&texts, &chosen, &self.aliases);
        tags.sort_by(Tag::menu_order);
        tags.dedup_by(|a, b| a.text == b.text);
        tags
    }

    /// Why a tag is not looked at, if so. A pinned one always is; an alias is named one by one, so `LAB_TAGS` is not about it.
    fn leaves_out(&self, tag: &Tag) -> Option<&'static str> {
        if self.pinned.contains(&tag.text) {
            return None;
        }
        let why = self.choice.leaves_out(&tag.text)?;
        let is_alias = self.aliases.contains(&tag.text);
        (!is_alias || self.choice.excludes(&tag.text)).then_some(why)
    }

    /// Whether the scheme could not read a tag that it should: one that is chosen and not named otherwise.
    pub(crate) fn is_unread(&self, tag: &Tag) -> bool {
        tag.class == crate::tag::Class::Unknown && !self.pinned.contains(&tag.text) && self.leaves_out(tag).is_none()
    }
}
