//! Each alert about logs on a real Prometheus: it fires once when its cause begins, and ends with it. The rules are those of
//! `manifests/`, with shorter durations.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use rustix::fs::FallocateFlags;
use support::exchange::{self, QUEUE};
use testbed::command::run_args;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::prometheus::{Prometheus, rules};
use testbed::proxy::TcpProxy;
use testbed::rabbitmq::RabbitMq;
use testbed::wait::{self, LIMIT};

/// The longest duration of a rule. Pauses of the shipper of up to 5 s are within it, as they are within 10 min.
const LONGEST: Duration = Duration::from_secs(12);

const TOPICS: &str = "topics";

/// The queue that is full.
const FULL: &str = "full";

/// In bytes; the broker's `max_message_size`. Most events are smaller.
const MOST_BYTES: usize = 700;

/// The alerts, each with its shipper: while the broker is short of memory,
const BLOCKED: [(&str, &str); 4] = [
    ("LabhandsBrokerBlocks", "blocked"),
    ("LabhandsLogsPinned", "blocked"),
    ("LabhandsBrokerAway", "away"),
    ("LabhandsLogsUnreadable", "unreadable"),
];
/// when still more files are deleted, and one is truncated,
const DELETED: [(&str, &str); 2] = [("LabhandsLogLinesLost", "blocked"), ("LabhandsLogLinesMayBeLost", "truncated")];
/// when it has memory again, but does not take everything,
const REFUSED: [(&str, &str); 5] = [
    ("LabhandsNoQueueBound", "unbound"),
    ("LabhandsQueueFull", "full"),
    ("LabhandsMessagesCut", "large"),
    ("LabhandsLogMessagesGivenUp", "named"),
    ("LabhandsCheckpointFails", "checkpoint"),
];
/// and when no shipper is left.
const GONE: [(&str, &str); 1] = [("LabhandsDaemonGone", "log-shipper")];

/// Names that leave no room below the broker's limit, and that can't be cut as a message can.
const LONG: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

struct Bed {
    broker: RabbitMq,
    folder: Folder,
    shippers: BTreeMap<&'static str, Daemon>,
    prometheus: Prometheus,
}

#[test]
fn each_alert_fires_once_for_its_cause_and_ends_with_it() {
    let mut bed = Bed::start();
    let broker = bed.broker.address();
    // One shipper alone loses the broker.
    let away = TcpProxy::start(broker).unwrap();
    let state = bed.folder.folder("checkpoint/state").unwrap();
    run_args("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", &state.display().to_string()]).unwrap();
    let mut logs = REFUSED.map(|(_, name)| (name, bed.log(name, if name == "named" { LONG } else { name }).1));
    let (unreadable, _) = bed.log("unreadable", "unreadable");
    let (_, mut truncated) = bed.log("truncated", "truncated");
    line(&mut truncated, "before");
    bed.ship("away", away.address(), &[]);
    for name in REFUSED.map(|(_, name)| name).into_iter().chain(["unreadable", "truncated"]) {
        let more: &[_] = if name == "named" { &[("SHIPPER_NAME", LONG), ("NODE_NAME", LONG)] } else { &[] };
        bed.ship(name, broker, more);
    }
    bed.scrape();

    // ---- the broker is short of memory, and two containers have written much ----
    bed.broker.control(&["set_vm_memory_high_watermark", "0.000001"]).unwrap();
    let alarms = || bed.broker.control(&["eval", "rabbit_alarm:get_alarms()."]).ok();
    wait::patiently(LIMIT, || alarms().filter(|set| set.contains("memory"))).unwrap();
    let [first, second] = [("first", 1_600_000_000), ("second", 600_000_000)].map(|(container, bytes)| {
        let (path, mut file) = bed.log("blocked", container);
        (0..2000).for_each(|number| line(&mut file, &format!("line {number}")));
        // It occupies this much of the disk, and little of it is written.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
        path
    });
    bed.ship("blocked", broker, &[("AMQP_WINDOW_BYTES", "64KiB")]);
    bed.scrape();
    fs::remove_file(&first).unwrap();
    away.refuse();
    let link = unreadable.with_file_name("1.log");
    symlink("/nonexistent/x-json.log", &link).unwrap();
    bed.prometheus.until_fired(&BLOCKED, LIMIT).unwrap();
    // Together they are more than PINNED_BYTES_MAX, so one is closed before it was read.
    fs::remove_file(&second).unwrap();
    truncated.set_len(0).unwrap();
    bed.prometheus.until_fired(&DELETED, LIMIT).unwrap();
    bed.broker.control(&["set_vm_memory_high_watermark", "0.4"]).unwrap();
    away.resume();
    fs::remove_file(&link).unwrap();

    // ---- it does not accept everything, and a node's disk is full ----
    let filler = state.join("filler");
    assert!(fs::write(&filler, [1; 64 * 1024]).is_err());
    for (name, file) in &mut logs {
        let text = "x".repeat(if *name == "large" { 10 * MOST_BYTES } else { 1 });
        (0..10).for_each(|_| line(file, &text));
    }
    bed.prometheus.until_fired(&REFUSED, LIMIT).unwrap();
    fs::remove_file(&filler).unwrap();
    bed.bind_all();
    let all = [&BLOCKED[..], &DELETED, &REFUSED].concat();
    bed.prometheus.until_over(&all, LIMIT).unwrap();

    // ---- no shipper is left ----
    // One that ends has no connection for a moment, which a Prometheus that stalls then would take for an outage.
    bed.shippers.values_mut().for_each(|shipper| shipper.process().kill());
    bed.shippers.clear();
    bed.prometheus.until_fired(&GONE, LIMIT).unwrap();
    bed.ship("away", broker, &[]);
    bed.scrape();
    bed.prometheus.until_over(&[&all[..], &GONE].concat(), LIMIT).unwrap();
}

