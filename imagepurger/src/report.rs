//! `imagepurger plan`: the verdict on every image, for people and for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::FileSystem;
use serde::Serialize;

use crate::plan::Plan;
use crate::round::{Limits, Look, Purger, Watermarks, name_of};
use crate::run::{Surroundings, open};
use crate::settings::{Output, PlanSettings};
use crate::verdict::{Fate, age};

/// Looks once and prints the plan. Nothing is removed or written.
///
/// # Errors
///
/// When the runtime or the cluster can't be reached, or nobody reads what is printed.
pub async fn run(settings: PlanSettings) -> anyhow::Result<()> {
    sidecar::log::init(settings.log);
    let node = settings.node;
    let Surroundings { catalogue, pods, .. } = Surroundings::of(&node.place).await?;
    let runtime = open(node.endpoint.as_ref()).await?;
    let limits = Limits { most: usize::MAX, dry_run: true };
    let mut purger = Purger::new(runtime, catalogue, pods, node.rules, (node.watermarks, limits), node.history_file);
    let look = purger.look().await?;
    let report = Report::of(&purger.plan(&look), &look, node.watermarks);
    let text = match settings.output {
        Output::Table => report.table(look.seen.now),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// A plan, to be printed.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Why nothing at all is removed, if so.
    hold: Option<String>,
    disk: Option<Disk>,
    /// The sum of the sizes of what is to go, as the runtime gives them: layers that other images share stay, and containerd
    /// counts compressed bytes.
    would_free_about: u64,
    images: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Disk {
    path: String,
    size: u64,
    used: u64,
    used_percent: u8,
    high_percent: u8,
    low_percent: u8,
    /// Images go early now.
    freeing: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    size: u64,
    /// `kept` or `to go`
    verdict: &'static str,
    reason: String,
    last_needed: Timestamp,
    #[serde(skip)]
    name: String,
}

impl Report {
    /// The report on a plan.
    pub fn of(plan: &Plan<'_>, look: &Look, watermarks: Watermarks) -> Self {
        let disk = |disk: &FileSystem| Disk {
            path: disk.path.display().to_string(),
            size: disk.capacity(),
            used: disk.used,
            used_percent: disk.used_percent(),
            high_percent: watermarks.high,
            low_percent: watermarks.low,
            freeing: look.seen.freeing,
        };
        let images = plan.verdicts.iter().map(|verdict| Line {
            id: verdict.image.id.clone(),
            tags: verdict.image.tags.clone(),
            digests: verdict.image.digests.clone(),
            size: verdict.image.size,
            verdict: if matches!(verdict.fate, Fate::ToGo(_)) { "to go" } else { "kept" },
            reason: verdict.fate.to_string(),
            last_needed: verdict.last_needed,
            name: name_of(verdict.image),
        });
        Self {
            hold: plan.hold.as_ref().map(ToString::to_string),
            disk: look.disk.as_ref().map(disk),
            would_free_about: plan.to_go().map(|(image, _)| image.size).fold(0, u64::saturating_add),
            images: images.collect(),
        }
    }

    /// For people: one line per image, in the order of removal, and what it comes to.
    pub fn table(&self, now: Timestamp) -> String {
        let rows: Vec<[String; 5]> = self.images.iter().map(|line| line.cells(now)).collect();
        let heads = ["VERDICT", "SIZE", "NEEDED", "IMAGE", "WHY"].map(str::to_owned);
        let mut widths = [0; 4];
        for row in rows.iter().chain([&heads]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for [verdict, size, needed, image, why] in [&heads].into_iter().chain(&rows) {
            let [a, b, c, d] = widths;
            // Writing to a String does not fail.
            let _ = writeln!(text, "{verdict:<a$}  {size:>b$}  {needed:<c$}  {image:<d$}  {why}");
        }
        let to_go = self.images.iter().filter(|line| line.verdict == "to go").count();
        let about = gigabytes(self.would_free_about);
        let _ = writeln!(text, "\n{to_go} to go (about {about}), {} kept", self.images.len() - to_go);
        if let Some(Disk { path, size, used_percent, high_percent, low_percent, .. }) = &self.disk {
            let size = gigabytes(*size);
            let _ = writeln!(
                text,
                "{path}: {used_percent} % of {size} used; early removal from {high_percent} % to {low_percent} %"
            );
        }
        if let Some(hold) = &self.hold {
            let _ = writeln!(text, "Nothing is removed: {hold}");
        }
        text
    }
}

impl Line {
    fn cells(&self, now: Timestamp) -> [String; 5] {
        let others = (self.tags.len() + self.digests.len()).saturating_sub(1);
        let image = if others == 0 { self.name.clone() } else { format!("{} (+{others})", self.name) };
        let needed: SignedDuration = now.duration_since(self.last_needed);
        [self.verdict.to_owned(), gigabytes(self.size), format!("{} ago", age(needed)), image, self.reason.clone()]
    }
}

/// Bytes for people.
pub fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// The first few names of a list.
pub fn names(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_names_are_short() {
        assert_eq!(gigabytes(1_500), "1.5 kB");
        assert_eq!(gigabytes(2_000_000), "2.0 MB");
        assert_eq!(gigabytes(8_123_000_000), "8.12 GB");
        let all = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(names(&all[..3]), "a, b, c");
        assert_eq!(names(&all), "a, b, c and 2 more");
    }
}
