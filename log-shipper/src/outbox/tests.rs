use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::LogKey;
use crate::container::Container;
use crate::follow::ContainerLog;
use crate::outgoing::Message;

fn batch(number: u64, messages: usize) -> Batch {
    batch_of(&log(1), number, &vec![1; messages])
}

fn log(id: u64) -> Arc<ContainerLog> {
    let key = LogKey { folder: std::path::Path::new("/x").into(), base: "0".into() };
    let container = Container { pod: None, docker: None, restart: "0".into() };
    Arc::new(ContainerLog::new(id, key, container, Vec::new(), false, 1024, Default::default()))
}

/// A batch whose messages have these sizes.
fn batch_of(log: &Arc<ContainerLog>, number: u64, sizes: &[usize]) -> Batch {
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
    Batch { log: log.clone(), number, bytes, messages, events: sizes.len() as u64 }
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
    let id = outbox.take(now).unwrap().id;
    assert!(outbox.returned(id) && !outbox.returned(MessageId { file: 9, offset: 9 }));
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
    let sent: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.log.id)).collect();
    assert_eq!(sent, [2; 4]);
    assert!(outbox.parked() >= 8, "its bytes are counted apart");
    assert!(poisoned.ledger().is_full() || !healthy.ledger().is_full());
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
            Some((sending.log.id, sending.id.offset, sending.body.len() <= 5000, sending.dead_letter))
        })
        .collect();
        let dead = dead_letter_after.is_some();
        assert_eq!(sent, [(1, 0, true, false), (1, 1, true, dead), (1, 2, true, false), (2, 0, true, false)]);
        let settled = outbox.settle(4, true, true, now);
        assert_eq!((settled.batches.len(), settled.verdicts.len()), (2, 1));
        let fate = if dead { Fate::CutForDeadLetters } else { Fate::Cut };
        assert_eq!((settled.verdicts[0].fate, settled.verdicts[0].id.offset), (fate, 1));
        // The next one costs no channel any more.
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
        let key = LogKey { folder: std::path::Path::new("/x").into(), base: "0".into() };
        Arc::new(ContainerLog::new(id, key, container, Vec::new(), false, 1024, Default::default()))
    };
    let (refused, healthy) = (pod(1, "refused"), pod(2, "fine"));
    let key = |container: &Container| container.pod.as_ref().unwrap().namespace.clone();
    outbox.push(batch_of(&refused, 1, &[1; 2]));
    outbox.push(batch_of(&healthy, 1, &[1; 2]));
    while outbox.take(now).is_some() {}
    let settled = outbox.channel_closed(&Blame::Key("refused".into()), key, now);
    assert_eq!(settled.failed, 2);
    let sent: Vec<_> = std::iter::from_fn(|| outbox.take(now).map(|sending| sending.log.id)).collect();
    assert_eq!(sent, [2, 2]);
    // Its next try waits until nothing else can be hit by the end of the channel.
    let later = outbox.paused_until(now).unwrap();
    assert!(outbox.take(later).is_none());
    outbox.settle(2, true, true, later);
    assert_eq!(outbox.take(later).unwrap().log.id, 1);
    assert!(outbox.take(later).is_none());
    // The operator grants it.
    outbox.settle(3, false, true, later);
    while outbox.take(later).is_some() {}
    assert_eq!(numbers(&outbox.settle(0, true, true, later)), [1]);
    assert!(outbox.is_empty());
}

/// What a simulated broker does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taste {
    Takes,
    Nacks,
    Closes,
    Loses,
    TooLarge,
}

