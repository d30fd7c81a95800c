//! What operators do to a broker while lines are shipped: queues, exchanges, users and virtual hosts are deleted and made again,
//! connections closed, alarms raised. Only lines that the broker had confirmed into a deleted queue may be missing.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::AMQPValue;
use support::consumer::Consumer;
use support::exchange::{self, EXCHANGE, QUEUE};
use support::kubelet::Container;
use support::wire_recorder::WireRecorder;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::{self, LIMIT};

/// How many lines must pass before and after each disruption.
const FLOW: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disruption {
    DeleteVirtualHost,
    DeleteQueue,
    DeleteExchange,
    DeleteUser,
    ClearPermissions,
    RevokeWriting,
    CloseConnections,
    StopApp,
    MemoryAlarm,
    DiskAlarm,
}

const DISRUPTIONS: [Disruption; 10] = [
    Disruption::DeleteVirtualHost,
    Disruption::DeleteQueue,
    Disruption::DeleteExchange,
    Disruption::DeleteUser,
    Disruption::ClearPermissions,
    Disruption::RevokeWriting,
    Disruption::CloseConnections,
    Disruption::StopApp,
    Disruption::MemoryAlarm,
    Disruption::DiskAlarm,
];

impl Disruption {
    fn deletes_the_queue(self) -> bool {
        matches!(self, Self::DeleteVirtualHost | Self::DeleteQueue)
    }

    /// What `/output` says meanwhile.
    fn shows(self) -> Option<&'static str> {
        match self {
            Self::DeleteVirtualHost => Some("NOT_ALLOWED"),
            Self::DeleteQueue => Some("no queue is bound"),
            Self::DeleteExchange => Some("NOT_FOUND"),
            Self::DeleteUser => Some("ACCESS_REFUSED"),
            Self::ClearPermissions => Some("access to vhost '/' refused"),
            Self::RevokeWriting => Some("access to exchange 'logstash-exchange' in vhost '/' refused"),
            Self::CloseConnections => None,
            Self::StopApp => Some("no broker"),
            Self::MemoryAlarm => Some("asks to stop publishing: low on memory"),
            Self::DiskAlarm => Some("asks to stop publishing: low on disk"),
        }
    }
}

