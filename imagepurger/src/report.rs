//! `imagepurger plan`: the verdict on every image, as text or JSON.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use lab_images::runtime::{FileSystem, open};
use serde::Serialize;
use sidecar::human::{Table, bytes};
use sidecar::stdio;

use crate::environment::PurgerEnvironment;
use crate::files::Files;
use crate::kubelet::Thresholds;
use crate::memory::Memory;
use crate::plan::Plan;
use crate::round::{Limits, Look, Purger, Watermarks, name_of};
use crate::settings::{Output, PlanSettings};
use crate::verdict::{Action, age};

/// Looks once and prints the plan. Removes and writes nothing.
///
/// # Errors
///
/// If the runtime or the cluster cannot be reached, if several runtimes answer and none is configured, or if printing
/// fails.
pub async fn run(settings: PlanSettings) -> anyhow::Result<ExitCode> {
    sidecar::log::init(settings.log);
    let node = settings.node;
    let PurgerEnvironment { catalogue, pods, .. } = PurgerEnvironment::of(&node.mode).await?;
    let (endpoint, runtime) = open(node.endpoint.as_ref()).await?;
    let limits = Limits { most: usize::MAX, dry_run: true };
    let grace = node.rules.grace;
    let memory = Memory::new(node.history_file, Files::new());
    let mut purger = Purger::new(runtime, catalogue, pods, node.rules, (node.watermarks, limits), memory);
    purger.memory.load(&purger.clock).await;
    let look = purger.look().await?;
    let machine = Machine { runtime: endpoint.to_string(), kubelet: node.kubelet, watermarks: node.watermarks };
    let report = Report::of(&purger.plan(&look), &look, &purger.memory, grace, machine);
    let text = match settings.output {
        Output::Table => report.table(look.seen.now),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    stdio::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings and the state of the machine, apart from the images.
struct Machine {
    runtime: String,
    kubelet: Thresholds,
    watermarks: Watermarks,
}

/// A plan in the form in which it is printed.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The runtime's endpoint.
    runtime: String,
    /// Why nothing at all is removed, if that is so.
    hold: Option<String>,
    disk: Option<Disk>,
    kubelet: Kubelet,
    history: HistorySeen,
    /// The sum of the sizes of the images to remove, as the runtime reports them. The real figure may differ: layers
    /// that other images share stay, and containerd counts compressed bytes.
    would_free_about: u64,
    /// The images that only a grace keeps.
    after_grace: AfterGrace,
    images: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Kubelet {
    high_percent: u8,
    low_percent: u8,
    /// `read from …` or `assumed, because …`
    source: String,
}

#[derive(Debug, Serialize)]
struct HistorySeen {
    file: String,
    /// Whether there is a history. Without one, every image counts as first seen now.
    known: bool,
}

#[derive(Debug, Serialize)]
struct AfterGrace {
    images: usize,
    would_free_about: u64,
    /// `PURGE_GRACE`
    grace_seconds: f64,
    /// Seconds until the first of them is removed.
    next_in_seconds: Option<f64>,
    #[serde(skip)]
    grace: SignedDuration,
}

#[derive(Debug, Serialize)]
struct Disk {
    path: String,
    size: u64,
    used: u64,
    used_percent: u8,
    high_percent: u8,
    low_percent: u8,
    /// Whether images are removed early now.
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
    fn of(plan: &Plan<'_>, look: &Look, memory: &Memory, grace: SignedDuration, machine: Machine) -> Self {
        let Machine { runtime, kubelet, watermarks } = machine;
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
            verdict: if matches!(verdict.action, Action::Remove(_)) { "to go" } else { "kept" },
            reason: verdict.action.to_string(),
            last_needed: verdict.last_needed,
            name: name_of(verdict.image),
        });
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        Self {
            runtime,
            kubelet: Kubelet {
                high_percent: kubelet.high,
                low_percent: kubelet.low,
                source: kubelet.source.to_string(),
            },
            history: HistorySeen { file: memory.file().display().to_string(), known: !memory.is_new() },
            after_grace: AfterGrace {
                images: plan.waiting().count(),
                would_free_about: sum(&mut plan.waiting().map(|(image, _)| image.size)),
                grace_seconds: grace.as_secs_f64(),
                next_in_seconds: plan.next().map(|left| left.as_secs_f64()),
                grace,
            },
            hold: plan.hold.as_ref().map(ToString::to_string),
            disk: look.disk.as_ref().map(disk),
            would_free_about: sum(&mut plan.to_remove().map(|(image, _)| image.size)),
            images: images.collect(),
        }
    }

    /// Formats it as text: one line per image, in the order of removal, and a summary.
    pub fn table(&self, now: Timestamp) -> String {
        let mut table = Table::new(&["VERDICT", "SIZE", "NEEDED", "IMAGE", "WHY"]).right_aligned(&[1]);
        self.images.iter().for_each(|line| table.row(line.cells(now)));
        let mut text = table.to_string();
        let to_go = self.images.iter().filter(|line| line.verdict == "to go").count();
        let about = bytes(self.would_free_about);
        // Writing to a String does not fail.
        let _ = writeln!(text, "\n{to_go} to go (about {about}), {} kept", self.images.len() - to_go);
        let AfterGrace { images: waiting, would_free_about, grace, .. } = &self.after_grace;
        if !self.history.known {
            let _ = writeln!(
                text,
                "There is no history yet ({}), so every image counts as needed now; the first imagepurger run or purge creates it.",
                self.history.file
            );
        }
        if *waiting > 0 {
            let (grace, about) = (age(*grace), bytes(*would_free_about));
            let _ = writeln!(text, "{waiting} more to go once PURGE_GRACE ({grace}) is over (about {about})");
        }
        let _ = writeln!(text, "runtime: {}", self.runtime);
        if let Some(Disk { path, size, used_percent, high_percent, low_percent, .. }) = &self.disk {
            let size = bytes(*size);
            let _ = writeln!(
                text,
                "{path}: {used_percent} % of {size} used; early removal from {high_percent} % to {low_percent} %"
            );
        }
        let Kubelet { high_percent, low_percent, source } = &self.kubelet;
        let _ = writeln!(text, "kubelet's own removal: from {high_percent} % to {low_percent} %, {source}");
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
        [self.verdict.to_owned(), bytes(self.size), format!("{} ago", age(needed)), image, self.reason.clone()]
    }
}

/// A number of images, in words.
pub fn images(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// The first few names of a list, and how many more there are.
pub fn names(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let all = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(names(&all[..3]), "a, b, c");
        assert_eq!(names(&all), "a, b, c and 2 more");
    }
}
