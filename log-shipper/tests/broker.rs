//! The whole shipper against a real RabbitMQ.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use support::consumer::Consumer;
use support::exchange::{self, EXCHANGE, QUEUE, ROUTING_KEY};
use support::kubelet::Container;
use testbed::certificates::Authority;
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::proxy::TcpProxy;
use testbed::rabbitmq::{CERTIFIED_USER, RabbitMq};
use testbed::wait::{self, LIMIT};

struct Node {
    broker: RabbitMq,
    folder: Folder,
}

impl Node {
    fn new(queue_arguments: &[(&str, AMQPValue)]) -> Self {
        let node = Self { broker: RabbitMq::start().unwrap(), folder: Folder::new("node").unwrap() };
        exchange::declare(node.broker.address(), queue_arguments);
        node.folder.folder("pods").unwrap(); // kubelet creates it before any pod; without it a shipper is not ready
        node
    }

    fn settings(&self) -> Vec<(String, String)> {
        support::settings(&self.folder.join("pods"), &self.folder.join("state"), self.broker.address())
    }

    /// The settings for TLS and a client certificate, without a password.
    fn certified(&self, certificate: &Path, key: &Path) -> Vec<(String, String)> {
        let [authority, ..] = self.broker.client_files();
        let url = format!("amqps://localhost:{}/%2f", self.broker.tls_address().port());
        let [authority, certificate, key] = [&authority, certificate, key].map(|path| path.display().to_string());
        let certified = [
            ("AMQP_URL", url.as_str()),
            ("AMQP_CERT_FILE", &certificate),
            ("AMQP_KEY_FILE", &key),
            ("SSL_CERT_FILE", &authority),
        ];
        let mut settings = with(self.settings(), &certified);
        settings.retain(|(name, _)| !name.contains("USER") && !name.contains("PASS"));
        settings
    }

    /// Writes lines `numbers` to one container.
    fn write(&self, numbers: Range<u64>) -> Range<u64> {
        let mut container = Container::new(&self.folder.join("pods"), 1, u64::MAX);
        numbers.clone().for_each(|number| container.write(number, 50));
        container.finish();
        numbers
    }
}

fn metric(shipper: &Daemon, name: &str) -> Option<f64> {
    shipper.metric(&format!("labhands_log_shipper_{name}"))
}

fn with(mut settings: Vec<(String, String)>, more: &[(&str, &str)]) -> Vec<(String, String)> {
    for (name, value) in more {
        settings.retain(|(set, _)| set != name);
        settings.push(((*name).to_owned(), (*value).to_owned()));
    }
    settings
}

#[test]
fn ships_every_line_once_with_a_password_and_again_nothing() {
    let node = Node::new(&[]);
    let mut containers: Vec<_> =
        (0..20).map(|index| Container::new(&node.folder.join("pods"), index, 40_000)).collect();
    for number in 0..20_000 {
        // Four rotated files and the live one contain all lines.
        containers[number as usize % 20].write(number, (number % 90) as usize);
    }
    containers.iter_mut().for_each(Container::finish);
    let consumer = Consumer::start(node.broker.address());
    let (code, log) = support::until_idle(&node.settings());
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(consumer.wait_for(0..20_000, LIMIT), Vec::<u64>::new());
    let (code, log) = support::until_idle(&node.settings());
    assert_eq!(code, Some(0), "{log}");
    let seen = consumer.seen();
    assert!(seen.all().all(|(_, arrivals)| arrivals.came_once()));
    let ids: BTreeSet<_> = seen.all().map(|(_, arrivals)| &arrivals.id).collect();
    assert_eq!(ids.len(), 20_000);
}

#[test]
fn ships_over_tls_with_a_client_certificate() {
    let node = Node::new(&[]);
    let numbers = node.write(0..100);
    let [_, certificate, key] = node.broker.client_files();
    let consumer = Consumer::start(node.broker.address());
    let (code, log) = support::until_idle(&node.certified(&certificate, &key));
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn a_replaced_client_certificate_is_used_without_a_restart() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    let unknown = Authority::new("nobody trusts this one").unwrap().issue(CERTIFIED_USER, None, &[]).unwrap();
    let certificate = node.folder.write("tls.crt", unknown.certificate).unwrap();
    let key = node.folder.write("tls.key", unknown.key).unwrap();
    let shipper = support::start(&node.certified(&certificate, &key));
    let refused = "does it accept the client certificate?";
    shipper.until("/output", LIMIT, |status, body| status == 503 && body.contains(refused)).unwrap();
    let [_, its_certificate, its_key] = node.broker.client_files();
    fs::copy(its_certificate, certificate).unwrap();
    fs::copy(its_key, key).unwrap();
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn while_one_host_is_down_another_gets_the_lines() {
    let node = Node::new(&[]);
    let hosts = [(); 2].map(|()| TcpProxy::start(node.broker.address()).unwrap());
    // Nothing listens on port 1.
    let url = format!("amqp://127.0.0.1:1,{},{}/%2f", hosts[0].host(), hosts[1].host());
    hosts[0].refuse();
    let shipper = support::start(&with(node.settings(), &[("AMQP_URL", &url)]));
    let consumer = Consumer::start(node.broker.address());
    for (round, [away, there]) in (0..).zip([[0, 1], [1, 0], [0, 1]]) {
        hosts[there].resume();
        hosts[away].refuse();
        let before = hosts[there].delivered();
        let numbers = node.write(10 * round..10 * round + 10);
        assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
        // Unconfirmed lines would come again through the other broker.
        let all = (10 * round + 10) as f64;
        wait::until(LIMIT, || metric(&shipper, "events_confirmed_total").filter(|count| *count == all)).unwrap();
        assert!(hosts[there].delivered() > before);
    }
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.came_once()));
    assert!(shipper.log().contains("\"broker\":\"127.0.0.1:1\",\"error\":\"Connection refused"), "{}", shipper.log());
}

