//! Each rule by itself, with the words that people read.

use super::*;
use lab_images::catalogue::{CatalogueImage, Kind, RepositoryState};
use lab_images::tag::Class;

const LAB: &str = "registry.example.org/owner/lab";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn hex(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn image(digit: char, tags: &[&str]) -> Image {
    let tags = tags.iter().map(|tag| format!("{LAB}:{tag}")).collect();
    Image { id: hex(digit), tags, digests: Vec::new(), size: 1, pinned: false }
}

fn listed(tag: &str, wanted: bool) -> CatalogueImage {
    let reference: Reference = format!("{LAB}:{tag}").parse().unwrap();
    CatalogueImage {
        repository: reference.repository.clone(),
        reference,
        tag: tag.into(),
        class: Class::Weekly,
        kind: Kind::Lab,
        name: tag.into(),
        digest: None,
        platforms: Vec::new(),
        size: None,
        aliases: Vec::new(),
        wanted,
        why: "test".into(),
    }
}

fn rules() -> Rules {
    Rules {
        scope: Scope::Catalogue,
        grace: SignedDuration::from_hours(24),
        catalogue_max_age: SignedDuration::from_hours(6),
        force_shrink: false,
        pinned_tags: BTreeSet::new(),
        pinned_images: Vec::new(),
        allow: Vec::new(),
        deny: Vec::new(),
        tag_scheme: TagScheme::Rubin,
        retry: SignedDuration::from_mins(15),
    }
}

/// A node with these images and `w_9`, all first seen two days ago, and a catalogue that wants `w_9` and lists `w_1`.
fn world(mut images: Vec<Image>) -> (Seen, History) {
    let is_wanted = |image: &Image| image.tags.contains(&format!("{LAB}:w_9"));
    if !images.iter().any(is_wanted) {
        images.push(image('0', &["w_9"]));
    }
    let catalogue = Catalogue::new(at(0), true, vec![listed("w_9", true), listed("w_1", false)]);
    let mut history = History::default();
    history.note(&images, |_| false, at(-48 * 3600));
    let seen = Seen {
        now: at(0),
        images,
        containers: Vec::new(),
        pods: Pods::Seen { at: at(0), pods: Vec::new() },
        catalogue: Ok(SeenCatalogue { catalogue, fresh_at: at(0) }),
        freeing: false,
    };
    (seen, history)
}

fn uses_of(container: &str, names: &[&str]) -> ContainerImages {
    ContainerImages { container: container.into(), images: names.iter().map(|&name| name.to_owned()).collect() }
}

/// The words on the first image.
fn said(seen: &Seen, history: &History, rules: &Rules) -> String {
    let plan = plan(seen, history, rules);
    let first = |verdict: &&Verdict<'_>| verdict.image.id == seen.images[0].id;
    plan.verdicts.iter().find(first).unwrap().fate.to_string()
}

#[test]
fn an_unwanted_image_goes_after_its_grace() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    assert_eq!(said(&seen, &history, &rules()), "no longer wanted by the catalogue");
    // 24 h after it was first seen.
    seen.now = at(-24 * 3600 - 1);
    seen.catalogue.as_mut().unwrap().fresh_at = seen.now;
    seen.pods = Pods::NoCluster;
    assert_eq!(
        said(&seen, &history, &rules()),
        "no longer wanted by the catalogue, but needed 23 h 59 min ago; goes after 1 d"
    );
    seen.now = at(-24 * 3600);
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
}

#[test]
fn an_image_that_was_never_seen_before_stays() {
    let (seen, _) = world(vec![image('a', &["w_1"])]);
    assert!(said(&seen, &History::default(), &rules()).contains("needed 0 s ago"));
}

