use super::*;
use proptest::prelude::*;

const OLD: &str = "10.0.0.9";
const NEW: &str = "10.0.0.7";

fn wanted() -> Wanted {
    Wanted {
        service: "storage/files".parse().unwrap(),
        export: "/home".into(),
        claim: "labs/homes".parse().unwrap(),
        driver: Driver::Nfs,
        mount_options: vec!["hard".into()],
        size: "1Gi".into(),
    }
}

fn service(address: &str) -> Option<Service> {
    Some(Service { addresses: vec![address.parse().unwrap()], without_address: false, has_selector: true })
}

fn source(server: &str) -> NfsSource {
    NfsSource { csi: false, server: server.into(), path: "/home".into() }
}

fn volume(server: &str, uid: Option<&str>) -> Volume {
    Volume {
        name: "storage-files-home".into(),
        version: "7".into(),
        ours: true,
        made_for: Some(wanted().service),
        source: Some(source(server)),
        claim: Some((wanted().claim, uid.map(str::to_owned))),
        bound: uid.is_some(),
        deleting: false,
        mount_options: vec!["hard".into()],
    }
}

fn claim(volume: Option<&str>, bound: bool) -> Option<Claim> {
    let class = Some(String::new());
    Some(Claim { uid: "u1".into(), volume: volume.map(str::to_owned), class, deleting: false, bound })
}

/// Everything exists and is bound; the volume has the old address.
fn bound(service: Option<Service>) -> Observed {
    let volumes = vec![volume(OLD, Some("u1"))];
    Observed { service, claim: claim(Some("storage-files-home"), true), volumes, ..Observed::default() }
}

fn holder(name: &str, serves: bool, ours: bool) -> Option<Holder> {
    Some(Holder { service: name.parse().unwrap(), serves, ours })
}

fn create(name: &str, server: &str) -> Plan {
    Plan::Do(Step::CreateVolume { name: name.into(), source: source(server) })
}

#[track_caller]
fn waits(seen: &Observed, why: &str) {
    match plan(&wanted(), seen) {
        Plan::Wait(sentence) if sentence.contains(why) => (),
        other => panic!("{other:?} does not wait for {why:?}"),
    }
}

#[track_caller]
fn stops(seen: &Observed, why: &str) -> String {
    match plan(&wanted(), seen) {
        Plan::Stop(trouble) => {
            let sentence = trouble.sentence(&wanted());
            assert!(sentence.contains(why), "{sentence}");
            sentence
        }
        other => panic!("{other:?} does not stop because of {why:?}"),
    }
}

#[test]
fn first_the_address_then_the_volume_then_the_claim() {
    waits(&Observed::default(), "no Service storage/files");
    let without = Some(Service { addresses: vec![], without_address: false, has_selector: true });
    waits(&Observed { service: without.clone(), ..Observed::default() }, "no address yet");
    let headless = without.map(|service| Service { without_address: true, ..service });
    stops(&Observed { service: headless, ..Observed::default() }, "VOLUME_DRIVER=csi");
    let mut seen = Observed { service: service(OLD), ..Observed::default() };
    assert_eq!(plan(&wanted(), &seen), create("storage-files-home", OLD));
    seen.volumes = vec![volume(OLD, None)];
    assert_eq!(plan(&wanted(), &seen), Plan::Do(Step::CreateClaim { volume: "storage-files-home".into() }));
    seen.claim = claim(Some("storage-files-home"), false);
    waits(&seen, "not bound");
    assert_eq!(plan(&wanted(), &bound(service(OLD))), Plan::Done("storage-files-home".into()));
}

#[test]
fn the_volume_of_another_claim_is_left_and_another_name_taken() {
    let mut seen = Observed { service: service(OLD), ..Observed::default() };
    for (name, next) in [
        ("storage-files-home", "storage-files-home-labs"),
        ("storage-files-home-labs", "storage-files-home-labs-homes"),
    ] {
        let claim = Some(("other/homes".parse().unwrap(), Some("u9".into())));
        seen.volumes.push(Volume { name: name.into(), claim, ..volume(OLD, None) });
        assert_eq!(plan(&wanted(), &seen), create(next, OLD));
    }
    let claim = Some(("third/homes".parse().unwrap(), None));
    seen.volumes.push(Volume { name: "storage-files-home-labs-homes".into(), claim, ..volume(OLD, None) });
    stops(&seen, "storage-files-home-labs-homes");
}

