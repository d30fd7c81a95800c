//! Tables of single decisions.

mod waves;

use super::*;
use crate::plan::seen::SeenReport;

const PARALLEL: usize = 2;

/// A node of a small cluster whose images are numbers.
#[derive(Clone, Debug)]
struct Machine {
    name: Arc<str>,
    eligibility: Eligibility,
    new: bool,
    waits_for: Vec<usize>,
    object: SeenOrders,
    stalled: bool,
    unfit: Option<Unfit>,
    last_ordered: Duration,
}

fn key(image: usize) -> Key {
    Key::new(&format!("lab:{image}"), None)
}

fn name(image: usize) -> Key {
    Key::new(&format!("name:{image}"), None)
}

fn wanted(count: usize) -> Vec<Wanted> {
    let one = |image| Wanted { key: key(image), name: name(image), architectures: None, gate: false };
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
            eligibility: Eligibility::Eligible,
            new: false,
            waits_for: Vec::new(),
            object: SeenOrders::default(),
            stalled: false,
            unfit: None,
            last_ordered: Duration::MAX,
        }
    }

    /// Adds an order, and a report if a state is given.
    fn with(mut self, image: usize, state: Option<PullState>) -> Self {
        self.give_order(image);
        if let Some(state) = state {
            self.report(image, state, u32::from(state == PullState::Failed));
        }
        self
    }

    fn give_order(&mut self, image: usize) {
        self.object.orders.push(Given { key: key(image), urgent: false, gate: false });
    }

    fn report(&mut self, image: usize, state: PullState, failures: u32) {
        self.object.reports.retain(|report| report.key != key(image));
        self.object.reports.push(SeenReport { key: key(image), reported: reported(state, failures) });
    }

    fn has_order(&self, image: usize) -> bool {
        self.object.orders.iter().any(|given| given.key == key(image))
    }

    fn state(&self, image: usize) -> Option<PullState> {
        self.object.report(key(image)).map(|reported| reported.state)
    }

    fn holds(&self, image: usize) -> bool {
        self.state(image) == Some(PullState::Present)
    }

    fn is_fit(&self) -> bool {
        self.eligibility == Eligibility::Eligible && self.unfit.is_none()
    }

    /// Whether it failed with an image, or is stalled with it, although it could pull.
    fn tried_in_vain(&self, image: usize) -> bool {
        let failed = self.object.report(key(image)).is_some_and(|reported| reported.failures > 0);
        self.is_fit() && self.has_order(image) && (failed || self.stalled)
    }
}

