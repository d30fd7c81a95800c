//! Formats numbers, times and names for the page and for a terminal.

use std::time::Duration;

use jiff::Timestamp;
use sidecar::human;
pub use sidecar::human::bytes;

use crate::overview::{NextTry, SpawnsOverview, Tally};

/// `5,000`
pub fn count(number: usize) -> String {
    human::count(number as u64)
}

/// `12 minutes`
pub fn duration(seconds: u64) -> String {
    human::duration(Duration::from_secs(seconds))
}

/// `1 node`, `2 nodes`
pub fn nodes(number: usize) -> String {
    format!("{} node{}", count(number), plural(number))
}

/// `1 image`, `2 images`
pub fn images(number: usize) -> String {
    format!("{} image{}", count(number), plural(number))
}

pub(super) fn plural(number: usize) -> &'static str {
    human::plural(number as u64)
}

/// `2026-11-25 02:25 UTC`
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// `3 minutes ago`
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    match u64::try_from(now.duration_since(then).as_secs()) {
        Ok(0) | Err(_) => "just now".to_owned(),
        Ok(seconds) => format!("{} ago", duration(seconds)),
    }
}

/// A whole percentage; 100 only if nothing is missing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64 }
}

/// `node1`, `node1, node2 and 7 others`; `None` for an empty list.
pub fn names(names: &[&str]) -> Option<String> {
    const MOST: usize = 5;
    match names {
        [] => None,
        [only] => Some((*only).to_owned()),
        [first @ .., last] if names.len() <= MOST => Some(format!("{} and {last}", first.join(", "))),
        _ => Some(format!("{} and {} others", names[..MOST].join(", "), count(names.len() - MOST))),
    }
}

/// Which node tries an image next if `node` makes no progress with it: `another node tries it in 8 minutes`.
pub(crate) fn next(node: &str, next: &NextTry) -> String {
    match next {
        NextTry::Now { node } => format!("{node} tries it now"),
        // A try that is due starts with the next decision.
        NextTry::In(time) if time.as_secs() < 10 => "another node tries it now".to_owned(),
        NextTry::In(time) => format!("another node tries it in {}", duration(time.as_secs())),
        NextTry::NoOther => format!("no other node can try it, so it waits for {node}"),
    }
}

/// How much the puller helped: `In the last 24 hours, 20 labs started. 17 found their image on their node (85 %). …`
pub fn spawns(now: Timestamp, spawns: &SpawnsOverview) -> String {
    let since = match now.duration_since(spawns.since).as_hours() {
        24.. => "In the last 24 hours".to_owned(),
        _ => format!("Since {}", time(spawns.since)),
    };
    let SpawnsOverview { present, absent, unknown, .. } = spawns;
    let known = present.count + absent.count;
    let all = known + unknown.count;
    if all == 0 {
        return format!("{since}, no lab started.");
    }
    let took = |tally: &Tally| match tally.average_seconds() {
        Some(seconds) => {
            let (average, longest) = (duration(seconds), duration(tally.longest_seconds));
            format!(" On average they took {average} from scheduled to running, and at most {longest}.")
        }
        None => String::new(),
    };
    let mut text = format!("{since}, {} lab{} started.", human::count(all), human::plural(all));
    if known > 0 {
        let share = percent(present.count, known);
        text +=
            &format!(" {} found their image on their node ({share} %).{}", human::count(present.count), took(present));
    }
    if absent.count > 0 {
        text += &format!(" {} did not.{}", human::count(absent.count), took(absent));
    }
    if unknown.count > 0 {
        text += &format!(" For {}, no node reports the image.{}", human::count(unknown.count), took(unknown));
    }
    text
}

/// The tag of a full name, or the name itself.
pub fn tag(reference: &str) -> &str {
    reference.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/')).unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_labs_are_summarized() {
        let now: Timestamp = "2026-11-25T02:25:00Z".parse().unwrap();
        let tally = |count, timed, seconds, longest_seconds| Tally { count, timed, seconds, longest_seconds };
        let (none, hours) = (Tally::default(), |hours| now - jiff::SignedDuration::from_hours(hours));
        for (hours_ago, present, absent, unknown, expected) in [
            (2, none, none, none, "Since 2026-11-25 00:25 UTC, no lab started."),
            (
                24,
                tally(17, 17, 68, 9),
                tally(3, 3, 240, 180),
                none,
                "In the last 24 hours, 20 labs started. 17 found their image on their node (85 %). On average they took 4 \
                 seconds from scheduled to running, and at most 9 seconds. 3 did not. On average they took 80 seconds from \
                 scheduled to running, and at most 3 minutes.",
            ),
            (
                24,
                none,
                none,
                tally(1, 0, 0, 0),
                "In the last 24 hours, 1 lab started. For 1, no node reports the image.",
            ),
        ] {
            let sums = SpawnsOverview { since: hours(hours_ago), present, absent, unknown };
            assert_eq!(spawns(now, &sums), expected);
        }
    }
}