#[test]
fn another_address_is_kept_by_a_second_service_where_that_is_possible() {
    let mut seen = bound(service(NEW));
    seen.service_names = ["files".to_owned()].into();
    let keep = Step::KeepAddress { name: "files-kept".into(), address: OLD.parse().unwrap() };
    assert_eq!(plan(&wanted(), &seen), Plan::Do(keep));
    seen.holder = holder("storage/files-kept", true, true);
    assert_eq!(plan(&wanted(), &seen), Plan::Done("storage-files-home".into()));
    seen.holder = holder("storage/files-kept", false, true);
    assert_eq!(plan(&wanted(), &seen), Plan::Do(Step::FollowService { name: "files-kept".into() }));
    seen.holder = holder("web/shop", false, false);
    let sentence = stops(&seen, "Service web/shop has it now");
    assert!(sentence.contains("kubectl -n labs delete pvc homes") && sentence.contains(OLD), "{sentence}");
    seen.holder = None;
    seen.service.as_mut().unwrap().has_selector = false;
    stops(&seen, "no selector");
}

#[test]
fn another_service_never_takes_over_the_address_of_the_one_that_a_volume_was_made_for() {
    let mut seen = bound(service(NEW));
    seen.volumes[0].made_for = Some("old/files".parse().unwrap());
    for holder in [None, holder("old/files", false, false), holder("storage/files-kept", false, true)] {
        seen.holder = holder;
        let sentence = stops(&seen, "it was made for Service old/files, and NFS_SERVICE is storage/files now");
        assert!(
            sentence.contains("NFS_SERVICE=old/files") && sentence.contains("kubectl -n labs delete pvc homes"),
            "{sentence}"
        );
    }
    let Plan::Stop(trouble) = plan(&wanted(), &seen) else { panic!("no trouble") };
    assert_eq!(trouble.reason(), "VolumeLeadsElsewhere");
    seen.holder = holder("storage/server", true, false);
    assert_eq!(plan(&wanted(), &seen), Plan::Done("storage-files-home".into()), "the same pods under another name");
    // A volume that an administrator created may have any server's address.
    seen.holder = None;
    (seen.volumes[0].ours, seen.volumes[0].made_for) = (false, None);
    stops(&seen, "was not made here");
    // It is not in use, so it is created again.
    seen.volumes = vec![Volume { made_for: Some("old/files".parse().unwrap()), ..volume(OLD, None) }];
    seen.claim = None;
    assert!(matches!(plan(&wanted(), &seen), Plan::Do(Step::DeleteVolume { .. })));
}

#[test]
fn without_the_service_what_is_bound_stays() {
    waits(&bound(None), "no Service");
    let second_of_two =
        Service { addresses: vec!["fd00::1".parse().unwrap(), OLD.parse().unwrap()], ..service(OLD).unwrap() };
    assert_eq!(plan(&wanted(), &bound(Some(second_of_two))), Plan::Done("storage-files-home".into()));
}

#[test]
fn a_deleted_claim_is_recreated_and_finds_its_volume() {
    let mut seen = bound(service(OLD));
    seen.claim.as_mut().unwrap().deleting = true;
    waits(&seen, "no pod uses it");
    seen.claim = None;
    seen.volumes[0].bound = false;
    let release = Step::ReleaseVolume { name: "storage-files-home".into(), version: "7".into() };
    assert_eq!(plan(&wanted(), &seen), Plan::Do(release));
    seen.service = service(NEW);
    let delete = Step::DeleteVolume { name: "storage-files-home".into(), version: "7".into() };
    assert_eq!(plan(&wanted(), &seen), Plan::Do(delete));
}

#[test]
fn a_deleted_volume_is_recreated_under_its_name() {
    let seen =
        Observed { service: service(OLD), claim: claim(Some("storage-files-home"), false), ..Observed::default() };
    assert_eq!(plan(&wanted(), &seen), create("storage-files-home", OLD));
    let seen = Observed { claim: claim(Some("their-own"), false), ..seen };
    stops(&seen, "asks for volume their-own");
}

