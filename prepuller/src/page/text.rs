//! The same words for the page and for a terminal.

use std::time::Duration;

use jiff::Timestamp;
use sidecar::human;
pub use sidecar::human::bytes;

use super::reason;
use super::view::{Cell, CellState, RepositoryRow, Standing, View};
use crate::plan::overview::{NextTry, SpawnsOverview, Tally};

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

fn plural(number: usize) -> &'static str {
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

/// Whole percent, 100 only when nothing is missing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64 }
}

/// `node1`, `node1, node2 and 7 others`; `None` of none.
pub fn names(names: &[&str]) -> Option<String> {
    const MOST: usize = 5;
    match names {
        [] => None,
        [only] => Some((*only).to_owned()),
        [first @ .., last] if names.len() <= MOST => Some(format!("{} and {last}", first.join(", "))),
        _ => Some(format!("{} and {} others", names[..MOST].join(", "), count(names.len() - MOST))),
    }
}

/// Who tries an image next that `node` did not get on with: `another node tries it in 8 minutes`.
pub(crate) fn next(node: &str, next: &NextTry) -> String {
    match next {
        NextTry::Now { node } => format!("{node} tries it now"),
        // What is due is done with the next decision.
        NextTry::In(time) if time.as_secs() < 10 => "another node tries it now".to_owned(),
        NextTry::In(time) => format!("another node tries it in {}", duration(time.as_secs())),
        NextTry::NoOther => format!("no other node could try it, so it waits for {node}"),
    }
}

/// How it stands as a whole: for colour, and as a sentence. Never better than the problems below it.
pub fn headline(view: &View) -> (Standing, String) {
    let (standing, sentence) = state_of_all(view);
    if standing == Standing::Problem || (view.problems.is_empty() && view.counts.problems == 0) {
        return (standing, sentence);
    }
    let problems = match (view.problems.len(), view.counts.problems) {
        (0, nodes) => format!("{} in trouble", self::nodes(nodes)),
        (1, _) => "there is a problem".to_owned(),
        (problems, _) => format!("there are {} problems", count(problems)),
    };
    (Standing::Problem, format!("{sentence}; {problems}"))
}

fn state_of_all(view: &View) -> (Standing, String) {
    let eligible = view.counts.all - view.counts.not_eligible;
    let stopped = view.images.iter().filter(|image| image.standing == Standing::Problem).count();
    if view.scan.generated.is_none() && view.scan.last.is_none() {
        (Standing::Waiting, "The first scan is under way".to_owned())
    } else if view.scan.generated.is_none() {
        (Standing::Problem, "No scan has succeeded yet".to_owned())
    } else if !view.decided {
        (Standing::Waiting, "The nodes have not been looked at yet".to_owned())
    } else if view.images.is_empty() {
        (Standing::Problem, "No image is wanted".to_owned())
    } else if eligible == 0 {
        (Standing::Waiting, "No node is eligible".to_owned())
    } else if view.complete {
        let nodes = match eligible {
            1 => "the node".to_owned(),
            2 => "both nodes".to_owned(),
            _ => format!("all {}", nodes(eligible)),
        };
        (Standing::Complete, format!("{} on {nodes}", images(view.images.len())))
    } else {
        let missing = format!("Images are missing on {} of {}", count(view.totals.behind), nodes(eligible));
        match (stopped, view.counts.problems) {
            (0, 0) => (Standing::Pulling, missing),
            (0, troubled) => (Standing::Problem, format!("{missing}, {} with problems", count(troubled))),
            (stopped, _) => (Standing::Problem, format!("{missing}, {} stopped", images(stopped))),
        }
    }
}

/// `412 of 600 copies there, at most 1.2 TiB to come, 340 MiB/s, about 12 minutes left`
pub fn progress(view: &View) -> String {
    let totals = &view.totals;
    let mut text = format!("{} of {} copies are there", count(totals.present), count(totals.wanted));
    match (totals.bytes_left, totals.unknown) {
        (0, 0) => {}
        (0, unknown) => text += &format!(", {} of unknown size to come", count(unknown)),
        (left, 0) => text += &format!(", at most {} to come", bytes(left)),
        (left, unknown) => {
            text += &format!(", at most {} to come and {} of unknown size", bytes(left), count(unknown));
        }
    }
    if totals.rate > 0 {
        text += &format!(", {}/s", bytes(totals.rate));
    }
    if let Some(left) = totals.eta_seconds {
        text += &format!(", about {} left", duration(left));
    }
    text
}

/// What there is to say of a repository: `212 tags, 3 of them not read by LAB_TAG_SCHEME, scanned 3 minutes ago`
pub fn repository(view: &View, row: &RepositoryRow) -> String {
    let mut parts = Vec::new();
    if let Some(tags) = row.tags {
        let tags = usize::try_from(tags).unwrap_or(usize::MAX);
        parts.push(format!("{} tag{}", count(tags), plural(tags)));
    }
    if let Some(unread) = row.unread.filter(|unread| *unread > 0) {
        parts.push(format!("{} of them not read by LAB_TAG_SCHEME", human::count(unread)));
    }
    match (row.complete, row.scanned) {
        (true, Some(scanned)) => parts.push(format!("scanned {}", ago(view.now, scanned))),
        (false, Some(scanned)) => parts.push(format!("its images are those of {}", time(scanned))),
        (false, None) => parts.push("never scanned completely".to_owned()),
        (true, None) => {}
    }
    parts.join(", ")
}

