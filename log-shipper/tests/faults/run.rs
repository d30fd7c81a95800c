//! One run: writers, a shipper, a broker behind a proxy, a consumer, and faults in between.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lapin::types::{AMQPValue, FieldTable};
use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::proxy::TcpProxy;
use testbed::rabbitmq::RabbitMq;
use testbed::wait::{self, LIMIT};

use crate::node::{LARGEST_MESSAGE, Random, Writer};
use crate::shipper_logs::ShipperLogs;
use crate::support::consumer::Consumer;
use crate::support::{self, exchange};

/// In bytes; the limit is 32 MiB for a release build, and a build without optimization is larger.
const MOST_RESIDENT: u64 = if cfg!(debug_assertions) { 48 << 20 } else { 32 << 20 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Cut,
    CutSoon,
    Stall,
    FillQueue,
    DeleteExchange,
    Unbind,
    Oversize,
    Truncate,
    StopBroker,
    KillBroker,
}

use Fault::{Cut, CutSoon, DeleteExchange, FillQueue, Kill, KillBroker, Oversize, Stall, StopBroker, Truncate, Unbind};

/// Each fault once, then at random with this weight out of a hundred; restarts of the broker are rare because they take long.
const CHANCES: [(Fault, usize); 11] = [
    (Kill, 17),
    (Cut, 17),
    (CutSoon, 14),
    (Stall, 8),
    (FillQueue, 6),
    (DeleteExchange, 5),
    (Unbind, 6),
    (Oversize, 6),
    (Truncate, 19),
    (StopBroker, 1),
    (KillBroker, 1),
];

struct Run {
    broker: RabbitMq,
    proxy: TcpProxy,
    writer: Writer,
    consumer: Consumer,
    shipper: Daemon,
    // Dropped after everything that uses it.
    folder: Folder,
    shippers: usize,
    shipper_logs: ShipperLogs,
    random: Random,
    long_outages: bool,
}

