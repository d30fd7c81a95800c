//! Simulates whole rollouts over nodes that pull, fail, stall, go away and come back.

use proptest::prelude::*;

use super::*;

/// What happens to one order of one machine in one turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Nothing,
    Advance,
    Fail,
    Refuse,
    Stall,
    Away,
    RuntimeAway,
    Silent,
    Back,
    Wait,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Advance),
        2 => Just(Turn::Nothing),
        1 => Just(Turn::Fail),
        1 => Just(Turn::Refuse),
        1 => Just(Turn::Stall),
        1 => Just(Turn::Away),
        1 => Just(Turn::RuntimeAway),
        1 => Just(Turn::Silent),
        1 => Just(Turn::Back),
        1 => Just(Turn::Wait),
    ]
}

const IMAGES: usize = 3;

/// Carries out the decision as the planner does. Returns the started pulls.
fn carry_out(machines: &mut [Machine]) -> Vec<(usize, usize)> {
    let decision = decide_over(IMAGES, machines);
    let mut begun = Vec::new();
    for (index, orders) in decision.orders.iter().enumerate() {
        let machine = &mut machines[index];
        machine.object.orders.retain(|given| orders.iter().any(|order| key(order.image) == given.key));
        for order in orders {
            if !machine.has_order(order.image) {
                machine.give_order(order.image);
                (machine.last_ordered, machine.stalled) = (Duration::ZERO, false);
                begun.push((index, order.image));
            }
        }
    }
    begun
}

fn happen(machine: &mut Machine, turn: Turn) {
    machine.last_ordered = machine.last_ordered.saturating_add(Duration::from_secs(60));
    let next = (0..IMAGES).find(|image| machine.has_order(*image) && !machine.holds(*image));
    let failures =
        |machine: &Machine, image: usize| machine.object.report(key(image)).map_or(0, |reported| reported.failures);
    match (turn, next) {
        (Turn::Away, _) => machine.eligibility = Eligibility::Paused("not ready".into()),
        (Turn::RuntimeAway, _) => machine.unfit = Some(Unfit::Runtime),
        (Turn::Silent, _) => machine.unfit = Some(Unfit::Silent),
        (Turn::Back, _) => {
            (machine.eligibility, machine.stalled, machine.unfit) = (Eligibility::Eligible, false, None);
            machine.waits_for.clear();
        }
        (Turn::Wait, _) => machine.waits_for = vec![0],
        (Turn::Stall, Some(_)) => machine.stalled = true,
        (Turn::Advance, Some(image)) if machine.is_fit() => {
            let failures = failures(machine, image);
            let state = match machine.state(image) {
                None | Some(PullState::Failed | PullState::Refused) => PullState::Waiting,
                Some(PullState::Waiting) => PullState::Downloading,
                _ => PullState::Present,
            };
            machine.report(image, state, failures);
            machine.stalled = false;
        }
        (Turn::Fail, Some(image)) => {
            let failures = failures(machine, image) + 1;
            machine.report(image, PullState::Failed, failures);
        }
        (Turn::Refuse, Some(image)) => machine.report(image, PullState::Refused, 0),
        _ => {}
    }
}

/// How many machines use a slot: they pull an image that passed, are not new and have no waiting pod.
fn taking_slots(machines: &[Machine]) -> usize {
    let passed = |image: usize| machines.iter().any(|machine| machine.holds(image));
    let pulls = |machine: &&Machine| {
        let active = |image: usize| {
            let failures = machine.object.report(key(image)).map_or(0, |reported| reported.failures);
            let state = machine.state(image);
            passed(image)
                && machine.has_order(image)
                && failures == 0
                && !matches!(state, Some(PullState::Present | PullState::Failed | PullState::Refused))
        };
        let counts = machine.is_fit() && !machine.stalled && !machine.new;
        counts && machine.waits_for.is_empty() && (0..IMAGES).any(active)
    };
    machines.iter().filter(pulls).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn waves_keep_their_rules_and_end(
        new in prop::collection::vec(any::<bool>(), 2..7),
        turns in prop::collection::vec(prop::collection::vec(turn(), 7), 0..40),
    ) {
        let mut machines: Vec<Machine> = new.iter().zip('a'..)
            .map(|(new, name)| Machine { new: *new, ..m(&name.to_string()) }).collect();
        for turns in turns {
            let (before, taken) = (machines.clone(), taking_slots(&machines));
            let begun = carry_out(&mut machines);
            // No wanted order is taken away, and nothing is ordered twice.
            for (old, now) in before.iter().zip(&machines) {
                prop_assert!((0..IMAGES).all(|image| !old.has_order(image) || now.has_order(image)));
            }
            for image in 0..IMAGES {
                let first = begun.iter().filter(|(_, begun)| *begun == image).count();
                if !before.iter().any(|machine| machine.holds(image)) {
                    // Until one node has it, one node at a time tries.
                    prop_assert!(first <= 1);
                    // A few nodes that went away say nothing about the image, so the next possible node gets it at
                    // once.
                    let could = |machine: &&Machine| machine.is_fit() && !machine.has_order(image);
                    let gone = before.iter().filter(|machine| !machine.is_fit() && machine.has_order(image)).count();
                    let is_full = |machine: &Machine| machine.state(image) == Some(PullState::Refused);
                    let tried = before.iter().any(|machine| machine.tried_in_vain(image) && !is_full(machine));
                    let busy = before.iter().any(|machine| machine.is_fit() && machine.has_order(image) && !is_full(machine));
                    if gone <= CHANCE as usize && !tried && !busy && before.iter().any(|machine| could(&machine)) {
                        prop_assert_eq!(first, 1, "{:?}", before);
                    }
                    let tries = before.iter().any(|machine| machine.is_fit() && !machine.stalled
                        && machine.has_order(image) && matches!(machine.object.report(key(image)),
                            None | Some(Reported { state: PullState::Waiting | PullState::Downloading, failures: 0, .. })));
                    prop_assert!(first == 0 || !tries);
                }
            }
            // Others start only if a slot is free.
            let mut others: Vec<usize> = begun.iter()
                .filter(|(index, image)| {
                    let machine = &before[*index];
                    before.iter().any(|machine| machine.holds(*image)) && !machine.new && machine.waits_for.is_empty()
                })
                .map(|(index, _)| *index).collect();
            others.dedup();
            let pulled_already = |index: &usize| {
                let passed = |image: usize| before.iter().any(|machine| machine.holds(image));
                (0..IMAGES).any(|image| passed(image) && before[*index].has_order(image) && !before[*index].holds(image))
            };
            others.retain(|index| !pulled_already(index));
            prop_assert!(others.is_empty() || taken + others.len() <= PARALLEL, "{taken} + {others:?}");
            for (machine, turn) in machines.iter_mut().zip(turns) {
                happen(machine, turn);
            }
        }
        // Whatever happened before: once every node works again, every node has everything after a while.
        for _ in 0..400 {
            if machines.iter().all(|machine| (0..IMAGES).all(|image| machine.holds(image))) {
                break;
            }
            carry_out(&mut machines);
            for machine in &mut machines {
                happen(machine, Turn::Back);
                happen(machine, Turn::Advance);
            }
        }
        for machine in &machines {
            prop_assert!((0..IMAGES).all(|image| machine.holds(image)), "{machine:?}");
        }
        prop_assert!(decide_over(IMAGES, &machines).images.iter().all(|spread| spread.wave == Wave::Done));
    }
}
