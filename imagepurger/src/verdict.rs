//! The verdict on each image: whether it is kept or removed, and the reason in words.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::Image;
use lab_images::tag::Class;

/// The decision on one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The image.
    pub image: &'a Image,
    /// When the image was last needed, as far as is known.
    pub last_needed: Timestamp,
    /// Whether to keep or to remove it.
    pub action: Action,
}

/// Whether to keep or to remove an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep it, for this reason.
    Keep(KeepReason),
    /// Remove it, for this reason.
    Remove(RemoveReason),
}

/// Why an image stays: the first reason that applies. Permanent protections come before temporary ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Something uses it.
    InUse(Use),
    /// The runtime marks it as pinned.
    PinnedByRuntime,
    /// A setting names it.
    PinnedBySetting(String),
    /// It matches a pattern of `PURGE_ALLOW`.
    Allowed(String),
    /// It is an image of Labhands.
    Own,
    /// The catalogue wants it, by this reference.
    Wanted(String),
    /// Nothing at all may be removed now.
    Held(Hold),
    /// This program does not remove images of this kind.
    OutOfScope(OutOfScope),
    /// It is the newest of its class here, and its wanted successor is not here yet.
    Predecessor {
        /// The class.
        class: Class,
        /// The image that it waits for.
        successor: String,
    },
    /// The runtime refused to remove it, and it is too early to ask again.
    Refused {
        /// The runtime's message.
        message: String,
        /// The time until the runtime is asked again.
        again: SignedDuration,
    },
    /// It was needed too recently.
    Grace {
        /// The cause for which it may be removed after that.
        cause: Cause,
        /// How long ago it was last needed.
        needed: SignedDuration,
        /// The grace that applies.
        grace: SignedDuration,
    },
}

/// What uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A container in any state.
    Container(String),
    /// The runtime, as the sandbox image.
    Sandbox,
    /// A pod of this node, by namespace and name.
    Pod(String),
}

/// Why nothing at all is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The clock of this machine shows a time before this program was built.
    ClockUnset(Timestamp),
    /// There is no catalogue, for this reason.
    CatalogueUnreadable(String),
    /// The catalogue's Lease or file is too old, or its time is in the future.
    CatalogueStale {
        /// When the Lease was renewed or the file written.
        fresh_at: Timestamp,
        /// `CATALOGUE_MAX_AGE`
        max_age: SignedDuration,
    },
    /// The scan behind the catalogue was incomplete.
    CataloguePartial,
    /// The catalogue wants nothing.
    CatalogueEmpty,
    /// The catalogue wants less than half of what it wanted before.
    CatalogueShrank {
        /// How many images it wanted.
        before: usize,
        /// How many it wants.
        now: usize,
    },
    /// The pods of this node cannot be listed, for this reason.
    PodsUnknown(String),
    /// The pods of this node were listed too long ago.
    PodsStale(Timestamp),
}

/// Why this program does not remove an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfScope {
    /// One of its names is in a repository that the catalogue does not list.
    Foreign,
    /// It has no name, and none is remembered.
    Nameless,
    /// One of its names cannot be parsed.
    Unreadable,
}

/// Why an image is removed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveReason {
    /// The cause.
    pub cause: Cause,
    /// Whether it is removed before its grace is over, because the disk is full.
    pub early: bool,
}

/// Why an image may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An earlier removal was interrupted: only the bare record is left.
    Unfinished,
    /// It matches a pattern of `PURGE_DENY`.
    Denied(String),
    /// The catalogue lists its repository and does not want it.
    Unwanted,
    /// Its tag moved to another image: only its digest is left.
    Untagged,
    /// It is not in use (`PURGE_SCOPE=all`), and the disk is full.
    Unused,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(reason) => reason.fmt(f),
            Self::Remove(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(by) => write!(f, "in use by {by}"),
            Self::PinnedByRuntime => f.write_str("pinned in the runtime"),
            Self::PinnedBySetting(pin) => write!(f, "pinned by a setting ({pin})"),
            Self::Allowed(pattern) => write!(f, "allowed by PURGE_ALLOW ({pattern})"),
            Self::Own => f.write_str("an image of Labhands itself"),
            Self::Wanted(reference) => write!(f, "wanted by the catalogue ({reference})"),
            Self::Held(hold) => write!(f, "nothing is removed: {hold}"),
            Self::OutOfScope(why) => why.fmt(f),
            Self::Predecessor { class, successor } => write!(
                f,
                "no longer wanted by the catalogue, but the newest{} of its repository here; it stays until {successor} is on this node",
                if *class == Class::Unknown { String::new() } else { format!(" {class}") }
            ),
            Self::Refused { message, again } => {
                write!(f, "the runtime refused to remove it: {message}; the next try is in {}", age(*again))
            }
            Self::Grace { cause, needed, grace } => {
                write!(f, "{cause}, but needed {} ago; it is removed after {}", age(*needed), age(*grace))
            }
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => write!(f, "container {}", id.get(..12).unwrap_or(id)),
            Self::Sandbox => f.write_str("the runtime, as its sandbox image"),
            Self::Pod(name) => write!(f, "pod {name}"),
        }
    }
}