#[test]
fn objects_of_others_are_used_if_they_fit_and_never_changed() {
    let mut seen = bound(service(OLD));
    seen.volumes[0].ours = false;
    seen.volumes[0].mount_options.clear();
    assert_eq!(plan(&wanted(), &seen), Plan::Done("storage-files-home".into()));
    seen.volumes[0].source.as_mut().unwrap().path = "/other".into();
    let sentence = stops(&seen, "was not made here");
    assert!(sentence.contains("reclaim"), "{sentence}");
    seen.volumes[0].source = None;
    stops(&seen, "no NFS");
    let mut claim = claim(None, false);
    claim.as_mut().unwrap().class = None;
    stops(&Observed { service: service(OLD), claim, ..Observed::default() }, "the cluster's default");
}

#[test]
fn mount_options_follow_the_settings() {
    let mut seen = bound(service(OLD));
    seen.volumes[0].mount_options = vec!["soft".into()];
    let set = Step::SetMountOptions { name: "storage-files-home".into() };
    assert_eq!(plan(&wanted(), &seen), Plan::Do(set));
}

#[test]
fn csi_volumes_have_a_name_and_no_address_to_lose() {
    let wanted = Wanted { driver: Driver::Csi("cluster.local".into()), ..wanted() };
    let headless = Some(Service { addresses: vec![], without_address: true, has_selector: true });
    let mut seen = Observed { service: headless, ..Observed::default() };
    let source = NfsSource { csi: true, server: "files.storage.svc.cluster.local".into(), path: "/home".into() };
    let name = "storage-files-home".to_owned();
    assert_eq!(plan(&wanted, &seen), Plan::Do(Step::CreateVolume { name, source: source.clone() }));
    seen = bound(service(NEW));
    seen.volumes[0].source = Some(source);
    assert_eq!(plan(&wanted, &seen), Plan::Done("storage-files-home".into()));
    assert!(matches!(plan(&wanted, &bound(service(OLD))), Plan::Stop(Trouble::OtherSource { .. })));
}

/// A model of a cluster: what the API server, the binder and people do to the objects.
#[derive(Clone, Debug, Default)]
struct Cluster {
    /// The operator's Service has this address.
    service: Option<u8>,
    /// Addresses of second Services, and of others.
    kept: BTreeSet<u8>,
    strangers: BTreeSet<u8>,
    claim: Option<(u32, String)>,
    volume: Option<(u8, Option<u32>)>,
    made: u32,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    ServiceMade(u8),
    ServiceDeleted,
    StrangerTakes(u8),
    StrangerLeaves(u8),
    ClaimDeleted,
    VolumeTakenAway,
}

fn address(number: u8) -> String {
    format!("10.0.0.{number}")
}

impl Cluster {
    fn is_free(&self, number: u8) -> bool {
        self.service != Some(number) && !self.kept.contains(&number) && !self.strangers.contains(&number)
    }

    fn change(&mut self, event: Change) {
        match event {
            Change::ServiceMade(number) if self.service.is_none() && self.is_free(number) => {
                self.service = Some(number);
            }
            Change::ServiceDeleted => self.service = None,
            Change::StrangerTakes(number) if self.is_free(number) => drop(self.strangers.insert(number)),
            Change::StrangerLeaves(number) => drop(self.strangers.remove(&number)),
            Change::ClaimDeleted => self.claim = None,
            Change::VolumeTakenAway => self.volume = None,
            Change::ServiceMade(_) | Change::StrangerTakes(_) => (),
        }
    }

    fn binds(&mut self) {
        if let (Some((claim, _)), Some((_, uid))) = (&self.claim, &mut self.volume) {
            uid.get_or_insert(*claim);
        }
    }

    fn is_bound(&self) -> bool {
        matches!((&self.claim, &self.volume), (Some((claim, _)), Some((_, Some(uid)))) if claim == uid)
    }

