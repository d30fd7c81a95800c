//! One connection to one broker: opens it, publishes on it, and handles the answers.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::ConnectionError;
use super::frames::{self, FIRST_FRAME_MAX, Template};
use super::{Endpoint, Refusal, route};
use crate::container::Container;
use crate::outgoing::MessageId;

/// The capacity that the output buffer keeps while it is empty.
const IDLE_BYTES: usize = 16 * 1024;

/// The most containers for which prepared message headers are kept.
const MOST_TEMPLATES: usize = 10_000;

/// What the broker sends while we publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It confirms this message, or all messages up to it.
    Ack(u64, bool),
    /// It refuses this message, or all messages up to it.
    Nack(u64, bool),
    /// It could not route the message with this id to any queue. An ack for it follows nevertheless.
    Returned(MessageId),
    /// It closed the channel because of a published message; call [`Connection::reopen`].
    ChannelClosed(Refusal),
    /// It asks us to stop publishing, for this reason.
    Blocked(String),
    /// Publishing may continue.
    Unblocked,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection with one channel in confirm mode.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes from the broker that are not parsed yet.
    pub(super) input: Vec<u8>,
    /// Bytes to the broker, and how many of them were written.
    pub(super) output: Vec<u8>,
    written: usize,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Duration,
    received: Instant,
    sent: Instant,
    /// Prepared headers by the id of the container's log and whether the messages are dead letters, and the one that
    /// was used last.
    templates: HashMap<(u64, bool), Template>,
    last_template: Option<((u64, bool), Template)>,
    /// A returned message whose content header is still to come.
    pub(super) returning: bool,
    pub(super) events: VecDeque<Event>,
}

impl Connection {
    /// A connection before the handshake.
    pub(super) fn on(stream: Box<dyn Stream>, heartbeat: Duration) -> Self {
        let now = Instant::now();
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            frame_max: FIRST_FRAME_MAX,
            heartbeat,
            received: now,
            sent: now,
            templates: HashMap::new(),
            last_template: None,
            returning: false,
            events: VecDeque::new(),
        }
    }

    /// Puts a message of a container into the output; [`Connection::progress`] writes it. `log` is the same for all
    /// messages of the container.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Codec`] if the names cannot be encoded.
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

    /// How many bytes are still to be written.
    pub fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes and reads what is possible. Returns when everything was written or something was read. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]: the connection is over.
    pub async fn progress(&mut self) -> Result<(), ConnectionError> {
        // Opening the connection may have left some input.
        if self.take_frames()? > 0 {
            return Ok(());
        }
        poll_fn(|context| self.poll_progress(context)).await?;
        self.take_frames().map(|_| ())
    }

    /// Parses the frames in the input. Returns how many bytes they were.
    fn take_frames(&mut self) -> Result<usize, ConnectionError> {
        let mut taken = 0;
        while let Some((frame, length)) = frames::read(&self.input[taken..], self.frame_max)? {
            taken += length;
            self.take(frame)?;
        }
        self.input.drain(..taken);
        Ok(taken)
    }

    /// The next event from the broker.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends a heartbeat if one is due, and detects a silent broker. Call it about every second.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::Timeout`].
    pub fn keep_alive(&mut self) -> Result<(), ConnectionError> {
        let silent = self.received.elapsed();
        if silent > 2 * self.heartbeat {
            return Err(ConnectionError::Timeout(format!("the broker sent nothing for {} s", silent.as_secs())));
        }
        if self.unwritten() == 0 {
            // Releases what the last burst used.
            self.output.shrink_to(IDLE_BYTES);
            if self.sent.elapsed() > self.heartbeat / 2 {
                frames::write(&AMQPFrame::Heartbeat, &mut self.output)?;
            }
        }
        Ok(())
    }

    /// Closes the connection, and waits a short time for the answer.
    pub async fn close(mut self) {
        let close = connection::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
        let closing = async {
            self.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))?;
            // The broker answers and then waits for us to close the socket.
            while !matches!(self.method().await?, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) {}
            Ok(())
        };
        // The connection is over, whatever the result.
        let _: Result<Result<(), ConnectionError>, _> = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }

    pub(super) fn send(&mut self, channel: u16, method: AMQPClass) -> Result<(), ConnectionError> {
        frames::write(&AMQPFrame::Method(channel, method), &mut self.output)
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

    pub(super) fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let (mut all_written, mut failed) = (false, None);
        while self.unwritten() > 0 {
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => failed = Some(io::Error::from(io::ErrorKind::WriteZero)),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.sent = Instant::now();
                    all_written = self.unwritten() == 0;
                    continue;
                }
                Poll::Ready(Err(error)) => failed = Some(error),
                Poll::Pending => (),
            }
            break;
        }
        if all_written {
            self.output.clear();
            self.written = 0;
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
            failed.get_or_insert(error);
        }
        let filled = self.input.len();
        self.input.resize(filled + 16 * 1024, 0);
        let mut buffer = ReadBuf::new(&mut self.input[filled..]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let came = buffer.filled().len();
        self.input.truncate(filled + came);
        match (polled, failed) {
            // Even if nothing can be written any more: it may contain confirms.
            (Poll::Ready(Ok(())), _) if came > 0 => {
                self.received = Instant::now();
                Poll::Ready(Ok(()))
            }
            (_, Some(error)) | (Poll::Ready(Err(error)), None) => Poll::Ready(Err(error.into())),
            (Poll::Ready(Ok(())), None) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            (Poll::Pending, None) if all_written => Poll::Ready(Ok(())),
            (Poll::Pending, None) => Poll::Pending,
        }
    }
}

pub(super) fn closed(method: &AMQPClass) -> Option<Refusal> {
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

pub(super) fn blocking(method: &AMQPClass) -> Option<Event> {
    match method {
        AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) => {
            Some(Event::Blocked(blocked.reason.as_str().to_owned()))
        }
        AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => Some(Event::Unblocked),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
