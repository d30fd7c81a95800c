//! Consumes messages and counts them by their number.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::exchange::{QUEUE, channel, in_time, runtime};

/// How often one number came, and with which ids.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// How often the end of its line came.
    pub times: u32,
    /// Whether the beginning of its line came, too.
    begun: bool,
    /// Whether both came in one event first.
    whole: bool,
    /// The message id that it came with first.
    pub id: String,
    /// Whether it came with another one, too.
    pub several_ids: bool,
    /// The `SHIPPER_NAME`s it came from, each as often as it came from it; the broker's own repetitions do not count.
    pub shippers: Vec<Arc<str>>,
}

impl Arrivals {
    /// Whether the whole line came.
    fn are_whole(&self) -> bool {
        self.times > 0 && self.begun
    }

    /// Whether it was shipped once, however often the broker delivered it.
    pub fn came_once(&self) -> bool {
        self.shippers.len() == 1
    }
}

/// Everything that came.
#[derive(Debug, Default)]
pub struct Seen {
    arrivals: Vec<Arrivals>,
    /// All events, if they are kept.
    pub events: Vec<serde_json::Value>,
    /// When each number came.
    pub arrived: Vec<jiff::Timestamp>,
    keep: bool,
    /// Messages without a number.
    pub other: Vec<String>,
    /// Messages that were marked as not understood.
    pub unparsed: Vec<String>,
    last_shipper: Option<Arc<str>>,
}

impl Seen {
    pub fn of(&self, number: u64) -> Option<&Arrivals> {
        self.arrivals.get(number as usize).filter(|arrivals| arrivals.are_whole())
    }

    /// All numbers that came.
    pub fn all(&self) -> impl Iterator<Item = (u64, &Arrivals)> {
        (0..).zip(&self.arrivals).filter(|(_, arrivals)| arrivals.are_whole())
    }

    fn take(&mut self, body: &[u8], id: &str, redelivered: bool) {
        let event: serde_json::Value = serde_json::from_slice(body).unwrap();
        if self.keep {
            self.arrived.push(jiff::Timestamp::now());
            return self.events.push(event);
        }
        let message = event["message"].as_str().unwrap().to_owned();
        let flags = event["log"]["flags"].to_string();
        if flags.contains("unparsed") {
            self.unparsed.push(message.clone());
        }
        let begins = message.starts_with("number=");
        // The writer stalled, so that the shipper shipped the first part of a line alone.
        let ends = !flags.contains("unfinished") || message.contains("rest=");
        let number = message.strip_prefix("number=").or_else(|| message.strip_prefix("rest="));
        let number = number.and_then(|rest| rest.split_once(';')?.0.parse::<usize>().ok());
        let Some(number) = number else { return self.other.push(message) };
        assert_eq!(event["kubernetes"]["container"]["name"], "main");
        let shipper = event["agent"]["name"].as_str().unwrap();
        let shipper = match &self.last_shipper {
            Some(last) if **last == *shipper => last.clone(),
            _ => self.last_shipper.insert(shipper.into()).clone(),
        };
        if self.arrivals.len() <= number {
            self.arrivals.resize(number + 1, Arrivals::default());
        }
        let arrivals = &mut self.arrivals[number];
        arrivals.begun |= begins;
        if !ends {
            return;
        }
        arrivals.times += 1;
        if arrivals.times == 1 {
            id.clone_into(&mut arrivals.id);
            arrivals.whole = begins;
        }
        // A line has another id than its second part.
        arrivals.several_ids |= arrivals.id != id && arrivals.whole == begins;
        if arrivals.times == 1 || !redelivered {
            arrivals.shippers.push(shipper);
        }
    }
}

/// Consumes until it is dropped, over any number of connections.
pub struct Consumer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Counts by number.
    pub fn start(broker: SocketAddr) -> Self {
        Self::into(broker, Seen::default())
    }

    /// Keeps all events.
    pub fn of_everything(broker: SocketAddr) -> Self {
        Self::into(broker, Seen { keep: true, ..Seen::default() })
    }

    fn into(broker: SocketAddr, seen: Seen) -> Self {
        let (seen, stop, paused) =
            (Arc::new(Mutex::new(seen)), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (to, stopped, pause) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&paused));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A broker that is down will be back.
                let _ = runtime().block_on(consume(broker, &to, &stopped, &pause));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { seen, stop, paused, thread: Some(thread) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Waits until all of these numbers came, as long as one more comes within the limit. Returns those that did not.
    pub fn wait_for(&self, numbers: impl IntoIterator<Item = u64> + Clone, limit: Duration) -> Vec<u64> {
        let missing = || {
            let seen = self.seen();
            numbers.clone().into_iter().filter(|number| seen.of(*number).is_none()).collect::<Vec<_>>()
        };
        let mut left = missing();
        while !left.is_empty()
            && let Some(fewer) =
                testbed::wait::patiently(limit, || Some(missing()).filter(|now| now.len() < left.len()))
        {
            left = fewer;
        }
        left
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn consume(broker: SocketAddr, seen: &Mutex<Seen>, stop: &AtomicBool, paused: &AtomicBool) -> lapin::Result<()> {
    use futures_util::StreamExt;
    let opening = async {
        let channel = channel(broker).await?;
        channel.basic_qos(200, BasicQosOptions::default()).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(QUEUE.into(), "test".into(), options, none).await?;
        Ok((channel, consumer))
    };
    let (channel, mut consumer) = in_time(opening).await?;
    // A consumer does not always notice that its broker was killed.
    while !stop.load(Ordering::Relaxed) && channel.status().connected() {
        if paused.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Ok(next) = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await else { continue };
        let Some(delivery) = next.transpose()? else { return Ok(()) };
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap();
        assert_eq!(*delivery.properties.delivery_mode(), Some(2));
        seen.lock().unwrap().take(&delivery.data, &id, delivery.redelivered);
        in_time(async { delivery.acker.ack(BasicAckOptions::default()).await.map(|_| ()) }).await?;
    }
    Ok(())
}
