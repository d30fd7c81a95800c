//! `log-shipper check`: connects to each broker as `run` does, prints how long each step took, and gives advice about
//! the first step that fails.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use sidecar::log::LogSettings;
use sidecar::stdio::print;

use crate::amqp::{Address, ConnectStep, Connection, ConnectionError, Event, Refusal};
use crate::container::{Container, Pod};
use crate::outgoing::MessageId;
use crate::settings::BrokerSettings;

/// How long the broker may take to confirm one message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(15);

/// Tries every broker of `AMQP_URL`. With `publish` each gets one test message.
///
/// # Errors
///
/// If a step fails with one of them.
pub async fn run((broker, log): (BrokerSettings, LogSettings), publish: bool) -> anyhow::Result<ExitCode> {
    sidecar::log::init(log);
    let mut failed = 0;
    for address in &broker.addresses {
        print(&format!("{}:{}\n", address.host, address.port))?;
        if !check(address, &broker, publish).await? {
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} brokers can't be used", broker.addresses.len());
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(address: &Address, broker: &BrokerSettings, publish: bool) -> anyhow::Result<bool> {
    let endpoint = &broker.endpoint;
    let mut began = Instant::now();
    let mut steps = Vec::new();
    let opened = Connection::open(address, endpoint, &mut |step, what| {
        let now = Instant::now();
        // If this cannot be written, the next write fails, too, and its error is returned.
        let _ = print(&line("ok", name(step), &what, now - began));
        began = now;
        steps.push(step);
    })
    .await;
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            let failed = next_step(steps.last().copied(), endpoint.tls);
            print(&line("FAILED", name(failed), &error.to_string(), began.elapsed()))?;
            print(&format!("        {}\n", advice(failed, &error)))?;
            return Ok(false);
        }
    };
    if !publish {
        connection.close().await;
        print("        --no-publish: the permission to write, routing and confirms were not checked\n")?;
        return Ok(true);
    }
    let began = Instant::now();
    let answer = tokio::time::timeout(CONFIRM_LIMIT, one_message(&mut connection, broker)).await;
    let took = began.elapsed();
    let (container, key) = (container(), endpoint.routing_key.of(&container()));
    let routing = |result: &str, what: &str| line(result, "routing", what, took);
    let works = match answer {
        Err(_) => {
            print(&line("FAILED", "confirm", &format!("no confirm within {} s", CONFIRM_LIMIT.as_secs()), took))?;
            print("        The broker is out of memory or disk, or a replica of the queue is down: see its log.\n")?;
            false
        }
        Ok(Ok(Answer::Confirmed)) => {
            print(&routing("ok", &format!("a queue takes messages with the routing key {key:?}")))?;
            print(&line("ok", "confirm", &format!("message {} of {container}", message_id().text()), took))?;
            true
        }
        Ok(Ok(Answer::Returned)) => {
            print(&routing("FAILED", &format!("no queue is bound for the routing key {key:?}")))?;
            print(
                "        Bind a queue to the exchange for this key. Until then messages are tried again and none is lost.\n",
            )?;
            false
        }
        Ok(Ok(Answer::Refused)) => {
            print(&line("FAILED", "confirm", "the broker refuses the message (nack)", took))?;
            print("        A full queue with x-overflow: reject-publish refuses messages; see the broker's log.\n")?;
            false
        }
        Ok(Ok(Answer::Closed(refusal))) => {
            print(&line("FAILED", "confirm", &format!("{} {}", refusal.code, refusal.text), took))?;
            print("        The user needs write permission on the exchange, which must not be an internal one.\n")?;
            false
        }
        Ok(Err(error)) => {
            print(&line("FAILED", "confirm", &error.to_string(), took))?;
            false
        }
    };
    connection.close().await;
    Ok(works)
}

enum Answer {
    Confirmed,
    Returned,
    Refused,
    /// It closed the channel.
    Closed(Refusal),
}

