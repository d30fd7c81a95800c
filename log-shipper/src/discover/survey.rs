//! Reports what a scan of all folders found: logs and counts the problems, and decides the readiness.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sidecar::readiness::Latch;
use sidecar::sync::lock;

use super::problem::{Kind, Problem};

/// How often the same problem is logged.
const COMPLAIN: Duration = Duration::from_secs(60);

/// How many paths of one kind are named.
const MOST_NAMED: usize = 3;

/// The result of the last scan, shared with the code that decides the exit code.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Option<String>>>);

impl Findings {
    /// Why some logs cannot be read, if that is so.
    pub fn failure(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    fn set(&self, failure: Option<String>) {
        *lock(&self.0) = failure;
    }
}

/// Reports the results of scans.
#[derive(Debug)]
pub(super) struct Survey {
    latch: Latch,
    findings: Findings,
    /// What was logged last of each kind, and when.
    logged: BTreeMap<Kind, (Instant, Vec<String>)>,
    first: bool,
}

impl Survey {
    pub(super) fn new(latch: Latch, findings: Findings) -> Self {
        Self { latch, findings, logged: BTreeMap::new(), first: true }
    }

    /// Handles the results of a scan of all folders.
    pub(super) fn report(&mut self, roots: &[Arc<Path>], containers: usize, files: usize, problems: &[Problem]) {
        let mut kinds: BTreeMap<Kind, Vec<&str>> = BTreeMap::new();
        for problem in problems {
            kinds.entry(problem.kind).or_default().push(&problem.what);
        }
        if std::mem::take(&mut self.first) {
            let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            tracing::info!(
                containers,
                files,
                unreadable = problems.len(),
                "found {containers} containers with {files} log files in {}",
                roots.join(", ")
            );
        }
        self.log(&kinds);
        let failed = |kind: &Kind| kind.is_failure() || files == 0;
        let failures: Vec<_> = kinds.iter().filter(|(kind, _)| failed(kind)).map(describe).collect();
        let failure = Some(failures.join("; ")).filter(|text| !text.is_empty());
        match &failure {
            Some(why) => self.latch.not_ready(why),
            None => self.latch.ready(),
        }
        if problems.is_empty() && self.findings.failure().is_some() {
            tracing::info!("all logs can be read again");
        }
        self.findings.set(failure);
    }

    /// Logs each kind when it changes, at most once a minute, because there may be thousands of paths.
    fn log(&mut self, kinds: &BTreeMap<Kind, Vec<&str>>) {
        self.logged.retain(|kind, _| kinds.contains_key(kind));
        for (kind, paths) in kinds {
            if let Some((when, before)) = self.logged.get(kind)
                && (before == paths || when.elapsed() < COMPLAIN)
            {
                continue;
            }
            let (which, more) = named(paths);
            if kind.is_failure() {
                tracing::error!(count = paths.len(), which, more, "{}", kind.text());
            } else {
                tracing::warn!(count = paths.len(), which, more, "{}", kind.text());
            }
            self.logged.insert(*kind, (Instant::now(), paths.iter().map(|path| (*path).to_owned()).collect()));
        }
    }
}

fn describe((kind, paths): (&Kind, &Vec<&str>)) -> String {
    let (which, more) = named(paths);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    format!("{}: {which}{more}", kind.text())
}

/// Some of the paths, and how many more there are.
fn named(paths: &[&str]) -> (String, usize) {
    let some = &paths[..paths.len().min(MOST_NAMED)];
    (some.join(", "), paths.len() - some.len())
}

#[cfg(test)]
mod tests {
    use sidecar::readiness::Health;

    use super::*;

    #[test]
    fn unreadable_logs_are_a_failure_while_they_last_and_an_odd_file_only_if_there_is_nothing_else() {
        let (health, findings) = (Health::default(), Findings::default());
        let mut survey = Survey::new(health.latch("logs"), findings.clone());
        let problem = |kind| [Problem::new(kind, Path::new("/x"), "why")];
        let failed = [Kind::Root, Kind::NoContainers, Kind::Folder, Kind::File, Kind::Content, Kind::Link];
        for kind in failed {
            survey.report(&[], 1, 1, &problem(kind));
            assert!(findings.failure().unwrap().contains("/x: why"), "{kind:?}");
            assert!(!health.not_ready().is_empty(), "{kind:?}");
            survey.report(&[], 1, 1, &[]);
            assert_eq!((findings.failure(), health.not_ready()), (None, vec![]), "{kind:?}");
        }
        for kind in [Kind::Format, Kind::Unplaced] {
            survey.report(&[], 1, 1, &problem(kind));
            assert_eq!(findings.failure(), None, "{kind:?}");
            survey.report(&[], 0, 0, &problem(kind));
            assert!(findings.failure().is_some(), "{kind:?}");
        }
        survey.report(&[], 0, 0, &[]);
        assert_eq!(findings.failure(), None);
    }
}
