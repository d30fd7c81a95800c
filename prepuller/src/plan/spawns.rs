//! Counts how many labs found their image on their node, and how long they took to start. Pure.
//!
//! A spawn is a pod in `LAB_NAMESPACE` with a lab image of the catalogue. It is counted once, when it is first seen
//! running. Pods that were running before this planner had listed all pods were counted by the previous planner, or by
//! none. So no spawn is counted twice over a restart, but labs that started while no planner was running are missing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::seen::{PodState, SeenPod};
use crate::overview::{SpawnsOverview, Tally};

const HOUR_SECONDS: i64 = 3600;

/// How many hourly sums are kept: a day, and the current hour.
const HOURS: i64 = 25;

/// Whether a lab found its image on its node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Found {
    /// The node had reported it when the pod was scheduled.
    Present,
    /// The node had not reported it.
    Absent,
    /// No node reports on this image, or this node does not report at all.
    Unknown,
}

impl Found {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Present, Self::Absent, Self::Unknown];

    /// The label's value in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }
}

/// A node's report on a lab image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reports {
    /// The node has had it since this time.
    Holds(Timestamp),
    /// The node's agent reports, and the image is not present.
    Lacks,
    /// There is no report.
    Nothing,
}

/// Whether a pod that was scheduled at this time found its images, of which there is at least one.
pub(super) fn found(images: &[Reports], scheduled: Option<Timestamp>) -> Found {
    let one = |reports: &Reports| match reports {
        Reports::Lacks => Found::Absent,
        Reports::Holds(since) if scheduled.is_some_and(|scheduled| *since <= scheduled) => Found::Present,
        // The image arrived while the pod waited, or the agent was restarted.
        Reports::Holds(_) | Reports::Nothing => Found::Unknown,
    };
    let all: HashSet<Found> = images.iter().map(one).collect();
    [Found::Absent, Found::Unknown].into_iter().find(|found| all.contains(found)).unwrap_or(Found::Present)
}

/// A lab that has started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spawn {
    /// Whether it found its image.
    pub(super) found: Found,
    /// The time from scheduled to running, if the pod shows both.
    pub(super) took: Option<Duration>,
}

/// The pods that were seen, and the sums of the last day.
#[derive(Debug, Default)]
pub(super) struct Spawns {
    pods: HashMap<Arc<str>, Known>,
    /// When all pods were listed for the first time.
    since: Option<Timestamp>,
    hours: VecDeque<Hour>,
}

#[derive(Debug)]
struct Known {
    /// The UID, because a user's next pod has the same name.
    uid: Box<str>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The pod is not running yet. Unset while it is not known to have a lab image.
    Waits(Option<Found>),
    /// The pod was counted, or is not to be counted.
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Hour {
    number: i64,
    tallies: [Tally; 3],
}

impl Spawns {
    /// Handles the current state of a pod. `found` says whether it finds its image now; `None` for a pod without a lab
    /// image. Returns a spawn that is to be counted.
    pub(super) fn update(
        &mut self,
        id: &Arc<str>,
        pod: &SeenPod,
        found: Option<Found>,
        now: Timestamp,
    ) -> Option<Spawn> {
        let before = self.pods.get(id).filter(|known| known.uid == pod.uid).map(|known| known.stage);
        let first = match before {
            Some(Stage::Over) => return None,
            // Pods that were there before the first list completed may have been counted by the previous planner.
            None if self.since.is_none() && pod.state != PodState::Waits => {
                self.remember(id, pod, Stage::Over);
                return None;
            }
            None => None,
            Some(Stage::Waits(found)) => found,
        };
        // The first answer is kept, because kubelet may have pulled the image since.
        let found = match first {
            Some(known @ (Found::Present | Found::Absent)) => Some(known),
            Some(Found::Unknown) | None => found.or(first),
        };
        let PodState::Runs(started) = pod.state else {
            self.remember(id, pod, Stage::Waits(found));
            return None;
        };
        self.remember(id, pod, Stage::Over);
        let took = pod.scheduled.zip(started).map(|(scheduled, started)| started.duration_since(scheduled));
        // Two clocks may differ by more than a pod takes.
        let spawn = Spawn { found: found?, took: took.map(|took| Duration::try_from(took).unwrap_or_default()) };
        self.count(spawn, now);
        Some(spawn)
    }

    /// Whether it is not known yet what a waiting pod finds on its node.
    pub(super) fn is_open(&self, id: &str) -> bool {
        let stage = self.pods.get(id).map(|known| known.stage);
        matches!(stage, Some(Stage::Waits(None | Some(Found::Unknown))))
    }

    /// Sets what a pod finds for which that is not known yet ([`Spawns::is_open`]).
    pub(super) fn resolve(&mut self, id: &str, found: Found) {
        if let Some(known) = self.pods.get_mut(id) {
            known.stage = Stage::Waits(Some(found));
        }
    }

    /// Forgets a pod that is gone.
    pub(super) fn remove(&mut self, id: &str) {
        self.pods.remove(id);
    }

    /// Handles a complete list: all other pods are gone.
    pub(super) fn listed(&mut self, listed: &HashSet<Arc<str>>, now: Timestamp) {
        self.pods.retain(|id, _| listed.contains(id));
        self.since.get_or_insert(now);
    }

    /// The sums of the last 24 hours, or since all pods were first listed; `None` before that.
    pub(super) fn overview(&self, now: Timestamp) -> Option<SpawnsOverview> {
        let day_ago = now - jiff::SignedDuration::from_hours(24);
        let since = self.since?.max(day_ago);
        let oldest = since.as_second().div_euclid(HOUR_SECONDS);
        let mut sums = [Tally::default(); 3];
        for hour in self.hours.iter().filter(|hour| hour.number >= oldest) {
            for (sum, tally) in sums.iter_mut().zip(&hour.tallies) {
                sum.add(tally);
            }
        }
        let [present, absent, unknown] = sums;
        Some(SpawnsOverview { since, present, absent, unknown })
    }

    fn remember(&mut self, id: &Arc<str>, pod: &SeenPod, stage: Stage) {
        self.pods.insert(id.clone(), Known { uid: pod.uid.clone(), stage });
    }

    fn count(&mut self, spawn: Spawn, now: Timestamp) {
        let number = now.as_second().div_euclid(HOUR_SECONDS);
        self.hours.retain(|hour| hour.number > number - HOURS);
        if self.hours.back().is_none_or(|hour| hour.number != number) {
            self.hours.push_back(Hour { number, tallies: [Tally::default(); 3] });
        }
        if let Some(hour) = self.hours.back_mut() {
            hour.tallies[spawn.found as usize].count(spawn.took);
        }
    }
}

#[cfg(test)]
mod tests;
