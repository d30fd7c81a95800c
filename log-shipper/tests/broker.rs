//! The whole shipper against a real RabbitMQ.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use support::consumer::Consumer;
use support::exchange::{self, EXCHANGE, QUEUE, ROUTING_KEY};
use support::kubelet::Container;
use testbed::folder::Folder;
use testbed::rabbitmq::RabbitMq;
use testbed::wait;

const LIMIT: Duration = Duration::from_secs(60);

struct Node {
    broker: RabbitMq,
    folder: Folder,
}

impl Node {
    fn new(queue_arguments: &[(&str, AMQPValue)]) -> Self {
        let node = Self { broker: RabbitMq::start().unwrap(), folder: Folder::new("node").unwrap() };
        exchange::declare(node.broker.address(), queue_arguments);
        node
    }

    fn settings(&self) -> Vec<(String, String)> {
        support::settings(&self.folder.join("pods"), &self.folder.join("state"), self.broker.address())
    }

    /// Writes lines `numbers` to one container.
    fn write(&self, numbers: Range<u64>) -> Range<u64> {
        let mut container = Container::new(&self.folder.join("pods"), 1, u64::MAX);
        numbers.clone().for_each(|number| container.write(number, 50));
        container.finish();
        numbers
    }
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
        // Four rotated files and the live one hold them all.
        containers[number as usize % 20].write(number, (number % 90) as usize);
    }
    containers.iter_mut().for_each(Container::finish);
    let consumer = Consumer::start(node.broker.address());
    let (code, said) = support::until_idle(&node.settings());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(consumer.wait_for(0..20_000, LIMIT), Vec::<u64>::new());
    let (code, said) = support::until_idle(&node.settings());
    assert_eq!(code, Some(0), "{said}");
    let seen = consumer.seen();
    assert!(seen.all().all(|(_, arrivals)| arrivals.times == 1));
    let ids: BTreeSet<_> = seen.all().map(|(_, arrivals)| &arrivals.id).collect();
    assert_eq!(ids.len(), 20_000);
}

#[test]
fn ships_over_tls_with_a_client_certificate() {
    let node = Node::new(&[]);
    let numbers = node.write(0..100);
    let [authority, certificate, key] = node.broker.client_files().map(|path| path.display().to_string());
    let url = format!("amqps://localhost:{}/%2f", node.broker.tls_address().port());
    let certified = [
        ("AMQP_URL", url.as_str()),
        ("AMQP_CERT_FILE", &certificate),
        ("AMQP_KEY_FILE", &key),
        ("SSL_CERT_FILE", &authority),
    ];
    let settings: Vec<_> = with(node.settings(), &certified)
        .into_iter()
        .filter(|(name, _)| !name.contains("USER") && !name.contains("PASS"))
        .collect();
    let consumer = Consumer::start(node.broker.address());
    let (code, said) = support::until_idle(&settings);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn a_returned_message_is_tried_until_a_queue_is_bound() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::with_channel(node.broker.address(), async |channel| {
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), FieldTable::default()).await
    });
    let shipper = support::start(&node.settings());
    let returned = "labhands_log_shipper_messages_returned_total";
    wait::until(LIMIT, || shipper.metric(returned).filter(|count| *count >= 20.0)).unwrap();
    assert_eq!(shipper.metric("labhands_log_shipper_events_confirmed_total"), Some(0.0));
    exchange::with_channel(node.broker.address(), async |channel| exchange::bind(&channel, QUEUE, EXCHANGE).await);
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.times == 1));
}

#[test]
fn what_is_returned_goes_to_the_dead_letter_exchange_if_there_is_one() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::with_channel(node.broker.address(), async |channel| {
        channel.queue_unbind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), FieldTable::default()).await?;
        exchange::declare_exchange(&channel, "dead").await?;
        exchange::bind(&channel, QUEUE, "dead").await
    });
    let consumer = Consumer::start(node.broker.address());
    let (code, said) = support::until_idle(&with(node.settings(), &[("AMQP_DEAD_LETTER_EXCHANGE", "dead")]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
}

#[test]
fn a_full_queue_refuses_and_nothing_is_lost() {
    let full =
        [("x-max-length", AMQPValue::LongInt(50)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    let node = Node::new(&full);
    let numbers = node.write(0..2000);
    let shipper = support::start(&node.settings());
    let refused = "labhands_log_shipper_messages_refused_total";
    wait::until(LIMIT, || shipper.metric(refused).filter(|count| *count > 100.0)).unwrap();
    let consumer = Consumer::start(node.broker.address());
    assert_eq!(consumer.wait_for(numbers, LIMIT), Vec::<u64>::new());
    assert!(consumer.seen().all().all(|(_, arrivals)| arrivals.times == 1));
}

#[test]
fn a_missing_exchange_is_named_and_waited_for() {
    let node = Node::new(&[]);
    let numbers = node.write(0..10);
    exchange::delete_exchange(node.broker.address());
    let shipper = support::start(&node.settings());
    let said = shipper.until_ready(LIMIT, |status, body| status == 503 && body.contains("NOT_FOUND")).unwrap();
    assert!(said.contains("logstash-exchange"), "{said}");
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
fn a_wrong_password_is_said_and_not_shown() {
    let node = Node::new(&[]);
    let shipper = support::start(&with(node.settings(), &[("AMQP_PASSWORD", "not-the-password")]));
    shipper.until_ready(LIMIT, |status, body| status == 503 && body.contains("ACCESS_REFUSED")).unwrap();
    assert!(!shipper.log().contains("not-the-password"));
}
