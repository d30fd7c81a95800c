//! Opens a connection: address, TLS, login, virtual host, channel.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, channel, confirm, connection, exchange};
use amq_protocol::types::{AMQPValue, FieldTable};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::connection::{Connection, Stream, blocking, closed};
use super::endpoint::{credentials, named, not_tls, silently_refused, tls};
use super::error::{ConnectionError, unexpected};
use super::frames::{self, CHANNEL, LEAST_FRAME_MAX};
use super::{Address, Endpoint, dial};

/// How long a broker may take from accepting the connection until messages can be published.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Larger frames have no benefit.
const MOST_FRAME_BYTES: u32 = 128 * 1024;

/// The steps of opening a connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectStep {
    /// Resolving the host's name.
    Name,
    /// Connecting to an address.
    Address,
    /// The TLS handshake.
    Tls,
    /// Logging in with the user or the certificate.
    Login,
    /// Opening the virtual host.
    VirtualHost,
    /// Checking that the exchanges exist.
    Exchange,
}

impl Connection {
    /// Opens a connection to one broker, on whichever of its addresses answers. Calls `done` after each successful
    /// step.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]; nothing is left open.
    pub async fn open(
        address: &Address,
        endpoint: &Endpoint,
        done: &mut (dyn FnMut(ConnectStep, String) + Send),
    ) -> Result<Self, ConnectionError> {
        let mut left = dial::resolve(&address.host, address.port).await?;
        let only_one = left.len() == 1;
        let addresses: Vec<_> = left.iter().map(|address| address.ip().to_string()).collect();
        done(ConnectStep::Name, format!("{}: {}", address.host, addresses.join(", ")));
        let mut failures = Vec::new();
        loop {
            let (tcp, chosen) = match dial::first(&left).await {
                Ok(connected) => connected,
                Err(error) if failures.is_empty() => return Err(error),
                Err(error) => {
                    failures.push(match left[..] {
                        [address] => ConnectionError::At { address, error: Box::new(error) },
                        _ => error,
                    });
                    return Err(ConnectionError::Each(failures));
                }
            };
            done(ConnectStep::Address, chosen.to_string());
            let opening = Self::open_on(tcp, &address.host, endpoint, done);
            let error = match tokio::time::timeout(OPEN_LIMIT, opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => error,
                Err(_) => silent(endpoint),
            };
            if only_one {
                return Err(error);
            }
            left.retain(|other| *other != chosen);
            // A refusal by one broker of a cluster holds for all of them.
            let refused = matches!(error, ConnectionError::Closed { .. } | ConnectionError::Credentials(_));
            let error = ConnectionError::At { address: chosen, error: Box::new(error) };
            if refused {
                return Err(error);
            }
            failures.push(error);
            if left.is_empty() {
                return Err(ConnectionError::Each(failures));
            }
        }
    }

