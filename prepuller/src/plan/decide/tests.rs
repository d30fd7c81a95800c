//! Tables of single decisions, and whole waves played to their end over nodes that pull, fail, stall and come back.

use proptest::prelude::*;

use super::*;
use crate::plan::seen::Report;

const PARALLEL: usize = 2;

/// A node of a small cluster whose images go by number.
#[derive(Clone, Debug)]
struct Machine {
    name: Arc<str>,
    standing: Standing,
    new: bool,
    waits_for: Vec<usize>,
    object: SeenOrders,
    stalled: bool,
    told: Duration,
}

fn key(image: usize) -> Key {
    Key::new(&format!("lab:{image}"), None)
}

fn name(image: usize) -> Key {
    Key::new(&format!("name:{image}"), None)
}

fn wanted(count: usize) -> Vec<Wanted> {
    let one = |image| Wanted { key: key(image), name: name(image), architectures: Vec::new(), gate: false };
    (0..count).map(one).collect()
}

fn reported(state: PullState, failures: u32) -> Reported {
    Reported {
        state,
        done: 0,
        total: 0,
        rate: None,
        eta_seconds: None,
        failures,
        error: (failures > 0).then(|| "manifest unknown".into()),
        since: jiff::Timestamp::UNIX_EPOCH,
    }
}

impl Machine {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            standing: Standing::Eligible,
            new: false,
            waits_for: Vec::new(),
            object: SeenOrders::default(),
            stalled: false,
            told: Duration::MAX,
        }
    }

    /// With an order, and a report where a state is given.
    fn with(mut self, image: usize, state: Option<PullState>) -> Self {
        self.tell(image);
        if let Some(state) = state {
            self.report(image, state, u32::from(state == PullState::Failed));
        }
        self
    }

    fn tell(&mut self, image: usize) {
        self.object.orders.push(Given { key: key(image), urgent: false, gate: false });
    }

    fn report(&mut self, image: usize, state: PullState, failures: u32) {
        self.object.reports.retain(|report| report.key != key(image));
        self.object.reports.push(Report { key: key(image), told: reported(state, failures) });
    }

    fn has_order(&self, image: usize) -> bool {
        self.object.orders.iter().any(|given| given.key == key(image))
    }

    fn state(&self, image: usize) -> Option<PullState> {
        self.object.report(key(image)).map(|told| told.state)
    }

    fn holds(&self, image: usize) -> bool {
        self.state(image) == Some(PullState::Present)
    }
}

fn decide_over(images: usize, machines: &[Machine]) -> Decision {
    let waits: Vec<Vec<Key>> =
        machines.iter().map(|machine| machine.waits_for.iter().map(|image| name(*image)).collect()).collect();
    let nodes = machines.iter().zip(&waits).map(|(machine, waits_for)| Node {
        name: &machine.name,
        standing: &machine.standing,
        architecture: Some("amd64"),
        new: machine.new,
        waits_for,
        object: &machine.object,
        stalled: machine.stalled,
        told: machine.told,
    });
    let nodes: Vec<Node<'_>> = nodes.collect();
    decide(&wanted(images), &nodes, PARALLEL)
}

/// The images that each machine should have, as text: `a:0,1 b:`.
fn orders(images: usize, machines: &[Machine]) -> String {
    let decision = decide_over(images, machines);
    let one = |(machine, orders): (&Machine, &Vec<NodeOrder>)| {
        let images: Vec<String> =
            orders.iter().map(|order| format!("{}{}", order.image, if order.urgent { "!" } else { "" })).collect();
        format!("{}:{}", machine.name, images.join(","))
    };
    machines.iter().zip(&decision.orders).map(one).collect::<Vec<_>>().join(" ")
}

fn wave(machines: &[Machine]) -> Wave {
    decide_over(1, machines).images[0].wave.clone()
}

const PRESENT: Option<PullState> = Some(PullState::Present);
const FAILED: Option<PullState> = Some(PullState::Failed);
const DOWNLOADING: Option<PullState> = Some(PullState::Downloading);

fn m(name: &str) -> Machine {
    Machine::new(name)
}

