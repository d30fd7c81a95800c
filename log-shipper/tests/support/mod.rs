//! A node's log folder as kubelet keeps it, a consumer that counts by number, and the shipper between them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ConnectionProperties, ExchangeKind};
use testbed::rabbitmq::{PASSWORD, USER};

pub const EXCHANGE: &str = "logstash-exchange";
pub const ROUTING_KEY: &str = "logstash";
pub const QUEUE: &str = "events";

/// The log of one container, written with numbers that no other container uses.
pub struct Container {
    folder: PathBuf,
    rotations: u32,
    written: usize,
    limit: usize,
    /// Rotated files, the oldest first; all but the newest are compressed.
    rotated: Vec<PathBuf>,
    /// Numbers that are or were in the live file.
    in_live: Vec<u64>,
}

impl Container {
    /// In a pod of its own below `root`; rotates at `limit` bytes.
    pub fn new(root: &Path, index: usize, limit: usize) -> Self {
        let folder = root.join(format!("space-{}_pod-{index}_uid-{index:06}/main", index % 3));
        fs::create_dir_all(&folder).unwrap();
        Self { folder, rotations: 0, written: 0, limit, rotated: Vec::new(), in_live: Vec::new() }
    }

    fn live(&self) -> PathBuf {
        self.folder.join("0.log")
    }

    /// Writes one numbered line, every seventh in two parts.
    pub fn write(&mut self, number: u64) {
        let text = format!("number={number} {}", "x".repeat((number % 90) as usize));
        let time = format!("2026-11-22T10:{:02}:{:02}.{:09}Z", number / 60 % 60, number % 60, number);
        let line = if number.is_multiple_of(7) {
            let (first, second) = text.split_at(9);
            format!("{time} stdout P {first}\n{time} stdout F {second}\n")
        } else {
            format!("{time} stdout F {text}\n")
        };
        let mut file = File::options().create(true).append(true).open(self.live()).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        self.written += line.len();
        self.in_live.push(number);
        if self.written >= self.limit {
            self.rotate();
        }
    }

    /// As kubelet: rename, compress what was renamed before, delete the oldest beyond five files.
    fn rotate(&mut self) {
        self.rotations += 1;
        if let Some(newest) = self.rotated.last_mut() {
            let compressed = PathBuf::from(format!("{}.gz", newest.display()));
            let temporary = PathBuf::from(format!("{}.tmp", newest.display()));
            let mut encoder = GzEncoder::new(File::create(&temporary).unwrap(), Compression::fast());
            encoder.write_all(&fs::read(&newest).unwrap()).unwrap();
            encoder.finish().unwrap();
            fs::rename(&temporary, &compressed).unwrap();
            fs::remove_file(&newest).unwrap();
            *newest = compressed;
        }
        let name = self.folder.join(format!("0.log.20261122-{:06}", self.rotations));
        fs::rename(self.live(), &name).unwrap();
        self.rotated.push(name);
        if self.rotated.len() > 4 {
            fs::remove_file(self.rotated.remove(0)).unwrap();
        }
        self.written = 0;
        self.in_live.clear();
    }

    /// Empties the live file; gives the numbers that were in it.
    pub fn truncate(&mut self) -> Vec<u64> {
        if let Ok(file) = File::options().write(true).open(self.live()) {
            file.set_len(0).unwrap();
        }
        self.written = 0;
        std::mem::take(&mut self.in_live)
    }
}

/// What came, by number: how often, and with which message ids.
#[derive(Default)]
pub struct Seen {
    pub times: BTreeMap<u64, u32>,
    pub ids: BTreeMap<u64, BTreeSet<String>>,
    /// Everything else that came.
    pub other: Vec<String>,
}

impl Seen {
    pub fn take(&mut self, body: &[u8], id: Option<&str>) {
        let event: serde_json::Value = serde_json::from_slice(body).unwrap();
        let message = event["message"].as_str().unwrap().to_owned();
        let number = message.strip_prefix("number=").and_then(|rest| rest.split(' ').next()?.parse().ok());
        match number {
            Some(number) => {
                assert_eq!(event["kubernetes"]["container"]["name"], "main");
                *self.times.entry(number).or_default() += 1;
                self.ids.entry(number).or_default().insert(id.unwrap_or("none").to_owned());
            }
            None => self.other.push(message),
        }
    }
}

