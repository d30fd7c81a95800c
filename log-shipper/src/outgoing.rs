//! Events between the readers and the broker, and the budget that limits them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sidecar::sync;
use tokio::sync::Notify;

use crate::source::Receipt;

/// Identifies a message: `<file id>-<offset>` in hexadecimal, of constant length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// From [`crate::container::Container::file_id`].
    pub file: u128,
    /// The offset of its (first) line in the uncompressed file.
    pub offset: u64,
}

impl MessageId {
    /// The length of its text.
    pub const LENGTH: usize = 32 + 1 + 16;

    /// Writes its text.
    pub fn write(&self, out: &mut [u8; Self::LENGTH]) {
        let digit = |nibble: u128| b"0123456789abcdef"[(nibble & 15) as usize];
        for (at, byte) in out[..32].iter_mut().enumerate() {
            *byte = digit(self.file >> (4 * (31 - at)));
        }
        out[32] = b'-';
        for (at, byte) in out[33..].iter_mut().enumerate() {
            *byte = digit(u128::from(self.offset) >> (4 * (15 - at)));
        }
    }

    /// Parses an id, if the text is one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (file, offset) = text.split_once('-')?;
        let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(file, 32) || !is_hex(offset, 16) {
            return None;
        }
        Some(Self { file: u128::from_str_radix(file, 16).ok()?, offset: u64::from_str_radix(offset, 16).ok()? })
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = [0; Self::LENGTH];
        self.write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The end of its body in the batch's bytes. It begins at the end of the message before it.
    pub end: usize,
}

/// What one turn read from one container's log. Its confirm advances the log's checkpoint.
#[derive(Debug)]
pub struct Batch {
    /// Its source, and how to confirm it.
    pub receipt: Receipt,
    /// The bodies, one after the other.
    pub bytes: Vec<u8>,
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// How many lines it contains.
    pub events: u64,
}

impl Batch {
    /// The body of a message.
    pub fn body(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.messages[before].end);
        &self.bytes[start..self.messages[index].end]
    }
}

/// How events are combined into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// At most this many events in one message.
    pub events: u32,
    /// A message is closed at this size, in bytes.
    pub bytes: usize,
}

/// Smaller batches are shrunk to their content, in bytes.
const MOST_SHRUNK: usize = 64 * 1024;

/// Collects the messages of one turn.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    messages: Vec<Message>,
    events: u64,
    batching: Option<Batching>,
    /// With batching: the id of the open message, its beginning, and how many events it contains.
    open: Option<(MessageId, usize, u32)>,
}

impl Builder {
    /// An empty collector. With `batching`, each message is a JSON array.
    pub fn new(batching: Option<Batching>) -> Self {
        Self { bytes: Vec::new(), messages: Vec::new(), events: 0, batching, open: None }
    }

    /// Adds an event; `write` appends its JSON object.
    pub fn event(&mut self, id: MessageId, write: impl FnOnce(&mut Vec<u8>)) {
        self.events += 1;
        let Some(batching) = self.batching else {
            write(&mut self.bytes);
            self.messages.push(Message { id, end: self.bytes.len() });
            return;
        };
        let (id, start, held) = self.open.take().unwrap_or((id, self.bytes.len(), 0));
        self.bytes.push(if held == 0 { b'[' } else { b',' });
        write(&mut self.bytes);
        self.open = Some((id, start, held + 1));
        if held + 1 >= batching.events || self.bytes.len() - start >= batching.bytes {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some((id, _, _)) = self.open.take() {
            self.bytes.push(b']');
            self.messages.push(Message { id, end: self.bytes.len() });
        }
    }

    /// How many bytes were collected.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The batch that belongs to this receipt.
    pub fn finish(mut self, receipt: Receipt) -> Batch {
        self.close();
        // The buffer grew by doubling, and the batch may wait for long. Large buffers are not shrunk: they are in
        // constant use at full speed, and the allocator would fetch each one from the kernel again.
        if self.bytes.capacity() <= MOST_SHRUNK {
            self.bytes.shrink_to_fit();
            self.messages.shrink_to_fit();
        }
        Batch { receipt, bytes: self.bytes, messages: self.messages, events: self.events }
    }
}

/// Limits the bytes that were read and not confirmed yet. Readers wait before they read, and the last one may exceed
/// the limit by what one turn reads.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    used: Mutex<Use>,
    freed: Condvar,
    limit: usize,
    much_given: Notify,
}

