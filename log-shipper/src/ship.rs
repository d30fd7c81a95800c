//! Ships from the readers to a broker: connects, publishes, and handles the broker's answers, forever.

use std::time::{Duration, Instant};

use sidecar::readiness::Latch;
use sidecar::retry::{self, BackoffBuilder};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::amqp::{Blame, Connection, ConnectionError, Event, Refusal};
use crate::broker_status::{BrokerStatus, report_fate};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Settled};
use crate::outgoing::{Batch, Budget};
use crate::settings::{BrokerSettings, DEAD_LETTER_AFTER};

/// The most bytes that are prepared for the socket at once.
const MOST_UNWRITTEN: usize = 256 * 1024;

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

/// Why a session ended.
enum SessionEnd {
    /// Everything was confirmed, and nothing more will come.
    Done,
    /// The connection was lost.
    Lost(ConnectionError),
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
        outbox.hurry(Instant::now());
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
                let (end, confirmed) = session(shipping, connection, &mut outbox, batches, &mut status).await;
                shipping.metrics.connected.set(0);
                shipping.metrics.blocked.set(0);
                if confirmed {
                    delays = retry::forever().build();
                }
                match end {
                    SessionEnd::Done => return,
                    SessionEnd::Lost(ConnectionError::Closed { refusal, .. })
                        if shipping.blame(&refusal) != Blame::Everything =>
                    {
                        channel_closed(shipping, &mut outbox, &refusal);
                        tokio::time::sleep(SHORT_WAIT).await;
                        continue;
                    }
                    SessionEnd::Lost(error) => error,
                }
            }
            Err(error) => error,
        };
        outbox.disconnected(Instant::now());
        account(shipping, outbox.aftermath());
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

/// Publishes on one connection. Also returns whether anything was confirmed on it.
async fn session(
    shipping: &Shipping,
    mut connection: Connection,
    outbox: &mut Outbox,
    batches: &mut UnboundedReceiver<Batch>,
    status: &mut BrokerStatus,
) -> (SessionEnd, bool) {
    let endpoint = &shipping.broker.endpoint;
    let (mut filling, mut readers_run, mut confirmed) = (true, true, false);
    // `None` while the broker asks us to stop.
    let mut taking_since = Some(Instant::now());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        while let Ok(batch) = batches.try_recv() {
            outbox.push(batch);
        }
        // Filled up only if a large part is free: a few large writes cost less than many small ones.
        filling |= outbox.has_much_room();
        let now = Instant::now();
        while taking_since.is_some() && filling && connection.unwritten() < MOST_UNWRITTEN {
            let Some(sending) = outbox.take(now) else { break };
            let container = (sending.source.id, &sending.source.container);
            let put = connection.publish(endpoint, container, sending.id, sending.body, sending.dead_letter);
            shipping.metrics.messages_published.inc();
            if sending.dead_letter {
                shipping.metrics.messages_dead_lettered.inc();
            }
            if let Err(error) = put {
                return (SessionEnd::Lost(error), confirmed);
            }
        }
        account(shipping, outbox.aftermath());
        filling &= outbox.has_room();
        shipping.metrics.unconfirmed.set(outbox.pending() as i64);
        shipping.metrics.refused_containers.set(outbox.refused_containers() as i64);
        shipping.budget.park(outbox.parked());
        if !readers_run && outbox.is_empty() {
            connection.close().await;
            return (SessionEnd::Done, confirmed);
        }
        let pause = outbox.paused_until(now).filter(|_| taking_since.is_some());
        tokio::select! {
            progress = connection.progress() => if let Err(error) = progress {
                return (SessionEnd::Lost(error), confirmed);
            },
            batch = batches.recv(), if readers_run => match batch {
                Some(batch) => outbox.push(batch),
                None => {
                    readers_run = false;
                    outbox.hurry(Instant::now());
                }
            },
            () = wait_until(pause) => (),
            _ = tick.tick() => {
                if let Err(error) = check(shipping, &mut connection, outbox, taking_since) {
                    return (SessionEnd::Lost(error), confirmed);
                }
                status.update(outbox.refused_containers() > 0, &shipping.latch);
            }
        }
        while let Some(event) = connection.event() {
            let now = Instant::now();
            match event {
                Event::Ack(tag, multiple) => {
                    let settled = outbox.settle(tag, multiple, true, now);
                    if settled.confirmed > 0 {
                        confirmed = true;
                        status.confirmed(&shipping.latch);
                    }
                    account(shipping, settled);
                }
                Event::Nack(tag, multiple) => {
                    let settled = outbox.settle(tag, multiple, false, now);
                    shipping.metrics.messages_refused.inc_by(settled.failed);
                    status.refused("the broker refuses messages (is a queue full?); trying again");
                    account(shipping, settled);
                }
                Event::Returned(id) => {
                    if outbox.returned(id) {
                        shipping.metrics.messages_returned.inc();
                        status.refused("no queue is bound for the routing key; trying again");
                    }
                }
                Event::ChannelClosed(refusal) => {
                    if shipping.blame(&refusal) == Blame::Everything {
                        return (SessionEnd::Lost(ConnectionError::Closed { refusal, who: String::new() }), confirmed);
                    }
                    status.refused(
                        "the broker closes the channel because of individual messages; other messages are shipped",
                    );
                    channel_closed(shipping, outbox, &refusal);
                    if let Err(error) = connection.reopen(endpoint).await {
                        return (SessionEnd::Lost(error), confirmed);
                    }
                }
                Event::Blocked(reason) => {
                    tracing::warn!(reason, "the broker asks to stop publishing");
                    shipping.latch.not_ready(format!("the broker asks to stop publishing: {reason}"));
                    taking_since = None;
                }
                Event::Unblocked => {
                    tracing::info!("the broker accepts messages again");
                    status.connected(&shipping.latch);
                    taking_since = Some(now);
                }
            }
            shipping.metrics.blocked.set(taking_since.is_none().into());
        }
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

fn check(
    shipping: &Shipping,
    connection: &mut Connection,
    outbox: &Outbox,
    taking_since: Option<Instant>,
) -> Result<(), ConnectionError> {
    let waiting = waiting(outbox.oldest_sent(), taking_since, Instant::now());
    if waiting > shipping.broker.confirm_timeout {
        return Err(ConnectionError::Timeout(format!("no confirm for {} s", waiting.as_secs())));
    }
    connection.keep_alive()
}

/// How long the broker could have confirmed the oldest message and did not. A broker that asks us to stop does not
/// confirm, either.
fn waiting(sent: Option<Instant>, taking_since: Option<Instant>, now: Instant) -> Duration {
    let since = sent.zip(taking_since).map(|(sent, taking_since)| sent.max(taking_since));
    since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_asked_to_stop_gets_its_full_time_again_after_that() {
        let sent = Instant::now();
        let after = |seconds| sent + Duration::from_secs(seconds);
        assert_eq!(waiting(Some(sent), Some(sent), after(100)), Duration::from_secs(100));
        assert_eq!(waiting(Some(sent), None, after(100)), Duration::ZERO);
        assert_eq!(waiting(Some(sent), Some(after(99)), after(100)), Duration::from_secs(1));
        assert_eq!(waiting(None, Some(sent), after(100)), Duration::ZERO);
    }
}