#[test]
fn one_canary_then_as_many_as_there_are_slots() {
    let all = || vec![m("a"), m("b"), m("c"), m("d")];
    assert_eq!(orders(1, &all()), "a:0 b: c: d:");
    assert_eq!(wave(&all()), Wave::Canary { node: "a".into() });
    assert_eq!(orders(2, &all()), "a:0,1 b: c: d:");
    for state in [None, DOWNLOADING, Some(PullState::Waiting), Some(PullState::Unpacking)] {
        let mut machines = all();
        machines[1] = m("b").with(0, state);
        assert_eq!(orders(1, &machines), "a: b:0 c: d:", "{state:?}");
    }
    let mut machines = all();
    machines[1] = m("b").with(0, PRESENT);
    assert_eq!(orders(1, &machines), "a:0 b:0 c:0 d:");
    machines[0] = m("a").with(0, DOWNLOADING);
    assert_eq!(orders(1, &machines), "a:0 b:0 c:0 d:");
    assert_eq!(wave(&machines), Wave::Rolling);
    machines.iter_mut().for_each(|machine| machine.report(0, PullState::Present, 0));
    assert_eq!(wave(&machines), Wave::Done);
}

#[test]
fn a_failing_canary_stops_the_wave_for_a_while() {
    let machines = |told| vec![Machine { told, ..m("a").with(0, FAILED) }, m("b"), m("c")];
    let soon = Duration::from_secs(30);
    assert_eq!(orders(1, &machines(soon)), "a:0 b: c:");
    assert_eq!(wave(&machines(soon)), Wave::Stopped { node: "a".into(), error: "manifest unknown".into() });
    // It tries again, which is no success yet.
    let mut again = machines(soon);
    again[0].report(0, PullState::Downloading, 1);
    assert!(matches!(wave(&again), Wave::Stopped { .. }));
    assert_eq!(orders(1, &again), "a:0 b: c:");
    // It may be the node's fault: after ten minutes one other tries, and no third soon.
    assert_eq!(orders(1, &machines(Duration::from_secs(600))), "a:0 b:0 c:");
    let mut two = machines(Duration::from_secs(1200));
    two[1] = Machine { told: soon, ..m("b").with(0, FAILED) };
    assert_eq!(orders(1, &two), "a:0 b:0 c:");
    // Once one holds it, the wave goes on.
    two[1].report(0, PullState::Present, 1);
    assert_eq!(orders(1, &two), "a:0 b:0 c:0");
}

#[test]
fn a_canary_that_is_away_or_full_or_stands_still_is_replaced() {
    let away = Machine { standing: Standing::Paused("not ready".into()), ..m("a").with(0, DOWNLOADING) };
    let full = m("a").with(0, Some(PullState::Refused));
    let still = Machine { stalled: true, ..m("a").with(0, DOWNLOADING) };
    for canary in [away, full, still] {
        assert_eq!(orders(1, &[Machine { told: Duration::from_secs(1), ..canary }, m("b"), m("c")]), "a:0 b:0 c:");
    }
}

#[test]
fn failing_and_stalled_nodes_take_no_slot() {
    let stuck = |name| Machine { stalled: true, ..m(name).with(0, DOWNLOADING) };
    let away = |name| Machine { standing: Standing::Paused("cordoned".into()), ..m(name).with(0, DOWNLOADING) };
    let machines = [m("a").with(0, PRESENT), m("b").with(0, FAILED), stuck("c"), away("d"), m("e"), m("f"), m("g")];
    assert_eq!(orders(1, &machines), "a:0 b:0 c:0 d:0 e:0 f:0 g:");
}

#[test]
fn who_waits_and_who_is_new_needs_no_slot() {
    let busy = |name| m(name).with(0, PRESENT).with(1, DOWNLOADING);
    let holds = m("z").with(0, PRESENT).with(1, PRESENT);
    let waits = Machine { waits_for: vec![1], ..m("c") };
    let new = Machine { new: true, ..m("d") };
    let machines = [busy("a"), busy("b"), waits, new, m("e"), holds];
    assert_eq!(orders(2, &machines), "a:0,1 b:0,1 c:1! d:0,1 e: z:0,1");
    // And with a slot free, who waits is first.
    let machines =
        [busy("a"), m("b"), Machine { waits_for: vec![1], ..m("c") }, m("z").with(0, PRESENT).with(1, PRESENT)];
    assert_eq!(orders(2, &machines), "a:0,1 b: c:0,1! z:0,1");
}

#[test]
fn who_waits_is_the_canary() {
    assert_eq!(orders(1, &[m("a"), Machine { waits_for: vec![0], ..m("b") }]), "a: b:0!");
}

