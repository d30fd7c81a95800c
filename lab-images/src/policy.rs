//! Decides which tags are wanted, and why. Pure.
//!
//! [`Policy::tags`] parses and orders what a registry listed. [`decide`] returns which tags are wanted, and what it
//! still needs to know: tags with the same digest count once, and an image that no node could use takes no place, so
//! the next older tag may be kept. The caller asks the registry, adds the answers and decides again until nothing is
//! needed. Every round answers at least one question, so this ends.

mod choice;
mod decision;
mod keep;

use std::collections::BTreeSet;

pub use choice::{Choice, TagPattern, TagPatternError};
pub(crate) use decision::GONE;
pub use decision::{Decision, Known, KnownImage, KnownTag, Needs, Verdict, decide};
pub use keep::{DEFAULT_KEEP, Keep, KeepError};

use crate::tag::{Tag, TagScheme};

/// The default of `LAB_ALIASES`.
pub const DEFAULT_ALIASES: &str = "recommended,latest,latest_release,latest_weekly,latest_daily";

/// The configuration of what is wanted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How to read tags.
    pub scheme: TagScheme,
    /// How many tags of each class to keep.
    pub keep: Keep,
    /// Tags that are always kept.
    pub pinned: Vec<String>,
    /// Tags that are aliases of others and always wanted.
    pub aliases: Vec<String>,
    /// Which tags are considered.
    pub choice: Choice,
}

impl Policy {
    /// The tags that a registry listed, without duplicates, in the order of a menu.
    pub fn tags<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Vec<Tag> {
        let texts: BTreeSet<String> = texts.into_iter().map(|text| text.as_ref().to_owned()).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let chosen: Vec<&String> = texts.iter().filter(|text| self.choice.leaves_out(text).is_none()).collect();
        let mut tags = self.scheme.parse_all(&texts, &chosen, &self.aliases);
        tags.sort_by(Tag::menu_order);
        tags.dedup_by(|a, b| a.text == b.text);
        tags
    }

    /// Why a tag is ignored, if it is. Pinned tags never are. Aliases are configured one by one, so `LAB_TAGS` does not
    /// apply to them.
    fn leaves_out(&self, tag: &Tag) -> Option<&'static str> {
        if self.pinned.contains(&tag.text) {
            return None;
        }
        let why = self.choice.leaves_out(&tag.text)?;
        let is_alias = self.aliases.contains(&tag.text);
        (!is_alias || self.choice.excludes(&tag.text)).then_some(why)
    }

    /// Whether the scheme failed to parse a tag that it should: one that is considered and not configured otherwise.
    pub(crate) fn is_unread(&self, tag: &Tag) -> bool {
        tag.class == crate::tag::Class::Unknown && !self.pinned.contains(&tag.text) && self.leaves_out(tag).is_none()
    }
}
