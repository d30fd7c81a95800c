use super::*;
use crate::reference::Reference;
use crate::tag::Class;

const LAB: &str = "registry.example.org/owner/lab";
const OTHER: &str = "other.example.org/owner/lab";

fn time(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours)
}

fn image(repository: &str, tag: &str, wanted: bool) -> CatalogueImage {
    let reference: Reference = format!("{repository}:{tag}").parse().unwrap();
    CatalogueImage {
        repository: reference.repository.clone(),
        reference,
        tag: tag.to_owned(),
        class: Class::Weekly,
        kind: Kind::Lab,
        name: tag.to_owned(),
        digest: Some(format!("sha256:{:064x}", tag.len()).parse().unwrap()),
        platforms: Vec::new(),
        size: Some(7),
        aliases: Vec::new(),
        wanted,
        why: "newest weekly".to_owned(),
    }
}

fn problem(what: &str) -> RegistryError {
    RegistryError::new(what, crate::registry::Problem::Url("x".to_owned()))
}

/// A complete scan of a repository with these wanted tags.
fn whole(repository: &str, tags: &[&str]) -> ScannedRepository {
    ScannedRepository {
        images: tags.iter().map(|tag| image(repository, tag, true)).collect(),
        is_listed: true,
        tags: Some(tags.len() as u64),
        unread: Some(0),
        ..ScannedRepository::new(repository.parse().unwrap())
    }
}

/// A repository that did not answer at all.
fn down(repository: &str) -> ScannedRepository {
    let problems = vec![problem("list the tags")];
    ScannedRepository { problems, ..ScannedRepository::new(repository.parse().unwrap()) }
}

fn scanned(repositories: Vec<ScannedRepository>) -> Scanned {
    Scanned { repositories, ..Scanned::default() }
}

fn wanted(catalogue: &Catalogue) -> Vec<String> {
    catalogue.wanted().map(|image| image.reference.to_string()).collect()
}

/// `name complete hours-of-scan`, one for each repository.
fn states(catalogue: &Catalogue) -> Vec<String> {
    let hours = |time: Timestamp| time.as_second() / 3600;
    let state =
        |state: &RepositoryState| format!("{} {} {:?}", state.name.host(), state.complete, state.scanned.map(hours));
    catalogue.repositories.iter().map(state).collect()
}

#[test]
fn a_registry_that_is_down_keeps_its_part_and_the_other_is_updated() {
    let first = scanned(vec![whole(LAB, &["w_1"]), whole(OTHER, &["w_1"])]).catalogue(None, time(1));
    assert!(first.complete);
    let second = scanned(vec![down(LAB), whole(OTHER, &["w_2"])]).catalogue(Some(&first), time(2));
    assert_eq!(wanted(&second), [format!("{LAB}:w_1"), format!("{OTHER}:w_2")]);
    assert_eq!(states(&second), ["registry.example.org false Some(1)", "other.example.org true Some(2)"]);
    assert!(!second.complete && second.repositories[0].problem.is_some());
    assert_eq!(second.repositories[1].problem, None);
    // It stays so, with the time of the last good scan, and continues when it is back.
    let third = scanned(vec![down(LAB), whole(OTHER, &["w_2"])]).catalogue(Some(&second), time(3));
    assert_eq!(states(&third), ["registry.example.org false Some(1)", "other.example.org true Some(3)"]);
    let fourth = scanned(vec![whole(LAB, &["w_4"]), down(OTHER)]).catalogue(Some(&third), time(4));
    assert_eq!(wanted(&fourth), [format!("{LAB}:w_4"), format!("{OTHER}:w_2")]);
}

#[test]
fn nothing_is_taken_from_an_incomplete_list_and_everything_from_a_complete_one() {
    let mut half = whole(LAB, &["w_1"]);
    half.is_listed = false;
    half.problems = vec![problem("list the tags (page 2)"), problem("ask for a digest")];
    let catalogue = scanned(vec![half]).catalogue(None, time(1));
    assert!(catalogue.images.is_empty() && !catalogue.complete);
    assert_eq!(states(&catalogue), ["registry.example.org false None"]);
    assert!(catalogue.repositories[0].problem.as_ref().unwrap().contains("and 1 more"));

    let mut digest_missing = whole(LAB, &["w_1"]);
    digest_missing.problems = vec![problem("ask for a digest")];
    let catalogue = scanned(vec![digest_missing]).catalogue(None, time(1));
    assert_eq!((wanted(&catalogue).len(), catalogue.complete), (1, false));
    // It was never good, so the next such scan replaces it.
    let mut digest_missing = whole(LAB, &["w_2"]);
    digest_missing.problems = vec![problem("ask for a digest")];
    let catalogue = scanned(vec![digest_missing]).catalogue(Some(&catalogue), time(2));
    assert_eq!(wanted(&catalogue), [format!("{LAB}:w_2")]);
}

