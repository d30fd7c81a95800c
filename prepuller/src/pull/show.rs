//! Progress on a terminal or in a log: a bar per image on a terminal, one line per change elsewhere. Both on stderr.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lab_images::runtime::{Phase, Progress};
use sidecar::human;
use tokio::sync::watch;

use crate::puller::{Job, Report, State};

/// Shows reports until the puller ends.
pub(super) async fn show(mut reports: watch::Receiver<Report>) {
    let mut shown: Box<dyn Show> =
        if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) };
    loop {
        for job in &reports.borrow_and_update().jobs {
            shown.job(job);
        }
        if reports.changed().await.is_err() {
            break;
        }
    }
}

trait Show: Send {
    fn job(&mut self, job: &Job);
}

/// The state of a job, in few words.
fn words(job: &Job) -> String {
    match &job.state {
        State::Waiting => "waiting".to_owned(),
        State::Pulling { phase: Phase::Waiting, .. } => "starting".to_owned(),
        State::Pulling { phase: Phase::Unpacking | Phase::Done, .. } => "unpacking".to_owned(),
        State::Pulling { phase: Phase::Downloading, .. } => "downloading".to_owned(),
        State::Present => "present".to_owned(),
        State::OtherDigest { error, .. } => format!("a different image was pulled: {error}"),
        State::Failed { error, retry: Some(_) } => format!("failed, will be retried: {error}"),
        State::Failed { error, retry: None } => format!("failed: {error}"),
        State::Refused { error, .. } => format!("refused: {error}"),
    }
}

/// The progress of a download: `512 MiB of 1 GiB, 50 MiB/s, 10 seconds left`.
fn bytes(progress: &Progress) -> String {
    let mut text = human::bytes(progress.done);
    if let Some(total) = progress.total {
        text += &format!(" of {}", human::bytes(total));
    }
    if let Some(rate) = progress.rate {
        text += &format!(", {}/s", human::bytes(rate));
    }
    if let Some(left) = progress.time_left {
        text += &format!(", {} left", human::duration(left));
    }
    text
}

/// One line per change of state, and one for each tenth of a download.
#[derive(Default)]
struct Lines {
    printed: HashMap<String, (String, u64)>,
}

impl Show for Lines {
    fn job(&mut self, job: &Job) {
        let image = job.order.image.to_string();
        let words = words(job);
        let downloading = matches!(job.state, State::Pulling { phase: Phase::Downloading, .. });
        let total = job.progress.total.filter(|total| downloading && *total > 0);
        let tenths = total.map_or(0, |total| job.progress.done.saturating_mul(10) / total);
        let now = (words.clone(), tenths);
        if self.printed.get(&image) == Some(&now) {
            return;
        }
        let more = if downloading { format!(" {}", bytes(&job.progress)) } else { String::new() };
        // If the output is closed, the pull continues.
        let _ = writeln!(std::io::stderr(), "{image}: {words}{more}");
        self.printed.insert(image, now);
    }
}

/// One bar per image.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
}

impl Show for Bars {
    fn job(&mut self, job: &Job) {
        let image = job.order.image.to_string();
        let bar = self.bars.entry(image.clone()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0).with_prefix(image));
            bar.set_style(style("{prefix} {wide_msg}"));
            bar
        });
        let ended = match &job.state {
            State::Pulling { phase: Phase::Downloading, .. } => {
                bar.set_style(style("{prefix} {wide_bar} {msg}"));
                bar.set_length(job.progress.total.unwrap_or(0));
                bar.set_position(job.progress.done);
                bar.set_message(bytes(&job.progress));
                return;
            }
            State::Waiting | State::Pulling { .. } => false,
            State::Failed { retry, .. } | State::Refused { retry, .. } | State::OtherDigest { retry, .. } => {
                retry.is_none()
            }
            State::Present => true,
        };
        bar.set_style(style("{prefix} {wide_msg}"));
        if ended { bar.finish_with_message(words(job)) } else { bar.set_message(words(job)) }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
