//! One container whose messages the broker refuses, in every way that RabbitMQ has, beside nine healthy ones, which continue.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use support::consumer::Consumer;
use support::exchange::{self, QUEUE};
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::rabbitmq::{RabbitMq, USER};
use testbed::wait::{self, LIMIT};

/// A topic exchange, so that one container's messages can be recognized by their routing key.
const TOPICS: &str = "topics";

/// The queue of the container whose messages are refused, if there is one.
const FULL: &str = "full";

/// In bytes; the broker's `max_message_size`.
const MOST_BYTES: usize = 1024 * 1024;

const HEALTHY: usize = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The channel is closed with 406.
    TooLarge,
    /// The same, and there is a dead letter exchange.
    TooLargeWithDeadLetters,
    /// Its only queue is full: nack.
    FullQueue,
    /// No queue is bound for its key: a return.
    Unroutable,
    /// The user may not publish with its key: the channel is closed with 403.
    Forbidden,
}

const KINDS: [Kind; 5] =
    [Kind::TooLarge, Kind::TooLargeWithDeadLetters, Kind::FullQueue, Kind::Unroutable, Kind::Forbidden];

struct Case<'a> {
    kind: Kind,
    broker: &'a RabbitMq,
    folder: Folder,
    consumer: Consumer,
    arrived: Arrived,
    shipper: Daemon,
    /// Lines written to each healthy container, and to the refused one.
    lines: u64,
}

/// What the consumer received, without repetitions. Each event is looked at once: the consumer waits meanwhile.
#[derive(Default)]
struct Arrived {
    looked: usize,
    ids: BTreeSet<(String, u64)>,
    /// By pod, in the order of arrival.
    offsets: BTreeMap<String, Vec<u64>>,
}

#[test]
fn a_refused_container_does_not_stop_the_others_and_arrives_once_it_is_accepted() {
    let broker = start();
    for kind in KINDS {
        let mut case = Case::start(kind, &broker);
        case.write(Duration::from_secs(3));
        case.verify();
    }
}

/// `POISON_SECONDS=300 cargo test -p log-shipper --test refusals -- --ignored --nocapture` prints the delays of the healthy ones;
/// `LOG_SHIPPER` is the path of a release build.
#[test]
#[ignore = "takes POISON_SECONDS (60) for each kind"]
fn how_long_healthy_containers_wait_beside_a_refused_one() {
    let seconds = std::env::var_os("POISON_SECONDS").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(60);
    let broker = start();
    for kind in KINDS {
        let mut case = Case::start(kind, &broker);
        case.write(Duration::from_secs(seconds));
        case.verify();
    }
}

