//! Records Events in a separate task, so that callers never wait for the API server.
//!
//! An Event says one thing about one object. If the same thing is recorded again within minutes, the same Event is
//! counted up; a different cause or image makes a new Event. The rate per object and reason is limited; above the
//! limit, the newest Event waits and replaces an older one. [`ledger`] decides this, and is pure.

mod ledger;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
pub use kube::runtime::events::EventType;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};

use self::ledger::{Ledger, Step};
use super::{explain, is_refused};
use crate::metrics::Metrics;
use crate::retry::{BackoffBuilder, forever};
use crate::sync::lock;

/// The most Events that wait to be sent: one for each node of a large cluster. Further Events are dropped, logged and
/// counted.
const MOST_WAITING: usize = 8192;

/// How long an Event is retried while the API server does not accept it.
const KEEP_TRYING: Duration = Duration::from_secs(600);

/// The longest note that the API accepts, in bytes.
const NOTE_BYTES: usize = 1024;

/// Records Events through `events.k8s.io`; clones share the queue.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    sender: mpsc::Sender<Message>,
    lost: Counter,
}

/// An Event that is to be sent.
#[derive(Clone, Debug, PartialEq)]
struct Raised {
    regarding: ObjectReference,
    type_: EventType,
    reason: String,
    action: String,
    note: String,
    at: jiff::Timestamp,
}

#[derive(Debug)]
enum Message {
    Raise(Box<Raised>),
    Flush(oneshot::Sender<()>),
}

impl EventRecorder {
    /// A recorder of Events reported by `controller` (the Deployment's or DaemonSet's name) on `instance` (the pod or
    /// node). Starts the task that sends them, which ends with the last clone.
    pub fn new(client: Client, controller: &str, instance: &str) -> Self {
        let (sender, messages) = mpsc::channel(MOST_WAITING);
        let lost = Counter::default();
        let (controller, instance) = (controller.to_owned(), instance.to_owned());
        let writer = Writer { client, controller, instance, ledger: Ledger::default(), lost: lost.clone() };
        tokio::spawn(writer.run(messages));
        Self { sender, lost }
    }

    /// Registers the count of Events that could not be sent.
    pub fn register(&self, metrics: &Metrics) {
        let help = "Events that could not be sent";
        metrics.register(|registry| registry.register("events_lost", help, self.lost.clone()));
    }

    /// Records an Event about `regarding`, without waiting. An Event that cannot be sent is logged and counted: it
    /// never stops the work that it reports.
    pub fn raise(&self, regarding: &ObjectReference, type_: EventType, reason: &str, action: &str, note: &str) {
        let raised = Raised {
            regarding: regarding.clone(),
            type_,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note: note[..note.floor_char_boundary(NOTE_BYTES)].to_owned(),
            at: jiff::Timestamp::now(),
        };
        if self.sender.try_send(Message::Raise(Box::new(raised))).is_err() {
            self.lost.inc();
            tracing::warn!(reason, note, "too many Events are waiting for the API server; one was dropped");
        }
    }

    /// Before a program ends: waits until all Events recorded so far have been sent, or until `limit` has passed.
    pub async fn flush(&self, limit: Duration) {
        let (sender, flushed) = oneshot::channel();
        let flush = async {
            if self.sender.send(Message::Flush(sender)).await.is_ok() {
                let _ = flushed.await; // the task ended: nothing is left to wait for
            }
        };
        if timeout(limit, flush).await.is_err() {
            tracing::warn!("not all Events could be sent within {} s", limit.as_secs());
        }
    }
}

/// A condition that is good or bad: each cause records a Warning, and recovery records a Normal Event.
#[derive(Debug)]
pub struct Trouble {
    events: EventRecorder,
    regarding: ObjectReference,
    action: &'static str,
    reason: &'static str,
    recovered: &'static str,
    is_in: AtomicBool,
    /// The last note.
    last_note: Mutex<String>,
}

