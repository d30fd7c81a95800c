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
use support::witness::Witness;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::rabbitmq::{PASSWORD, RabbitMq, USER};
use testbed::wait::{self, LIMIT};

/// How many lines must pass before and after each deed.
const FLOW: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
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

const DEEDS: [Deed; 10] = [
    Deed::DeleteVirtualHost,
    Deed::DeleteQueue,
    Deed::DeleteExchange,
    Deed::DeleteUser,
    Deed::ClearPermissions,
    Deed::RevokeWriting,
    Deed::CloseConnections,
    Deed::StopApp,
    Deed::MemoryAlarm,
    Deed::DiskAlarm,
];

impl Deed {
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
    witness: Witness,
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
        let witness = Witness::start(broker.address());
        let consumer = Consumer::start(broker.address());
        let settings = support::settings(&folder.join("pods"), &folder.join("state"), witness.address());
        let shipper = support::start(&settings);
        Self { broker, queue, witness, consumer, writer, shipper, _folder: folder }
    }

    fn control(&self, arguments: &[&str]) {
        self.broker.control(arguments).unwrap();
    }

    fn strike(&self, deed: Deed) {
        match deed {
            Deed::DeleteVirtualHost => self.control(&["delete_vhost", "/"]),
            Deed::DeleteQueue => exchange::with_channel(self.broker.address(), async |channel| {
                channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.map(|_| ())
            }),
            Deed::DeleteExchange => exchange::with_channel(self.broker.address(), async |channel| {
                channel.exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default()).await
            }),
            Deed::DeleteUser => self.control(&["delete_user", USER]),
            Deed::ClearPermissions => {
                self.control(&["clear_permissions", USER]);
                // A channel remembers what its user may do.
                self.control(&["close_all_connections", "permissions"]);
            }
            Deed::RevokeWriting => {
                self.control(&["set_permissions", USER, ".*", "", ".*"]);
                self.control(&["close_all_connections", "permissions"]);
            }
            Deed::CloseConnections => self.control(&["close_all_connections", "maintenance"]),
            Deed::StopApp => self.control(&["stop_app"]),
            Deed::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.00001"]),
            Deed::DiskAlarm => self.control(&["set_disk_free_limit", "900000GB"]),
        }
    }

    fn repair(&self, deed: Deed) {
        let permit = || self.control(&["set_permissions", USER, ".*", ".*", ".*"]);
        match deed {
            Deed::DeleteVirtualHost => {
                self.control(&["add_vhost", "/"]);
                permit();
                exchange::declare(self.broker.address(), &self.queue);
            }
            Deed::DeleteQueue | Deed::DeleteExchange => exchange::declare(self.broker.address(), &self.queue),
            Deed::DeleteUser => {
                self.control(&["add_user", USER, PASSWORD]);
                permit();
            }
            Deed::ClearPermissions | Deed::RevokeWriting => permit(),
            Deed::CloseConnections => (),
            Deed::StopApp => self.control(&["start_app"]),
            Deed::MemoryAlarm => self.control(&["set_vm_memory_high_watermark", "0.4"]),
            Deed::DiskAlarm => self.control(&["set_disk_free_limit", "50MB"]),
        }
    }

    fn confirmed(&self) -> usize {
        self.witness.record().confirmed.len()
    }

    /// Numbers below this one that did not arrive.
    fn missing(&self, written: u64) -> BTreeSet<u64> {
        let seen = self.consumer.seen();
        (0..written).filter(|number| seen.of(*number).is_none()).collect()
    }

    /// Waits until this many more lines were confirmed.
    fn flow(&self, deed: Deed) {
        let before = self.confirmed();
        let flows = wait::until(LIMIT, || (self.confirmed() >= before + FLOW).then_some(()));
        assert!(flows.is_some(), "{deed:?}: nothing is confirmed:\n{}", self.shipper.log());
    }

    /// Does it while lines are published. Returns the lines that are missing, all of which were confirmed before the repair.
    fn survive(&self, deed: Deed, lost: &BTreeSet<u64>, held: bool) -> BTreeSet<u64> {
        self.writer.pause(false);
        self.flow(deed);
        let began = Instant::now();
        if held {
            // Nothing that was confirmed is in the queue any more, and the shipper's window is full of what was not.
            self.witness.hold(true);
            let drained = || {
                let (record, seen) = (self.witness.record(), self.consumer.seen());
                let mut confirmed = record.confirmed.keys().filter(|number| !lost.contains(number));
                confirmed.all(|number| seen.of(*number).is_some()).then_some(())
            };
            wait::until(LIMIT, drained).unwrap();
        }
        self.strike(deed);
        self.witness.hold(false);
        if let Some(text) = deed.shows() {
            let page = self.shipper.until("/output", LIMIT, |status, body| status == 503 && body.contains(text));
            assert!(page.is_ok(), "{deed:?}: {page:?}\n{}", self.shipper.log());
        }
        self.repair(deed);
        let repaired = Instant::now();
        self.flow(deed);
        // A consumer that is slower than the writer catches up.
        self.writer.pause(true);
        let written = self.writer.written();
        let may_be_lost = deed.deletes_the_queue() && !held;
        let mut missing = BTreeSet::new();
        wait::patiently(LIMIT, || {
            let record = self.witness.record();
            missing = &self.missing(written) - lost;
            missing.retain(|number| !may_be_lost || record.confirmed.get(number).is_none_or(|at| *at > repaired));
            missing.is_empty().then_some(())
        });
        assert!(
            missing.is_empty(),
            "{deed:?}, held: {held}: {} lines were lost: {missing:?}\n{}",
            missing.len(),
            self.shipper.log()
        );
        let lost_now = &self.missing(written) - lost;
        println!(
            "{deed:?}, held: {held}: {written} written, {} confirmed into the deleted queue and lost with it, {:?}",
            lost_now.len(),
            began.elapsed()
        );
        lost_now
    }

    fn survive_all(self) {
        let mut lost = BTreeSet::new();
        for deed in DEEDS {
            let now = self.survive(deed, &lost, false);
            lost.extend(now);
            if deed.deletes_the_queue() {
                self.survive(deed, &lost, true);
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
    Site::new(Vec::new()).survive_all();
}

#[test]
fn only_what_was_confirmed_into_a_deleted_quorum_queue_with_a_limit_is_missing() {
    let full =
        vec![("x-max-length", AMQPValue::LongInt(100)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    Site::new(quorum(full)).survive_all();
}