    fn seen(&self) -> Observed {
        let bound = self.is_bound();
        let volumes: Vec<Volume> = (self.volume.iter())
            .map(|(number, uid)| Volume {
                bound,
                claim: Some((wanted().claim, uid.map(|uid| uid.to_string()))),
                ..volume(&address(*number), None)
            })
            .collect();
        let leads_to = self.volume.map(|(number, _)| number);
        let lost = leads_to.filter(|number| self.service.is_some() && self.service != Some(*number));
        let holder = lost.and_then(|number| match () {
            () if self.kept.contains(&number) => holder("storage/files-kept", true, true),
            () if self.strangers.contains(&number) => holder("web/shop", false, false),
            () => None,
        });
        let claim = self.claim.as_ref().map(|(uid, volume)| Claim {
            uid: uid.to_string(),
            volume: Some(volume.clone()),
            class: Some(String::new()),
            deleting: false,
            bound,
        });
        let service = self.service.and_then(|number| service(&address(number)));
        Observed { service, service_names: BTreeSet::new(), holder, claim, volumes }
    }

    fn apply(&mut self, step: &Step) {
        let number = |text: &str| text.rsplit('.').next().and_then(|text| text.parse().ok()).unwrap();
        match step {
            Step::CreateVolume { source, .. } => {
                assert!(self.volume.is_none(), "two volumes");
                self.volume = Some((number(&source.server), None));
            }
            Step::DeleteVolume { .. } => {
                assert!(!self.is_bound(), "a bound volume is deleted");
                self.volume = None;
            }
            Step::ReleaseVolume { .. } => {
                assert!(!self.is_bound(), "a bound volume is released");
                self.volume.as_mut().unwrap().1 = None;
            }
            Step::CreateClaim { volume } => {
                assert!(self.claim.is_none(), "two claims");
                self.made += 1;
                self.claim = Some((self.made, volume.clone()));
            }
            Step::KeepAddress { address, .. } => {
                let number = number(&address.to_string());
                assert!(self.is_free(number), "{number} is taken");
                self.kept.insert(number);
            }
            Step::SetMountOptions { .. } | Step::FollowService { .. } => panic!("{step:?} changes nothing here"),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (1..5_u8).prop_map(Change::ServiceMade),
        2 => Just(Change::ServiceDeleted),
        2 => (1..5_u8).prop_map(Change::StrangerTakes),
        1 => (1..5_u8).prop_map(Change::StrangerLeaves),
        1 => Just(Change::ClaimDeleted),
        1 => Just(Change::VolumeTakenAway),
    ]
}

proptest! {
    /// Whatever people do, and whether the binder is fast or slow: the steps end, no bound volume is deleted, no
    /// address is taken twice, and if the Service exists and its old address does not belong to others, the claim ends
    /// up bound to a volume of the server.
    #[test]
    fn every_history_settles(history in prop::collection::vec((change(), any::<bool>()), 0..25)) {
        let mut cluster = Cluster::default();
        for (event, binder_is_quick) in history {
            cluster.change(event);
            let mut steps = 0;
            let rest = loop {
                match plan(&wanted(), &cluster.seen()) {
                    Plan::Do(step) => cluster.apply(&step),
                    Plan::Wait(_) if !cluster.is_bound() && cluster.claim.is_some() && cluster.volume.is_some() && binder_is_quick => {
                        cluster.binds();
                        if !cluster.is_bound() { break Plan::Wait("for the Service".into()) }
                    }
                    rest => break rest,
                }
                steps += 1;
                prop_assert!(steps < 10, "no end: {cluster:?}");
            };
            let reached = cluster.volume.is_some_and(|(number, _)| cluster.service == Some(number) || cluster.kept.contains(&number));
            match rest {
                Plan::Done(_) => prop_assert!(cluster.is_bound() && reached, "{cluster:?}"),
                Plan::Stop(_) => {
                    let (number, _) = cluster.volume.unwrap();
                    prop_assert!(cluster.is_bound() && cluster.strangers.contains(&number), "{cluster:?}");
                }
                Plan::Wait(_) => prop_assert!(cluster.service.is_none() || !binder_is_quick, "{cluster:?}"),
                Plan::Do(_) => unreachable!(),
            }
        }
    }
}
