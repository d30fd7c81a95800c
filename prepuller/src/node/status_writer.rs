//! Writes this node's status to the API server, and sets the agent's readiness.

use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use kube::Api;
use kube::api::{Patch, PatchParams};
use sidecar::kubernetes::{explain_about, is_unknown_kind};
use sidecar::readiness::{Health, Latch, Pulse};
use sidecar::schedule::random;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::metrics::Counters;
use super::orders::Object;
use super::status;
use super::throttle::{Next, StatusThrottle};
use crate::node_images::{AGENT, NodeImages, NodeImagesStatus};
use crate::puller::Report;

/// The puller reports at least as often as it checks the runtime: every five minutes, after calls of two minutes each.
const LONGEST_SILENCE: Duration = Duration::from_secs(20 * 60);

/// Writes the status from the reports.
pub(super) struct StatusWriter {
    runtime: Latch,
    reports: Latch,
    pulse: Pulse,
    counters: Counters,
    disk_high: u8,
}

impl StatusWriter {
    pub(super) fn new(health: &Health, counters: Counters, disk_high: u8) -> Self {
        let (runtime, reports) = (health.latch("runtime"), health.latch("reports"));
        // Ready until a write fails.
        reports.ready();
        Self { runtime, reports, pulse: health.pulse("puller", LONGEST_SILENCE), counters, disk_high }
    }

    /// Writes every change of the reports, until the sender is gone.
    pub(super) async fn run(
        self,
        api: Api<NodeImages>,
        node: &str,
        mut reports: watch::Receiver<Report>,
        mut objects: watch::Receiver<Option<Object>>,
    ) {
        let mut throttle = StatusThrottle::default();
        loop {
            let object = objects.borrow_and_update().clone();
            let written = object.and_then(|object| {
                let report = reports.borrow();
                is_about(&report, &object).then(|| (object.uid, status::of(&report, self.disk_high)))
            });
            let mut wake = None;
            if let Some((uid, status)) = written {
                match throttle.next(&uid, &status, Instant::now()) {
                    Next::WaitUntil(moment) => wake = Some(moment),
                    Next::Write => match write(&api, node, &status).await {
                        Ok(()) => {
                            self.reports.ready();
                            throttle.written(uid, status, Instant::now(), random());
                        }
                        Err(error) => {
                            self.counters.api_failed("status");
                            self.reports.not_ready(format!("failed to write NodeImages status: {error}"));
                            tracing::warn!(error, "failed to write NodeImages status");
                            throttle.failed(Instant::now(), random());
                            continue;
                        }
                    },
                }
            }
            let wait = async {
                match wake {
                    Some(moment) => sleep_until(moment.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = reports.changed() => match changed {
                    Ok(()) => self.look(&reports.borrow_and_update()),
                    Err(_) => return,
                },
                Ok(()) = objects.changed() => {}
                () = wait => {}
            }
        }
    }

    /// Handles a report: the puller is alive, and the report says whether the runtime is available.
    fn look(&self, report: &Report) {
        self.pulse.beat();
        match &report.runtime_problem {
            Some(problem) => self.runtime.not_ready(problem.message.clone()),
            None if report.looked.is_some() => self.runtime.ready(),
            None => {}
        }
    }
}

/// Whether a report is about the object's orders. Before the runtime was asked, every image would seem to be absent.
fn is_about(report: &Report, object: &Object) -> bool {
    report.looked == Some(object.generation) || report.runtime_problem.is_some()
}

/// Writes by server-side apply, which removes fields that are no longer set. An object that was deleted meanwhile is
/// not an error.
async fn write(api: &Api<NodeImages>, node: &str, status: &NodeImagesStatus) -> Result<(), String> {
    // In whole seconds, because it is read by users.
    let reported = Timestamp::now().round(Unit::Second).ok();
    let status = NodeImagesStatus { reported, ..status.clone() };
    let object = serde_json::json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "status": status});
    let parameters = PatchParams::apply(AGENT).force();
    match api.patch_status(node, &parameters, &Patch::Apply(object)).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 && !is_unknown_kind(&answer) => Ok(()),
        written => written.map(drop).map_err(|error| explain_about::<NodeImages>(&(), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_once_the_runtime_was_asked_about_these_orders() {
        let object = Object { uid: "a".into(), generation: 2 };
        let about = |looked, problem: Option<&str>| {
            let mut report = Report { looked, ..Report::default() };
            if let Some(problem) = problem {
                report.runtime_is_away(problem.to_owned());
            }
            is_about(&report, &object)
        };
        assert!(!about(None, None) && !about(Some(1), None));
        assert!(about(Some(2), None) && about(None, Some("nobody listens")) && about(Some(1), Some("nobody listens")));
    }
}