/// Publishes all against a broker of this taste; gives what it took, in order, what was given up and whether all ended.
fn simulate(
    outbox: &mut Outbox,
    mut feed: Vec<Batch>,
    taste: impl Fn(u64, u64, u64) -> Taste,
    mut lazy: impl FnMut() -> bool,
) -> Simulated {
    const LIMIT: usize = 5000;
    let mut now = Instant::now();
    let mut simulated = Simulated::default();
    let mut wire = VecDeque::new();
    let mut tag = 0;
    outbox.disconnected(now);
    for _ in 0..4000 {
        while let Some(sending) = outbox.take(now) {
            tag += 1;
            let id = (sending.log.id, sending.id.file as u64, sending.id.offset);
            wire.push_back((tag, id, sending.body.len(), sending.dead_letter));
        }
        let settled = match wire.front().copied() {
            None if outbox.is_empty() && feed.is_empty() => break,
            None => {
                feed.pop().into_iter().for_each(|batch| outbox.push(batch));
                now = outbox.paused_until(now).unwrap_or(now + Duration::from_millis(1));
                Settled::default()
            }
            Some(_) if lazy() => continue,
            Some((tag_of, id, size, dead_letter)) => {
                wire.pop_front();
                let mut over = |outbox: &mut Outbox, blame: Option<Blame>, wire: &mut VecDeque<_>| {
                    wire.clear();
                    tag = 0;
                    simulated.closed += 1;
                    match blame {
                        Some(blame) => outbox.channel_closed(&blame, |_| String::new(), now),
                        None => {
                            outbox.disconnected(now);
                            Settled::default()
                        }
                    }
                };
                match taste(id.0, id.1, id.2) {
                    _ if dead_letter && size <= LIMIT => {
                        simulated.dead.push(id);
                        outbox.settle(tag_of, false, true, now)
                    }
                    Taste::TooLarge if size > LIMIT => over(outbox, Some(Blame::Size(LIMIT)), &mut wire),
                    Taste::Takes | Taste::TooLarge => {
                        simulated.taken.push(id);
                        outbox.settle(tag_of, false, true, now)
                    }
                    Taste::Nacks => outbox.settle(tag_of, false, false, now),
                    Taste::Closes => over(outbox, Some(Blame::OneMessage), &mut wire),
                    Taste::Loses => over(outbox, None, &mut wire),
                }
            }
        };
        for mut settled in [settled, outbox.aftermath()] {
            simulated.done.extend(settled.batches.drain(..).map(|batch| (batch.log.id, batch.number)));
            let given_up = settled.verdicts.iter().filter(|verdict| verdict.fate == Fate::GivenUp);
            simulated
                .given_up
                .extend(given_up.map(|verdict| (verdict.log.id, verdict.id.file as u64, verdict.id.offset)));
        }
    }
    simulated
}

#[derive(Debug, Default)]
struct Simulated {
    taken: Vec<(u64, u64, u64)>,
    dead: Vec<(u64, u64, u64)>,
    done: Vec<(u64, u64)>,
    given_up: Vec<(u64, u64, u64)>,
    closed: usize,
}

/// Gives batches to be pushed later.
fn three_logs(outbox: &mut Outbox, batches: u64, size: usize) -> Vec<Batch> {
    let logs = [1, 2, 3].map(log);
    for number in 1..=batches {
        for log in &logs {
            outbox.push(batch_of(log, number, &[size; 4]));
        }
    }
    let later = batches + 1..=batches + 30;
    later.rev().map(|number| batch_of(&logs[1], number, &[1])).collect()
}