#[test]
fn a_repository_without_wanted_images_keeps_its_part() {
    let first = scanned(vec![whole(LAB, &["w_1"])]).catalogue(None, time(1));
    let second = scanned(vec![whole(LAB, &[])]).catalogue(Some(&first), time(2));
    assert_eq!((wanted(&second).len(), second.complete), (1, false));
    let problem = second.repositories[0].problem.clone().unwrap();
    assert!(problem.contains("none of its images are wanted now") && problem.contains("LAB_KEEP"), "{problem}");
    // A repository that had nothing may have nothing.
    let empty = scanned(vec![whole(LAB, &[])]).catalogue(None, time(1));
    assert!(empty.complete && scanned(vec![whole(LAB, &[])]).catalogue(Some(&empty), time(2)).complete);
}

#[test]
fn a_catalogue_of_an_older_prepuller_has_good_parts_if_it_is_complete() {
    for (complete, kept) in [(true, 1), (false, 0)] {
        let old = Catalogue::new(time(1), complete, vec![image(LAB, "w_1", true), image(OTHER, "w_1", true)]);
        let now = scanned(vec![down(LAB), whole(OTHER, &["w_2"])]).catalogue(Some(&old), time(2));
        assert_eq!(wanted(&now).len(), 1 + kept, "{complete}");
    }
}

fn named(repository: &str, tag: &str, failed: bool) -> NamedImage {
    let why = "named in LAB_CONTAINER_NAMES".to_owned();
    let mut image = CatalogueImage { why, ..image(repository, tag, true) };
    if failed {
        (image.digest, image.size) = (None, None);
    }
    NamedImage { setting: "LAB_CONTAINER_NAMES", image, problem: failed.then(|| problem("ask for a digest")) }
}

#[test]
fn each_configured_image_is_handled_alone() {
    let first = Scanned { named: vec![named(LAB, "a", false), named(LAB, "b", true)], ..Scanned::default() };
    let first = first.catalogue(None, time(1));
    assert_eq!((wanted(&first).len(), first.complete), (2, false));
    assert_eq!((first.images[0].size, first.images[1].size), (Some(7), None));
    // An image that fails keeps what was known of it, and a new one is added.
    let named_now = vec![named(LAB, "a", true), named(LAB, "c", false), named(OTHER, "d", false)];
    let second = Scanned { named: named_now, ..Scanned::default() }.catalogue(Some(&first), time(2));
    let sizes: Vec<Option<u64>> = second.images.iter().map(|image| image.size).collect();
    assert_eq!((sizes, second.images.len()), (vec![Some(7); 3], 3));
    assert_eq!(states(&second), ["registry.example.org false None", "other.example.org true Some(2)"]);
}

#[test]
fn a_missing_configured_image_is_reported() {
    let mut gone = named(LAB, "typo", false);
    gone.image.wanted = false;
    gone.image.why += ", but its manifest is gone";
    let scanned = Scanned { named: vec![named(LAB, "a", false), gone], ..Scanned::default() };
    let catalogue = scanned.catalogue(None, time(1));
    assert_eq!(wanted(&catalogue), [format!("{LAB}:a")]);
    assert!(catalogue.complete, "an answer is known");
    assert!(catalogue.repositories[0].problem.as_ref().unwrap().contains("typo"));
}

#[test]
fn a_scan_is_useful_if_it_found_anything() {
    let named = |tag: &str, answered: bool| NamedImage {
        setting: "LAB_CONTAINER_NAMES",
        image: image(LAB, tag, true),
        problem: (!answered).then(|| problem("ask for a digest")),
    };
    let of_names = |names: Vec<NamedImage>| Scanned { named: names, ..Scanned::default() };
    let partial = || ScannedRepository { problems: vec![problem("ask for a digest")], ..whole(LAB, &["w_1"]) };
    let last = scanned(vec![whole(LAB, &["w_1"])]).catalogue(None, time(1));
    for (what, scanned, last, of_use) in [
        ("all", scanned(vec![whole(LAB, &["w_1"])]), None, true),
        ("one of two", scanned(vec![down(LAB), whole(OTHER, &["w_1"])]), None, true),
        ("none", scanned(vec![down(LAB), down(OTHER)]), None, false),
        ("one of two names of one repository", of_names(vec![named("w_1", true), named("w_2", false)]), None, true),
        ("no name", of_names(vec![named("w_1", false), named("w_2", false)]), None, false),
        ("a list with a gap, and nothing better is known", scanned(vec![partial()]), None, true),
        ("a list with a gap, and something better is known", scanned(vec![partial()]), Some(&last), false),
        ("nothing is wanted now", scanned(vec![whole(LAB, &[])]), Some(&last), false),
        ("nothing is named", Scanned::default(), None, true),
    ] {
        assert_eq!(scanned.is_of_use(last), of_use, "{what}");
    }
    // The one that did not answer keeps what was known of it, and the other one is new.
    let of_both = of_names(vec![named("w_1", true), named("w_2", true)]).catalogue(None, time(1));
    let next = of_names(vec![named("w_3", true), named("w_2", false)]).catalogue(Some(&of_both), time(2));
    assert_eq!(wanted(&next), [format!("{LAB}:w_3"), format!("{LAB}:w_2")]);
}
