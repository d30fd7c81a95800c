//! Repeats: look, decide, act, until nothing is left to do; then waits for a change, or ends.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use axum::routing::get;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use sidecar::daemon::Daemon;
use sidecar::kubernetes::{EventRecorder, EventType, explain};
use sidecar::readiness::{Latch, Pulse};
use sidecar::retry::{BackoffBuilder, few, forever};

use super::apply::{Applied, apply};
use super::changes::Changes;
use super::claims::{ClaimState, Page};
use super::metrics::VolumesMetrics;
use super::observe::observe;
use super::plan::{Plan, Step, Trouble, plan};
use super::settings::VolumesSettings;
use super::wanted::Wanted;

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The most steps in a row. No state needs more; a race is left to the next look.
const MOST_STEPS: usize = 12;

/// Without any change, the longest time between two looks. Not everything that claims wait for is watched, such as a namespace, or the
/// Service of another namespace that has the address.
const LONGEST: Duration = Duration::from_secs(30);

/// The same while all claims are bound: what matters to them is watched, and each look is several requests.
const LONGEST_WHILE_BOUND: Duration = Duration::from_secs(300);

/// How long the last Events may take to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The longest that one look and its steps may take before the process counts as hung.
const PULSE_LIMIT: Duration = Duration::from_secs(600);

/// Creates volumes and claims, and continues until a signal with `VOLUME_WATCH`. The exit code is 0 if all claims are
/// bound, and 1 if an administrator has to do something first.
///
/// # Errors
///
/// If the cluster's client cannot be configured, if the admin address cannot be bound, or if the API server refuses or
/// does not answer.
pub async fn run(settings: VolumesSettings) -> anyhow::Result<ExitCode> {
    let VolumesSettings { wanted, watch, admin, log } = settings;
    let mut daemon = Daemon::start(NAME, VERSION, log)?;
    for wanted in &wanted {
        let (service, export, claim) = (wanted.service.to_string(), &wanted.export, wanted.claim.to_string());
        tracing::info!(version = VERSION, service, export, claim, driver = ?wanted.driver, watch, "{NAME} volumes starts");
    }
    let client = sidecar::kubernetes::client().await?;
    let events = EventRecorder::new(client.clone(), "nfs-health-volumes", &host());
    events.register(&daemon.metrics);
    let page = Page::default();
    for wanted in &wanted {
        page.show(&wanted.claim, None);
    }
    let mut volumes = Volumes {
        events: events.clone(),
        metrics: VolumesMetrics::new(&daemon.metrics),
        latch: daemon.health.latch("volumes"),
        changes: Changes::watch(&client, &wanted),
        page: page.clone(),
        states: Vec::new(),
        client,
        wanted,
    };
    let token = daemon.shutdown.token();
    if !watch {
        let done = token.run_until_cancelled(volumes.once()).await.unwrap_or(Ok(ExitCode::FAILURE));
        events.flush(FLUSH_LIMIT).await;
        return done.map_err(|error| anyhow!("cannot create the volumes: {}", explain(&error)));
    }
    let pulse = daemon.health.pulse("volumes", PULSE_LIMIT);
    daemon.serve(admin, Router::new().route("/claims", get(async move || page.answer()))).await?;
    daemon.run(token.run_until_cancelled(volumes.watch(&pulse))).await;
    Ok(ExitCode::SUCCESS)
}