/// This many confirmed bytes are worth an early checkpoint.
const MUCH: usize = 256 * 1024;

/// Containers with refused messages are read until together they hold this many times the limit.
const MOST_PARKED: usize = 4;

/// Each of them may hold this part of the rest, so that something is always left for the next one.
const REFUSED_SHARE: usize = 64;

/// Each other container may hold this part, because it may be the next one.
const OTHER_SHARE: usize = 8;

/// At least this many bytes, because reading must continue.
const LEAST_SHARE: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Use {
    bytes: usize,
    /// Of these: bytes that wait because the broker refuses them, and that must not keep other logs from being read.
    parked: usize,
    /// Bytes that were returned since [`Budget::much_given`] last returned.
    given: usize,
    closed: bool,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: usize) -> Self {
        let shared = Shared { used: Mutex::default(), freed: Condvar::new(), limit, much_given: Notify::new() };
        Self(Arc::new(shared))
    }

    /// Waits until there is room. `false` once it is closed.
    pub fn wait(&self) -> bool {
        let mut used = self.lock();
        while used.bytes.saturating_sub(used.parked) >= self.0.limit && !used.closed {
            used = self.0.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        !used.closed
    }

    /// Takes bytes, whether there is room or not.
    pub fn take(&self, bytes: usize) {
        self.lock().bytes += bytes;
    }

    /// Returns bytes.
    pub fn give(&self, bytes: usize) {
        let mut used = self.lock();
        used.bytes -= bytes;
        used.given += bytes;
        let much = used.given >= MUCH;
        drop(used);
        self.0.freed.notify_all();
        if much {
            self.0.much_given.notify_one();
        }
    }

    /// Waits until many bytes were returned since its last return.
    pub async fn much_given(&self) {
        loop {
            if self.take_much() {
                return;
            }
            self.0.much_given.notified().await;
        }
    }

    fn take_much(&self) -> bool {
        let mut used = self.lock();
        let much = used.given >= MUCH;
        if much {
            used.given = 0;
        }
        much
    }

    /// This many of the bytes belong to containers of which the broker refuses something. They do not keep other logs
    /// from being read.
    pub fn park(&self, bytes: usize) {
        let mut used = self.lock();
        if bytes != used.parked {
            used.parked = bytes;
            drop(used);
            self.0.freed.notify_all();
        }
    }

    /// How many unconfirmed bytes one container may have: unlimited while the broker refuses nothing, and fewer the
    /// more it refuses. `refused` is whether it refuses messages of this container.
    pub fn share(&self, refused: bool) -> usize {
        let parked = self.lock().parked;
        let left = (MOST_PARKED * self.0.limit).saturating_sub(parked);
        match refused {
            _ if parked == 0 => usize::MAX,
            true => left / REFUSED_SHARE,
            false => (left / OTHER_SHARE).max(LEAST_SHARE),
        }
    }

    /// How many bytes are in use.
    pub fn used(&self) -> usize {
        self.lock().bytes
    }

    /// Ends all waits, because nothing more is to be read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Use> {
        sync::lock(&self.0.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_two_numbers_in_hexadecimal() {
        let id = MessageId { file: 0xab << 120, offset: 0x1234 };
        assert_eq!(id.text(), "ab000000000000000000000000000000-0000000000001234");
        assert_eq!(MessageId::parse(&id.text()), Some(id));
        for other in ["", "-", "ab-12", "+b000000000000000000000000000000-0000000000001234"] {
            assert_eq!(MessageId::parse(other), None);
        }
    }

    #[test]
    fn a_full_budget_continues_when_bytes_are_returned_or_it_closes() {
        let budget = Budget::new(10);
        budget.take(15);
        let waiting = std::thread::spawn({
            let budget = budget.clone();
            move || budget.wait()
        });
        budget.give(15);
        assert!(waiting.join().unwrap());
        budget.take(10);
        budget.park(5);
        assert!(budget.wait() && budget.used() == 10);
        budget.park(0);
        budget.close();
        assert!(!budget.wait());
    }
}
