//! The nodes' reports, from a watch.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use crate::report::{NfsReport, NfsReportSpec};

/// The extra time until a report is overdue, in addition to twice its interval.
const SLACK: Duration = Duration::from_secs(30);

/// The reports of all nodes.
#[derive(Debug, Default)]
pub struct Reports {
    reports: BTreeMap<String, Received>,
    /// The reports of a new list so far.
    listed: Vec<String>,
    complete: bool,
}

#[derive(Debug)]
struct Received {
    report: NfsReportSpec,
    /// When it arrived, by our own clock, because nodes' clocks may be wrong.
    at: Instant,
}

impl Reports {
    /// Handles an event of the watch.
    pub fn take(&mut self, event: Event<NfsReport>, now: Instant) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(report) => {
                // After a gap in the watch no report is overdue, because reports may have been missed.
                self.listed.extend(report.metadata.name.clone());
                self.receive(report, now);
            }
            Event::InitDone => {
                self.reports.retain(|node, _| self.listed.contains(node));
                self.complete = true;
            }
            Event::Apply(report) => self.receive(report, now),
            Event::Delete(report) => {
                self.reports.remove(report.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    /// The watch broke, so the known reports may be old.
    pub fn broke(&mut self) {
        self.complete = false;
    }

    /// The reports by node; `None` for those that are overdue. `None` in total while not all reports are known.
    pub fn known(&self, now: Instant) -> Option<BTreeMap<String, Option<NfsReportSpec>>> {
        let current = |(node, received): (&String, &Received)| {
            let limit = 2 * Duration::from_secs(received.report.next_seconds.into()) + SLACK;
            let fresh = now.saturating_duration_since(received.at) <= limit;
            (node.clone(), fresh.then(|| received.report.clone()))
        };
        self.complete.then(|| self.reports.iter().map(current).collect())
    }

    fn receive(&mut self, report: NfsReport, now: Instant) {
        if let Some(name) = report.metadata.name {
            self.reports.insert(name, Received { report: report.spec, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str) -> NfsReport {
        NfsReport::new(node, NfsReportSpec { next_seconds: 120, ..NfsReportSpec::default() })
    }

    fn states(reports: &Reports, now: Instant) -> Vec<(String, bool)> {
        reports.known(now).unwrap().into_iter().map(|(node, report)| (node, report.is_some())).collect()
    }

    #[test]
    fn reports_are_overdue_by_our_clock_and_not_after_a_gap_in_the_watch() {
        let (mut reports, start) = (Reports::default(), Instant::now());
        assert_eq!(reports.known(start), None);
        for event in [Event::Init, Event::InitApply(report("a")), Event::InitApply(report("b")), Event::InitDone] {
            reports.take(event, start);
        }
        let later = start + Duration::from_secs(300);
        reports.take(Event::Apply(report("b")), later);
        assert_eq!(states(&reports, later), [("a".into(), false), ("b".into(), true)]);
        reports.broke();
        assert_eq!(reports.known(later), None);
        for event in [Event::Init, Event::InitApply(report("a")), Event::InitDone] {
            reports.take(event, later);
        }
        assert_eq!(states(&reports, later), [("a".into(), true)]);
        reports.take(Event::Delete(report("a")), later);
        assert!(states(&reports, later).is_empty());
    }
}