impl Bed {
    fn start() -> Self {
        let broker = RabbitMq::start().unwrap();
        let set = format!("application:set_env(rabbit, max_message_size, {MOST_BYTES}).");
        broker.control(&["eval", &set]).unwrap();
        exchange::declare(broker.address(), &[]);
        exchange::with_channel(broker.address(), async |channel| {
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(TOPICS.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
            let mut least = FieldTable::default();
            least.insert("x-max-length".into(), AMQPValue::LongInt(1));
            least.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(FULL.into(), durable, least).await?;
            let queues = ["away", "blocked", "truncated", "large", "named", "checkpoint"].map(|key| (QUEUE, key));
            for (queue, key) in queues.into_iter().chain([(FULL, "full")]) {
                let (options, none) = (QueueBindOptions::default(), FieldTable::default());
                channel.queue_bind(queue.into(), TOPICS.into(), key.into(), options, none).await?;
            }
            Ok(())
        });
        let prometheus = Prometheus::start(&rules::of_the_manifests(LONGEST).unwrap()).unwrap();
        Self { broker, folder: Folder::new("alerts").unwrap(), shippers: BTreeMap::new(), prometheus }
    }

    /// A container's log of the node of this shipper.
    fn log(&self, shipper: &str, container: &str) -> (PathBuf, File) {
        let folder = self.folder.join(&format!("{shipper}/pods/{container}_{container}_uid/{container}"));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        let file = File::options().create(true).append(true).open(&path).unwrap();
        (path, file)
    }

    /// Starts a shipper whose routing key is its name, and waits until it is connected and has found the logs.
    fn ship(&mut self, name: &'static str, broker: SocketAddr, more: &[(&str, &str)]) {
        let [pods, state] = ["pods", "state"].map(|folder| self.folder.folder(&format!("{name}/{folder}")).unwrap());
        let mut settings = support::settings(&pods, &state, broker);
        let more = [&[("AMQP_EXCHANGE", TOPICS), ("AMQP_ROUTING_KEY", name)], more].concat();
        settings.retain(|(setting, _)| more.iter().all(|(other, _)| setting != other));
        settings.extend(more.into_iter().map(|(setting, value)| (setting.to_owned(), value.to_owned())));
        let shipper = support::start(&settings);
        shipper.until_ready(LIMIT, |status, _| status == 200).unwrap();
        wait::until(LIMIT, || shipper.metric("labhands_log_shipper_connected").filter(|is| *is == 1.0)).unwrap();
        self.shippers.insert(name, shipper);
    }

    fn scrape(&mut self) {
        let shippers: Vec<_> = self.shippers.iter().map(|(name, shipper)| (*name, shipper.admin())).collect();
        self.prometheus.scrape(&shippers).unwrap();
    }

    /// Accepts all messages into a queue that is not full.
    fn bind_all(&self) {
        exchange::with_channel(self.broker.address(), async |channel| {
            channel.queue_delete(FULL.into(), QueueDeleteOptions::default()).await?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(QUEUE.into(), TOPICS.into(), "#".into(), options, none).await
        });
    }
}

fn line(file: &mut File, text: &str) {
    file.write_all(format!("{} stdout F {text}\n", jiff::Timestamp::now()).as_bytes()).unwrap();
}
