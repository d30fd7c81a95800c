mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::amqp::Blame;
use crate::container::Container;
use crate::ledger::Ledger;
use crate::outgoing::Message;
use crate::source::Receipt;

fn batch(number: u64, messages: usize) -> Batch {
    batch_of(&log(1), number, &vec![1; messages])
}

fn log(id: u64) -> Arc<Source> {
    let container = Container { pod: None, docker: None, restart: "0".into() };
    Arc::new(Source::new(id, container, Ledger::default()))
}

/// A batch whose messages have these sizes.
fn batch_of(log: &Arc<Source>, number: u64, sizes: &[usize]) -> Batch {
    let mut bytes = Vec::new();
    let mut messages = Vec::new();
    for (offset, size) in (0..).zip(sizes) {
        let text = serde_json::json!({"message": "x".repeat(*size)}).to_string();
        bytes.extend_from_slice(if *size > 1 { text.as_bytes() } else { b"x" });
        messages.push(Message {
            id: MessageId { file: (u128::from(log.id) << 64) + u128::from(number), offset },
            end: bytes.len(),
        });
    }
    Batch { receipt: Receipt { source: log.clone(), number }, bytes, messages, events: sizes.len() as u64 }
}

fn numbers(settled: &Settled) -> Vec<u64> {
    settled.batches.iter().map(|batch| batch.receipt.number).collect()
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
    // Refusals within one window count as one sign.
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
fn at_the_end_a_refused_container_is_tried_at_once_and_without_long_pauses() {
    /// The longest pause while the broker refuses everything, and when the last pause ends.
    fn refuse(outbox: &mut Outbox, mut now: Instant, closes: bool) -> (Duration, Instant) {
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            while outbox.take(now).is_some() {}
            if closes {
                outbox.channel_closed(&Blame::OneMessage, |_| String::new(), now);
            } else {
                outbox.settle(0, true, false, now);
            }
            let until = outbox.paused_until(now).unwrap_or(now);
            longest = longest.max(until - now);
            now = until;
        }
        (longest, now)
    }
    for (closes, patient, hasty) in [(false, 5000, 500), (true, 60_000, 5000)] {
        let mut outbox = Outbox::new(8, None);
        outbox.push(batch(1, 2));
        let (longest, until) = refuse(&mut outbox, Instant::now(), closes);
        assert!(longest.as_millis() > patient / 2 && longest.as_millis() <= patient, "{longest:?}");
        while outbox.take(until).is_some() {}
        outbox.settle(0, true, false, until);
        assert!(outbox.take(until).is_none());
        outbox.end_pauses(until);
        assert!(outbox.take(until).is_some());
        assert!(refuse(&mut outbox, until, closes).0.as_millis() <= hasty);
    }
}

#[test]
fn a_returned_message_is_not_delivered_by_its_ack() {
    let (mut outbox, now) = (Outbox::new(10, Some(1)), Instant::now());
    outbox.push(batch(1, 1));
    let id = outbox.take(now).unwrap().id;
    assert!(outbox.returned(id).is_some() && outbox.returned(MessageId { file: 9, offset: 9 }).is_none());
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
    outbox.disconnected(now);
    let offsets: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.id.offset)).collect();
    assert_eq!(offsets, [0, 2]);
    assert_eq!(numbers(&outbox.settle(2, true, true, now)), [1]);
}

#[test]
fn absurd_tags_end_at_once_and_tag_zero_is_all() {
    let (mut outbox, now) = (Outbox::new(10, None), Instant::now());
    outbox.push(batch(1, 3));
    while outbox.take(now).is_some() {}
    for tag in [u64::MAX, 1 << 40, 4] {
        assert_eq!(outbox.settle(tag, false, true, now).confirmed, 0);
    }
    assert_eq!(outbox.settle(0, false, true, now).confirmed, 0);
    assert_eq!(outbox.settle(0, true, true, now).confirmed, 3);
    outbox.push(batch(2, 3));
    while outbox.take(now).is_some() {}
    assert_eq!(outbox.settle(u64::MAX, true, true, now).confirmed, 3);
}

#[test]
fn a_container_that_is_refused_does_not_hold_up_another() {
    let (mut outbox, now) = (Outbox::new(10, None), Instant::now());
    let (poisoned, healthy) = (log(1), log(2));
    outbox.push(batch_of(&poisoned, 1, &[1; 4]));
    outbox.push(batch_of(&healthy, 1, &[1; 4]));
    while outbox.take(now).is_some() {}
    outbox.settle(4, true, false, now);
    assert_eq!(numbers(&outbox.settle(8, true, true, now)), [1]);
    outbox.push(batch_of(&poisoned, 2, &[1; 4]));
    outbox.push(batch_of(&healthy, 2, &[1; 4]));
    let sent: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.source.id)).collect();
    assert_eq!(sent, [2; 4]);
    assert!(outbox.parked() >= 8, "its bytes are counted apart");
    assert!(poisoned.ledger().is_held() && !healthy.ledger().is_held());
}