/// Consumes for as long as it lives, over any number of connections.
pub struct Consumer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    pub fn start(broker: SocketAddr) -> Self {
        let (seen, stop, paused) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let (to, stopped, pause) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&paused));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A broker that is away comes back.
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

    /// Waits until all of these numbers came; gives those that did not.
    pub fn wait_for(&self, numbers: &BTreeSet<u64>, limit: Duration) -> BTreeSet<u64> {
        let missing = || {
            let seen = self.seen();
            numbers.iter().filter(|number| !seen.times.contains_key(number)).copied().collect::<BTreeSet<_>>()
        };
        testbed::wait::until(limit, || missing().is_empty().then_some(()));
        missing()
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
    let channel = channel(broker).await?;
    channel.basic_qos(200, BasicQosOptions::default()).await?;
    let none = FieldTable::default();
    let mut consumer = channel.basic_consume(QUEUE.into(), "test".into(), BasicConsumeOptions::default(), none).await?;
    while !stop.load(Ordering::Relaxed) {
        if paused.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Ok(next) = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await else { continue };
        let Some(delivery) = next.transpose()? else { return Ok(()) };
        let id = delivery.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
        assert_eq!(*delivery.properties.delivery_mode(), Some(2));
        seen.lock().unwrap().take(&delivery.data, id.as_deref());
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn channel(broker: SocketAddr) -> lapin::Result<Channel> {
    let password = PASSWORD.replace('\'', "%27").replace(' ', "%20");
    let uri = format!("amqp://{USER}:{password}@{broker}/%2f");
    let connection = lapin::Connection::connect(&uri, ConnectionProperties::default()).await?;
    connection.create_channel().await
}

/// Does something to the broker on a channel of its own.
pub fn with_channel<F: AsyncFnOnce(Channel) -> lapin::Result<()>>(broker: SocketAddr, act: F) {
    runtime().block_on(async { act(channel(broker).await?).await }).unwrap();
}

/// Declares the exchange, and the queue with these arguments, bound to it.
pub fn declare(broker: SocketAddr, queue_arguments: &[(&str, AMQPValue)]) {
    let mut arguments = FieldTable::default();
    for (name, value) in queue_arguments {
        arguments.insert((*name).into(), value.clone());
    }
    with_channel(broker, async |channel| {
        declare_exchange(&channel, EXCHANGE).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, arguments).await?;
        bind(&channel, QUEUE, EXCHANGE).await
    });
}

pub async fn declare_exchange(channel: &Channel, name: &str) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default()).await
}

pub async fn bind(channel: &Channel, queue: &str, exchange: &str) -> lapin::Result<()> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), ROUTING_KEY.into(), options, none).await
}

/// Deletes the exchange.
pub fn delete_exchange(broker: SocketAddr) {
    with_channel(broker, async |channel| {
        channel.exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default()).await
    });
}

/// The shipper's settings for a broker over plain TCP.
pub fn settings(root: &Path, state: &Path, broker: SocketAddr) -> Vec<(String, String)> {
    let pairs = [
        ("LOG_PATHS", root.display().to_string()),
        ("STATE_DIR", state.display().to_string()),
        ("AMQP_URL", format!("amqp://{broker}/%2f")),
        ("AMQP_USERNAME", USER.to_owned()),
        ("AMQP_PASSWORD", PASSWORD.to_owned()),
        ("SHIPPER_NAME", "test".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Starts the shipper.
pub fn start(settings: &[(String, String)]) -> testbed::daemon::Daemon {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    testbed::daemon::Daemon::start(env!("CARGO_BIN_EXE_log-shipper"), &["run"], &settings).unwrap()
}

/// Runs it until all is shipped; gives its exit code, and how long it took.
pub fn until_idle(settings: &[(String, String)]) -> (Option<i32>, Duration, String) {
    let started = Instant::now();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_log-shipper"));
    command.args(["run", "--until-idle"]).env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), started.elapsed(), said)
}
