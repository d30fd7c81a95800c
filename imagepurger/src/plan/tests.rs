//! Each rule alone, with the reasons that operators read: whether an image may be removed, and when.

mod holds;
mod properties;
mod protection;

use super::*;
use lab_images::catalogue::{CatalogueImage, Kind};
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
    listed_in(LAB, tag, wanted)
}

fn listed_in(repository: &str, tag: &str, wanted: bool) -> CatalogueImage {
    let reference: Reference = format!("{repository}:{tag}").parse().unwrap();
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

/// The reason for the first image's verdict.
fn reason(seen: &Seen, history: &History, rules: &Rules) -> String {
    let plan = plan(seen, history, rules);
    let first = |verdict: &&Verdict<'_>| verdict.image.id == seen.images[0].id;
    plan.verdicts.iter().find(first).unwrap().action.to_string()
}

#[test]
fn an_unwanted_image_is_removed_after_its_grace() {
    let (mut seen, history) = world(vec![image('a', &["w_1"])]);
    assert_eq!(reason(&seen, &history, &rules()), "no longer wanted by the catalogue");
    // 24 h after it was first seen.
    seen.now = at(-24 * 3600 - 1);
    seen.catalogue.as_mut().unwrap().fresh_at = seen.now;
    seen.pods = Pods::NoCluster;
    assert_eq!(
        reason(&seen, &history, &rules()),
        "no longer wanted by the catalogue, but needed 23 h 59 min ago; it is removed after 1 d"
    );
    seen.now = at(-24 * 3600);
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 1);
}

#[test]
fn an_image_that_was_never_seen_before_stays() {
    let (seen, _) = world(vec![image('a', &["w_1"])]);
    assert!(reason(&seen, &History::default(), &rules()).contains("needed 0 s ago"));
}

#[test]
fn a_denied_image_is_removed_although_no_catalogue_lists_it_if_all_its_tags_are_denied() {
    let other = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| format!("other.example.org/x:{tag}")).collect();
        Image { tags, digests: vec![format!("other.example.org/x@{}", hex('e'))], ..image('a', &[]) }
    };
    let deny = Rules { deny: vec!["*:exp_*".parse().unwrap()], ..rules() };
    let (seen, history) = world(vec![other(&["exp_1"])]);
    assert_eq!(reason(&seen, &history, &deny), "denied by PURGE_DENY (*:exp_*)");
    let (seen, history) = world(vec![other(&["exp_1", "stable"])]);
    assert_eq!(reason(&seen, &history, &deny), "not in a repository of the catalogue");
}

#[test]
fn leftovers_are_recognized_by_digest_or_by_the_history() {
    let (seen, history) = world(vec![Image { digests: vec![format!("{LAB}@{}", hex('d'))], ..image('a', &[]) }]);
    assert_eq!(reason(&seen, &history, &rules()), "untagged, in a repository of the catalogue");

    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    seen.images[0] = image('a', &[]);
    history.note(&seen.images, |_| false, at(-1));
    assert_eq!(reason(&seen, &history, &rules()), "left over from an interrupted removal");

    let (seen, history) = world(vec![image('a', &[])]);
    assert_eq!(reason(&seen, &history, &rules()), "has no name and no known repository");
}

#[test]
fn an_image_with_a_name_in_another_repository_is_kept() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    seen.images[0].tags.push("other.example.org/mine:1".into());
    history.note(&seen.images, |_| false, at(0));
    assert_eq!(reason(&seen, &history, &rules()), "not in a repository of the catalogue");
    seen.images[0].tags[1] = "NO name".into();
    assert_eq!(reason(&seen, &history, &rules()), "one of its names cannot be parsed");
}

#[test]
fn a_full_disk_shortens_the_grace_to_an_hour_and_no_further() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"])]);
    history.images.values_mut().for_each(|record| record.last_used = Some(at(-3600)));
    assert_eq!(plan(&seen, &history, &rules()).to_remove().count(), 0);
    seen.freeing = true;
    assert_eq!(reason(&seen, &history, &rules()), "no longer wanted by the catalogue, early because the disk is full");
    history.images.values_mut().for_each(|record| record.last_used = Some(at(-3599)));
    assert!(reason(&seen, &history, &rules()).ends_with("needed 59 min ago; it is removed after 1 h"));
}

#[test]
fn any_unused_image_is_removed_only_if_configured_and_only_while_the_disk_is_full() {
    let foreign = Image { tags: vec!["other.example.org/x:1".into()], ..image('a', &[]) };
    let (mut seen, history) = world(vec![foreign]);
    let all = Rules { scope: Scope::All, ..rules() };
    assert_eq!(reason(&seen, &history, &all), "not in a repository of the catalogue");
    seen.freeing = true;
    assert_eq!(reason(&seen, &history, &all), "unused, early because the disk is full");
    assert_eq!(reason(&seen, &history, &rules()), "not in a repository of the catalogue");
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
fn a_refused_removal_is_retried_later_each_time_and_last() {
    let (mut seen, mut history) = world(vec![image('a', &["w_1"]), image('b', &["w_2"])]);
    let order = |seen: &Seen, history: &History, rules: &Rules| -> String {
        plan(seen, history, rules).to_remove().map(|(image, _)| image.id.chars().next_back().unwrap()).collect()
    };
    let rules = rules();
    history.note_refusal(&hex('a'), false, "the device is busy".into(), at(0));
    assert_eq!(
        reason(&seen, &history, &rules),
        "the runtime refused to remove it: the device is busy; the next try is in 15 min"
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
    // An image that the runtime calls in use was needed at that time.
    history.images.get_mut(&hex('a')).unwrap().refusal = None;
    history.note_refusal(&hex('a'), true, "in use".into(), seen.now);
    assert!(reason(&seen, &history, &rules).ends_with("the next try is in 1 d"));
    seen.freeing = true;
    assert!(reason(&seen, &history, &rules).ends_with("the next try is in 1 h"));
    assert_eq!(
        order(&seen, &history, &Rules { grace: SignedDuration::ZERO, retry: SignedDuration::ZERO, ..rules }),
        "ba"
    );
}