#[test]
fn too_large_messages_are_cut_once_the_limit_is_known_or_go_to_dead_letters() {
    for dead_letter_after in [None, Some(5)] {
        let (mut outbox, now) = (Outbox::new(10, dead_letter_after), Instant::now());
        outbox.push(batch_of(&log(1), 1, &[10, 9000, 10]));
        outbox.push(batch_of(&log(2), 1, &[10]));
        while outbox.take(now).is_some() {}
        let settled = outbox.channel_closed(&Blame::Size(5000), |_| String::new(), now);
        assert!(settled.verdicts.is_empty());
        let sent: Vec<_> = std::iter::from_fn(|| {
            let sending = outbox.take(now)?;
            Some((sending.source.id, sending.id.offset, sending.body.len() <= 5000, sending.dead_letter))
        })
        .collect();
        let dead = dead_letter_after.is_some();
        assert_eq!(sent, [(1, 0, true, false), (1, 1, true, dead), (1, 2, true, false), (2, 0, true, false)]);
        let settled = outbox.settle(4, true, true, now);
        assert_eq!((settled.batches.len(), settled.verdicts.len()), (2, 1));
        let fate = if dead { Fate::CutForDeadLetters } else { Fate::Cut };
        assert_eq!((settled.verdicts[0].fate, settled.verdicts[0].id.offset), (fate, 1));
        // The next one no longer closes a channel.
        outbox.push(batch_of(&log(1), 2, &[9000]));
        assert!(outbox.take(now).unwrap().body.len() <= 5000);
    }
}

#[test]
fn a_key_that_is_refused_concerns_its_containers_alone() {
    let (mut outbox, now) = (Outbox::new(10, None), Instant::now());
    let pod = |id: u64, namespace: &str| {
        let pod = crate::container::Pod {
            namespace: namespace.into(),
            name: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        let container = Container { pod: Some(pod), docker: None, restart: "0".into() };
        Arc::new(Source::new(id, container, Ledger::default()))
    };
    let (refused, healthy) = (pod(1, "refused"), pod(2, "fine"));
    let key = |container: &Container| container.pod.as_ref().unwrap().namespace.clone();
    outbox.push(batch_of(&refused, 1, &[1; 2]));
    outbox.push(batch_of(&healthy, 1, &[1; 2]));
    while outbox.take(now).is_some() {}
    let settled = outbox.channel_closed(&Blame::Key("refused".into()), key, now);
    assert_eq!(settled.failed, 2);
    let sent: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.source.id)).collect();
    assert_eq!(sent, [2, 2]);
    // Its next try waits until the end of the channel cannot affect other messages.
    let later = outbox.paused_until(now).unwrap();
    assert!(outbox.take(later).is_none());
    outbox.settle(2, true, true, later);
    assert_eq!(outbox.take(later).unwrap().source.id, 1);
    assert!(outbox.take(later).is_none());
    // The operator grants the permission.
    outbox.settle(3, false, true, later);
    while outbox.take(later).is_some() {}
    assert_eq!(numbers(&outbox.settle(0, true, true, later)), [1]);
    assert!(outbox.is_empty());
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
    /// Against a broker that does anything: a batch is finished exactly once, and only after each of its messages was
    /// accepted.
    #[test]
    fn nothing_is_done_before_it_was_delivered(steps in proptest::collection::vec(step(), 0..200)) {
        let mut outbox = Outbox::new(7, None);
        let mut now = Instant::now();
        let mut pushed: BTreeMap<u64, usize> = BTreeMap::new();
        let mut delivered: BTreeMap<(u64, u64), bool> = BTreeMap::new();
        let mut done: BTreeMap<u64, u32> = BTreeMap::new();
        // The broker's view: the messages of this connection, by tag, with whether each was returned; `None` once
        // settled.
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
                        *done.entry(batch.receipt.number).or_default() += 1;
                        let whole = (0..pushed[&batch.receipt.number]).all(|index| delivered.contains_key(&(batch.receipt.number, index as u64)));
                        prop_assert!(whole, "batch {} is done too early", batch.receipt.number);
                    }
                }
                Step::Return(ahead) => {
                    if let Some(Some((id, returned))) = published.get_mut(first_open + ahead as usize) && !*returned {
                        *returned = true;
                        let id = MessageId { file: (1 << 64) + u128::from(id.0), offset: id.1 };
                        prop_assert!(outbox.returned(id).is_some());
                    }
                }
                Step::Disconnect => {
                    published.clear();
                    first_open = 0;
                    outbox.disconnected(now);
                }
                Step::Wait => now += Duration::from_secs(120),
            }
        }
        prop_assert!(outbox.is_empty(), "{} are left", outbox.pending());
        prop_assert!(done.len() == pushed.len() && done.values().all(|times| *times == 1));
    }
}
