//! One connection to one broker: opening it, publishing on it, and what comes back.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange};
use amq_protocol::types::{AMQPValue, FieldTable};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::endpoint::{credentials, named, not_tls, silently_refused, tls};
use super::frames::{self, CHANNEL, FIRST_FRAME_MAX, LEAST_FRAME_MAX, Template};
use super::{Address, Endpoint, Refusal, dial, route};
use crate::container::Container;
use crate::outgoing::MessageId;

/// Room for output that is kept while nothing is to be written.
const IDLE_BYTES: usize = 16 * 1024;

/// How long a broker may take, once it has taken a connection, until messages can be published.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Containers whose messages' heads are kept ready.
const MOST_TEMPLATES: usize = 10_000;

/// Frames larger than this bring nothing.
const MOST_FRAME_BYTES: u32 = 128 * 1024;

/// What the broker says while we publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It took this message, or all up to it.
    Ack(u64, bool),
    /// It refuses this message, or all up to it.
    Nack(u64, bool),
    /// No queue wants the message with this id. Its ack follows all the same.
    Returned(MessageId),
    /// It closed the channel because of something that was published: [`Connection::reopen`] it.
    ChannelClosed(Refusal),
    /// It asks to stop publishing, for this reason.
    Blocked(String),
    /// Publishing may go on.
    Unblocked,
}

/// Why a connection could not be had or came to its end.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// A socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A frame could not be read or written.
    #[error("{0}")]
    Codec(String),
    /// The name could not be resolved.
    #[error("the name {host} can't be resolved: {error}")]
    Name {
        /// The name.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// One of several addresses of a name failed.
    #[error("{address}: {error}")]
    At {
        /// The address.
        address: SocketAddr,
        /// What failed there.
        error: Box<ConnectionError>,
    },
    /// The broker ended it.
    #[error("the broker closed it: {} {}{who}", refusal.code, refusal.text)]
    Closed {
        /// Its reply code and words.
        refusal: Refusal,
        /// As whom we came, where that may be why.
        who: String,
    },
    /// What answers is no AMQP 0-9-1, or no TLS.
    #[error("{0}")]
    Protocol(String),
    /// A method came that does not belong there.
    #[error("the broker answered {got} where {expected} was expected")]
    Unexpected {
        /// What was waited for.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// The credentials can't be read, or the broker takes none of this kind.
    #[error("{0}")]
    Credentials(String),
    /// Nothing came in time.
    #[error("{0}")]
    Timeout(String),
}

/// What is done to open a connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The host's name is resolved.
    Name,
    /// An address takes a connection.
    Address,
    /// It proves by TLS who it is.
    Tls,
    /// It takes our user or certificate.
    Login,
    /// The user may use the virtual host.
    VirtualHost,
    /// The exchanges are there.
    Exchange,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection with one channel in confirm mode.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes from the broker that are not taken apart yet.
    input: Vec<u8>,
    /// Bytes to the broker, and how many of them were written.
    output: Vec<u8>,
    written: usize,
    frame_max: usize,
    heartbeat: Duration,
    received: Instant,
    sent: Instant,
    /// How the messages of each container begin, by its log's id and whether they are dead letters; and the one used last.
    templates: HashMap<(u64, bool), Template>,
    last_template: Option<((u64, bool), Template)>,
    /// A return whose header is still to come.
    returning: bool,
    events: VecDeque<Event>,
}

impl Connection {
    /// Opens a connection to one broker, whichever of its addresses answers; `done` hears of each step that worked.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]; nothing is left open.
    pub async fn open(
        address: &Address,
        endpoint: &Endpoint,
        done: &mut (dyn FnMut(Step, String) + Send),
    ) -> Result<Self, ConnectionError> {
        let mut left = dial::resolve(&address.host, address.port).await?;
        let only_one = left.len() == 1;
        let said: Vec<_> = left.iter().map(|address| address.ip().to_string()).collect();
        done(Step::Name, format!("{}: {}", address.host, said.join(", ")));
        loop {
            let (tcp, chosen) = dial::first(&left).await?;
            done(Step::Address, chosen.to_string());
            let opening = Self::open_on(tcp, &address.host, endpoint, done);
            let error = match tokio::time::timeout(OPEN_LIMIT, opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => error,
                Err(_) => ConnectionError::Timeout(format!(
                    "it takes connections, and has not answered within {} s; does this port speak AMQP{}?",
                    OPEN_LIMIT.as_secs(),
                    if endpoint.tls { " over TLS" } else { " without TLS" },
                )),
            };
            left.retain(|other| *other != chosen);
            // What one broker of a cluster refuses, all of them do.
            let refused = matches!(error, ConnectionError::Closed { .. } | ConnectionError::Credentials(_));
            if only_one {
                return Err(error);
            }
            if left.is_empty() || refused {
                return Err(ConnectionError::At { address: chosen, error: Box::new(error) });
            }
        }
    }