/// Injects this many faults and accounts for every line.
pub fn run(faults: usize, seed: u64, long_outages: bool) {
    println!("{faults} faults with FAULTS_SEED={seed}");
    let mut run = Run::start(seed, long_outages);
    let mut done: Vec<Fault> = Vec::new();
    let started = Instant::now();
    while done.len() < faults {
        let mut fault = match CHANCES.get(done.len()) {
            Some((fault, _)) => *fault,
            None => run.random_fault(),
        };
        if fault == Truncate && !run.writer.logs().truncate(&run.checkpoint()) {
            fault = Cut;
        }
        println!("{:>9.3?} {fault:?}", started.elapsed());
        run.strike(fault);
        done.push(fault);
        if done.len().is_multiple_of(50) {
            println!("{} faults, {} lines, {:?}", done.len(), run.writer.logs().written, started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(run.random.below(600) as u64));
    }
    for (fault, _) in CHANCES {
        println!("{:>5} times {fault:?}", done.iter().filter(|done| **done == fault).count());
    }
    run.account();
}

impl Run {
    fn start(seed: u64, long_outages: bool) -> Self {
        let broker = RabbitMq::start().unwrap();
        // A quorum queue, because a classic queue over its limit (including delivered messages) drops its oldest messages
        // when the broker restarts, even with `reject-publish` (RabbitMQ 3.10).
        let text = |text: &str| AMQPValue::LongString(text.into());
        let full = [
            ("x-queue-type", text("quorum")),
            ("x-max-length", AMQPValue::LongInt(400)),
            ("x-overflow", text("reject-publish")),
        ];
        exchange::declare(broker.address(), &full);
        limit_messages(&broker);
        let proxy = TcpProxy::start(broker.address()).unwrap();
        let folder = Folder::new("faults").unwrap();
        let writer = Writer::start(&folder.join("pods"), seed);
        let consumer = Consumer::start(broker.address());
        let shipper = start(&folder, &proxy, 0);
        let (shipper_logs, random) = (ShipperLogs::default(), Random(seed));
        Self { broker, proxy, folder, writer, consumer, shipper, shippers: 1, shipper_logs, random, long_outages }
    }

    fn random_fault(&mut self) -> Fault {
        let mut chance = self.random.below(CHANCES.iter().map(|(_, share)| share).sum());
        for (fault, share) in CHANCES {
            if chance < share {
                return fault;
            }
            chance -= share;
        }
        Cut
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Kill => {
                self.shipper.process().kill();
                self.shipper_logs.read(&name(self.shippers - 1), &self.shipper.log());
                self.shipper = start(&self.folder, &self.proxy, self.shippers);
                self.shippers += 1;
            }
            Cut => self.proxy.cut(),
            CutSoon => self.proxy.cut_after(self.random.below(20_000) as u64),
            Stall => {
                self.proxy.stall();
                // Sometimes longer than the limit for confirms.
                std::thread::sleep(Duration::from_millis(500 + self.random.below(2500) as u64));
                self.proxy.resume();
            }
            FillQueue => {
                let refused = || self.shipper.metric("labhands_log_shipper_messages_refused_total").unwrap_or(0.0);
                let before = refused();
                self.consumer.pause(true);
                wait::until(LIMIT, || (refused() > before).then_some(())).unwrap();
                self.consumer.pause(false);
            }
            DeleteExchange => {
                exchange::delete_exchange(self.broker.address());
                std::thread::sleep(Duration::from_millis(300));
                exchange::with_channel(self.broker.address(), async |channel| {
                    exchange::declare_exchange(&channel, exchange::EXCHANGE).await?;
                    exchange::bind(&channel, exchange::QUEUE, exchange::EXCHANGE).await
                });
            }
            Unbind => {
                exchange::with_channel(self.broker.address(), async |channel| {
                    let (queue, exchange, none) = (exchange::QUEUE, exchange::EXCHANGE, FieldTable::default());
                    channel.queue_unbind(queue.into(), exchange.into(), exchange::ROUTING_KEY.into(), none).await
                });
                std::thread::sleep(Duration::from_millis(300));
                exchange::with_channel(self.broker.address(), async |channel| {
                    exchange::bind(&channel, exchange::QUEUE, exchange::EXCHANGE).await
                });
            }
            Oversize => self.writer.logs().oversize(&mut self.random),
            // Done by the caller.
            Truncate => (),
            StopBroker | KillBroker => {
                if fault == KillBroker {
                    self.broker.kill();
                } else {
                    self.broker.stop();
                }
                if self.long_outages && self.random.below(3) == 0 {
                    std::thread::sleep(Duration::from_secs(10 + self.random.below(25) as u64));
                }
                // On a busy machine it may not start within its own limit.
                wait::patiently(LIMIT, || {
                    let resumed = self.broker.resume();
                    resumed.map_err(|error| println!("{error}")).ok()
                })
                .unwrap();
                limit_messages(&self.broker);
            }
        }
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.join("state/checkpoint.json")
    }

    /// Where missing lines are, with the state of the shipper and the broker.
    fn whereabouts(&self, missing: &[u64]) -> String {
        let places = self.writer.logs().places(missing);
        let status = std::fs::read_to_string(self.checkpoint()).unwrap_or_default();
        let queued = exchange::queued(self.broker.address());
        format!(
            "{}\n{queued} messages in the queue\ncheckpoint: {status}\nshipper's log:\n{}",
            places.join("\n"),
            self.shipper.log()
        )
    }

    fn account(mut self) {
        self.writer.stop();
        let on_disk = self.writer.logs().on_disk();
        let missing = self.consumer.wait_for(on_disk.iter().copied(), LIMIT);
        assert!(missing.is_empty(), "lines that are still on disk are missing:\n{}", self.whereabouts(&missing));
        // The shipper gives up truncated or deleted lines after a while.
        let own = |run: &mut Self| {
            let log = run.shipper.log();
            run.shipper_logs.read(&name(run.shippers - 1), &log)
        };
        let mut open = Vec::new();
        wait::patiently(LIMIT, || {
            own(&mut self);
            open = self.shipper_logs.unaccounted(&self.writer.logs(), &self.consumer.seen());
            open.is_empty().then_some(())
        });
        let (shipper_logs, seen) = (&self.shipper_logs, self.consumer.seen());
        assert!(
            open.is_empty(),
            "{} lines are missing and no log entry reports them:\n{}",
            open.len(),
            open.join("\n")
        );
        let wrong = shipper_logs.unexplained(&seen);
        assert!(wrong.is_empty(), "{} lines came again without reason:\n{}", wrong.len(), wrong.join("\n"));
        assert_eq!(seen.unparsed, Vec::<String>::new());
        assert_eq!(shipper_logs.trouble, Vec::<String>::new());
        let written = self.writer.logs().written;
        let (mut arrived, mut again) = (0, 0);
        for (_, arrivals) in seen.all() {
            arrived += 1;
            again += u64::from(arrivals.times - 1);
        }
        let resident = self.shipper.resident().unwrap();
        println!(
            "{written} lines written, {arrived} arrived, {} on disk and all of them arrived, {} missing within {} ranges that were \
             named, {again} came again, {} shippers, {} MiB resident at the end",
            on_disk.len(),
            written - arrived,
            shipper_logs.lost_ranges(),
            self.shippers,
            resident >> 20,
        );
        assert!(resident < MOST_RESIDENT, "{resident} bytes are resident");
    }
}

fn limit_messages(broker: &RabbitMq) {
    let set = format!("application:set_env(rabbit, max_message_size, {LARGEST_MESSAGE}).");
    broker.control(&["eval", &set]).unwrap();
}

fn name(shipper: usize) -> String {
    format!("shipper-{shipper}")
}

fn start(folder: &Folder, proxy: &TcpProxy, shipper: usize) -> Daemon {
    let mut settings = support::settings(&folder.join("pods"), &folder.join("state"), proxy.address());
    settings.retain(|(setting, _)| setting != "SHIPPER_NAME");
    for (setting, value) in [
        ("SHIPPER_NAME", name(shipper).as_str()),
        ("AMQP_CONFIRM_TIMEOUT", "2s"),
        ("AMQP_HEARTBEAT", "5s"),
        ("PINNED_BYTES_MAX", "500kB"),
    ] {
        settings.push((setting.to_owned(), value.to_owned()));
    }
    support::start(&settings)
}
