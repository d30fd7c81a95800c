//! Dozens of containers of which the broker refuses everything, each with more to read than fits into memory, beside
//! one that it accepts.

use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::outbox::Outbox;
use crate::outgoing::Batch;
use crate::pool::{self, Pool};

/// The time limit of a test that hangs.
const LIMIT: Duration = Duration::from_secs(120);

const REFUSED: u64 = 60;

fn log(folder: &Path, id: u64, text: &str) -> Arc<ContainerLog> {
    let path = folder.join(format!("{id}.log"));
    fs::write(&path, text).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    let container = Container::of_pod_folder(Path::new(&format!("/p/n_pod_uid-{id}/c")), "0").unwrap();
    let key = LogKey { folder: folder.into(), base: id.to_string().into() };
    let log = ContainerLog::new(id, key, container, Vec::new(), false, 1 << 20, Languages::default());
    let file = File::open(&path).unwrap();
    let (key, name) = (FileKey { device: metadata.dev(), inode: metadata.ino() }, format!("{id}.log").into());
    log.enqueue(vec![FileEvent::Opened(Opened { key, name, file })]);
    Arc::new(log)
}

/// Reads all logs with a broker that accepts only the lines of the last one, until those have arrived. Returns the most
/// bytes that were in memory.
fn ship_beside_refused(line: &str, lines: usize, window: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let text = |lines: usize| format!("{TIME} stdout F {line}\n").repeat(lines);
    let refused = text(lines);
    let (pool, budget) = (Pool::default(), Budget::new(window));
    let reading = Reading { budget: budget.clone(), ..reading(1 << 20, 1 << 20) };
    for id in 1..=REFUSED {
        pool.wake(&log(folder.path(), id, &refused));
    }
    let healthy = log(folder.path(), REFUSED + 1, &format!("{TIME} stdout F a line of the healthy one\n").repeat(2000));
    pool.wake(&healthy);
    let (sender, mut batches) = unbounded_channel::<Batch>();
    let mut outbox = Outbox::new(500, None);
    let (mut arrived, mut most, mut tag) = (0, 0, 0);
    std::thread::scope(|scope| {
        let (pool, reading) = (&pool, &reading);
        scope.spawn(move || pool::read(pool, reading, &sender));
        let began = Instant::now();
        while arrived < 2000 && began.elapsed() < LIMIT {
            while let Ok(batch) = batches.try_recv() {
                outbox.push(batch);
            }
            let now = Instant::now();
            let sent: Vec<_> =
                std::iter::from_fn(|| outbox.take(now).map(|sending| sending.source.id == healthy.id())).collect();
            for taken in sent {
                tag += 1;
                for batch in outbox.settle(tag, false, taken, now).batches {
                    arrived += batch.events;
                    batch.receipt.confirm();
                    budget.give(batch.bytes.len());
                }
            }
            budget.park(outbox.parked());
            most = most.max(budget.used());
            std::thread::yield_now();
        }
        pool.close();
        budget.close();
    });
    assert_eq!(arrived, 2000, "{} bytes are in memory, {} of them refused", budget.used(), outbox.parked());
    most
}

#[test]
fn refused_containers_with_much_to_read_stop_no_other_and_memory_is_bounded() {
    let window = 256 * 1024;
    // Short lines, whose events are many times as long.
    let most = ship_beside_refused("short", 4000, window);
    assert!(most < 8 * window, "{most} bytes");
}

#[test]
fn refused_containers_with_huge_lines_stop_no_other() {
    let window = 256 * 1024;
    let huge = 50_000;
    let most = ship_beside_refused(&"x".repeat(huge), 10, window);
    // At least one line of each is read, with the rest of its chunk.
    assert!(most < 5 * window + REFUSED as usize * 4 * huge, "{most} bytes");
}
