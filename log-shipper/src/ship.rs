//! Ships from the readers to a broker: connects, runs a session ([`session`]), and connects again when it is lost.

mod session;

use std::time::{Duration, Instant};

use sidecar::readiness::Latch;
use sidecar::retry::{self, BackoffBuilder};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::amqp::{Blame, Connection, ConnectionError, Refusal};
use crate::broker_status::{BrokerStatus, report_fate};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Settled};
use crate::outgoing::{Batch, Budget};
use crate::settings::{BrokerSettings, DEAD_LETTER_AFTER};

use self::session::Session;

/// The longest pause between two attempts to connect, because meanwhile deleted files fill the disk.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The pause after the broker closed a connection because of one message.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// The settings and resources of shipping.
#[derive(Debug)]
pub struct Shipping {
    /// The broker.
    pub broker: BrokerSettings,
    /// The budget to which confirmed bytes are returned.
    pub budget: Budget,
    /// The metrics.
    pub metrics: Metrics,
    /// Ready while a broker accepts events.
    pub latch: Latch,
    /// Whether the process ends when everything is confirmed.
    pub until_idle: bool,
}

/// Confirms a batch, so that its log's checkpoint can advance.
pub fn confirm(batch: Batch, budget: &Budget, metrics: &Metrics) {
    batch.receipt.confirm();
    metrics.events_confirmed.inc_by(batch.events);
    budget.give(batch.bytes.len());
}

/// Ships batches until the readers have ended and everything is confirmed. After `stop`, a lost or missing broker ends
/// it, too; the next run reads unconfirmed lines again.
pub async fn ship(shipping: &Shipping, batches: &mut UnboundedReceiver<Batch>, stop: &CancellationToken) {
    let broker = &shipping.broker;
    let dead_letter_after = broker.endpoint.dead_letter_exchange.as_ref().map(|_| DEAD_LETTER_AFTER);
    let mut outbox = Outbox::new(broker.window, dead_letter_after);
    if shipping.until_idle {
        outbox.end_pauses(Instant::now());
    }
    // Different nodes start with different brokers.
    let mut host = std::process::id() as usize;
    let mut delays = retry::forever().build();
    // Messages that were refused on one connection are refused on the next, until something is confirmed.
    let mut status = BrokerStatus::default();
    loop {
        host += 1;
        let address = &broker.addresses[host % broker.addresses.len()];
        let name = format!("{}:{}", address.host, address.port);
        let mut unheard = |_, _| ();
        let opened = tokio::select! {
            opened = Connection::open(address, &broker.endpoint, &mut unheard) => opened,
            () = stop.cancelled() => return,
        };
        let error = match opened {
            Ok(connection) => {
                tracing::info!(broker = %name, exchange = %broker.endpoint.exchange, "connected");
                shipping.metrics.connections.inc();
                shipping.metrics.connected.set(1);
                status.connected(&shipping.latch);
                let (end, confirmed) = Session::new(shipping, connection, &mut outbox, &mut status).run(batches).await;
                shipping.metrics.connected.set(0);
                shipping.metrics.blocked.set(0);
                if confirmed {
                    delays = retry::forever().build();
                }
                match end {
                    Ok(()) => return,
                    Err(ConnectionError::Closed { refusal, .. }) if shipping.blame(&refusal) != Blame::Everything => {
                        channel_closed(shipping, &mut outbox, &refusal);
                        tokio::time::sleep(SHORT_WAIT).await;
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        outbox.disconnected(Instant::now());
        account(shipping, outbox.take_settled());
        shipping.latch.not_ready(format!("no broker: {error}"));
        let delay = delays.next().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        tracing::warn!(broker = %name, %error, again_in = ?delay, unconfirmed = outbox.pending(), "no connection to the broker");
        tokio::select! {
            () = tokio::time::sleep(delay) => (),
            () = stop.cancelled() => return,
        }
    }
}

impl Shipping {
    fn blame(&self, refusal: &Refusal) -> Blame {
        let endpoint = &self.broker.endpoint;
        refusal.blame(&endpoint.exchange, endpoint.dead_letter_exchange.as_deref())
    }
}

/// The broker closed the channel or the connection because of a message.
fn channel_closed(shipping: &Shipping, outbox: &mut Outbox, refusal: &Refusal) {
    let blame = shipping.blame(refusal);
    tracing::warn!(
        code = refusal.code,
        text = refusal.text,
        ?blame,
        "the broker refused a message and closed the channel"
    );
    let key = &shipping.broker.endpoint.routing_key;
    let settled = outbox.channel_closed(&blame, |container| key.of(container), Instant::now());
    shipping.metrics.messages_refused.inc_by(settled.failed.max(1));
    account(shipping, settled);
}

fn account(shipping: &Shipping, settled: Settled) {
    shipping.metrics.messages_confirmed.inc_by(settled.confirmed);
    for verdict in settled.verdicts {
        report_fate(&verdict, &shipping.metrics);
    }
    for batch in settled.batches {
        confirm(batch, &shipping.budget, &shipping.metrics);
    }
}
