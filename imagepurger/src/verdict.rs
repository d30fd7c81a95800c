//! The verdict on each image: whether it is kept or removed, and why, in words.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::Image;
use lab_images::tag::Class;

/// The decision on one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The image.
    pub image: &'a Image,
    /// When somebody last had a reason to have it here, as far as is known.
    pub last_needed: Timestamp,
    /// KeepReason or to go.
    pub action: Action,
}

/// KeepReason or to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays, for this reason.
    Keep(KeepReason),
    /// It is to be removed, for this reason.
    Remove(RemoveReason),
}

/// Why an image stays: the first reason that holds, from what protects it always to what protects it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Something uses it.
    InUse(Use),
    /// The runtime asks never to remove it.
    PinnedByRuntime,
    /// A setting names it.
    PinnedBySetting(String),
    /// It fits a pattern of `PURGE_ALLOW`.
    Allowed(String),
    /// It is an image of Labhands.
    Own,
    /// The catalogue wants it, by this reference.
    Wanted(String),
    /// Nothing at all is removed now.
    Held(Hold),
    /// Not an image that this program is to remove.
    OutOfScope(OutOfScope),
    /// It is the newest of its class here, and what the catalogue wants instead is not here yet.
    Predecessor {
        /// The class.
        class: Class,
        /// What it waits for.
        successor: String,
    },
    /// The runtime refused to remove it, and is not asked again yet.
    Refused {
        /// What the runtime said.
        message: String,
        /// How long from now until it is asked again.
        again: SignedDuration,
    },
    /// It was needed too recently.
    Grace {
        /// What it would go for afterwards.
        cause: Cause,
        /// How long ago it was needed.
        needed: SignedDuration,
        /// How long that has to be.
        grace: SignedDuration,
    },
}

/// What uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A container, in whatever state.
    Container(String),
    /// The runtime, to start pods with.
    Sandbox,
    /// A pod of this node, by namespace and name.
    Pod(String),
}

/// Why nothing at all is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// This machine's clock shows a time before this program was built.
    ClockUnset(Timestamp),
    /// There is no catalogue to be had.
    CatalogueUnreadable(String),
    /// Nobody vouched for the catalogue lately, or its time is in the future.
    CatalogueStale {
        /// When somebody last did.
        fresh_at: Timestamp,
        /// `CATALOGUE_MAX_AGE`
        max_age: SignedDuration,
    },
    /// The scan behind the catalogue did not see everything.
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
    /// The pods of this node are not known.
    PodsUnknown(String),
    /// The pods of this node were last seen too long ago.
    PodsStale(Timestamp),
}

/// Why an image is none of this program's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfScope {
    /// A name of it is of a repository that the catalogue does not list.
    Foreign,
    /// It has no name, and none is remembered.
    Nameless,
    /// A name of it can't be read.
    Unreadable,
}

/// Why an image is removed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveReason {
    /// Why.
    pub cause: Cause,
    /// Before its grace is over, because the disk is full; only while it is.
    pub early: bool,
}

/// Why an image may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A removal was cut half way: only the bare record is left.
    Unfinished,
    /// It fits a pattern of `PURGE_DENY`.
    Denied(String),
    /// The catalogue lists its repository and does not want it.
    Unwanted,
    /// Its tag moved on: only its digest is left.
    Untagged,
    /// Nobody uses it (`PURGE_SCOPE=all`), and the disk is full.
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
                "no longer wanted by the catalogue, but the newest{} of its repository here; it stays until {successor} is here",
                if *class == Class::Unknown { String::new() } else { format!(" {class}") }
            ),
            Self::Refused { message, again } => {
                write!(f, "the runtime refused to remove it: {message}; it is asked again in {}", age(*again))
            }
            Self::Grace { cause, needed, grace } => {
                write!(f, "{cause}, but needed {} ago; goes after {}", age(*needed), age(*grace))
            }
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(id) => write!(f, "container {}", id.get(..12).unwrap_or(id)),
            Self::Sandbox => f.write_str("the runtime, to start pods with"),
            Self::Pod(name) => write!(f, "pod {name}"),
        }
    }
}

impl Hold {
    /// A word for metrics.
    pub fn word(&self) -> &'static str {
        self.words().0
    }

    /// The reason of an Event.
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
                write!(f, "the clock of this machine is not set: it shows {now}, and this program was built later")
            }
            Self::CatalogueUnreadable(why) => write!(f, "there is no catalogue: {why}"),
            Self::CatalogueStale { fresh_at, max_age } => write!(
                f,
                "the catalogue is stale: it was last vouched for at {fresh_at}, more than CATALOGUE_MAX_AGE ({}) from now",
                age(*max_age)
            ),
            Self::CataloguePartial => f.write_str("the catalogue is partial: its scan did not see everything"),
            Self::CatalogueEmpty => f.write_str("the catalogue is empty: it wants nothing"),
            Self::CatalogueShrank { before, now } => write!(
                f,
                "the catalogue shrank at once from {before} wanted images to {now}; set PURGE_FORCE_SHRINK=true if that is right"
            ),
            Self::PodsUnknown(why) => write!(f, "the pods of this node are not known: {why}"),
            Self::PodsStale(seen) => write!(f, "the pods of this node were last seen at {seen}"),
        }
    }
}

impl fmt::Display for OutOfScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not of a repository of the catalogue",
            Self::Nameless => "without a name, and of no known repository",
            Self::Unreadable => "a name of it cannot be read",
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
            Self::Unfinished => f.write_str("left over from a removal that was cut"),
            Self::Denied(pattern) => write!(f, "denied by PURGE_DENY ({pattern})"),
            Self::Unwanted => f.write_str("no longer wanted by the catalogue"),
            Self::Untagged => f.write_str("untagged, left over in a repository of the catalogue"),
            Self::Unused => f.write_str("unused"),
        }
    }
}

/// A duration for people: its two largest units.
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
    fn ages_are_for_people() {
        let table = [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (5460, "1 h 31 min"), (86_400, "1 d")];
        for (seconds, text) in table {
            assert_eq!(age(SignedDuration::from_secs(seconds)), text);
        }
        assert_eq!(age(SignedDuration::from_hours(53)), "2 d 5 h");
        assert_eq!(age(SignedDuration::from_millis(1)), "1 ms");
    }
}