type QueueArguments = Vec<(&'static str, AMQPValue)>;

struct Site {
    broker: RabbitMq,
    queue: QueueArguments,
    recorder: WireRecorder,
    consumer: Consumer,
    writer: Writer,
    shipper: Daemon,
    _folder: Folder,
}

impl Site {
    fn new(queue: QueueArguments) -> Self {
        let broker = RabbitMq::start().unwrap();
        exchange::declare(broker.address(), &queue);
        let folder = Folder::new("operators").unwrap();
        let writer = Writer::start(&folder);
        let recorder = WireRecorder::start(broker.address());
        let consumer = Consumer::start(broker.address());
        let settings = support::settings(&folder.join("pods"), &folder.join("state"), recorder.address());
        let shipper = support::start(&settings);
        Self { broker, queue, recorder, consumer, writer, shipper, _folder: folder }
    }

    fn control(&self, arguments: &[&str]) {
        self.broker.control(arguments).unwrap();
    }

    fn apply(&self, disruption: Disruption) {
        match disruption {
            Disruption::DeleteVirtualHost => self.control(&["delete_vhost", "/"]),
            Disruption::DeleteQueue => exchange::with_channel(self.broker.address(), async |channel| {
                channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.map(|_| ())
            }),
            Disruption::DeleteExchange => exchange::with_channel(self.broker.address(), async |channel| {
                channel.exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default()).await
            }),
            Disruption::DeleteUser => self.control(&["delete_user", USER]),
            Disruption::ClearPermissions => {
                self.control(&["clear_permissions", USER]);
                // A channel remembers what its user may do.
                self.control(&["close_all_connections", "permissions"]);
            }
            Disruption::RevokeWriting => {
                self.control(&["set_permissions", USER, ".*", "", ".*"]);
                self.control(&["close_all_connections", "permissions"]);
            }
            Disruption::CloseConnections => self.control(&["close_all_connections", "maintenance"]),
            Disruption::StopApp => self.control(&["stop_app"]),
            Disruption::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.00001"]),
            Disruption::DiskAlarm => self.control(&["set_disk_free_limit", "900000GB"]),
        }
    }

    fn repair(&self, disruption: Disruption) {
        let permit = || self.control(&["set_permissions", USER, ".*", ".*", ".*"]);
        match disruption {
            Disruption::DeleteVirtualHost => {
                self.control(&["add_vhost", "/"]);
                permit();
                exchange::declare(self.broker.address(), &self.queue);
            }
            Disruption::DeleteQueue | Disruption::DeleteExchange => {
                exchange::declare(self.broker.address(), &self.queue);
            }
            Disruption::DeleteUser => {
                self.control(&["add_user", USER, PASSWORD]);
                permit();
            }
            Disruption::ClearPermissions | Disruption::RevokeWriting => permit(),
            Disruption::CloseConnections => (),
            Disruption::StopApp => self.control(&["start_app"]),
            Disruption::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.4"]),
            Disruption::DiskAlarm => self.control(&["set_disk_free_limit", "50MB"]),
        }
    }

    fn confirmed(&self) -> usize {
        self.recorder.record().confirmed.len()
    }

    /// Numbers below this one that did not arrive.
    fn missing(&self, written: u64) -> BTreeSet<u64> {
        let seen = self.consumer.seen();
        (0..written).filter(|number| seen.of(*number).is_none()).collect()
    }

    /// Waits until this many more lines were confirmed.
    fn flow(&self, disruption: Disruption) {
        let before = self.confirmed();
        let flows = wait::until(LIMIT, || (self.confirmed() >= before + FLOW).then_some(()));
        assert!(flows.is_some(), "{disruption:?}: nothing is confirmed:\n{}", self.shipper.log());
    }

    /// Applies the disruption while lines are published. Returns the lines that are missing, all of which were confirmed before the repair.
    fn ship_through(&self, disruption: Disruption, lost: &BTreeSet<u64>, held: bool) -> BTreeSet<u64> {
        self.writer.pause(false);
        self.flow(disruption);
        let began = Instant::now();
        if held {
            // Nothing that was or will be confirmed is in the queue any more, and the shipper's window is full of the rest.
            self.recorder.hold(true);
            let drained = || {
                let (record, seen) = (self.recorder.record(), self.consumer.seen());
                let mut confirmed = record.confirmed.keys().filter(|number| !lost.contains(number));
                (record.in_flight.is_empty() && confirmed.all(|number| seen.of(*number).is_some())).then_some(())
            };
            wait::until(LIMIT, drained).unwrap();
        }
        self.apply(disruption);
        self.recorder.hold(false);
        if let Some(text) = disruption.shows() {
            let page = self.shipper.until("/output", LIMIT, |status, body| status == 503 && body.contains(text));
            assert!(page.is_ok(), "{disruption:?}: {page:?}\n{}", self.shipper.log());
        }
        self.repair(disruption);
        let repaired = Instant::now();
        self.flow(disruption);
        // A consumer that is slower than the writer catches up.
        self.writer.pause(true);
        let written = self.writer.written();
        let may_be_lost = disruption.deletes_the_queue() && !held;
        let mut missing = BTreeSet::new();
        wait::patiently(LIMIT, || {
            let record = self.recorder.record();
            missing = &self.missing(written) - lost;
            missing.retain(|number| !may_be_lost || record.confirmed.get(number).is_none_or(|at| *at > repaired));
            missing.is_empty().then_some(())
        });
        assert!(
            missing.is_empty(),
            "{disruption:?}, held: {held}: {} lines were lost: {missing:?}\n{}",
            missing.len(),
            self.shipper.log()
        );
        let lost_now = &self.missing(written) - lost;
        println!(
            "{disruption:?}, held: {held}: {written} written, {} confirmed into the deleted queue and lost with it, {:?}",
            lost_now.len(),
            began.elapsed()
        );
        lost_now
    }

    fn ship_through_all(self) {
        let mut lost = BTreeSet::new();
        for disruption in DISRUPTIONS {
            let now = self.ship_through(disruption, &lost, false);
            lost.extend(now);
            if disruption.deletes_the_queue() {
                self.ship_through(disruption, &lost, true);
            }
        }
        self.shipper.until("/output", LIMIT, |status, _| status == 200).unwrap();
        let metric = |name: &str| self.shipper.metric(&format!("labhands_log_shipper_{name}")).unwrap();
        assert_eq!(
            (metric("messages_given_up_total"), metric("messages_cut_total"), metric("bytes_lost_total")),
            (0.0, 0.0, 0.0)
        );
    }
}

/// Writes numbered lines to one container until it is dropped.
struct Writer {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(folder: &Folder) -> Self {
        let mut container = Container::new(&folder.join("pods"), 1, u64::MAX);
        let (written, stop, paused) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped, pause) = (Arc::clone(&written), Arc::clone(&stop), Arc::clone(&paused));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if !pause.load(Ordering::Relaxed) {
                    container.write(counted.load(Ordering::Relaxed), 50);
                    container.finish();
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { written, stop, paused, thread: Some(thread) }
    }

    fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn quorum(more: QueueArguments) -> QueueArguments {
    [vec![("x-queue-type", AMQPValue::LongString("quorum".into()))], more].concat()
}

#[test]
fn only_what_was_confirmed_into_a_deleted_classic_queue_is_missing() {
    Site::new(Vec::new()).ship_through_all();
}

#[test]
fn only_what_was_confirmed_into_a_deleted_quorum_queue_with_a_limit_is_missing() {
    let full =
        vec![("x-max-length", AMQPValue::LongInt(100)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    Site::new(quorum(full)).ship_through_all();
}
