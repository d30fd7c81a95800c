//! Tests against a simulated broker with a simulated clock.

use super::*;

/// What a simulated broker does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taste {
    Takes,
    Nacks,
    Closes,
    Loses,
    TooLarge,
}

/// Publishes everything to a broker of this kind. Returns what it accepted, in order, what was given up, and whether
/// everything ended.
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
            let id = (sending.source.id, sending.id.file as u64, sending.id.offset);
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
        for mut settled in [settled, outbox.take_settled()] {
            simulated
                .done
                .extend(settled.batches.drain(..).map(|batch| (batch.receipt.source.id, batch.receipt.number)));
            let given_up = settled.verdicts.iter().filter(|verdict| verdict.fate == Fate::GivenUp);
            simulated
                .given_up
                .extend(given_up.map(|verdict| (verdict.source.id, verdict.id.file as u64, verdict.id.offset)));
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

/// Adds batches of three logs, and returns others to be added later.
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
fn one_message_that_is_never_accepted_is_found_and_all_others_arrive_in_order() {
    for (taste, given_up) in
        [(Taste::Nacks, false), (Taste::Closes, true), (Taste::Loses, false), (Taste::TooLarge, false)]
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
                let waits = matches!(taste, Taste::Loses | Taste::Nacks) && dead.is_empty();
                assert!(outbox.is_empty() || waits, "{taste:?}");
            }
        }
    }
}

#[test]
fn nothing_is_given_up_while_a_broker_refuses_everything() {
    for taste in [Taste::Nacks, Taste::Closes, Taste::Loses] {
        let mut outbox = Outbox::new(8, None);
        three_logs(&mut outbox, 2, 1);
        let simulated = simulate(&mut outbox, Vec::new(), |_, _, _| taste, || false);
        assert_eq!((simulated.given_up.len(), simulated.done.len(), simulated.taken.len()), (0, 0, 0), "{taste:?}");
        // Once the broker accepts them, all arrive.
        let simulated = simulate(&mut outbox, Vec::new(), |_, _, _| Taste::Takes, || false);
        assert!(outbox.is_empty() && simulated.done.len() == 6, "{taste:?}: {simulated:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Some messages are poison, of any kind: every other one arrives, and each batch ends once.
    #[test]
    fn poison_of_any_kind_stops_no_other(
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
        // A refused message waits if no other message of its log is left for comparison.
        prop_assert!(simulated.given_up.len() <= poison.len());
        prop_assert_eq!(outbox.is_empty(), simulated.given_up.len() == poison.len());
    }
}
