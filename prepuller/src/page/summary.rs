//! Sentences about a view, for the page and for a terminal.

use sidecar::human;

use super::reason;
use super::text::{ago, bytes, count, duration, images, nodes, percent, plural, time};
use super::view::{Cell, CellState, RepositoryRow, Standing, View};

/// The overall state, as a color and as a sentence. It is never better than the problems below it.
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
        (Standing::Waiting, "The nodes have not been checked yet".to_owned())
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

/// `412 of 600 copies are present, at most 1.2 TiB missing, 340 MiB/s, about 12 minutes left`
pub fn progress(view: &View) -> String {
    let totals = &view.totals;
    let mut text = format!("{} of {} copies are present", count(totals.present), count(totals.wanted));
    match (totals.bytes_left, totals.unknown) {
        (0, 0) => {}
        (0, unknown) => text += &format!(", {} of unknown size missing", count(unknown)),
        (left, 0) => text += &format!(", at most {} missing", bytes(left)),
        (left, unknown) => {
            text += &format!(", at most {} and {} of unknown size missing", bytes(left), count(unknown));
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

/// A summary of a repository: `212 tags, 3 of them not read by LAB_TAG_SCHEME, scanned 3 minutes ago`
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

/// A state in one word.
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

/// The sign for a cell's state.
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

/// Details of a cell beyond its state: `downloading 43 %, 512 MiB of 1 GiB, 50 MiB/s, 10 seconds left`, or why it
/// failed. `None` if there is nothing more to say.
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

/// The text for an error without a message.
const NO_REASON: &str = "no reason was given";

/// `failed 3 times: the registry does not answer in time`
fn failure(cell: &Cell, why: &str) -> String {
    let times = if cell.failures > 1 { format!(" {} times", cell.failures) } else { String::new() };
    format!("{}{times}: {why}", state(cell.state))
}

/// A failure as one sentence, and the runtime's full message if it contains more. `None` if nothing failed.
pub fn failure_in_short(cell: &Cell) -> Option<(String, Option<&str>)> {
    matches!(cell.state, CellState::Failed | CellState::Refused).then(|| {
        let error = cell.error.as_deref().unwrap_or(NO_REASON);
        let (why, has_more) = reason::sentence(error);
        (failure(cell, why), has_more.then_some(error))
    })
}