#[test]
fn nothing_is_published_while_the_broker_asks_to_stop_and_everything_later() {
    let node = Node::new(&[]);
    let shipper = support::start(&with(node.settings(), &[("AMQP_WINDOW", "10000")]));
    shipper.until("/output", LIMIT, |status, _| status == 200).unwrap();
    node.broker.control(&["set_vm_memory_high_watermark", "0.00001"]).unwrap();
    node.write(0..1000);
    wait::until(LIMIT, || metric(&shipper, "blocked").filter(|blocked| *blocked == 1.0)).unwrap();
    let (_, page) = shipper.get("/output").unwrap();
    assert!(page.contains("the broker asks to stop publishing"), "{page}");
    // The shipper is ready: a rollout does not wait for the broker.
    shipper.until_ready(LIMIT, |status, _| status == 200).unwrap();
    let [read, published] =
        ["read_bytes_total", "messages_published_total"].map(|name| metric(&shipper, name).unwrap());
    node.write(1000..2000);
    wait::until(LIMIT, || metric(&shipper, "read_bytes_total").filter(|now| *now > read)).unwrap();
    let states = node.broker.control(&["list_connections", "state"]).unwrap();
    assert!(states.contains("blocked"), "{states}");
    assert_eq!(metric(&shipper, "messages_published_total"), Some(published));
    node.broker.control(&["set_vm_memory_high_watermark", "0.4"]).unwrap();
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(0..2000, LIMIT), Vec::<u64>::new());
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.came_once()));
    assert_eq!(metric(&shipper, "blocked"), Some(0.0));
    assert_eq!(metric(&shipper, "connections_total"), Some(1.0));
    assert!(shipper.log().contains("the broker accepts messages again"), "{}", shipper.log());
}

#[test]
fn a_returned_message_is_retried_until_a_queue_is_bound() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::with_channel(node.broker.address(), async |channel| {
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), FieldTable::default()).await
    });
    let shipper = support::start(&node.settings());
    wait::until(LIMIT, || metric(&shipper, "messages_returned_total").filter(|count| *count >= 20.0)).unwrap();
    assert_eq!(metric(&shipper, "events_confirmed_total"), Some(0.0));
    exchange::with_channel(node.broker.address(), async |channel| exchange::bind(&channel, QUEUE, EXCHANGE).await);
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.came_once()));
}

#[test]
fn returned_messages_go_to_the_dead_letter_exchange_if_there_is_one() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::with_channel(node.broker.address(), async |channel| {
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), FieldTable::default()).await?;
        exchange::declare_exchange(&channel, "dead").await?;
        exchange::bind(&channel, QUEUE, "dead").await
    });
    let consumer = Consumer::start(node.broker.address());
    let (code, log) = support::until_idle(&with(node.settings(), &[("AMQP_DEAD_LETTER_EXCHANGE", "dead")]));
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn a_full_queue_refuses_and_nothing_is_lost() {
    let full =
        [("x-max-length", AMQPValue::LongInt(50)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    let node = Node::new(&full);
    let numbers = node.write(0..2000);
    let shipper = support::start(&node.settings());
    wait::until(LIMIT, || metric(&shipper, "messages_refused_total").filter(|count| *count > 100.0)).unwrap();
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.came_once()));
}

#[test]
fn a_missing_exchange_is_named_and_waited_for() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::delete_exchange(node.broker.address());
    let shipper = support::start(&node.settings());
    let page = shipper.until("/output", LIMIT, |status, body| status == 503 && body.contains("NOT_FOUND")).unwrap();
    assert!(page.contains("logstash-exchange"), "{page}");
    exchange::with_channel(node.broker.address(), async |channel| {
        exchange::declare_exchange(&channel, EXCHANGE).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
        exchange::bind(&channel, QUEUE, EXCHANGE).await
    });
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn a_run_until_idle_ends_if_the_broker_does_not_accept_everything() {
    let full =
        [("x-max-length", AMQPValue::LongInt(5)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    let node = Node::new(&full);
    let numbers = node.write(0..20);
    let ends = |settings: &[(String, String)], patience: &str, why: &str| {
        let (code, log) = support::until_idle_with(settings, &["--give-up-after", patience]);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("not everything was shipped") && log.contains(why), "{log}");
    };
    // Nothing listens on port 1.
    ends(&with(node.settings(), &[("AMQP_URL", "amqp://127.0.0.1:1")]), "15s", "no broker: ");
    // The container writes nothing more, so no other message of it shows that only this one is refused.
    ends(&node.settings(), "15s", "the broker refuses messages");
    let consumer = Consumer::start(node.broker.address());
    let (code, log) = support::until_idle(&node.settings());
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
    exchange::delete_exchange(node.broker.address());
    node.write(20..30);
    ends(&node.settings(), "15s", "NOT_FOUND");
}

#[test]
fn a_wrong_password_is_reported_and_not_shown() {
    let node = Node::new(&[]);
    let shipper = support::start(&with(node.settings(), &[("AMQP_PASSWORD", "not-the-password")]));
    shipper.until("/output", LIMIT, |status, body| status == 503 && body.contains("ACCESS_REFUSED")).unwrap();
    assert!(!shipper.log().contains("not-the-password"));
}