impl Trouble {
    /// Starts in the good state. `reason` is the reason of the Warning, `recovered` that of the Normal Event after it.
    pub fn new(
        events: &EventRecorder,
        regarding: &ObjectReference,
        action: &'static str,
        (reason, recovered): (&'static str, &'static str),
    ) -> Self {
        let (events, regarding) = (events.clone(), regarding.clone());
        Self {
            events,
            regarding,
            action,
            reason,
            recovered,
            is_in: AtomicBool::new(false),
            last_note: Mutex::default(),
        }
    }

    /// The condition is bad, for the cause in `note`. Returns whether it was good before.
    pub fn begins(&self, note: &str) -> bool {
        self.events.raise(&self.regarding, EventType::Warning, self.reason, self.action, note);
        !self.is_in.swap(true, Ordering::Relaxed)
    }

    /// The condition is bad, for the cause in `note`. Records an Event only if it was good before or the note changed.
    pub fn begins_or_changes(&self, note: &str) {
        let mut last_note = lock(&self.last_note);
        if !self.is_in.load(Ordering::Relaxed) || *last_note != note {
            note.clone_into(&mut last_note);
            self.begins(note);
        }
    }

    /// The condition is good. Records an Event only if it was bad before, and returns whether it was.
    pub fn ends(&self, note: &str) -> bool {
        let was = self.is_in.swap(false, Ordering::Relaxed);
        if was {
            self.events.raise(&self.regarding, EventType::Normal, self.recovered, self.action, note);
        }
        was
    }
}

/// The reference for Events about a node. Its UID is the node's name, as in kubelet's own Events, so that `kubectl
/// describe node` finds them.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

struct Writer {
    client: Client,
    controller: String,
    instance: String,
    ledger: Ledger,
    lost: Counter,
}

impl Writer {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            let held = self.ledger.next_due();
            let due = async {
                match held {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Raise(raised)) => {
                        if let Some(step) = self.ledger.take(*raised, Instant::now()) {
                            self.carry_out(step).await;
                        }
                    }
                    Some(Message::Flush(done)) => {
                        for step in self.ledger.release_all(Instant::now()) {
                            self.carry_out(step).await;
                        }
                        let _ = done.send(()); // the caller may have given up
                    }
                    None => return,
                },
                () = due => if let Some(step) = self.ledger.release(Instant::now()) {
                    self.carry_out(step).await;
                }
            }
        }
    }

    /// Retries until the API server accepts or refuses the Event, or the Event is too old.
    async fn carry_out(&mut self, step: Step) {
        let begun = Instant::now();
        let mut pauses = forever().build();
        loop {
            let Err(error) = self.write(&step).await else { return };
            let why = explain(&error);
            if is_refused(&error) || begun.elapsed() >= KEEP_TRYING {
                self.lost.inc();
                tracing::warn!(
                    error = why,
                    reason = step.raised().reason,
                    note = step.raised().note,
                    "an Event could not be sent"
                );
                return;
            }
            tracing::debug!(error = why, reason = step.raised().reason, "retrying to send an Event");
            sleep(pauses.next().unwrap_or(KEEP_TRYING)).await;
        }
    }

    async fn write(&mut self, step: &Step) -> kube::Result<()> {
        let regarding = &step.raised().regarding;
        // Events about cluster-scoped objects are in this namespace.
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Step::Count { name, count, raised } = step {
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(raised.at);
            let series = json!({"series": {"count": count, "lastObservedTime": time}});
            match events.patch_metadata(name, &PatchParams::default(), &Patch::Merge(series)).await {
                // The Event expired or was deleted.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                patched => return patched.map(drop),
            }
        }
        let event = step.raised().event(step.name(), namespace, &self.controller, &self.instance);
        match events.create(&PostParams::default(), &event).await {
            // An earlier attempt created it, and its answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop),
        }
    }
}

impl Raised {
    fn event(&self, name: &str, namespace: &str, controller: &str, instance: &str) -> Event {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
        let type_ = match self.type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.at)),
            regarding: Some(self.regarding.clone()),
            type_: Some(type_.to_owned()),
            reason: Some(self.reason.clone()),
            action: Some(self.action.clone()),
            note: Some(self.note.clone()),
            reporting_controller: Some(controller.to_owned()),
            reporting_instance: Some(instance.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests;