#[test]
fn whatever_names_an_image_keeps_it() {
    let digest = format!("{LAB}@{}", hex('d'));
    let by_tag = format!("{LAB}:w_1");
    let names = [hex('a'), "a".repeat(64), "a".repeat(12), by_tag, digest.clone(), format!("other/name@{}", hex('d'))];
    for name in names {
        let (mut seen, history) = world(vec![Image { digests: vec![digest.clone()], ..image('a', &["w_1"]) }]);
        assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
        seen.containers = vec![uses_of("0123456789abcdef", &[&name])];
        assert_eq!(said(&seen, &history, &rules()), "in use by container 0123456789ab", "{name}");
        seen.containers.clear();
        let pods = vec![PodImages { pod: "hub/jupyter-someone".into(), images: vec![name.clone()] }];
        seen.pods = Pods::Seen { at: seen.now, pods };
        assert_eq!(said(&seen, &history, &rules()), "in use by pod hub/jupyter-someone", "{name}");
    }
}

#[test]
fn the_sandbox_image_stays_by_the_runtimes_word_and_by_its_name() {
    let all = Rules { scope: Scope::All, ..rules() };
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.freeing = true;
    seen.containers = vec![uses_of("sandbox", &[&hex('a')])];
    assert_eq!(said(&seen, &history, &all), "in use by the runtime, to start pods with");
    for name in ["registry.k8s.io/pause:3.9", "rancher/mirrored-pause:3.6", "k8s.gcr.io/pause-amd64:3.1"] {
        let (mut seen, history) = world(vec![Image { tags: vec![name.into()], ..image('a', &[]) }]);
        seen.freeing = true;
        assert_eq!(said(&seen, &history, &all), "in use by the runtime, to start pods with", "{name}");
    }
}

#[test]
fn a_wanted_tag_digest_or_alias_keeps_the_whole_image() {
    let (seen, history) = world(vec![image('a', &["w_1", "w_9"])]);
    assert_eq!(said(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));

    let digest = vec![format!("{LAB}@{}", hex('d'))];
    let (mut seen, history) = world(vec![Image { digests: digest, ..image('a', &["w_1"]) }]);
    seen.catalogue.as_mut().unwrap().catalogue.images[0].digest = Some(hex('d').parse().unwrap());
    assert_eq!(said(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));

    let (mut seen, history) = world(vec![image('a', &["recommended"])]);
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
    seen.catalogue.as_mut().unwrap().catalogue.images[0].aliases = vec!["recommended".into()];
    assert_eq!(said(&seen, &history, &rules()), format!("wanted by the catalogue ({LAB}:w_9)"));
}

#[test]
fn pins_allowances_and_our_own_images_stay() {
    let (seen, history) = world(vec![Image { pinned: true, ..image('a', &["w_1"]) }]);
    assert_eq!(said(&seen, &history, &rules()), "pinned in the runtime");

    let (seen, history) = world(vec![image('a', &["w_1"])]);
    let pinned_tag = Rules { pinned_tags: ["w_1".to_owned()].into(), ..rules() };
    assert_eq!(said(&seen, &history, &pinned_tag), "pinned by a setting (w_1)");
    let pinned_image = Rules { pinned_images: vec![format!("{LAB}:w_1").parse().unwrap()], ..rules() };
    assert_eq!(said(&seen, &history, &pinned_image), format!("pinned by a setting ({LAB}:w_1)"));
    let deny = vec![format!("{LAB}:w_1").parse().unwrap()];
    let allowed = Rules { allow: vec!["*:w_*".parse().unwrap()], deny, ..rules() };
    assert_eq!(said(&seen, &history, &allowed), "allowed by PURGE_ALLOW (*:w_*)");

    let names = [
        ("ghcr.io/someone/labhands-prepuller:1", true),
        ("labhands/nfs-health:0.1.0", true),
        ("harbor.example.org/mirror/labhands/fileserver:1", true),
        ("localhost/imagepurger:2", true),
        // A project that is called so, and names that others have too.
        ("harbor.example.org/labhands/lab:w_1", false),
        ("harbor.example.org/labhands/prepuller/lab:w_1", false),
        ("ghcr.io/someone/fileserver:1", false),
        ("ghcr.io/someone/labhands-lab:1", false),
    ];
    for (name, is_ours) in names {
        let (mut seen, history) = world(vec![Image { tags: vec![name.into()], ..image('a', &[]) }]);
        seen.freeing = true;
        let all = Rules { scope: Scope::All, deny: vec!["*:*".parse().unwrap()], ..rules() };
        assert_eq!(said(&seen, &history, &all) == "an image of Labhands itself", is_ours, "{name}");
    }
}