#[test]
fn one_message_that_is_never_taken_is_found_and_all_others_arrive_in_order() {
    for (taste, given_up) in
        [(Taste::Nacks, true), (Taste::Closes, true), (Taste::Loses, false), (Taste::TooLarge, false)]
    {
        for dead_letters in [None, Some(5)] {
            let mut outbox = Outbox::new(8, dead_letters);
            let mut feed = three_logs(&mut outbox, 10, 1);
            let poison = if taste == Taste::TooLarge { (4, 1, 0) } else { (2, 3, 1) };
            if taste == Taste::TooLarge {
                feed.push(batch_of(&log(4), 1, &[9000]));
            }
            let simulated = simulate(
                &mut outbox,
                feed,
                |log, file, offset| if (log, file, offset) == poison { taste } else { Taste::Takes },
                || false,
            );
            let mut first = [simulated.taken.clone(), simulated.dead.clone()].concat();
            first.sort_unstable();
            first.dedup();
            assert!(first.len() >= 149, "{taste:?} {}", first.len());
            for log in 1..=3 {
                let mut last = (0, 0);
                let mut seen = BTreeSet::new();
                for id in simulated.taken.iter().filter(|id| id.0 == log && **id != poison) {
                    if seen.insert(*id) {
                        assert!((id.1, id.2) > last || last == (0, 0), "{taste:?}: {id:?} after {last:?}");
                        last = (id.1, id.2);
                    }
                }
            }
            if given_up && dead_letters.is_none() {
                assert_eq!(simulated.given_up, [poison], "{taste:?}");
                assert!(outbox.is_empty() && simulated.done.len() == 60, "{taste:?}");
                assert!(simulated.closed < 12, "{taste:?}: {} channels", simulated.closed);
            } else {
                assert_eq!(simulated.given_up, [], "{taste:?}");
                let dead: Vec<_> = simulated.dead.iter().filter(|id| **id == poison).collect();
                assert_eq!(dead.len(), usize::from(dead_letters.is_some()), "{taste:?}");
                assert!(outbox.is_empty() || taste == Taste::Loses && dead.is_empty(), "{taste:?}");
            }
        }
    }
}

#[test]
fn where_a_broker_refuses_all_nothing_is_given_up() {
    for taste in [Taste::Nacks, Taste::Closes, Taste::Loses] {
        let mut outbox = Outbox::new(8, None);
        three_logs(&mut outbox, 2, 1);
        let simulated = simulate(&mut outbox, Vec::new(), |_, _, _| taste, || false);
        assert_eq!((simulated.given_up.len(), simulated.done.len(), simulated.taken.len()), (0, 0, 0), "{taste:?}");
        // Once it takes them, all come.
        let simulated = simulate(&mut outbox, Vec::new(), |_, _, _| Taste::Takes, || false);
        assert!(outbox.is_empty() && simulated.done.len() == 6, "{taste:?}: {simulated:?}");
    }
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
                        let id = MessageId { file: (1 << 64) + u128::from(id.0), offset: id.1 };
                        prop_assert!(outbox.returned(id));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Some messages are poison, of any kind: every other one arrives, and each batch ends once.
    #[test]
    fn poison_of_any_kind_stops_nobody_else(
        poison in proptest::collection::btree_map((1u64..=3, 1u64..=6, 0u64..4), prop_oneof![Just(Taste::Nacks), Just(Taste::Closes)], 0..6),
        window in 1usize..20,
        lazy in proptest::collection::vec(any::<bool>(), 1..50),
    ) {
        let mut outbox = Outbox::new(window, None);
        three_logs(&mut outbox, 6, 1);
        let mut turn = 0;
        let simulated = simulate(
            &mut outbox,
            Vec::new(),
            |log, file, offset| poison.get(&(log, file, offset)).copied().unwrap_or(Taste::Takes),
            || {
                turn += 1;
                lazy[turn % lazy.len()] && turn % 7 != 0
            },
        );
        let taken: BTreeSet<_> = simulated.taken.iter().collect();
        prop_assert_eq!(taken.len() + poison.len(), 72);
        prop_assert!(simulated.given_up.iter().all(|id| poison.contains_key(id)));
        let mut done = simulated.done.clone();
        done.sort_unstable();
        done.dedup();
        prop_assert_eq!(done.len(), simulated.done.len());
        // A message that is refused when no other of its log is left to compare it with waits.
        prop_assert!(simulated.given_up.len() <= poison.len());
        prop_assert_eq!(outbox.is_empty(), simulated.given_up.len() == poison.len());
    }
}
