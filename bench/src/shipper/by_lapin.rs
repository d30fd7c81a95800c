//! A publisher on lapin, used as well as it can be: one channel, confirms, and as many messages in flight as log-shipper has. It
//! has no checkpoint, no discovery and no rotation. It is a separate program, so that its CPU time can be measured.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

use super::broker::{EXCHANGE, PASSWORD, ROUTING_KEY, USER};

/// The number of messages in flight, as log-shipper's default.
const WINDOW: usize = 500;

/// The subcommand that starts it: `bench COMMAND LOGS ADDRESS`.
pub(crate) const COMMAND: &str = "publish-by-lapin";

/// Publishes each line of the files below `logs` as an event about as long as log-shipper's, and ends once all are confirmed.
pub(crate) fn run(logs: &Path, address: &str) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(publish(logs, address))
}

async fn publish(logs: &Path, address: &str) -> Result<()> {
    let uri = format!("amqp://{USER}:{PASSWORD}@{address}/%2f");
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut in_flight = FuturesOrdered::new();
    let mut number = 0_u64;
    for pod in fs::read_dir(logs)? {
        let path = pod?.path().join("main/0.log");
        let text = fs::read_to_string(&path)?;
        let shown = path.display().to_string();
        let mut offset = 0;
        for line in text.lines() {
            let (time, rest) = line.split_once(' ').context("a line without a time")?;
            let (stream, rest) = rest.split_once(' ').context("a line without a stream")?;
            let message = rest.get(2..).context("a line without a message")?.replace('"', "\\\"");
            let body = format!(
                "{{\"@timestamp\":\"{time}\",\"message\":\"{message}\",\"stream\":\"{stream}\",\"log\":{{\"offset\":{offset},\
                 \"file\":{{\"path\":\"{shown}\"}}}},{FIELDS}}}"
            );
            offset += line.len() + 1;
            number += 1;
            if in_flight.len() >= WINDOW {
                in_flight.next().await.context("nothing is in flight")??;
            }
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_message_id(format!("{number:049x}").into());
            // All are polled concurrently until the broker confirms them; awaiting them one by one costs several times as much.
            let channel = channel.clone();
            in_flight.push_back(async move {
                let publishing =
                    channel.basic_publish(EXCHANGE.into(), ROUTING_KEY.into(), mandatory, body.as_bytes(), properties);
                match publishing.await?.await? {
                    Confirmation::Ack(None) => Ok(()),
                    other => bail!("the broker answers {other:?}"),
                }
            });
        }
    }
    while let Some(confirmed) = in_flight.next().await {
        confirmed?;
    }
    Ok(())
}

/// The fields of an `ecs` event of log-shipper besides the line.
const FIELDS: &str = "\"agent\":{\"ephemeral_id\":\"00000000000000000000000000000000\",\"id\":\
    \"00000000000000000000000000000000\",\"name\":\"bench\",\"type\":\"log-shipper\",\"version\":\"0.1.0\"},\"ecs\":{\"version\":\
    \"8.11.0\"},\"input\":{\"type\":\"container\"},\"kubernetes\":{\"container\":{\"name\":\"main\"},\"namespace\":\"space-0\",\
    \"pod\":{\"name\":\"pod-0\",\"uid\":\"uid-000000\"}}";