#[test]
fn a_denied_image_goes_though_no_catalogue_lists_it_and_only_when_all_its_tags_are_denied() {
    let other = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| format!("other.example.org/x:{tag}")).collect();
        Image { tags, digests: vec![format!("other.example.org/x@{}", hex('e'))], ..image('a', &[]) }
    };
    let deny = Rules { deny: vec!["*:exp_*".parse().unwrap()], ..rules() };
    let (seen, history) = world(vec![other(&["exp_1"])]);
    assert_eq!(said(&seen, &history, &deny), "denied by PURGE_DENY (*:exp_*)");
    let (seen, history) = world(vec![other(&["exp_1", "stable"])]);
    assert_eq!(said(&seen, &history, &deny), "not of a repository of the catalogue");
}

#[test]
fn what_is_left_over_is_known_by_its_digest_or_by_what_is_remembered() {
    let (seen, history) = world(vec![Image { digests: vec![format!("{LAB}@{}", hex('d'))], ..image('a', &[]) }]);
    assert_eq!(said(&seen, &history, &rules()), "untagged, left over in a repository of the catalogue");

    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    seen.images[0] = image('a', &[]);
    history.note(&seen.images, |_| false, at(-1));
    assert_eq!(said(&seen, &history, &rules()), "left over from a removal that was cut");

    let (seen, history) = world(vec![image('a', &[])]);
    assert_eq!(said(&seen, &history, &rules()), "without a name, and of no known repository");
}

#[test]
fn an_image_that_somebody_named_otherwise_as_well_is_theirs_too() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    seen.images[0].tags.push("other.example.org/mine:1".into());
    history.note(&seen.images, |_| false, at(0));
    assert_eq!(said(&seen, &history, &rules()), "not of a repository of the catalogue");
    seen.images[0].tags[1] = "NO name".into();
    assert_eq!(said(&seen, &history, &rules()), "a name of it cannot be read");
}

#[test]
fn a_full_disk_shortens_the_grace_to_an_hour_and_no_further() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    history.images.values_mut().for_each(|record| record.last_used = Some(at(-3600)));
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 0);
    seen.freeing = true;
    assert_eq!(said(&seen, &history, &rules()), "no longer wanted by the catalogue, early because the disk is full");
    history.images.values_mut().for_each(|record| record.last_used = Some(at(-3599)));
    assert!(said(&seen, &history, &rules()).ends_with("needed 59 min ago; goes after 1 h"));
}

#[test]
fn any_unused_image_goes_only_when_asked_for_and_only_while_the_disk_is_full() {
    let foreign = Image { tags: vec!["other.example.org/x:1".into()], ..image('a', &[]) };
    let (mut seen, history) = world(vec![foreign]);
    let all = Rules { scope: Scope::All, ..rules() };
    assert_eq!(said(&seen, &history, &all), "not of a repository of the catalogue");
    seen.freeing = true;
    assert_eq!(said(&seen, &history, &all), "unused, early because the disk is full");
    assert_eq!(said(&seen, &history, &rules()), "not of a repository of the catalogue");
}

#[test]
fn the_order_is_leftovers_then_unwanted_then_early_then_unused_each_oldest_first() {
    let foreign = |digit, name: &str| Image { tags: vec![name.into()], ..image(digit, &[]) };
    let images = vec![
        foreign('1', "other.example.org/x:1"),
        foreign('2', "other.example.org/x:2"),
        image('3', &["w_3"]),
        image('4', &["w_4"]),
        image('5', &["w_5"]),
        image('6', &["w_6"]),
        image('7', &["w_9"]),
    ];
    let (mut seen, mut history) = world(images);
    for (digit, hours) in [('1', 50), ('2', 60), ('3', 2), ('4', 30), ('5', 40), ('6', 1)] {
        history.images.get_mut(&hex(digit)).unwrap().first_seen = at(-hours * 3600);
    }
    seen.images[5] = image('6', &[]);
    seen.freeing = true;
    let plan = plan(&seen, &history, &Rules { scope: Scope::All, ..rules() });
    let order: String = plan.verdicts.iter().map(|verdict| verdict.image.id.chars().next_back().unwrap()).collect();
    assert_eq!(order, "6543217");
}

