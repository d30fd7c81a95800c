//! The broker's side: exchange, queue and binding, by an administrator of their own.

use std::net::SocketAddr;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ConnectionProperties, ExchangeKind};
use testbed::rabbitmq::{PASSWORD, USER};

pub const EXCHANGE: &str = "logstash-exchange";
pub const ROUTING_KEY: &str = "logstash";
pub const QUEUE: &str = "events";

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A broker that is just starting takes connections and may never answer on them.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

pub async fn channel(broker: SocketAddr) -> lapin::Result<Channel> {
    match tokio::time::timeout(OPEN_LIMIT, open(broker)).await {
        Ok(opened) => opened,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

async fn open(broker: SocketAddr) -> lapin::Result<Channel> {
    let password = PASSWORD.replace('\'', "%27").replace(' ', "%20");
    let uri = format!("amqp://{USER}:{password}@{broker}/%2f");
    let connection = lapin::Connection::connect(&uri, ConnectionProperties::default()).await?;
    connection.create_channel().await
}

/// Does something to the broker on a channel of its own.
pub fn with_channel<F: AsyncFnOnce(Channel) -> lapin::Result<()>>(broker: SocketAddr, act: F) {
    runtime().block_on(async { act(channel(broker).await?).await }).unwrap();
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
        channel.queue_declare(QUEUE.into(), durable, arguments).await?;
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