    async fn open_on(
        tcp: TcpStream,
        host: &str,
        endpoint: &Endpoint,
        done: &mut (dyn FnMut(ConnectStep, String) + Send),
    ) -> Result<Self, ConnectionError> {
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = if endpoint.tls {
            let host = endpoint.server_name.as_deref().unwrap_or(host);
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| ConnectionError::Credentials(format!("{host}: {error}")))?;
            let config = Arc::new(tls(endpoint.certificate.as_ref())?);
            let connecting = tokio_rustls::TlsConnector::from(config).connect(name, tcp);
            let stream = connecting.await.map_err(not_tls)?;
            let version = stream.get_ref().1.protocol_version();
            done(
                ConnectStep::Tls,
                format!("{host}, {}", version.and_then(|version| version.as_str()).unwrap_or("TLS")),
            );
            Box::new(stream)
        } else {
            Box::new(tcp)
        };
        let mut opened = Self::on(stream, endpoint.heartbeat);
        opened.shake_hands(endpoint, done).await?;
        opened.open_channel(endpoint).await?;
        done(
            ConnectStep::Exchange,
            if endpoint.exchange.is_empty() { "the default one".into() } else { endpoint.exchange.clone() },
        );
        Ok(opened)
    }

    /// Opens the channel again, after [`Event::ChannelClosed`]. Confirms start again with tag 1.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]: the connection is over.
    pub async fn reopen(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
        // Output for the old channel comes before this, and the broker discards it.
        self.send(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})))?;
        self.returning = false;
        match tokio::time::timeout(OPEN_LIMIT, self.open_channel(endpoint)).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectionError::Timeout(format!("no new channel within {} s", OPEN_LIMIT.as_secs()))),
        }
    }

    async fn shake_hands(
        &mut self,
        endpoint: &Endpoint,
        done: &mut (dyn FnMut(ConnectStep, String) + Send),
    ) -> Result<(), ConnectionError> {
        use connection::AMQPMethod as Method;
        frames::write(&frames::protocol_header(), &mut self.output)?;
        let start = match self.method().await.map_err(|error| silently_refused(error, endpoint))? {
            AMQPClass::Connection(Method::Start(start)) => start,
            other => return Err(unexpected("connection.start", &other)),
        };
        let (mechanism, response) = credentials(&endpoint.auth)?;
        let offered = start.mechanisms.to_string();
        if !offered.split(' ').any(|offered| offered == mechanism) {
            return Err(ConnectionError::Credentials(format!("the broker offers {offered}, not {mechanism}")));
        }
        let start_ok = connection::StartOk {
            client_properties: client_properties(),
            mechanism: mechanism.into(),
            response: response.as_str().into(),
            locale: "en_US".into(),
        };
        self.send(0, AMQPClass::Connection(Method::StartOk(start_ok)))?;
        let as_whom = |error| named(error, endpoint);
        let tune = match self.method().await.map_err(as_whom)? {
            AMQPClass::Connection(Method::Tune(tune)) => tune,
            other => return Err(unexpected("connection.tune", &other)),
        };
        done(ConnectStep::Login, format!("{}, {mechanism}", endpoint.auth.user()));
        // 0 means no limit.
        let least = |theirs: u32, ours: u32| if theirs == 0 { ours } else { theirs.min(ours) };
        let frame_max = least(tune.frame_max, MOST_FRAME_BYTES).max(LEAST_FRAME_MAX);
        let heartbeat = least(tune.heartbeat.into(), self.heartbeat.as_secs().clamp(1, 3600) as u32);
        self.heartbeat = Duration::from_secs(heartbeat.into());
        let tune_ok = connection::TuneOk { channel_max: 1, frame_max, heartbeat: heartbeat as u16 };
        self.send(0, AMQPClass::Connection(Method::TuneOk(tune_ok)))?;
        self.frame_max = frame_max as usize;
        let open = connection::Open { virtual_host: endpoint.virtual_host.as_str().into() };
        self.send(0, AMQPClass::Connection(Method::Open(open)))?;
        match self.method().await.map_err(as_whom)? {
            AMQPClass::Connection(Method::OpenOk(_)) => done(ConnectStep::VirtualHost, endpoint.virtual_host.clone()),
            other => return Err(unexpected("connection.open-ok", &other)),
        }
        Ok(())
    }

    async fn open_channel(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
        self.send(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))?;
        match self.method().await? {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => (),
            other => return Err(unexpected("channel.open-ok", &other)),
        }
        let exchanges = [Some(&endpoint.exchange), endpoint.dead_letter_exchange.as_ref()].into_iter().flatten();
        // The default exchange always exists, and may not be declared.
        for exchange in exchanges.filter(|exchange| !exchange.is_empty()) {
            let declare = exchange::Declare {
                exchange: exchange.as_str().into(),
                kind: "direct".into(),
                passive: true,
                durable: false,
                auto_delete: false,
                internal: false,
                nowait: false,
                arguments: FieldTable::default(),
            };
            self.send(CHANNEL, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))?;
            match self.method().await? {
                AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_)) => (),
                other => return Err(unexpected("exchange.declare-ok", &other)),
            }
        }
        let select = confirm::Select { nowait: false };
        self.send(CHANNEL, AMQPClass::Confirm(confirm::AMQPMethod::Select(select)))?;
        match self.method().await? {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => Ok(()),
            other => Err(unexpected("confirm.select-ok", &other)),
        }
    }

    /// The next method, during opening.
    pub(super) async fn method(&mut self) -> Result<AMQPClass, ConnectionError> {
        loop {
            if let Some((frame, length)) = frames::read(&self.input, self.frame_max)? {
                self.input.drain(..length);
                match frame {
                    AMQPFrame::Method(_, method) => {
                        if let Some(refusal) = closed(&method) {
                            return Err(ConnectionError::Closed { refusal, who: String::new() });
                        }
                        match blocking(&method) {
                            Some(event) => self.events.push_back(event),
                            None => return Ok(method),
                        }
                    }
                    _ => continue,
                }
            }
            poll_fn(|context| self.poll_progress(context)).await?;
        }
    }
}

/// A peer that says nothing.
fn silent(endpoint: &Endpoint) -> ConnectionError {
    let how = if endpoint.tls { "over" } else { "without" };
    let seconds = OPEN_LIMIT.as_secs();
    ConnectionError::Timeout(format!(
        "it accepts connections but has not answered within {seconds} s; does this port speak AMQP {how} TLS?"
    ))
}

fn client_properties() -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut capabilities = FieldTable::default();
    for name in ["publisher_confirms", "basic.nack", "connection.blocked", "authentication_failure_close"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("product".into(), text(env!("CARGO_PKG_NAME")));
    properties.insert("version".into(), text(env!("CARGO_PKG_VERSION")));
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}