#[test]
fn nothing_goes_while_the_catalogue_is_not_to_be_trusted() {
    type Change = fn(&mut Seen);
    let changes: [(Change, &str); 5] = [
        (|seen| seen.catalogue = Err("no such file".into()), "there is no catalogue: no such file"),
        (|seen| seen.catalogue.as_mut().unwrap().fresh_at = at(-6 * 3600 - 1), "the catalogue is stale"),
        (|seen| seen.catalogue.as_mut().unwrap().fresh_at = at(6 * 3600 + 1), "the catalogue is stale"),
        (|seen| seen.catalogue.as_mut().unwrap().catalogue.complete = false, "the catalogue is partial"),
        (|seen| seen.catalogue.as_mut().unwrap().catalogue.images.truncate(0), "the catalogue is empty"),
    ];
    for (change, words) in changes {
        let (mut seen, history) = world(vec![image('a', &["w_1"]), image('b', &[])]);
        change(&mut seen);
        seen.freeing = true;
        let everything = Rules { scope: Scope::All, deny: vec![LAB.parse().unwrap()], force_shrink: true, ..rules() };
        let plan = plan(&seen, &history, &everything);
        assert_eq!(plan.to_go().count(), 0);
        assert!(plan.hold.unwrap().to_string().starts_with(words), "{words}");
    }
}

#[test]
fn of_a_partial_catalogue_only_the_repositories_that_are_partial_are_held() {
    let state = |name: &str, complete| RepositoryState {
        name: name.parse().unwrap(),
        complete,
        scanned: None,
        problem: None,
        tags: None,
        unread: None,
    };
    for (partial, kept) in [(LAB, true), ("other.example.org/owner/lab", false)] {
        let (mut seen, history) = world(vec![image('a', &["w_1"])]);
        let catalogue = &mut seen.catalogue.as_mut().unwrap().catalogue;
        catalogue.complete = false;
        catalogue.repositories = vec![state(LAB, partial != LAB), state("other.example.org/owner/lab", partial == LAB)];
        let plan = plan(&seen, &history, &rules());
        assert_eq!((plan.to_go().count(), plan.hold), (usize::from(!kept), None), "{partial}");
        if kept {
            assert!(said(&seen, &history, &rules()).contains("the catalogue is partial"));
        }
    }
}

#[test]
fn nothing_goes_when_the_catalogue_shrinks_by_more_than_half_unless_forced() {
    let (seen, mut history) = world(vec![image('a', &["w_1"])]);
    history.wanted = Some(2);
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
    history.wanted = Some(3);
    let words =
        "nothing is removed: the catalogue shrank at once from 3 wanted images to 1; set PURGE_FORCE_SHRINK=true";
    assert!(said(&seen, &history, &rules()).starts_with(words));
    assert_eq!(plan(&seen, &history, &Rules { force_shrink: true, ..rules() }).to_go().count(), 1);
}

#[test]
fn nothing_goes_while_the_pods_are_not_known() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.pods = Pods::Unknown("the API server does not answer".into());
    assert!(said(&seen, &history, &rules()).contains("the API server does not answer"));
    seen.pods = Pods::Seen { at: at(-60), pods: Vec::new() };
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
    seen.pods = Pods::Seen { at: at(-61), pods: Vec::new() };
    assert!(said(&seen, &history, &rules()).contains("the pods of this node were last seen at"));
    seen.pods = Pods::NoCluster;
    assert_eq!(plan(&seen, &history, &rules()).to_go().count(), 1);
}

