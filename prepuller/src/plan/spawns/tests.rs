use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn pod(uid: &str, state: PodState) -> SeenPod {
    SeenPod { uid: uid.into(), node: "node1".into(), images: Vec::new(), scheduled: Some(at(0)), state }
}

fn runs(seconds: i64) -> PodState {
    PodState::Runs(Some(at(seconds)))
}

fn none_before() -> Spawns {
    let mut spawns = Spawns::default();
    spawns.listed(&HashSet::new(), at(-10));
    spawns
}

#[test]
fn an_image_is_present_only_if_the_node_had_reported_it() {
    use Reports::{Holds, Lacks, Nothing};
    for (images, expected) in [
        (&[Holds(at(-1))][..], Found::Present),
        (&[Holds(at(0))], Found::Present),
        (&[Holds(at(1))], Found::Unknown),
        (&[Lacks], Found::Absent),
        (&[Nothing], Found::Unknown),
        (&[Holds(at(-1)), Lacks], Found::Absent),
        (&[Nothing, Lacks], Found::Absent),
        (&[Holds(at(-1)), Nothing], Found::Unknown),
    ] {
        assert_eq!(found(images, Some(at(0))), expected, "{images:?}");
    }
    assert_eq!(found(&[Holds(at(-1))], None), Found::Unknown);
}

#[test]
fn a_spawn_is_counted_once_when_it_runs() {
    let (mut spawns, id) = (none_before(), Arc::from("jupyter-a"));
    let mut update = |pod: &SeenPod, found: Option<Found>| spawns.update(&id, pod, found, at(5));
    assert_eq!(update(&pod("1", PodState::Waits), Some(Found::Absent)), None);
    // kubelet has pulled it meanwhile.
    let counted = Spawn { found: Found::Absent, took: Some(Duration::from_secs(5)) };
    assert_eq!(update(&pod("1", runs(5)), Some(Found::Present)), Some(counted));
    assert_eq!(update(&pod("1", runs(5)), Some(Found::Present)), None);
    // A restarted container.
    assert_eq!(update(&pod("1", runs(50)), Some(Found::Present)), None);
    // The user's next lab has the same name, and was not seen waiting.
    let next = Spawn { found: Found::Present, took: Some(Duration::ZERO) };
    assert_eq!(update(&pod("2", runs(-1)), Some(Found::Present)), Some(next));
    // An unknown answer may become known later.
    assert_eq!(update(&pod("3", PodState::Waits), Some(Found::Unknown)), None);
    assert_eq!(update(&pod("3", PodState::Waits), Some(Found::Absent)), None);
    assert_eq!(update(&pod("3", runs(2)), None).unwrap().found, Found::Absent);
    // Other pods of the Hub are not labs.
    assert_eq!(update(&pod("4", PodState::Waits), None), None);
    assert_eq!(update(&pod("4", runs(2)), None), None);
    // A pod that does not show when it started is counted, too.
    assert_eq!(update(&pod("5", PodState::Runs(None)), Some(Found::Present)).unwrap().took, None);
    let sums = spawns.overview(at(10)).unwrap();
    assert_eq!((sums.present.count, sums.absent.count, sums.unknown.count), (2, 2, 0));
    assert_eq!((sums.absent.timed, sums.absent.seconds, sums.absent.longest_seconds), (2, 7, 5));
    assert_eq!((sums.present.timed, sums.since), (1, at(-10)));
}

#[test]
fn a_new_planner_counts_waiting_labs_and_not_running_ones() {
    let mut spawns = Spawns::default();
    let (old, new): (Arc<str>, Arc<str>) = (Arc::from("jupyter-old"), Arc::from("jupyter-new"));
    let found = Some(Found::Present);
    assert_eq!(spawns.update(&old, &pod("1", runs(1)), found, at(2)), None);
    assert_eq!(spawns.update(&new, &pod("2", PodState::Waits), found, at(2)), None);
    assert_eq!(spawns.overview(at(2)), None, "nothing is known before all was listed");
    spawns.listed(&HashSet::from([old.clone(), new.clone()]), at(3));
    assert_eq!(spawns.update(&old, &pod("1", runs(1)), found, at(4)), None);
    assert!(spawns.update(&new, &pod("2", runs(4)), found, at(4)).is_some());
    // The watch restarts, and both are listed again.
    assert_eq!(spawns.update(&new, &pod("2", runs(4)), found, at(5)), None);
    spawns.listed(&HashSet::from([new]), at(6));
    assert_eq!(spawns.pods.len(), 1);
    assert_eq!(spawns.overview(at(6)).unwrap().present.count, 1);
}

#[test]
fn sums_cover_a_day_and_use_bounded_memory() {
    let mut spawns = none_before();
    for hour in 0..100 {
        let (id, now) = (Arc::from("jupyter-a"), at(hour * 3600));
        assert!(spawns.update(&id, &pod(&hour.to_string(), runs(3)), Some(Found::Absent), now).is_some());
    }
    assert!(spawns.hours.len() <= 25);
    let now = at(99 * 3600);
    let sums = spawns.overview(now).unwrap();
    assert_eq!((sums.since, sums.absent.count), (now - jiff::SignedDuration::from_hours(24), 25));
    assert_eq!(spawns.overview(now + jiff::SignedDuration::from_hours(30)).unwrap().absent.count, 0);
}

proptest! {
    /// In whatever order a pod's states are seen, and however often the list is repeated, each pod is counted at most
    /// once.
    #[test]
    fn no_pod_is_counted_twice(steps in proptest::collection::vec((0_u8..3, 0_u8..4, any::<bool>()), 0..60)) {
        let mut spawns = none_before();
        let mut counted = HashSet::new();
        for (name, uid, running) in steps {
            let id: Arc<str> = name.to_string().into();
            let uid = format!("{name}-{uid}");
            // A name has one pod at a time, and a deleted pod never comes back.
            if spawns.pods.get(&id).is_some_and(|known| *known.uid > *uid) {
                continue;
            }
            let state = if running { runs(3) } else { PodState::Waits };
            if spawns.update(&id, &pod(&uid, state), Some(Found::Present), at(3)).is_some() {
                prop_assert!(counted.insert(uid));
            }
        }
        prop_assert_eq!(spawns.overview(at(4)).unwrap().present.count, counted.len() as u64);
    }
}
