//! The broker's side: exchange, queue and binding, through a separate administrator.

use std::net::SocketAddr;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ConnectionProperties, ExchangeKind};
use testbed::rabbitmq::{PASSWORD, USER};
use testbed::wait::LIMIT;

pub const EXCHANGE: &str = "logstash-exchange";
pub const ROUTING_KEY: &str = "logstash";
pub const QUEUE: &str = "events";

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A broker that is just starting accepts connections and may never answer on them.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The time limit for answers that a broker gives soon.
pub async fn in_time<T>(asked: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// A channel on a separate connection.
pub async fn channel(broker: SocketAddr) -> lapin::Result<Channel> {
    let password = PASSWORD.replace('\'', "%27").replace(' ', "%20");
    let uri = format!("amqp://{USER}:{password}@{broker}/%2f");
    let connection = lapin::Connection::connect(&uri, ConnectionProperties::default()).await?;
    connection.create_channel().await
}

/// Runs something on a separate channel, and retries while a broker that has just started closes the connection.
pub fn with_channel<F: AsyncFn(Channel) -> lapin::Result<()>>(broker: SocketAddr, act: F) {
    let done = testbed::wait::patiently(LIMIT, || {
        let result = runtime().block_on(in_time(async { act(channel(broker).await?).await }));
        result.map_err(|error| println!("{broker}: {error}")).ok()
    });
    assert!(done.is_some(), "the broker at {broker} does not do what it is asked");
}

/// Declares the exchange, and the queue with these arguments, bound to it.
pub fn declare(broker: SocketAddr, queue_arguments: &[(&str, AMQPValue)]) {
    let mut arguments = FieldTable::default();
    for (name, value) in queue_arguments {
        arguments.insert((*name).into(), value.clone());
    }
    with_channel(broker, async |channel| {
        declare_exchange(&channel, EXCHANGE).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, arguments.clone()).await?;
        bind(&channel, QUEUE, EXCHANGE).await
    });
}

pub async fn declare_exchange(channel: &Channel, name: &str) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default()).await
}

pub async fn bind(channel: &Channel, queue: &str, exchange: &str) -> lapin::Result<()> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), ROUTING_KEY.into(), options, none).await
}

/// Deletes the exchange.
pub fn delete_exchange(broker: SocketAddr) {
    with_channel(broker, async |channel| {
        channel.exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default()).await
    });
}

/// How many messages wait in the queue.
pub fn queued(broker: SocketAddr) -> u32 {
    let count = std::cell::Cell::new(0);
    with_channel(broker, async |channel| {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        count.set(channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await?.message_count());
        Ok(())
    });
    count.get()
}