fn start() -> RabbitMq {
    let broker = RabbitMq::start().unwrap();
    let set = format!("application:set_env(rabbit, max_message_size, {MOST_BYTES}).");
    broker.control(&["eval", &set]).unwrap();
    exchange::with_channel(broker.address(), async |channel| {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(TOPICS.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        exchange::declare_exchange(&channel, "dead").await
    });
    broker
}

impl<'a> Case<'a> {
    fn start(kind: Kind, broker: &'a RabbitMq) -> Self {
        println!("{kind:?}");
        let address = broker.address();
        exchange::with_channel(address, async |channel| {
            // The broker may still return what the last consumer did not acknowledge, which a new queue does not get.
            channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
            let bind = async |queue: &str, exchange: &str, key: &str| {
                let (options, none) = (QueueBindOptions::default(), FieldTable::default());
                channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await
            };
            bind(QUEUE, "dead", "logs.poisoned.main").await?;
            bind(QUEUE, TOPICS, "logs.healthy.#").await?;
            match kind {
                Kind::TooLarge | Kind::TooLargeWithDeadLetters | Kind::Forbidden => {
                    bind(QUEUE, TOPICS, "logs.poisoned.#").await
                }
                Kind::Unroutable => Ok(()),
                Kind::FullQueue => {
                    let mut full = FieldTable::default();
                    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
                    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
                    channel.queue_declare(FULL.into(), durable, full).await?;
                    bind(FULL, TOPICS, "logs.poisoned.#").await
                }
            }
        });
        if kind == Kind::Forbidden {
            broker.control(&["set_topic_permissions", USER, TOPICS, "^logs\\.healthy\\.", ".*"]).unwrap();
        }
        let folder = Folder::new("refusals").unwrap();
        // A folder that is not there when the shipper starts is found only ten seconds later.
        fs::create_dir(folder.join("pods")).unwrap();
        let mut settings = support::settings(&folder.join("pods"), &folder.join("state"), address);
        let mut set = vec![("AMQP_EXCHANGE", TOPICS), ("AMQP_ROUTING_KEY", "logs.{namespace}.{container}")];
        if kind == Kind::TooLargeWithDeadLetters {
            set.push(("AMQP_DEAD_LETTER_EXCHANGE", "dead"));
        }
        settings.extend(set.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let consumer = Consumer::of_everything(address);
        let shipper = support::start(&settings);
        Self { kind, broker, folder, consumer, arrived: Arrived::default(), shipper, lines: 0 }
    }

    /// A thousand lines per second in total.
    fn write(&mut self, time: Duration) {
        let pods = self.folder.join("pods");
        let mut files: Vec<_> = (0..HEALTHY).map(|index| open(&pods, "healthy", index)).collect();
        let mut poisoned = open(&pods, "poisoned", HEALTHY);
        let began = Instant::now();
        while began.elapsed() < time {
            let wanted = began.elapsed().as_millis() as u64 / 10;
            while self.lines < wanted {
                for file in &mut files {
                    file.write_all(text("F", &format!("line {}", self.lines)).as_bytes()).unwrap();
                }
                // A line that is too large comes once a second, in parts as a runtime writes it.
                let parts = if self.is_too_large() && self.lines.is_multiple_of(100) { 80 } else { 0 };
                let parts = text("P", &"y".repeat(16_000)).repeat(parts);
                let last = text("F", &format!("line {}", self.lines));
                // At once: the shipper does not wait long for the last part.
                poisoned.write_all((parts + &last).as_bytes()).unwrap();
                self.lines += 1;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_too_large(&self) -> bool {
        matches!(self.kind, Kind::TooLarge | Kind::TooLargeWithDeadLetters)
    }

    fn arrived(&mut self) -> &BTreeMap<String, Vec<u64>> {
        let arrived = &mut self.arrived;
        let seen = self.consumer.seen();
        for event in &seen.events[arrived.looked..] {
            let pod = event["kubernetes"]["pod"]["name"].as_str().unwrap().to_owned();
            let offset = event["log"]["offset"].as_u64().unwrap();
            if arrived.ids.insert((pod.clone(), offset)) {
                arrived.offsets.entry(pod).or_default().push(offset);
            }
        }
        arrived.looked = seen.events.len();
        &arrived.offsets
    }

    fn wait_for(&mut self, pod: &str, lines: u64) -> Vec<u64> {
        let all =
            wait::until(LIMIT, || self.arrived().get(pod).filter(|arrived| arrived.len() as u64 >= lines).cloned());
        all.unwrap_or_else(|| {
            let arrived: BTreeMap<_, _> =
                self.arrived().iter().map(|(pod, lines)| (pod.clone(), lines.len())).collect();
            panic!("{:?}: {pod} has not its {lines} lines: {arrived:?}\n{}", self.kind, self.shipper.log())
        })
    }

    fn verify(&mut self) {
        for index in 0..HEALTHY {
            let arrived = self.wait_for(&format!("pod-{index}"), self.lines);
            assert!(arrived.is_sorted(), "{:?}: pod-{index} came out of order", self.kind);
        }
        self.print_delays();
        assert_eq!(self.metric("messages_given_up_total"), 0.0);
        if self.is_too_large() {
            let arrived = self.wait_for(&format!("pod-{HEALTHY}"), self.lines);
            assert!(arrived.is_sorted() || self.kind == Kind::TooLargeWithDeadLetters);
            let seen = self.consumer.seen();
            let cut: Vec<_> = seen.events.iter().filter(|event| is_marked(event)).collect();
            assert!(cut.len() as u64 >= self.lines.div_ceil(100), "{} of {} lines", cut.len(), self.lines);
            for event in cut {
                let size = event["message"].as_str().unwrap().len();
                assert!(size > MOST_BYTES - 4096 && size < MOST_BYTES, "{size}");
            }
            assert!(self.metric("messages_cut_total") > 0.0);
            assert!(self.metric("connections_total") == 1.0, "{}", self.shipper.log());
            return;
        }
        assert!(!self.arrived().contains_key(&format!("pod-{HEALTHY}")));
        let refused = if self.kind == Kind::Unroutable { "messages_returned_total" } else { "messages_refused_total" };
        wait::until(LIMIT, || (self.metric(refused) > 0.0).then_some(()))
            .unwrap_or_else(|| panic!("{}", self.shipper.log()));
        self.repair();
        self.wait_for(&format!("pod-{HEALTHY}"), self.lines - u64::from(self.kind == Kind::FullQueue));
        wait::until(LIMIT, || self.shipper.log().contains("the broker accepts all messages again").then_some(()))
            .unwrap_or_else(|| panic!("{}", self.shipper.log()));
    }

    fn metric(&self, name: &str) -> f64 {
        self.shipper.metric(&format!("labhands_log_shipper_{name}")).unwrap()
    }

    /// Repairs the broker as an operator would.
    fn repair(&self) {
        if self.kind == Kind::Forbidden {
            self.broker.control(&["clear_topic_permissions", USER]).unwrap();
        }
        exchange::with_channel(self.broker.address(), async |channel| {
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(QUEUE.into(), TOPICS.into(), "logs.poisoned.#".into(), options, none).await?;
            if self.kind == Kind::FullQueue {
                channel.queue_delete(FULL.into(), QueueDeleteOptions::default()).await?;
            }
            Ok(())
        });
    }

    fn print_delays(&self) {
        let seen = self.consumer.seen();
        let healthy =
            seen.events.iter().zip(&seen.arrived).filter(|(event, _)| event["kubernetes"]["namespace"] == "healthy");
        let mut delays: Vec<f64> = healthy
            .map(|(event, arrived)| {
                let written: jiff::Timestamp = event["@timestamp"].as_str().unwrap().parse().unwrap();
                arrived.duration_since(written).as_secs_f64()
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| delays[(delays.len() as f64 * share) as usize];
        let (median, most) = (at(0.5), delays.last().unwrap());
        println!(
            "{:?}: {} lines, delay of healthy ones: median {median:.3} s, 99 % {:.3} s, most {most:.3} s",
            self.kind,
            delays.len(),
            at(0.99)
        );
    }
}

fn is_marked(event: &Value) -> bool {
    event["log"]["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "truncated"))
}

fn open(pods: &Path, namespace: &str, index: usize) -> File {
    let folder = pods.join(format!("{namespace}_pod-{index}_uid-{index}/main"));
    fs::create_dir_all(&folder).unwrap();
    File::options().create(true).append(true).open(folder.join("0.log")).unwrap()
}

fn text(tag: &str, text: &str) -> String {
    format!("{} stdout {tag} {text}\n", jiff::Timestamp::now())
}