#[test]
fn freeing_begins_above_high_and_ends_at_low() {
    let table = [
        (false, 75, false),
        (false, 76, true),
        (true, 75, true),
        (true, 66, true),
        (true, 65, false),
        (false, 66, false),
        (true, 0, false),
        (false, 100, true),
    ];
    for (before, used, after) in table {
        assert_eq!(freeing(before, used, 65, 75), after, "{before} {used}");
    }
}

#[test]
fn the_newest_of_a_class_stays_until_its_successor_is_here_even_while_the_disk_is_full() {
    let (mut seen, history) = world(vec![image('a', &["w_2"]), image('b', &["w_1"])]);
    seen.freeing = true;
    let successor = seen.images.pop().unwrap();
    let words = format!(
        "no longer wanted by the catalogue, but the newest weekly of its repository here; it stays until {LAB}:w_9 is here"
    );
    // Listed, so that they have a class and an order.
    let entries = &mut seen.catalogue.as_mut().unwrap().catalogue.images;
    entries.insert(1, listed("w_2", false));
    assert_eq!(said(&seen, &history, &rules()), words);
    let going = |seen: &Seen, rules: &Rules| -> Vec<String> {
        plan(seen, &history, rules).to_go().map(|(image, _)| image.tags[0].clone()).collect()
    };
    assert_eq!(going(&seen, &rules()), [format!("{LAB}:w_1")]);
    // What an operator names goes.
    let deny = Rules { deny: vec!["*:w_2".parse().unwrap()], ..rules() };
    assert_eq!(going(&seen, &deny).len(), 2);
    seen.images.push(successor);
    assert_eq!(going(&seen, &rules()).len(), 2);
}

#[test]
fn what_the_runtime_refused_is_left_alone_for_longer_and_longer_and_is_tried_last() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"]), image('b', &["w_2"])]);
    let order = |seen: &Seen, history: &History, rules: &Rules| -> String {
        plan(seen, history, rules).to_go().map(|(image, _)| image.id.chars().next_back().unwrap()).collect()
    };
    let rules = rules();
    history.note_refusal(&hex('a'), false, "the device is busy".into(), at(0));
    assert_eq!(
        said(&seen, &history, &rules),
        "the runtime refused to remove it: the device is busy; it is asked again in 15 min"
    );
    assert_eq!((order(&seen, &history, &rules).as_str(), plan(&seen, &history, &rules).refused()), ("b", 1));
    for (times, minutes) in [(1, 15), (2, 30), (3, 60), (7, 960), (8, 1440), (40, 1440)] {
        history.images.get_mut(&hex('a')).unwrap().refusal.as_mut().unwrap().times = times;
        for (second, goes) in [(minutes * 60 - 1, "b"), (minutes * 60, "ba")] {
            seen.now = at(second);
            seen.catalogue.as_mut().unwrap().fresh_at = seen.now;
            seen.pods = Pods::NoCluster;
            assert_eq!(order(&seen, &history, &rules), goes, "after {times} refusals, {second} s");
        }
    }
    // What it calls in use was needed then.
    history.images.get_mut(&hex('a')).unwrap().refusal = None;
    history.note_refusal(&hex('a'), true, "in use".into(), seen.now);
    assert!(said(&seen, &history, &rules).ends_with("it is asked again in 1 d"));
    seen.freeing = true;
    assert!(said(&seen, &history, &rules).ends_with("it is asked again in 1 h"));
    assert_eq!(
        order(&seen, &history, &Rules { grace: SignedDuration::ZERO, retry: SignedDuration::ZERO, ..rules }),
        "ba"
    );
}

#[test]
fn nothing_goes_while_the_clock_is_not_set() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    seen.now = Timestamp::from_second(60).unwrap();
    let rules = Rules { catalogue_max_age: SignedDuration::MAX, ..rules() };
    seen.pods = Pods::NoCluster;
    assert!(
        said(&seen, &history, &rules)
            .starts_with("nothing is removed: the clock of this machine is not set: it shows 1970")
    );
    assert_eq!(plan(&seen, &history, &rules).hold.unwrap().word(), "clock_unset");
}
