//! One session with a broker: publishes on one connection until everything is confirmed or the connection is lost.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{Shipping, account, channel_closed};
use crate::amqp::{Blame, Connection, ConnectionError, Event};
use crate::broker_status::BrokerStatus;
use crate::outbox::Outbox;
use crate::outgoing::Batch;

/// The most bytes that are prepared for the socket at once.
const MOST_UNWRITTEN: usize = 256 * 1024;

pub(super) struct Session<'a> {
    shipping: &'a Shipping,
    connection: Connection,
    outbox: &'a mut Outbox,
    status: &'a mut BrokerStatus,
    /// Whether the window is being filled up.
    filling: bool,
    /// Since when the broker accepts messages; `None` while it asks us to stop.
    taking_since: Option<Instant>,
    /// Whether anything was confirmed.
    confirmed: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        shipping: &'a Shipping,
        connection: Connection,
        outbox: &'a mut Outbox,
        status: &'a mut BrokerStatus,
    ) -> Self {
        let taking_since = Some(Instant::now());
        Self { shipping, connection, outbox, status, filling: true, taking_since, confirmed: false }
    }

    /// Publishes until the readers have ended and everything is confirmed, or the connection is lost. Also returns
    /// whether anything was confirmed.
    pub(super) async fn run(mut self, batches: &mut UnboundedReceiver<Batch>) -> (Result<(), ConnectionError>, bool) {
        let end = self.publish_all(batches).await;
        if end.is_ok() {
            self.connection.close().await;
        }
        (end, self.confirmed)
    }

    async fn publish_all(&mut self, batches: &mut UnboundedReceiver<Batch>) -> Result<(), ConnectionError> {
        let mut readers_run = true;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            while let Ok(batch) = batches.try_recv() {
                self.outbox.push(batch);
            }
            let now = Instant::now();
            self.fill_window(now)?;
            if !readers_run && self.outbox.is_empty() {
                return Ok(());
            }
            let pause = self.outbox.paused_until(now).filter(|_| self.taking_since.is_some());
            let mut progress = Ok(());
            tokio::select! {
                made = self.connection.progress() => progress = made,
                batch = batches.recv(), if readers_run => match batch {
                    Some(batch) => self.outbox.push(batch),
                    None => {
                        readers_run = false;
                        self.outbox.end_pauses(Instant::now());
                    }
                },
                () = wait_until(pause) => (),
                _ = tick.tick() => {
                    self.check_broker()?;
                    self.status.update(self.outbox.refused_containers() > 0, &self.shipping.latch);
                }
            }
            while let Some(event) = self.connection.event() {
                self.handle(event).await?;
            }
            // What the broker confirmed before it closed the connection need not be sent again.
            progress?;
        }
    }

    /// Publishes as much as the window and the socket take.
    fn fill_window(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let (shipping, metrics) = (self.shipping, &self.shipping.metrics);
        // Filled up only if a large part is free: a few large writes cost less than many small ones.
        self.filling |= self.outbox.has_much_room();
        while self.taking_since.is_some() && self.filling && self.connection.unwritten() < MOST_UNWRITTEN {
            let Some(sending) = self.outbox.take(now) else { break };
            let container = (sending.source.id, &sending.source.container);
            let endpoint = &shipping.broker.endpoint;
            let put = self.connection.publish(endpoint, container, sending.id, sending.body, sending.dead_letter);
            metrics.messages_published.inc();
            if sending.dead_letter {
                metrics.messages_dead_lettered.inc();
            }
            put?;
        }
        account(shipping, self.outbox.take_settled());
        self.filling &= self.outbox.has_room();
        metrics.unconfirmed.set(self.outbox.pending() as i64);
        metrics.refused_containers.set(self.outbox.refused_containers() as i64);
        shipping.budget.park(self.outbox.parked());
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), ConnectionError> {
        let (shipping, now) = (self.shipping, Instant::now());
        match event {
            Event::Ack(tag, multiple) => {
                let settled = self.outbox.settle(tag, multiple, true, now);
                if settled.confirmed > 0 {
                    self.confirmed = true;
                    self.status.confirmed(&shipping.latch);
                }
                account(shipping, settled);
            }
            Event::Nack(tag, multiple) => {
                let settled = self.outbox.settle(tag, multiple, false, now);
                shipping.metrics.messages_refused.inc_by(settled.failed);
                self.status.refused("the broker refuses messages (is a queue full?); trying again", || None);
                account(shipping, settled);
            }
            Event::Returned(id) => {
                if let Some(source) = self.outbox.returned(id) {
                    shipping.metrics.messages_returned.inc();
                    let key = || Some(shipping.broker.endpoint.routing_key.of(&source.container));
                    self.status.refused("no queue is bound for the routing key; trying again", key);
                }
            }
            Event::ChannelClosed(refusal) => {
                if shipping.blame(&refusal) == Blame::Everything {
                    return Err(ConnectionError::Closed { refusal, who: String::new() });
                }
                self.status.refused(
                    "the broker closes the channel because of individual messages; other messages are shipped",
                    || None,
                );
                channel_closed(shipping, self.outbox, &refusal);
                self.connection.reopen(&shipping.broker.endpoint).await?;
            }
            Event::Blocked(reason) => {
                tracing::warn!(reason, "the broker asks to stop publishing");
                shipping.latch.not_ready(format!("the broker asks to stop publishing: {reason}"));
                self.taking_since = None;
            }
            Event::Unblocked => {
                tracing::info!("the broker accepts messages again");
                self.status.connected(&shipping.latch);
                self.taking_since = Some(now);
            }
        }
        shipping.metrics.blocked.set(self.taking_since.is_none().into());
        Ok(())
    }

    fn check_broker(&mut self) -> Result<(), ConnectionError> {
        let waiting = waiting(self.outbox.oldest_sent(), self.taking_since, Instant::now());
        if waiting > self.shipping.broker.confirm_timeout {
            return Err(ConnectionError::Timeout(format!("no confirm for {} s", waiting.as_secs())));
        }
        self.connection.keep_alive()
    }
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