/// What the puller is worth: `In the last 24 hours, 20 labs started. 17 found their image on their node: 4 seconds on average. …`
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
            format!(" They ran {average} after they were scheduled on average, and {longest} at most.")
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
        text += &format!(" Of {}, no node reports the image.{}", human::count(unknown.count), took(unknown));
    }
    text
}

/// `2026-11-25 02:25 UTC (3 minutes ago)`
pub fn scan(view: &View) -> String {
    match view.scan.last_good {
        Some(good) => format!("{} ({})", time(good), ago(view.now, good)),
        None => match view.scan.generated {
            Some(generated) => format!("{}, by an earlier planner", time(generated)),
            None => "none yet".to_owned(),
        },
    }
}

/// A standing in one word.
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Problem => "problem",
        Standing::Pulling => "pulling",
        Standing::Waiting => "waiting",
        Standing::Complete => "complete",
        Standing::NotEligible => "not eligible",
    }
}

/// A cell's state in one or two words.
pub fn state(state: CellState) -> &'static str {
    match state {
        CellState::NotWanted => "not for this node",
        CellState::NotOrdered => "not its turn yet",
        CellState::Waiting => "waiting",
        CellState::Downloading => "downloading",
        CellState::Unpacking => "unpacking",
        CellState::Present => "present",
        CellState::Failed => "failed",
        CellState::Refused => "refused",
    }
}

/// A cell's state in one sign.
pub fn sign(state: CellState) -> &'static str {
    match state {
        CellState::NotWanted => "–",
        CellState::NotOrdered => "○",
        CellState::Waiting => "·",
        CellState::Downloading => "↓",
        CellState::Unpacking => "≡",
        CellState::Present => "✓",
        CellState::Failed => "×",
        CellState::Refused => "!",
    }
}

/// What there is to say of a cell beyond its state: `downloading 43 %, 512 MiB of 1 GiB, 50 MiB/s, 10 seconds left`, or why it
/// failed. `None` where the state says it all.
pub fn details(cell: &Cell) -> Option<String> {
    match cell.state {
        CellState::Downloading => {
            let mut parts = Vec::new();
            if cell.total > 0 {
                parts.push(format!("{} %", percent(cell.done, cell.total)));
                parts.push(format!("{} of {}", bytes(cell.done), bytes(cell.total)));
            } else if cell.done > 0 {
                parts.push(bytes(cell.done));
            }
            parts.extend(cell.rate.map(|rate| format!("{}/s", bytes(rate))));
            parts.extend(cell.eta_seconds.map(|left| format!("{} left", duration(left))));
            Some(format!("downloading {}", parts.join(", ")).trim_end().to_owned())
        }
        CellState::Unpacking => Some("unpacking".to_owned()),
        CellState::Failed | CellState::Refused => Some(failure(cell, cell.error.as_deref().unwrap_or(NO_REASON))),
        CellState::Waiting | CellState::Present | CellState::NotWanted | CellState::NotOrdered => None,
    }
}

/// What is said of an error that says nothing.
const NO_REASON: &str = "no reason was given";

/// `failed 3 times: the registry does not answer in time`
fn failure(cell: &Cell, why: &str) -> String {
    let times = if cell.failures > 1 { format!(" {} times", cell.failures) } else { String::new() };
    format!("{}{times}: {why}", state(cell.state))
}

/// A failure as one sentence, and the runtime's own words where these say more. `None` where nothing failed.
pub fn failure_in_short(cell: &Cell) -> Option<(String, Option<&str>)> {
    matches!(cell.state, CellState::Failed | CellState::Refused).then(|| {
        let error = cell.error.as_deref().unwrap_or(NO_REASON);
        let (why, says_more) = reason::sentence(error);
        (failure(cell, why), says_more.then_some(error))
    })
}

/// The tag of a whole name, or the name itself.
pub fn tag(reference: &str) -> &str {
    reference.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/')).unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_labs_that_started() {
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
                "In the last 24 hours, 20 labs started. 17 found their image on their node (85 %). They ran 4 seconds after they \
                 were scheduled on average, and 9 seconds at most. 3 did not. They ran 80 seconds after they were scheduled on \
                 average, and 3 minutes at most.",
            ),
            (
                24,
                none,
                none,
                tally(1, 0, 0, 0),
                "In the last 24 hours, 1 lab started. Of 1, no node reports the image.",
            ),
        ] {
            let sums = SpawnsOverview { since: hours(hours_ago), present, absent, unknown };
            assert_eq!(spawns(now, &sums), expected);
        }
    }
}
