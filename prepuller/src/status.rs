//! `prepuller status`: shows the planner's page in a terminal.

use std::fmt::Write as _;
use std::process::ExitCode;

use sidecar::human::Table;
use sidecar::stdio;

use crate::page::query::Show;
use crate::page::view::{CellState, NodeRow, Standing, View};
use crate::page::{summary, text};
use crate::planner_client::PlannerClient;
use crate::settings::{StatusOutput, StatusSettings};

/// Asks the planner and prints its answer.
///
/// # Errors
///
/// If it does not answer.
pub async fn run(settings: StatusSettings) -> anyhow::Result<ExitCode> {
    let view = PlannerClient::at(settings.planner)?.view(&settings.query).await?;
    match settings.output {
        StatusOutput::Table => stdio::print(&table(&view))?,
        StatusOutput::Json => stdio::print(&(serde_json::to_string_pretty(&view)? + "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Formats the view for a terminal. Control characters are replaced.
pub fn table(view: &View) -> String {
    let mut lines = vec![summary::headline(view).1];
    if view.totals.wanted > 0 {
        lines.push(summary::progress(view));
    }
    lines.push(format!("Last good scan: {}", summary::scan(view)));
    lines.extend(view.problems.iter().map(|problem| format!("Problem: {problem}")));
    if !view.images.is_empty() {
        lines.push(String::new());
        lines.extend(images(view).to_string().lines().map(str::to_owned));
    }
    if !view.nodes.is_empty() {
        lines.push(String::new());
        lines.extend(nodes(view));
        lines.push(String::new());
        lines.push(signs(view));
    }
    lines.push(counts(view));
    lines.extend(view.repositories.iter().map(|row| format!("{}: {}", row.name, summary::repository(view, row))));
    let mut text = String::new();
    for line in lines {
        text.extend(line.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        text.push('\n');
    }
    text
}

fn images(view: &View) -> Table {
    let mut table = Table::new(&["NO", "IMAGE", "SIZE", "NODES", "WAVE", "WHY"]);
    for (row, image) in (1_usize..).zip(&view.images) {
        let size = image.size.map_or("-".to_owned(), text::bytes);
        let nodes = format!("{} of {}", text::count(image.present), text::count(image.eligible));
        let mut wave = image.wave.clone();
        for (number, word) in [(image.pulling, "pulling"), (image.failed, "failed")] {
            if number > 0 {
                // Writing to a String does not fail.
                let _ = write!(wave, ", {} {word}", text::count(number));
            }
        }
        let mut why = image.why.clone();
        if !image.also.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(why, "; also {}", image.also.join(", "));
        }
        table.row([row.to_string(), image.reference.clone(), size, nodes, wave, why]);
    }
    table
}

/// A line for each node with a sign for each image, and its details below.
fn nodes(view: &View) -> Vec<String> {
    let longest = view.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).max(4);
    let numbers: String = (1..=view.images.len()).map(|number| format!("{number:>3}")).collect();
    let mut lines = vec![format!("{:longest$}{numbers}  STANDING", "NODE")];
    for node in &view.nodes {
        let signs: String = node.images.iter().map(|cell| format!("{:>3}", summary::sign(cell.state))).collect();
        let have = match node.standing {
            Standing::NotEligible => String::new(),
            _ => format!(", {} of {}", node.present, node.wanted),
        };
        lines.push(format!("{:longest$}{signs}  {}{have}", node.name, summary::standing(node.standing)));
        lines.extend(notes(view, node).map(|note| format!("{:longest$}  {note}", "")));
    }
    lines
}

/// The remarks on a node.
pub(crate) fn notes<'a>(view: &'a View, node: &'a NodeRow) -> impl Iterator<Item = String> + 'a {
    let of_images = node
        .images
        .iter()
        .zip(&view.images)
        .filter_map(|(cell, image)| Some(format!("{}: {}", text::tag(&image.reference), summary::details(cell)?)));
    node.remarks.iter().cloned().chain(of_images)
}

fn signs(view: &View) -> String {
    let shown = CellState::ALL.into_iter().filter(|state| view.nodes.iter().any(|node| node.has(*state)));
    shown.map(|state| format!("{} {}", summary::sign(state), summary::state(state))).collect::<Vec<_>>().join("   ")
}

/// `Page 1 of 4, 200 nodes. Of all 200: 4 problems, 10 waiting`
fn counts(view: &View) -> String {
    let of_all = Show::ALL.into_iter().filter(|show| *show != Show::All && view.counts.of(*show) > 0);
    let of_all: Vec<String> =
        of_all.map(|show| format!("{} {}", text::count(view.counts.of(show)), show.label().to_lowercase())).collect();
    let page = format!("Page {} of {}, {}.", view.query.page, view.pages, text::nodes(view.matching));
    if of_all.is_empty() {
        page
    } else {
        format!("{page} Of all {}: {}.", text::count(view.counts.all), of_all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::query::Query;
    use crate::page::tests::sample::{failed, fleet, node, nothing, of_nodes};

    #[test]
    fn images_nodes_and_what_is_wrong() {
        let text = table(&View::new(&fleet(20), &Query::parse("")));
        for expected in [
            "Images are missing on 9 of 19 nodes, 2 with problems\n",
            "Last good scan: 2026-11-25 02:22 UTC (3 minutes ago)\n",
            "NO  IMAGE                                        SIZE      NODES     WAVE",
            "1   registry.example.org/rubin/lab:d_2026_11_24  ",
            "NODE             1  2  3  4  5  STANDING\n",
            "pool-users-0006  ×  ✓  ✓  ✓  ✓  problem, 4 of 5\n",
            "d_2026_11_24: failed 3 times: registry.example.org answered 503 Service Unavailable\n",
            "✓ present   ↓ downloading",
            "Page 1 of 1, 20 nodes. Of all 20: 2 problems, 2 pulling, 5 waiting, 10 complete, 1 not eligible.\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let mut troubled = node("n\u{1b}[2J", 6);
        troubled.images[0] = failed(1, "\u{1b}]0;x\u{7}\r\nPage 1");
        let text = table(&View::new(&of_nodes(vec![troubled]), &Query::parse("")));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains("\nPage 1\n"), "{text:?}");
    }

    #[test]
    fn before_the_first_scan_it_shows_that() {
        let text = table(&View::new(&nothing(), &Query::parse("")));
        assert_eq!(text, "The first scan is under way\nLast good scan: none yet\nPage 1 of 1, 0 nodes.\n");
    }
}