async fn one_message(connection: &mut Connection, broker: &BrokerSettings) -> Result<Answer, ConnectionError> {
    let now = jiff::Timestamp::now();
    let body = serde_json::json!({
        "@timestamp": now.to_string(),
        "message": "log-shipper check: this message may be deleted",
        "log": {"flags": ["check"]},
        "agent": {"type": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
    });
    connection.publish(&broker.endpoint, (0, &container()), message_id(), body.to_string().as_bytes(), false)?;
    let mut returned = false;
    loop {
        connection.progress().await?;
        while let Some(event) = connection.event() {
            match event {
                Event::Ack(..) if returned => return Ok(Answer::Returned),
                Event::Ack(..) => return Ok(Answer::Confirmed),
                Event::Nack(..) => return Ok(Answer::Refused),
                Event::Returned(_) => returned = true,
                Event::ChannelClosed(refusal) => return Ok(Answer::Closed(refusal)),
                Event::Blocked(reason) => {
                    // The broker confirms nothing until it unblocks the connection.
                    tracing::warn!(reason, "the broker asks to stop publishing");
                }
                Event::Unblocked => (),
            }
        }
    }
}

/// An id that no file has.
fn message_id() -> MessageId {
    MessageId { file: 0, offset: 0 }
}

/// The names in the test message's routing key and headers.
fn container() -> Container {
    let pod = Pod { namespace: "log-shipper".into(), name: "check".into(), uid: "0".into(), container: "check".into() };
    Container { pod: Some(pod), docker: None, restart: "0".into() }
}

fn next_step(done: Option<ConnectStep>, tls: bool) -> ConnectStep {
    match done {
        None => ConnectStep::Name,
        Some(ConnectStep::Name) => ConnectStep::Address,
        Some(ConnectStep::Address) if tls => ConnectStep::Tls,
        Some(ConnectStep::Address | ConnectStep::Tls) => ConnectStep::Login,
        Some(ConnectStep::Login) => ConnectStep::VirtualHost,
        Some(ConnectStep::VirtualHost | ConnectStep::Exchange) => ConnectStep::Exchange,
    }
}

fn name(step: ConnectStep) -> &'static str {
    match step {
        ConnectStep::Name => "name",
        ConnectStep::Address => "address",
        ConnectStep::Tls => "TLS",
        ConnectStep::Login => "login",
        ConnectStep::VirtualHost => "virtual host",
        ConnectStep::Exchange => "exchange",
    }
}

fn advice(step: ConnectStep, error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::At { error, .. } => return advice(step, error),
        ConnectionError::Each(errors) => return errors.first().map_or("", |error| advice(step, error)),
        ConnectionError::Protocol(_) => return "Check the scheme and the port of AMQP_URL.",
        ConnectionError::Timeout(_) if step > ConnectStep::Address => {
            return "Check the scheme and the port of AMQP_URL, and the broker's log.";
        }
        ConnectionError::Credentials(_) if step == ConnectStep::Tls => {
            return "Check the files in AMQP_CERT_FILE, AMQP_KEY_FILE and SSL_CERT_FILE.";
        }
        _ => (),
    }
    match step {
        ConnectStep::Name => "Check the host in AMQP_URL, and the DNS of this machine.",
        ConnectStep::Address => {
            "Check the host and the port in AMQP_URL, firewalls and network policies, and whether the broker is running."
        }
        ConnectStep::Tls => {
            "SSL_CERT_FILE must contain the CA of the broker's certificate; set AMQP_TLS_SERVER_NAME to the certificate's name, \
             if it is not the host's."
        }
        ConnectStep::Login => {
            "Check AMQP_USERNAME and AMQP_PASSWORD, or AMQP_CERT_FILE; the broker's log gives the reason."
        }
        ConnectStep::VirtualHost => {
            "The virtual host is the path of AMQP_URL; it must exist, and the user needs permissions there."
        }
        ConnectStep::Exchange => {
            "Set AMQP_EXCHANGE and AMQP_DEAD_LETTER_EXCHANGE to existing exchanges, or ask the receiver's administrator to declare them."
        }
    }
}

fn line(result: &str, step: &str, what: &str, took: Duration) -> String {
    format!("{result:>6}  {step:<12}  {what} ({:.1} ms)\n", took.as_secs_f64() * 1000.0)
}
