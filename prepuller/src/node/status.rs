//! Builds the object's status from the puller's report. Pure.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use lab_images::reference::TagName;
use lab_images::runtime::Phase;

use crate::node_images::{
    Condition, DISK_TOO_SMALL, Disk, ImageReport, NodeImagesStatus, PullState, RUNTIME_UNAVAILABLE,
};
use crate::page::text;
use crate::puller::{Job, Report, RuntimeProblem, State};

/// The status for a report.
pub(super) fn of(report: &Report, disk_high: u8) -> NodeImagesStatus {
    let pulls: Vec<&Job> = report.jobs.iter().filter(|job| matches!(job.state, State::Pulling { .. })).collect();
    let present = report.jobs.iter().filter(|job| matches!(job.state, State::Present));
    let names: Vec<&str> = pulls.iter().map(|job| name(job)).collect();
    let left = pulls.iter().filter_map(|job| job.progress.time_left).max();
    NodeImagesStatus {
        observed_generation: report.looked.unwrap_or(0),
        // Set when the status is written.
        reported: None,
        wanted: number(report.jobs.len()),
        present: number(present.count()),
        pulling: (!names.is_empty()).then(|| names.join(", ")),
        progress: progress(&pulls),
        eta: left.map(|left| humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()),
        problem: problem(report),
        runtime: report
            .runtime
            .as_ref()
            .map_or(String::new(), |runtime| format!("{} {}", runtime.name, runtime.version)),
        disk: report.disk.as_ref().map(|disk| Disk { total: disk.capacity(), used: disk.used, high: disk_high }),
        conditions: disk_too_small(&report.jobs).into_iter().chain(runtime_unavailable(report)).collect(),
        images: report.jobs.iter().map(image).collect(),
    }
}

/// The condition that the disk has no room for some images, if that is so.
fn disk_too_small(jobs: &[Job]) -> Option<Condition> {
    let refused = || jobs.iter().filter(|job| matches!(job.state, State::Refused { .. }));
    let messages = refused().filter_map(|job| Some(format!("{}: {}", name(job), job.state.problem()?)));
    Some(Condition {
        kind: DISK_TOO_SMALL.to_owned(),
        status: "True".to_owned(),
        reason: "ImagesDoNotFit".to_owned(),
        last_transition_time: refused().map(since).min()?,
        message: messages.collect::<Vec<_>>().join("; "),
    })
}

/// The condition that the runtime is unavailable, while it is.
fn runtime_unavailable(report: &Report) -> Option<Condition> {
    let RuntimeProblem { message, since } = report.runtime_problem.as_ref()?;
    Some(Condition {
        kind: RUNTIME_UNAVAILABLE.to_owned(),
        status: "True".to_owned(),
        reason: "RuntimeDoesNotAnswer".to_owned(),
        message: message.clone(),
        last_transition_time: since.round(Unit::Second).unwrap_or(*since),
    })
}

/// An order's state in the custom resource.
pub(super) fn state(state: &State) -> PullState {
    match state {
        State::Waiting => PullState::Waiting,
        State::Pulling { phase: Phase::Waiting | Phase::Downloading, .. } => PullState::Downloading,
        State::Pulling { phase: Phase::Unpacking | Phase::Done, .. } => PullState::Unpacking,
        State::Present => PullState::Present,
        // The image that is present is not the one that was ordered.
        State::OtherDigest { .. } | State::Failed { .. } => PullState::Failed,
        State::Refused { .. } => PullState::Refused,
    }
}

fn image(job: &Job) -> ImageReport {
    ImageReport {
        image: job.order.image.clone(),
        digest: job.order.digest.clone(),
        state: state(&job.state),
        done: job.progress.done,
        total: job.progress.total.unwrap_or(0),
        rate: job.progress.rate,
        eta_seconds: job.progress.time_left.map(|left| left.as_secs()),
        failures: job.failures,
        error: job.state.problem().map(str::to_owned),
        since: since(job),
    }
}

/// In whole seconds, because it is read by users.
fn since(job: &Job) -> Timestamp {
    job.since.round(Unit::Second).unwrap_or(job.since)
}