fn decide_over(images: usize, machines: &[Machine]) -> Decision {
    let waits: Vec<Vec<Key>> =
        machines.iter().map(|machine| machine.waits_for.iter().map(|image| name(*image)).collect()).collect();
    let nodes = machines.iter().zip(&waits).map(|(machine, waits_for)| Node {
        name: &machine.name,
        eligibility: &machine.eligibility,
        architecture: Some("amd64"),
        new: machine.new,
        waits_for,
        object: &machine.object,
        stalled: machine.stalled,
        unfit: machine.unfit,
        last_ordered: machine.last_ordered,
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
fn one_canary_then_as_many_nodes_as_there_are_slots() {
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
    let machines = |last_ordered| vec![Machine { last_ordered, ..m("a").with(0, FAILED) }, m("b"), m("c")];
    let soon = Duration::from_secs(30);
    assert_eq!(orders(1, &machines(soon)), "a:0 b: c:");
    let stopped = |next| Wave::Stopped { node: "a".into(), error: "manifest unknown".into(), next };
    assert_eq!(wave(&machines(soon)), stopped(NextTry::In(Duration::from_secs(570))));
    // It tries again, which is not a success yet.
    let mut again = machines(soon);
    again[0].report(0, PullState::Downloading, 1);
    assert!(matches!(wave(&again), Wave::Stopped { .. }));
    assert_eq!(orders(1, &again), "a:0 b: c:");
    // It may be the node's fault: after ten minutes one other node tries, and the third one much later.
    assert_eq!(orders(1, &machines(Duration::from_secs(600))), "a:0 b:0 c:");
    assert_eq!(wave(&machines(Duration::from_secs(600))), stopped(NextTry::Now { node: "b".into() }));
    assert_eq!(wave(&machines(soon)[..1]), stopped(NextTry::NoOther));
    let mut two = machines(Duration::from_secs(1200));
    two[1] = Machine { last_ordered: soon, ..m("b").with(0, FAILED) };
    assert_eq!(orders(1, &two), "a:0 b:0 c:");
    // Once one node has it, the rollout continues.
    two[1].report(0, PullState::Present, 1);
    assert_eq!(orders(1, &two), "a:0 b:0 c:0");
}

#[test]
fn a_failure_of_a_node_says_nothing_about_the_image() {
    let canary = || Machine { last_ordered: Duration::from_secs(1), ..m("a") };
    let paused = || Machine { eligibility: Eligibility::Paused("not ready".into()), ..canary() };
    let unfit = |why| Machine { unfit: Some(why), ..canary() };
    for (what, canary) in [
        ("not ready", paused().with(0, DOWNLOADING)),
        ("its runtime was killed, which its last report calls a failed pull", paused().with(0, FAILED)),
        ("its runtime is away", unfit(Unfit::Runtime).with(0, Some(PullState::Waiting))),
        ("its runtime is away after a failure", unfit(Unfit::Runtime).with(0, FAILED)),
        ("its agent is silent", unfit(Unfit::Silent).with(0, DOWNLOADING)),
        ("it never had an agent", unfit(Unfit::Silent).with(0, None)),
        ("its disk is full", canary().with(0, Some(PullState::Refused))),
        ("it is stalled", Machine { stalled: true, ..canary().with(0, DOWNLOADING) }),
    ] {
        let next = [canary.clone(), m("b"), m("c")];
        assert_eq!(orders(1, &next), "a:0 b:0 c:", "{what}");
        assert_eq!(wave(&next), Wave::Canary { node: "b".into() }, "{what}");
        // There is no other node, so the reason for the wait is given. A paused node need not have the image.
        if canary.eligibility != Eligibility::Eligible {
            continue;
        }
        let Wave::Held { node, why, next } = wave(&[canary]) else { panic!("{what}") };
        assert!(&*node == "a" && why.starts_with("it"), "{what}: {why}");
        assert_eq!(next, NextTry::NoOther, "{what}");
    }
    // A node that is gone from the cluster has no effect.
    assert_eq!(orders(1, &[m("b"), m("c")]), "b:0 c:");
}

#[test]
fn an_image_that_takes_nodes_down_does_not_go_through_all_of_them() {
    let soon = Duration::from_secs(30);
    let dead = |name| Machine { unfit: Some(Unfit::Runtime), last_ordered: soon, ..m(name).with(0, DOWNLOADING) };
    assert_eq!(orders(1, &[dead("a"), dead("b"), m("c"), m("d")]), "a:0 b:0 c:0 d:");
    let three = |last_ordered| vec![dead("a"), dead("b"), Machine { last_ordered, ..dead("c") }, m("d"), m("e")];
    assert_eq!(orders(1, &three(soon)), "a:0 b:0 c:0 d: e:");
    let Wave::Held { why, next, .. } = wave(&three(soon)) else { panic!("it is held up") };
    assert_eq!((why.as_str(), next), ("its container runtime is unavailable", NextTry::In(Duration::from_secs(570))));
    let mut later = three(soon);
    later.iter_mut().for_each(|machine| machine.last_ordered = Duration::from_secs(600));
    assert_eq!(orders(1, &later), "a:0 b:0 c:0 d:0 e:");
    // Full disks are found before any download, however many there are.
    let full = |name| Machine { last_ordered: soon, ..m(name).with(0, Some(PullState::Refused)) };
    assert_eq!(orders(1, &[full("a"), full("b"), full("c"), m("d"), m("e")]), "a:0 b:0 c:0 d:0 e:");
}

#[test]
fn a_node_that_cannot_pull_is_no_canary_and_takes_no_slot() {
    let unfit = |name, why| Machine { unfit: Some(why), ..m(name) };
    assert_eq!(orders(1, &[unfit("a", Unfit::Runtime), unfit("b", Unfit::Silent), m("c")]), "a: b: c:0");
    assert_eq!(wave(&[unfit("a", Unfit::Runtime)]), Wave::Waiting);
    let waits = |name| unfit(name, Unfit::Silent).with(0, None);
    let machines = [m("a").with(0, PRESENT), waits("b"), waits("c"), m("d"), m("e"), m("f")];
    assert_eq!(orders(1, &machines), "a:0 b:0 c:0 d:0 e:0 f:");
}

#[test]
fn failing_and_stalled_nodes_take_no_slot() {
    let stuck = |name| Machine { stalled: true, ..m(name).with(0, DOWNLOADING) };
    let away = |name| Machine { eligibility: Eligibility::Paused("cordoned".into()), ..m(name).with(0, DOWNLOADING) };
    let machines = [m("a").with(0, PRESENT), m("b").with(0, FAILED), stuck("c"), away("d"), m("e"), m("f"), m("g")];
    assert_eq!(orders(1, &machines), "a:0 b:0 c:0 d:0 e:0 f:0 g:");
}

#[test]
fn nodes_with_waiting_pods_and_new_nodes_need_no_slot() {
    let busy = |name| m(name).with(0, PRESENT).with(1, DOWNLOADING);
    let holds = m("z").with(0, PRESENT).with(1, PRESENT);
    let waits = Machine { waits_for: vec![1], ..m("c") };
    let new = Machine { new: true, ..m("d") };
    let machines = [busy("a"), busy("b"), waits, new, m("e"), holds];
    assert_eq!(orders(2, &machines), "a:0,1 b:0,1 c:1! d:0,1 e: z:0,1");
    // With one slot free, the node with a waiting pod comes first.
    let machines =
        [busy("a"), m("b"), Machine { waits_for: vec![1], ..m("c") }, m("z").with(0, PRESENT).with(1, PRESENT)];
    assert_eq!(orders(2, &machines), "a:0,1 b: c:0,1! z:0,1");
}

#[test]
fn a_node_with_a_waiting_pod_is_the_canary() {
    assert_eq!(orders(1, &[m("a"), Machine { waits_for: vec![0], ..m("b") }]), "a: b:0!");
}

#[test]
fn an_excluded_node_loses_its_orders_and_a_paused_one_keeps_them() {
    let excluded = Machine { eligibility: Eligibility::Excluded("taint".into()), ..m("a").with(0, DOWNLOADING) };
    let paused = Machine { eligibility: Eligibility::Paused("cordoned".into()), ..m("b").with(0, PRESENT) };
    let decision = decide_over(1, &[excluded.clone(), paused.clone(), m("c")]);
    assert_eq!((decision.images[0].present, decision.images[0].eligible), (0, 1));
    assert_eq!(orders(1, &[excluded, paused, m("c")]), "a: b:0 c:0");
}

#[test]
fn an_image_goes_to_its_architecture_only() {
    let wanted = [Wanted { architectures: Some(vec!["arm64".into()]), ..wanted(1).remove(0) }];
    let (eligibility, object) = (Eligibility::Eligible, SeenOrders::default());
    let names = [Arc::from("a"), Arc::from("b"), Arc::from("c")];
    let node = |name, architecture| Node {
        name,
        eligibility: &eligibility,
        architecture,
        new: false,
        waits_for: &[],
        object: &object,
        stalled: false,
        unfit: None,
        last_ordered: Duration::MAX,
    };
    let nodes = [node(&names[0], Some("amd64")), node(&names[1], Some("arm64")), node(&names[2], None)];
    let decision = decide(&wanted, &nodes, 1);
    assert_eq!(decision.orders.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(decision.images[0].eligible, 2);
}
