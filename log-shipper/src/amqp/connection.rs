//! One connection to one broker: opening it, publishing on it, and what comes back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
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

use super::endpoint::{credentials, silently_refused, tls};
use super::frames::{self, CHANNEL, FIRST_FRAME_MAX, Template};
use super::{Address, Endpoint};
use crate::outgoing::MessageId;

/// Room for output that is kept while nothing is to be written.
const IDLE_BYTES: usize = 16 * 1024;

/// How long opening a connection may take, all steps together.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

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
    Returned(String),
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
    /// The broker ended it.
    #[error("the broker closed it: {code} {text}")]
    Closed {
        /// Its reply code.
        code: u16,
        /// Its words.
        text: String,
    },
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
    template: Template,
    dead_letter_template: Option<Template>,
    /// A return whose header is still to come.
    returning: bool,
    events: VecDeque<Event>,
}

impl Connection {
    /// Opens a connection to one address.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]; nothing is left open.
    pub async fn open(address: &Address, endpoint: &Endpoint) -> Result<Self, ConnectionError> {
        let opening = Self::open_unlimited(address, endpoint);
        match tokio::time::timeout(OPEN_LIMIT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectionError::Timeout(format!("not open after {} s", OPEN_LIMIT.as_secs()))),
        }
    }

    async fn open_unlimited(address: &Address, endpoint: &Endpoint) -> Result<Self, ConnectionError> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = if endpoint.tls {
            let name = ServerName::try_from(address.host.clone())
                .map_err(|error| ConnectionError::Credentials(format!("{}: {error}", address.host)))?;
            let config = Arc::new(tls(endpoint.certificate.as_ref())?);
            Box::new(tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?)
        } else {
            Box::new(tcp)
        };
        let template = Template::new(&endpoint.exchange, &endpoint.routing_key)?;
        let dead_letter_template = match &endpoint.dead_letter_exchange {
            Some(exchange) => Some(Template::new(exchange, &endpoint.routing_key)?),
            None => None,
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
            template,
            dead_letter_template,
            returning: false,
            events: VecDeque::new(),
        };
        opened.shake_hands(endpoint).await?;
        opened.open_channel(endpoint).await?;
        Ok(opened)
    }

    async fn shake_hands(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
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
        let tune = match self.method().await? {
            AMQPClass::Connection(Method::Tune(tune)) => tune,
            other => return Err(unexpected("connection.tune", &other)),
        };
        // 0 means no limit.
        let least = |theirs: u32, ours: u32| if theirs == 0 { ours } else { theirs.min(ours) };
        let frame_max = least(tune.frame_max, MOST_FRAME_BYTES);
        let heartbeat = least(tune.heartbeat.into(), self.heartbeat.as_secs().clamp(1, 3600) as u32);
        self.heartbeat = Duration::from_secs(heartbeat.into());
        let tune_ok = connection::TuneOk { channel_max: 1, frame_max, heartbeat: heartbeat as u16 };
        self.send(0, AMQPClass::Connection(Method::TuneOk(tune_ok)))?;
        self.frame_max = frame_max as usize;
        let open = connection::Open { virtual_host: endpoint.virtual_host.as_str().into() };
        self.send(0, AMQPClass::Connection(Method::Open(open)))?;
        match self.method().await? {
            AMQPClass::Connection(Method::OpenOk(_)) => Ok(()),
            other => Err(unexpected("connection.open-ok", &other)),
        }
    }

    async fn open_channel(&mut self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
        self.send(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})))?;
        match self.method().await? {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => (),
            other => return Err(unexpected("channel.open-ok", &other)),
        }
        for exchange in [Some(&endpoint.exchange), endpoint.dead_letter_exchange.as_ref()].into_iter().flatten() {
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

    /// Puts a message into the output; it is written by [`Connection::progress`].
    pub fn publish(&mut self, id: &MessageId, body: &[u8], dead_letter: bool) {
        let template = if dead_letter { self.dead_letter_template.as_ref() } else { None };
        template.unwrap_or(&self.template).write(id, body, self.frame_max, &mut self.output);
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
        poll_fn(|context| self.poll_progress(context)).await?;
        let mut taken = 0;
        while let Some((frame, length)) = frames::read(&self.input[taken..], self.frame_max)? {
            taken += length;
            self.take(frame)?;
        }
        self.input.drain(..taken);
        Ok(())
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
                    AMQPFrame::Method(_, method) => match closed(&method) {
                        Some(error) => return Err(error),
                        None => return Ok(method),
                    },
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
                if let Some(id) = header.properties.message_id() {
                    self.events.push_back(Event::Returned(id.as_str().to_owned()));
                }
            }
            AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked))) => {
                self.events.push_back(Event::Blocked(blocked.reason.as_str().to_owned()));
            }
            AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Unblocked(_))) => {
                self.events.push_back(Event::Unblocked);
            }
            AMQPFrame::Method(_, method) => {
                if let Some(error) = closed(&method) {
                    return Err(error);
                }
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

fn closed(method: &AMQPClass) -> Option<ConnectionError> {
    let (code, text) = match method {
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => (close.reply_code, &close.reply_text),
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => (close.reply_code, &close.reply_text),
        _ => return None,
    };
    Some(ConnectionError::Closed { code, text: text.as_str().to_owned() })
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
