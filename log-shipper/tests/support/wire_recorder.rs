//! A proxy that reads what passes between the shipper and the broker, so that the test knows from the wire what the broker
//! has confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

const METHOD: u8 = 1;
const BODY: u8 = 3;

/// Class and method (AMQP 0-9-1).
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const PUBLISH: (u16, u16) = (60, 40);
const RETURN: (u16, u16) = (60, 50);
const ACK: (u16, u16) = (60, 80);
const NACK: (u16, u16) = (60, 120);

/// The first bytes of a connection are no frame.
const PROTOCOL_HEADER: usize = 8;
/// Type, channel and size before the payload.
const FRAME_HEADER: usize = 7;

pub struct WireRecorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
}

#[derive(Default)]
pub struct Record {
    /// When the broker confirmed a number that it had not returned.
    pub confirmed: BTreeMap<u64, Instant>,
    /// The numbers on the current channel that the broker has not settled.
    pub in_flight: BTreeSet<u64>,
    /// Whether nothing is forwarded to the broker.
    held: bool,
}

/// One connection: the numbers by delivery tag, and those that were returned.
#[derive(Default)]
struct Channel {
    published: Vec<Option<u64>>,
    settled: usize,
    returned: BTreeSet<u64>,
    returning: bool,
    publishing: bool,
}

impl WireRecorder {
    pub fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(broker) else { continue };
                let channel = Arc::<Mutex<Channel>>::default();
                for to_broker in [true, false] {
                    let (client, broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                    let (from, to) = if to_broker { (client, broker) } else { (broker, client) };
                    let (shared, channel) = (Arc::clone(&serving), Arc::clone(&channel));
                    std::thread::spawn(move || forward(from, to, to_broker, &shared, &channel));
                }
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap()
    }

    /// Holds back what the shipper publishes, or no longer does.
    pub fn hold(&self, held: bool) {
        self.record().held = held;
        self.shared.changed.notify_all();
    }
}

/// Forwards until either side ends.
fn forward(mut from: TcpStream, mut to: TcpStream, to_broker: bool, shared: &Shared, channel: &Mutex<Channel>) {
    let mut unparsed = Vec::new();
    let mut skip = if to_broker { PROTOCOL_HEADER } else { 0 };
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        let mut record = shared.record.lock().unwrap();
        while to_broker && record.held {
            record = shared.changed.wait(record).unwrap();
        }
        unparsed.extend_from_slice(&buffer[..length]);
        let skipped = skip.min(unparsed.len());
        unparsed.drain(..skipped);
        skip -= skipped;
        while let Some(header) = unparsed.first_chunk::<FRAME_HEADER>() {
            let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
            let end = FRAME_HEADER + size + 1;
            if unparsed.len() < end {
                break;
            }
            channel.lock().unwrap().take(header[0], &unparsed[FRAME_HEADER..end - 1], &mut record);
            unparsed.drain(..end);
        }
        drop(record);
        let over = length == 0 || to.write_all(&buffer[..length]).is_err();
        if over && to_broker {
            // What the broker has sent still reaches the shipper.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if over {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

impl Channel {
    fn take(&mut self, kind: u8, payload: &[u8], record: &mut Record) {
        if kind == BODY {
            let number = number(payload);
            if std::mem::take(&mut self.publishing) {
                self.published.push(number);
                record.in_flight.extend(number);
            } else if std::mem::take(&mut self.returning) {
                self.returned.extend(number);
            }
        }
        let (METHOD, [class_high, class_low, high, low, rest @ ..]) = (kind, payload) else { return };
        let method = (u16::from_be_bytes([*class_high, *class_low]), u16::from_be_bytes([*high, *low]));
        match method {
            CHANNEL_OPEN => {
                *self = Self::default();
                record.in_flight.clear();
            }
            PUBLISH => self.publishing = true,
            RETURN => self.returning = true,
            ACK | NACK => {
                let tag = u64::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
                let first = if rest[8] & 1 == 1 { self.settled } else { tag - 1 };
                for number in self.published[first..tag].iter_mut().filter_map(Option::take) {
                    record.in_flight.remove(&number);
                    if !self.returned.remove(&number) && method == ACK {
                        record.confirmed.insert(number, Instant::now());
                    }
                }
                if first == self.settled {
                    self.settled = tag;
                }
            }
            _ => (),
        }
    }
}

fn number(body: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(body);
    text.split_once("number=")?.1.split_once(';')?.0.parse().ok()
}