/// `42% of 7.45 GiB`, or less if the total is unknown.
fn progress(pulls: &[&Job]) -> Option<String> {
    let downloads = pulls.iter().filter(|job| state(&job.state) == PullState::Downloading);
    let (mut done, mut total) = (0_u64, Some(0_u64));
    let mut any = false;
    for job in downloads {
        any = true;
        done = done.saturating_add(job.progress.done);
        total = total.zip(job.progress.total).map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    match total.filter(|total| *total > 0) {
        _ if pulls.is_empty() => None,
        _ if !any => Some("unpacking".to_owned()),
        Some(total) => Some(format!("{}% of {}", text::percent(done, total), text::bytes(total))),
        None if done > 0 => Some(text::bytes(done)),
        None => None,
    }
}

fn problem(report: &Report) -> Option<String> {
    let of_image = |job: &Job| job.state.problem().map(|problem| format!("{}: {problem}", name(job)));
    let of_runtime = report.runtime_problem.as_ref().map(|problem| problem.message.clone());
    of_runtime.or_else(|| report.jobs.iter().find_map(of_image))
}

/// The tag, or the repository if there is no tag.
fn name(job: &Job) -> &str {
    let image = &job.order.image;
    image.tag.as_ref().map_or(image.repository.path(), TagName::as_str)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lab_images::runtime::{FileSystem, Progress, RuntimeVersion};

    use super::*;
    use crate::node_images::Order;

    const GB: u64 = 1_000_000_000;

    fn job(tag: &str, state: State, progress: Progress) -> Job {
        let order = Order {
            image: format!("r.example.org/lab:{tag}").parse().unwrap(),
            digest: None,
            size: Some(8 * GB),
            layers: Vec::new(),
            priority: 0,
            gate: false,
        };
        Job { order, state, failures: 0, progress, since: Timestamp::UNIX_EPOCH }
    }

    fn pulling(tag: &str, phase: Phase, done: u64, total: Option<u64>, left: Option<u64>) -> Job {
        let time_left = left.map(Duration::from_secs);
        let progress = Progress { phase, done, total, time_left, ..Progress::default() };
        job(tag, State::Pulling { phase, idle: Duration::ZERO }, progress)
    }

    fn present(tag: &str) -> Job {
        job(tag, State::Present, Progress::default())
    }

    fn report(jobs: Vec<Job>) -> Report {
        let disk = FileSystem { path: "/images".into(), size: 110 * GB, used: 40 * GB, available: 60 * GB };
        let runtime = RuntimeVersion { name: "containerd".into(), version: "1.6.20".into() };
        Report { jobs, looked: Some(7), disk: Some(disk), runtime: Some(runtime), ..Report::default() }
    }

    #[test]
    fn a_report_becomes_columns_and_one_entry_per_order() {
        let jobs = vec![
            present("r29_1_1"),
            pulling("w_2026_47", Phase::Downloading, 3 * GB, Some(4 * GB), Some(130)),
            job("d_2026_11_22", State::Waiting, Progress::default()),
        ];
        let status = of(&report(jobs), 75);
        assert_eq!((status.observed_generation, status.wanted, status.present), (7, 3, 1));
        assert_eq!(status.pulling.as_deref(), Some("w_2026_47"));
        assert_eq!(status.progress.as_deref(), Some("75% of 3.73 GiB"));
        assert_eq!(status.eta.as_deref(), Some("2m 10s"));
        assert_eq!((status.problem, status.runtime.as_str()), (None, "containerd 1.6.20"));
        // Space that is reserved for root cannot hold images.
        assert_eq!(status.disk, Some(Disk { total: 100 * GB, used: 40 * GB, high: 75 }));
        let states: Vec<PullState> = status.images.iter().map(|image| image.state).collect();
        assert_eq!(states, [PullState::Present, PullState::Downloading, PullState::Waiting]);
        assert_eq!((status.images[1].done, status.images[1].eta_seconds), (3 * GB, Some(130)));
    }

    #[test]
    fn progress_shows_what_is_known() {
        let downloading = |done, total| pulling("a", Phase::Downloading, done, total, None);
        let unpacking = || pulling("b", Phase::Unpacking, GB, Some(GB), None);
        for (jobs, expected) in [
            (vec![], None),
            (vec![present("a")], None),
            (vec![unpacking()], Some("unpacking")),
            (vec![unpacking(), downloading(GB, Some(2 * GB))], Some("50% of 1.86 GiB")),
            (vec![downloading(GB, None)], Some("953.67 MiB")),
            (vec![pulling("a", Phase::Waiting, 0, None, None)], None),
            (vec![downloading(0, Some(0))], None),
            (vec![downloading(u64::MAX, Some(u64::MAX)), downloading(u64::MAX, Some(1))], Some("100% of 16.00 EiB")),
        ] {
            assert_eq!(of(&report(jobs.clone()), 75).progress.as_deref(), expected, "{jobs:?}");
        }
    }

    #[test]
    fn a_disk_without_room_is_a_condition_while_it_lasts() {
        let refused = |tag, second| {
            let state = State::Refused { error: "needs 9 GB, 5 GB are left".into(), retry: None };
            Job { since: Timestamp::from_second(second).unwrap(), ..job(tag, state, Progress::default()) }
        };
        assert_eq!(of(&report(vec![present("a")]), 75).conditions, []);
        let status = of(&report(vec![present("a"), refused("b", 20), refused("c", 10)]), 75);
        let [condition] = &status.conditions[..] else { panic!("{:?}", status.conditions) };
        assert_eq!((condition.kind.as_str(), condition.last_transition_time.as_second()), ("DiskTooSmall", 10));
        assert_eq!(condition.message, "b: needs 9 GB, 5 GB are left; c: needs 9 GB, 5 GB are left");
    }

    #[test]
    fn the_runtimes_absence_comes_before_an_images_problem() {
        let failed = State::Failed { error: "no such tag".into(), retry: Some(Instant::now()) };
        let mut report = report(vec![present("a"), job("w_2026_47", failed, Progress::default())]);
        let status = of(&report, 75);
        assert_eq!(status.problem.as_deref(), Some("w_2026_47: no such tag"));
        assert_eq!(status.images[1].error.as_deref(), Some("no such tag"));
        report.runtime_problem =
            Some(RuntimeProblem { message: "nobody listens".into(), since: Timestamp::UNIX_EPOCH });
        let status = of(&report, 75);
        assert_eq!(status.problem.as_deref(), Some("nobody listens"));
        let [condition] = &status.conditions[..] else { panic!("{:?}", status.conditions) };
        assert_eq!((condition.kind.as_str(), condition.message.as_str()), ("RuntimeUnavailable", "nobody listens"));
    }
}
