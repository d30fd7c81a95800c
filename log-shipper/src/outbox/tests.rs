use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::LogKey;
use crate::container::Container;
use crate::follow::ContainerLog;
use crate::outgoing::Message;

fn batch(number: u64, messages: usize) -> Batch {
    let key = LogKey { folder: std::path::Path::new("/x").into(), base: "0".into() };
    let container = Container { pod: None, docker: None, restart: "0".into() };
    let log = Arc::new(ContainerLog::new(1, key, container, Vec::new(), false, 1024, Default::default()));
    let message =
        |index: usize| Message { id: MessageId { file: number.into(), offset: index as u64 }, end: index + 1 };
    let bytes = vec![b'x'; messages];
    Batch { log, number, bytes, messages: (0..messages).map(message).collect(), events: messages as u64 }
}

fn numbers(settled: &Settled) -> Vec<u64> {
    settled.batches.iter().map(|batch| batch.number).collect()
}

#[test]
fn a_batch_is_done_when_its_last_message_is() {
    let (mut outbox, now) = (Outbox::new(10, None), Instant::now());
    outbox.push(batch(1, 2));
    outbox.push(batch(2, 1));
    for _ in 0..3 {
        assert!(outbox.take(now).is_some());
    }
    assert!(outbox.take(now).is_none());
    assert_eq!(numbers(&outbox.settle(3, false, true, now)), [2]);
    assert_eq!(numbers(&outbox.settle(2, true, true, now)), [1]);
    assert!(outbox.is_empty());
}

#[test]
fn the_window_bounds_what_is_unconfirmed() {
    let (mut outbox, now) = (Outbox::new(2, None), Instant::now());
    outbox.push(batch(1, 5));
    assert!(outbox.take(now).is_some() && outbox.take(now).is_some() && outbox.take(now).is_none());
    outbox.settle(1, true, true, now);
    assert!(outbox.take(now).is_some() && outbox.take(now).is_none());
}

#[test]
fn a_refusal_narrows_the_window_and_confirms_widen_it() {
    let (mut outbox, now) = (Outbox::new(8, None), Instant::now());
    outbox.push(batch(1, 100));
    let fill = |outbox: &mut Outbox, now| std::iter::from_fn(|| outbox.take(now).map(drop)).count();
    assert_eq!(fill(&mut outbox, now), 8);
    // Refusals of one window are one sign.
    outbox.settle(8, true, false, now);
    assert_eq!(fill(&mut outbox, now), 0);
    let later = outbox.paused_until(now).unwrap();
    assert_eq!(fill(&mut outbox, later), 4);
    outbox.settle(12, true, false, later);
    let last = outbox.paused_until(later).unwrap();
    assert_eq!((last - later, fill(&mut outbox, last)), (2 * (later - now), 2));
    outbox.settle(14, true, true, last);
    assert_eq!(fill(&mut outbox, last), 4);
}

#[test]
fn a_returned_message_is_not_delivered_by_its_ack() {
    let (mut outbox, now) = (Outbox::new(10, Some(1)), Instant::now());
    outbox.push(batch(1, 1));
    let id = outbox.take(now).unwrap().id.text();
    assert!(outbox.returned(&id) && !outbox.returned("other"));
    let settled = outbox.settle(1, false, true, now);
    assert_eq!((settled.confirmed, settled.failed, settled.batches.len()), (0, 1, 0));
    let retry = outbox.paused_until(now).unwrap();
    assert!(outbox.take(now).is_none());
    assert!(outbox.take(retry).unwrap().dead_letter);
    assert_eq!(numbers(&outbox.settle(2, false, true, retry)), [1]);
}

#[test]
fn a_lost_connection_publishes_again_in_order() {
    let (mut outbox, now) = (Outbox::new(10, None), Instant::now());
    outbox.push(batch(1, 3));
    while outbox.take(now).is_some() {}
    outbox.settle(2, false, true, now);
    outbox.disconnected();
    let offsets: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.id.offset)).collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(numbers(&outbox.settle(2, true, true, now)), [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Take,
    Settle { ahead: u64, multiple: bool, taken: bool },
    Return(u64),
    Disconnect,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1usize..6).prop_map(Step::Push),
        8 => Just(Step::Take),
        6 => (0u64..8, any::<bool>(), any::<bool>())
            .prop_map(|(ahead, multiple, taken)| Step::Settle { ahead, multiple, taken }),
        2 => (0u64..8).prop_map(Step::Return),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Wait),
    ]
}

proptest! {
    /// Against a broker that does anything: a batch is done exactly once, and only after each of its messages was taken.
    #[test]
    fn nothing_is_done_before_it_was_delivered(steps in proptest::collection::vec(step(), 0..200)) {
        let mut outbox = Outbox::new(7, None);
        let mut now = Instant::now();
        let mut pushed: BTreeMap<u64, usize> = BTreeMap::new();
        let mut delivered: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        let mut done: BTreeMap<u64, u32> = BTreeMap::new();
        // The broker's view: the messages of this connection, by tag, with whether each was returned; `None` once settled.
        let mut published: Vec<Option<((u64, u64), bool)>> = Vec::new();
        let mut first_open = 0;
        let calm = std::iter::repeat_n([Step::Wait, Step::Take, Step::Settle { ahead: 0, multiple: false, taken: true }], 2000).flatten();
        for step in steps.into_iter().chain(calm) {
            while first_open < published.len() && published[first_open].is_none() {
                first_open += 1;
            }
            match step {
                Step::Push(messages) => {
                    let number = pushed.len() as u64 + 1;
                    pushed.insert(number, messages);
                    outbox.push(batch(number, messages));
                }
                Step::Take => {
                    if let Some(sending) = outbox.take(now) {
                        published.push(Some(((sending.id.file as u64, sending.id.offset), false)));
                    }
                    prop_assert!(outbox.unconfirmed <= 7);
                }
                Step::Settle { ahead, multiple, taken } => {
                    let last = first_open + ahead as usize;
                    if last >= published.len() {
                        continue;
                    }
                    for message in &mut published[if multiple { first_open } else { last }..=last] {
                        if let Some((id, returned)) = message.take() && taken && !returned {
                            delivered.insert(id, true);
                        }
                    }
                    for batch in outbox.settle(last as u64 + 1, multiple, taken, now).batches {
                        *done.entry(batch.number).or_default() += 1;
                        let whole = (0..pushed[&batch.number]).all(|index| delivered.contains_key(&(batch.number, index as u64)));
                        prop_assert!(whole, "batch {} is done too early", batch.number);
                    }
                }
                Step::Return(ahead) => {
                    if let Some(Some((id, returned))) = published.get_mut(first_open + ahead as usize) && !*returned {
                        *returned = true;
                        let id = MessageId { file: id.0.into(), offset: id.1 };
                        prop_assert!(outbox.returned(&id.text()));
                    }
                }
                Step::Disconnect => {
                    published.clear();
                    first_open = 0;
                    outbox.disconnected();
                }
                Step::Wait => now += LAST_PAUSE,
            }
        }
        prop_assert!(outbox.is_empty(), "{} are left", outbox.pending());
        prop_assert!(done.len() == pushed.len() && done.values().all(|times| *times == 1));
    }
}