fn longest(states: &[ClaimState]) -> Duration {
    let are_bound = states.iter().all(|state| matches!(state, ClaimState::Bound(_)));
    if are_bound { LONGEST_WHILE_BOUND } else { LONGEST }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

struct Volumes {
    client: Client,
    wanted: Vec<Wanted>,
    events: EventRecorder,
    metrics: VolumesMetrics,
    latch: Latch,
    changes: Changes,
    page: Page,
    /// The claims' states after the last look, so that only changes are logged.
    states: Vec<ClaimState>,
}

impl Volumes {
    async fn once(&mut self) -> kube::Result<ExitCode> {
        let mut delays = few().build();
        loop {
            match self.look().await {
                Ok(states) if states.iter().all(|state| matches!(state, ClaimState::Bound(_))) => {
                    return Ok(ExitCode::SUCCESS);
                }
                // Some waits end on their own, but waiting for an administrator is pointless.
                Ok(states) if states.iter().all(|state| !matches!(state, ClaimState::Waiting(_))) => {
                    return Ok(ExitCode::FAILURE);
                }
                Ok(_) => {
                    delays = few().build();
                    self.changes.next(LONGEST).await;
                }
                Err(error) => match delays.next() {
                    Some(delay) => {
                        tracing::warn!(error = explain(&error), "the Kubernetes API failed; trying again");
                        tokio::time::sleep(delay).await;
                    }
                    None => return Err(error),
                },
            }
        }
    }

    async fn watch(&mut self, pulse: &Pulse) {
        let mut delays = forever().build();
        loop {
            pulse.beat();
            match self.look().await {
                Ok(states) => {
                    delays = forever().build();
                    let longest = longest(states);
                    self.changes.next(longest).await;
                }
                Err(error) => {
                    tracing::warn!(error = explain(&error), "the Kubernetes API failed; trying again");
                    tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(60))).await;
                }
            }
        }
    }

    /// Handles all claims.
    async fn look(&mut self) -> kube::Result<&[ClaimState]> {
        let (mut states, mut failed) = (Vec::new(), None);
        for wanted in &self.wanted {
            // An API error for one claim does not keep the others from being created.
            let state = self.settle(wanted).await.unwrap_or_else(|error| {
                let why = format!("the Kubernetes API: {}", explain(&error));
                failed = Some(error);
                ClaimState::Waiting(why)
            });
            let (bound, trouble) = (matches!(state, ClaimState::Bound(_)), matches!(state, ClaimState::Trouble(_)));
            self.metrics.set_state(&wanted.claim, bound, trouble);
            if self.states.get(states.len()) != Some(&state) {
                let claim = wanted.claim.to_string();
                match &state {
                    ClaimState::Bound(volume) => tracing::info!(claim, volume, "the claim is bound"),
                    ClaimState::Waiting(why) => tracing::info!(claim, "waiting: {why}"),
                    ClaimState::Trouble(sentence) => tracing::warn!(claim, "{sentence}"),
                }
            }
            self.page.show(&wanted.claim, Some(state.clone()));
            states.push(state);
        }
        // Ready means that this process works. The claims' states are in metrics, in Events and on the page.
        match &failed {
            None => self.latch.ready(),
            Some(error) => self.latch.not_ready(explain(error)),
        }
        self.states = states;
        match failed {
            Some(error) => Err(error),
            None => Ok(&self.states),
        }
    }

    /// Takes steps for one claim until nothing is left to do.
    async fn settle(&self, wanted: &Wanted) -> kube::Result<ClaimState> {
        for _ in 0..MOST_STEPS {
            let (seen, first) = observe(&self.client, wanted).await?;
            let step = match plan(wanted, &seen) {
                Plan::Do(step) => step,
                Plan::Done(volume) => return Ok(ClaimState::Bound(volume)),
                Plan::Wait(why) => return Ok(ClaimState::Waiting(why)),
                Plan::Stop(trouble) => return Ok(self.trouble(wanted, &trouble)),
            };
            match apply(&self.client, wanted, &step, &first).await? {
                Applied::Done => self.done(wanted, &step),
                Applied::NoClaim(why) => return Ok(ClaimState::Waiting(why)),
                Applied::AddressRefused(why) => {
                    let Step::KeepAddress { address, .. } = step else { continue };
                    let volume = seen.claim.and_then(|claim| claim.volume).unwrap_or_default();
                    return Ok(self.trouble(wanted, &Trouble::AddressLost { volume, address, why }));
                }
            }
        }
        Ok(ClaimState::Waiting("another program changes the same objects at the same time".to_owned()))
    }

    fn done(&self, wanted: &Wanted, step: &Step) {
        let claim = wanted.claim.to_string();
        tracing::info!(claim, ?step, "{}", step.name());
        self.metrics.step(&wanted.claim, step.name());
        if let Step::KeepAddress { name, address } = step {
            let note = format!(
                "Service {} was created again with another address; {name} keeps {address} for volumes that still use it",
                wanted.service
            );
            let service = reference("Service", Some(&wanted.service.namespace), &wanted.service.name);
            self.events.raise(&service, EventType::Normal, "AddressKept", "KeepAddress", &note);
        }
    }

    fn trouble(&self, wanted: &Wanted, trouble: &Trouble) -> ClaimState {
        let sentence = trouble.sentence(wanted);
        let claim = reference("PersistentVolumeClaim", Some(&wanted.claim.namespace), &wanted.claim.name);
        self.events.raise(&claim, EventType::Warning, trouble.reason(), "MakeVolume", &sentence);
        if let Trouble::AddressLost { volume, .. } | Trouble::OtherSource { volume, .. } = trouble {
            let volume = reference("PersistentVolume", None, volume);
            self.events.raise(&volume, EventType::Warning, trouble.reason(), "MakeVolume", &sentence);
        }
        ClaimState::Trouble(sentence)
    }
}

fn reference(kind: &str, namespace: Option<&String>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: namespace.cloned(),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_are_bound_are_looked_at_seldom() {
        let bound = ClaimState::Bound("files-home".to_owned());
        let trouble = ClaimState::Trouble("Free the address".to_owned());
        assert_eq!(longest(&[bound.clone(), bound.clone()]), LONGEST_WHILE_BOUND);
        assert_eq!(longest(&[bound, trouble]), LONGEST);
    }
}