#[test]
fn an_excluded_node_loses_its_orders_and_a_paused_one_keeps_them() {
    let excluded = Machine { standing: Standing::Excluded("taint".into()), ..m("a").with(0, DOWNLOADING) };
    let paused = Machine { standing: Standing::Paused("cordoned".into()), ..m("b").with(0, PRESENT) };
    let decision = decide_over(1, &[excluded.clone(), paused.clone(), m("c")]);
    assert_eq!((decision.images[0].present, decision.images[0].eligible), (0, 1));
    assert_eq!(orders(1, &[excluded, paused, m("c")]), "a: b:0 c:0");
}

#[test]
fn an_image_goes_to_its_architecture_only() {
    let wanted = [Wanted { architectures: vec!["arm64".into()], ..wanted(1).remove(0) }];
    let (standing, object) = (Standing::Eligible, SeenOrders::default());
    let names = [Arc::from("a"), Arc::from("b"), Arc::from("c")];
    let node = |name, architecture| Node {
        name,
        standing: &standing,
        architecture,
        new: false,
        waits_for: &[],
        object: &object,
        stalled: false,
        told: Duration::MAX,
    };
    let nodes = [node(&names[0], Some("amd64")), node(&names[1], Some("arm64")), node(&names[2], None)];
    let decision = decide(&wanted, &nodes, 1);
    assert_eq!(decision.orders.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(decision.images[0].eligible, 2);
}

/// What happens to one order of one machine in one turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Nothing,
    Advance,
    Fail,
    Refuse,
    Stall,
    Away,
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
        1 => Just(Turn::Back),
        1 => Just(Turn::Wait),
    ]
}

const IMAGES: usize = 3;

/// The decision is carried out, as the planner does; what was begun.
fn carry_out(machines: &mut [Machine]) -> Vec<(usize, usize)> {
    let decision = decide_over(IMAGES, machines);
    let mut begun = Vec::new();
    for (index, orders) in decision.orders.iter().enumerate() {
        let machine = &mut machines[index];
        machine.object.orders.retain(|given| orders.iter().any(|order| key(order.image) == given.key));
        for order in orders {
            if !machine.has_order(order.image) {
                machine.tell(order.image);
                (machine.told, machine.stalled) = (Duration::ZERO, false);
                begun.push((index, order.image));
            }
        }
    }
    begun
}

fn happen(machine: &mut Machine, turn: Turn) {
    machine.told = machine.told.saturating_add(Duration::from_secs(60));
    let next = (0..IMAGES).find(|image| machine.has_order(*image) && !machine.holds(*image));
    let failures = |machine: &Machine, image: usize| machine.object.report(key(image)).map_or(0, |told| told.failures);
    match (turn, next) {
        (Turn::Away, _) => machine.standing = Standing::Paused("not ready".into()),
        (Turn::Back, _) => {
            (machine.standing, machine.stalled) = (Standing::Eligible, false);
            machine.waits_for.clear();
        }
        (Turn::Wait, _) => machine.waits_for = vec![0],
        (Turn::Stall, Some(_)) => machine.stalled = true,
        (Turn::Advance, Some(image)) if machine.standing == Standing::Eligible => {
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

/// Machines that pull an image that passed, without being new or waited on.
fn taking_slots(machines: &[Machine]) -> usize {
    let passed = |image: usize| machines.iter().any(|machine| machine.holds(image));
    let pulls = |machine: &&Machine| {
        let active = |image: usize| {
            let failures = machine.object.report(key(image)).map_or(0, |told| told.failures);
            let state = machine.state(image);
            passed(image)
                && machine.has_order(image)
                && failures == 0
                && !matches!(state, Some(PullState::Present | PullState::Failed | PullState::Refused))
        };
        let counts = machine.standing == Standing::Eligible && !machine.stalled && !machine.new;
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
            // Nothing that is wanted is taken away, and nothing is ordered twice.
            for (old, now) in before.iter().zip(&machines) {
                prop_assert!((0..IMAGES).all(|image| !old.has_order(image) || now.has_order(image)));
            }
            for image in 0..IMAGES {
                let first = begun.iter().filter(|(_, begun)| *begun == image).count();
                if !before.iter().any(|machine| machine.holds(image)) {
                    // Until one holds it, one at a time tries.
                    prop_assert!(first <= 1);
                    let tries = before.iter().any(|machine| machine.standing == Standing::Eligible && !machine.stalled
                        && machine.has_order(image) && matches!(machine.object.report(key(image)),
                            None | Some(Reported { state: PullState::Waiting | PullState::Downloading, failures: 0, .. })));
                    prop_assert!(first == 0 || !tries);
                }
            }
            // Others begin only where a slot is free.
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
        // Whatever happened: when every node works again, every node holds everything after a while.
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