impl Hold {
    /// All results in one word.
    pub const WORDS: [&str; 8] = [
        "clock_unset",
        "catalogue_unreadable",
        "catalogue_stale",
        "catalogue_partial",
        "catalogue_empty",
        "catalogue_shrank",
        "pods_unknown",
        "pods_stale",
    ];

    /// The result in one word, for metrics.
    pub fn word(&self) -> &'static str {
        self.words().0
    }

    /// The reason of the Event.
    pub fn reason(&self) -> &'static str {
        self.words().1
    }

    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::ClockUnset(_) => ("clock_unset", "ClockUnset"),
            Self::CatalogueUnreadable(_) => ("catalogue_unreadable", "CatalogueUnreadable"),
            Self::CatalogueStale { .. } => ("catalogue_stale", "CatalogueStale"),
            Self::CataloguePartial => ("catalogue_partial", "CataloguePartial"),
            Self::CatalogueEmpty => ("catalogue_empty", "CatalogueEmpty"),
            Self::CatalogueShrank { .. } => ("catalogue_shrank", "CatalogueShrank"),
            Self::PodsUnknown(_) => ("pods_unknown", "PodsUnknown"),
            Self::PodsStale(_) => ("pods_stale", "PodsStale"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockUnset(now) => {
                write!(
                    f,
                    "the clock of this machine is not set: it shows {now}, which is before this program was built"
                )
            }
            Self::CatalogueUnreadable(why) => write!(f, "there is no catalogue: {why}"),
            Self::CatalogueStale { fresh_at, max_age } => write!(
                f,
                "the catalogue is stale: its Lease or file is from {fresh_at}, more than CATALOGUE_MAX_AGE ({}) in the past or future",
                age(*max_age)
            ),
            Self::CataloguePartial => f.write_str("the catalogue is partial: its scan was incomplete"),
            Self::CatalogueEmpty => f.write_str("the catalogue is empty: it wants nothing"),
            Self::CatalogueShrank { before, now } => write!(
                f,
                "the catalogue suddenly shrank from {before} wanted images to {now}; set PURGE_FORCE_SHRINK=true if that is correct"
            ),
            Self::PodsUnknown(why) => write!(f, "the pods of this node are not known: {why}"),
            Self::PodsStale(seen) => write!(f, "the pods of this node were last seen at {seen}"),
        }
    }
}

impl fmt::Display for OutOfScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not in a repository of the catalogue",
            Self::Nameless => "has no name and no known repository",
            Self::Unreadable => "one of its names cannot be parsed",
        })
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.early { ", early because the disk is full" } else { "" };
        write!(f, "{}{early}", self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str("left over from an interrupted removal"),
            Self::Denied(pattern) => write!(f, "denied by PURGE_DENY ({pattern})"),
            Self::Unwanted => f.write_str("no longer wanted by the catalogue"),
            Self::Untagged => f.write_str("untagged, in a repository of the catalogue"),
            Self::Unused => f.write_str("unused"),
        }
    }
}

/// A duration as text: its two largest units.
pub fn age(duration: SignedDuration) -> String {
    let seconds = u64::try_from(duration.as_secs()).unwrap_or(0);
    if seconds == 0 && duration > SignedDuration::ZERO {
        return format!("{} ms", duration.as_millis());
    }
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hold_has_a_word() {
        let holds = [
            Hold::ClockUnset(Timestamp::UNIX_EPOCH),
            Hold::CatalogueUnreadable(String::new()),
            Hold::CatalogueStale { fresh_at: Timestamp::UNIX_EPOCH, max_age: SignedDuration::ZERO },
            Hold::CataloguePartial,
            Hold::CatalogueEmpty,
            Hold::CatalogueShrank { before: 3, now: 1 },
            Hold::PodsUnknown(String::new()),
            Hold::PodsStale(Timestamp::UNIX_EPOCH),
        ];
        assert_eq!(holds.map(|hold| hold.word()), Hold::WORDS);
    }

    #[test]
    fn ages_are_readable() {
        let table = [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (5460, "1 h 31 min"), (86_400, "1 d")];
        for (seconds, text) in table {
            assert_eq!(age(SignedDuration::from_secs(seconds)), text);
        }
        assert_eq!(age(SignedDuration::from_hours(53)), "2 d 5 h");
        assert_eq!(age(SignedDuration::from_millis(1)), "1 ms");
    }
}
