//! The broker that all shippers ship to, observed through a separate client.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use testbed::rabbitmq::RabbitMq;
use tokio::runtime::Runtime;

pub(super) const EXCHANGE: &str = "logstash-exchange";
pub(super) const ROUTING_KEY: &str = "logstash";
const QUEUE: &str = "events";

/// Another user than the testbed's, because rsyslog accepts no password with a space.
pub(super) const USER: &str = "bench";
pub(super) const PASSWORD: &str = "bench";

/// How to reach it over TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) port: u16,
    /// The PEM file of the CA of its certificate.
    pub(super) authority: PathBuf,
}

/// A real RabbitMQ with one exchange and one queue.
pub(super) struct Broker {
    runtime: Runtime,
    channel: Channel,
    _connection: Connection,
    server: RabbitMq,
}

impl Broker {
    pub(super) fn start() -> Result<Self> {
        let server = RabbitMq::start()?;
        server.control(&["add_user", USER, PASSWORD])?;
        server.control(&["set_permissions", USER, ".*", ".*", ".*"])?;
        // A second thread, so that heartbeats continue.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (_connection, channel) = runtime.block_on(connect(server.address()))?;
        Ok(Self { runtime, channel, _connection, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The port of its TLS listener, for `localhost`, and its CA.
    pub(super) fn tls(&self) -> Tls {
        let [authority, ..] = self.server.client_files();
        Tls { port: self.server.tls_address().port(), authority }
    }

    /// An empty durable queue that keeps its messages on disk, so that all messages of a run fit and can be counted.
    pub(super) fn empty_queue(&self) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-mode".into(), AMQPValue::LongString("lazy".into()));
        self.runtime.block_on(async {
            let (channel, none) = (&self.channel, FieldTable::default);
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, none()).await?;
            channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(QUEUE.into(), durable, arguments).await?;
            let options = QueueBindOptions::default();
            channel.queue_bind(QUEUE.into(), EXCHANGE.into(), ROUTING_KEY.into(), options, none()).await?;
            Ok(())
        })
    }

    /// How many messages are in the queue.
    pub(super) fn messages(&self) -> Result<u64> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declare = self.channel.queue_declare(QUEUE.into(), passive, FieldTable::default());
        Ok(self.runtime.block_on(declare)?.message_count().into())
    }

    /// Consumes all messages that are in the queue now.
    pub(super) fn take_all(&self, take: impl FnMut(&[u8])) -> Result<()> {
        self.take(usize::try_from(self.messages()?)?, take)
    }

    /// Consumes this many messages, in any order.
    pub(super) fn take(&self, messages: usize, mut take: impl FnMut(&[u8])) -> Result<()> {
        self.runtime.block_on(async {
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let (tag, none) = ("judge", FieldTable::default());
            let mut consumer = self.channel.basic_consume(QUEUE.into(), tag.into(), options, none).await?;
            for _ in 0..messages {
                let delivery = consumer.next().await.context("the broker ended the consumer")??;
                take(&delivery.data);
            }
            self.channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await?;
            Ok(())
        })
    }
}

async fn connect(address: SocketAddr) -> Result<(Connection, Channel)> {
    let uri = format!("amqp://{USER}:{PASSWORD}@{address}/%2f");
    let connection =
        Connection::connect(&uri, ConnectionProperties::default()).await.context("connect to the broker")?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}