    async fn open_on(
        tcp: TcpStream,
        host: &str,
        endpoint: &Endpoint,
        done: &mut (dyn FnMut(Step, String) + Send),
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
            done(Step::Tls, format!("{host}, {}", version.and_then(|version| version.as_str()).unwrap_or("TLS")));
            Box::new(stream)
        } else {
            Box::new(tcp)
        };
        let now = Instant::now();
        let mut opened = Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            frame_max: FIRST_FRAME_MAX,
            heartbeat: endpoint.heartbeat,
            received: now,
            sent: now,
            templates: HashMap::new(),
            last_template: None,
            returning: false,
            events: VecDeque::new(),
        };
        opened.shake_hands(endpoint, done).await?;
        opened.open_channel(endpoint).await?;
        done(
            Step::Exchange,
            if endpoint.exchange.is_empty() { "the default one".into() } else { endpoint.exchange.clone() },
        );
        Ok(opened)
    }

    /// Opens the channel again, after [`Event::ChannelClosed`]. Confirms begin with tag 1.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]: the connection is over.
    pub async fn reopen(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
        // What is still to be written for the old channel comes before this, and the broker drops it.
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
        done: &mut (dyn FnMut(Step, String) + Send),
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
        done(Step::Login, format!("{}, {mechanism}", endpoint.auth.user()));
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
            AMQPClass::Connection(Method::OpenOk(_)) => done(Step::VirtualHost, endpoint.virtual_host.clone()),
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
        // The default exchange is always there, and may not be asked for.
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

    /// Puts a message of a container's into the output; it is written by [`Connection::progress`]. `log` is the same for all
    /// messages of the container.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Codec`] when the names can't be encoded.
    pub fn publish(
        &mut self,
        endpoint: &Endpoint,
        (log, container): (u64, &Container),
        id: MessageId,
        body: &[u8],
        dead_letter: bool,
    ) -> Result<(), ConnectionError> {
        let key = (log, dead_letter);
        if self.last_template.as_ref().is_none_or(|(last, _)| *last != key) {
            let template = match self.templates.get(&key) {
                Some(template) => template.clone(),
                None => {
                    let dead_letters = endpoint.dead_letter_exchange.as_ref().filter(|_| dead_letter);
                    let exchange = dead_letters.unwrap_or(&endpoint.exchange);
                    let template =
                        Template::new(exchange, &endpoint.routing_key.of(container), route::headers(container))?;
                    if self.templates.len() >= MOST_TEMPLATES {
                        self.templates.clear();
                    }
                    self.templates.insert(key, template.clone());
                    template
                }
            };
            self.last_template = Some((key, template));
        }
        if let Some((_, template)) = &self.last_template {
            template.write(&id, body, self.frame_max, &mut self.output);
        }
        Ok(())
    }

    /// How many bytes wait to be written.
    pub fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes and reads what is possible; returns when all was written or something was read. Losing the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]: the connection is over.
    pub async fn progress(&mut self) -> Result<(), ConnectionError> {
        // Opening may have left something unread.
        if self.take_frames()? > 0 {
            return Ok(());
        }
        poll_fn(|context| self.poll_progress(context)).await?;
        self.take_frames().map(|_| ())
    }

    /// Takes the frames that are there; gives how many bytes they were.
    fn take_frames(&mut self) -> Result<usize, ConnectionError> {
        let mut taken = 0;
        while let Some((frame, length)) = frames::read(&self.input[taken..], self.frame_max)? {
            taken += length;
            self.take(frame)?;
        }
        self.input.drain(..taken);
        Ok(taken)
    }

    /// The next thing that the broker said.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends a heartbeat if one is due, and notices a broker that has gone silent. To be called every second or so.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Timeout`].
    pub fn keep_alive(&mut self) -> Result<(), ConnectionError> {
        let silent = self.received.elapsed();
        if silent > 2 * self.heartbeat {
            return Err(ConnectionError::Timeout(format!("no sign of life for {} s", silent.as_secs())));
        }
        if self.unwritten() == 0 {
            // What the last burst took.
            self.output.shrink_to(IDLE_BYTES);
            if self.sent.elapsed() > self.heartbeat / 2 {
                frames::write(&AMQPFrame::Heartbeat, &mut self.output)?;
            }
        }
        Ok(())
    }

    /// Says goodbye and waits shortly for the answer.
    pub async fn close(mut self) {
        let close = connection::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
        let closing = async {
            self.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))?;
            // The broker answers and waits for us to close the socket.
            while !matches!(self.method().await?, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) {}
            Ok(())
        };
        // Either way it is over.
        let _: Result<Result<(), ConnectionError>, _> = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }

    fn send(&mut self, channel: u16, method: AMQPClass) -> Result<(), ConnectionError> {
        frames::write(&AMQPFrame::Method(channel, method), &mut self.output)
    }

    /// The next method, while the connection is opened.
    async fn method(&mut self) -> Result<AMQPClass, ConnectionError> {
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

    fn take(&mut self, frame: AMQPFrame) -> Result<(), ConnectionError> {
        match frame {
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
                self.events.push_back(Event::Ack(ack.delivery_tag, ack.multiple));
            }
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) => {
                self.events.push_back(Event::Nack(nack.delivery_tag, nack.multiple));
            }
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Return(_))) => self.returning = true,
            AMQPFrame::Header(_, header) if self.returning => {
                self.returning = false;
                let id = header.properties.message_id().as_ref().and_then(|id| MessageId::parse(id.as_str()));
                self.events.extend(id.map(Event::Returned));
            }
            AMQPFrame::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
                let text = close.reply_text.as_str().to_owned();
                let refusal = Refusal { code: close.reply_code, text, method: (close.class_id, close.method_id) };
                self.events.push_back(Event::ChannelClosed(refusal));
            }
            AMQPFrame::Method(_, method) => {
                if let Some(refusal) = closed(&method) {
                    return Err(ConnectionError::Closed { refusal, who: String::new() });
                }
                self.events.extend(blocking(&method));
            }
            _ => (),
        }
        Ok(())
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut all_written = false;
        while self.unwritten() > 0 {
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.sent = Instant::now();
                    all_written = self.unwritten() == 0;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        if all_written {
            self.output.clear();
            self.written = 0;
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
            return Poll::Ready(Err(error.into()));
        }
        let filled = self.input.len();
        self.input.resize(filled + 16 * 1024, 0);
        let mut buffer = ReadBuf::new(&mut self.input[filled..]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let came = buffer.filled().len();
        self.input.truncate(filled + came);
        match polled {
            Poll::Ready(Ok(())) if came == 0 => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Poll::Ready(Ok(())) => {
                self.received = Instant::now();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending if all_written => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn closed(method: &AMQPClass) -> Option<Refusal> {
    let (code, text, method) = match method {
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
            (close.reply_code, &close.reply_text, (close.class_id, close.method_id))
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
            (close.reply_code, &close.reply_text, (close.class_id, close.method_id))
        }
        _ => return None,
    };
    Some(Refusal { code, text: text.as_str().to_owned(), method })
}

fn blocking(method: &AMQPClass) -> Option<Event> {
    match method {
        AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) => {
            Some(Event::Blocked(blocked.reason.as_str().to_owned()))
        }
        AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => Some(Event::Unblocked),
        _ => None,
    }
}

fn unexpected(expected: &'static str, got: &AMQPClass) -> ConnectionError {
    let got = format!("class {} method {}", got.get_amqp_class_id(), got.get_amqp_method_id());
    ConnectionError::Unexpected { expected, got }
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

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{connection::AMQPMethod as OfConnection, exchange::AMQPMethod as OfExchange};
    use sidecar::secret::{Secret, SecretSource};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::amqp::{Auth, RoutingKey};

    fn endpoint() -> Endpoint {
        let password = SecretSource::Value(Secret::new("p"));
        Endpoint {
            tls: false,
            server_name: None,
            certificate: None,
            auth: Auth::Password { user: "u".into(), password },
            virtual_host: "/".into(),
            exchange: "logs".into(),
            routing_key: RoutingKey::parse("key").unwrap(),
            dead_letter_exchange: None,
            heartbeat: Duration::from_secs(30),
        }
    }

    /// A broker that says all it has to say at once, whatever it is sent.
    async fn broker(frame_max: u32, then: Vec<AMQPFrame>) -> (Address, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: FieldTable::default(),
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        };
        let on = |channel: u16, method: AMQPClass| AMQPFrame::Method(channel, method);
        let declared = exchange::DeclareOk {};
        let mut frames = vec![
            on(0, AMQPClass::Connection(OfConnection::Start(start))),
            on(
                0,
                AMQPClass::Connection(OfConnection::Tune(connection::Tune { channel_max: 0, frame_max, heartbeat: 0 })),
            ),
            on(0, AMQPClass::Connection(OfConnection::OpenOk(connection::OpenOk {}))),
            on(1, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))),
            on(1, AMQPClass::Exchange(OfExchange::DeclareOk(declared))),
            on(1, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))),
        ];
        frames.extend(then);
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frames::write(frame, &mut bytes).unwrap());
        let serving = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            heard
        });
        (Address { host: "127.0.0.1".into(), port }, serving)
    }

    fn container() -> Container {
        Container { pod: None, docker: None, restart: "0".into() }
    }

    #[tokio::test]
    async fn a_broker_that_asks_for_absurdly_small_frames_gets_the_smallest_there_are() {
        for frame_max in [1, 8, 100, 4095] {
            let (address, serving) = broker(frame_max, Vec::new()).await;
            let mut connection = Connection::open(&address, &endpoint(), &mut |_, _| ()).await.unwrap();
            let id = MessageId { file: 1, offset: 2 };
            connection.publish(&endpoint(), (1, &container()), id, &[b'x'; 10_000], false).unwrap();
            while connection.progress().await.is_ok() {}
            drop(connection);
            let heard = serving.await.unwrap();
            let whole = heard.windows(4088).filter(|bytes| bytes.iter().all(|byte| *byte == b'x')).count();
            assert_eq!(whole, 2, "of 10,000 bytes two frames of 4,096 are full");
        }
    }

    #[tokio::test]
    async fn what_a_broker_says_is_heard_in_its_order_and_ids_that_are_not_ours_are_left_out() {
        let id = MessageId { file: 1, offset: 2 };
        let returned = |id: &str| {
            let method = basic::Return {
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
                exchange: "logs".into(),
                routing_key: "key".into(),
            };
            let properties = basic::AMQPProperties::default().with_message_id(id.into());
            let header = amq_protocol::frame::AMQPContentHeader { class_id: 60, body_size: 0, properties };
            [AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Return(method))), AMQPFrame::Header(1, header)]
        };
        let ack = basic::Ack { delivery_tag: u64::MAX, multiple: true };
        let close =
            channel::Close { reply_code: 406, reply_text: "PRECONDITION_FAILED".into(), class_id: 60, method_id: 40 };
        let mut then: Vec<_> = [returned(&id.text()), returned("somebody else's")].concat();
        then.push(AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))));
        then.push(AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close))));
        let (address, _serving) = broker(0, then).await;
        let mut connection = Connection::open(&address, &endpoint(), &mut |_, _| ()).await.unwrap();
        while connection.progress().await.is_ok() {}
        let events: Vec<_> = std::iter::from_fn(|| connection.event()).collect();
        let refusal = Refusal { code: 406, text: "PRECONDITION_FAILED".into(), method: (60, 40) };
        let wanted = [Event::Returned(id), Event::Ack(u64::MAX, true), Event::ChannelClosed(refusal)];
        assert_eq!(events, wanted);
    }
}
