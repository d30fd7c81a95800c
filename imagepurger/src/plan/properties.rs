//! Property tests of what is never removed. Every image of a generated node would be removed, except those that the
//! catalogue wants; then one change protects one image, or all of them.

use lab_images::catalogue::RepositoryState;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tests::{at, hex, listed_in, rules, uses_of};
use super::*;

/// Both are in the catalogue, which wants `w_9` of each.
const REPOSITORIES: [&str; 2] = ["registry.example.org:5000/owner/lab", "docker.io/library/lab"];
const HOUR: i64 = 3600;

#[derive(Clone, Debug)]
struct World {
    seen: Seen,
    history: History,
    rules: Rules,
}

type Change = fn(&mut World);

/// Changes that hold all images.
const HOLDS: [Change; 9] = [
    |world| world.seen.now = Timestamp::from_second(60).unwrap(),
    |world| world.seen.catalogue = Err("no such file".into()),
    |world| world.catalogue().fresh_at = at(-6 * HOUR - 1),
    |world| world.catalogue().fresh_at = at(6 * HOUR + 1),
    |world| world.catalogue().catalogue.complete = false,
    |world| world.catalogue().catalogue.images.iter_mut().for_each(|image| image.wanted = false),
    |world| world.history.wanted = Some(5),
    |world| world.seen.pods = Pods::Unknown("no answer".into()),
    |world| world.seen.pods = Pods::Seen { at: at(-61), pods: Vec::new() },
];

impl World {
    fn catalogue(&mut self) -> &mut SeenCatalogue {
        self.seen.catalogue.as_mut().unwrap()
    }

    fn going(&self) -> Vec<String> {
        plan(&self.seen, &self.history, &self.rules).to_remove().map(|(image, _)| image.id.clone()).collect()
    }

    fn image(&mut self, id: &str) -> &mut Image {
        self.seen.images.iter_mut().find(|image| image.id == id).unwrap()
    }

    /// Picks an image, and one of its names in one of its spellings.
    fn victim(&self, id: &str, chance: Index) -> Victim {
        let image = self.seen.images.iter().find(|image| image.id == id).unwrap();
        let names: Vec<&String> = image.tags.iter().chain(&image.digests).collect();
        let name = names[chance.index(names.len())].clone();
        let short = name.trim_start_matches("docker.io/library/").to_owned();
        let spellings = [name.clone(), short, id.to_owned(), id.trim_start_matches("sha256:").to_owned()];
        let spelling = spellings[chance.index(spellings.len())].clone();
        Victim { id: id.to_owned(), reference: name.parse().unwrap(), name, spelling }
    }
}

/// The image that the change protects.
#[derive(Debug)]
struct Victim {
    id: String,
    name: String,
    reference: Reference,
    spelling: String,
}

type Protection = fn(&mut World, &Victim);

/// Changes that protect one image.
const PROTECTIONS: [(&str, Protection); 15] = [
    ("container", |world, victim| world.seen.containers.push(uses_of("c", &[&victim.spelling]))),
    ("pod", |world, victim| {
        let pods = vec![PodImages { pod: "jupyter/someone".into(), images: vec![victim.spelling.clone()] }];
        world.seen.pods = Pods::Seen { at: at(0), pods };
    }),
    ("name of the sandbox", |world, victim| world.image(&victim.id).tags.push("registry.k8s.io/pause:3.9".into())),
    ("pinned by the runtime", |world, victim| world.image(&victim.id).pinned = true),
    ("pinned tag", |world, victim| {
        world.image(&victim.id).tags.push(format!("{}:kept", REPOSITORIES[0]));
        world.rules.pinned_tags.insert("kept".into());
    }),
    ("pinned image", |world, victim| world.rules.pinned_images.push(victim.reference.clone())),
    ("allowed", |world, victim| world.rules.allow.push(victim.name.parse().unwrap())),
    ("own name", |world, victim| world.image(&victim.id).tags.push("ghcr.io/owner/labhands-imagepurger:1".into())),
    ("wanted", want),
    ("name elsewhere", |world, victim| world.image(&victim.id).tags.push("other.example.org/mine:1".into())),
    ("unreadable name", |world, victim| world.image(&victim.id).tags.push("No Name".into())),
    ("repository scanned in part", |world, victim| {
        let name = victim.reference.repository.clone();
        let state = RepositoryState { name, complete: false, scanned: None, problem: None, tags: None, unread: None };
        world.catalogue().catalogue.repositories.push(state);
    }),
    ("grace", |world, victim| world.history.images.get_mut(&victim.id).unwrap().last_used = Some(at(1 - HOUR))),
    ("never seen", |world, victim| drop(world.history.images.remove(&victim.id))),
    ("refused", |world, victim| {
        world.history.note_refusal(&victim.id, false, "busy".into(), at(0));
    }),
];

fn want(world: &mut World, victim: &Victim) {
    let mut entry = listed_in(REPOSITORIES[0], "w_8", true);
    match (&victim.reference.tag, &victim.reference.digest) {
        (_, Some(digest)) => entry.digest = Some(digest.clone()),
        (Some(tag), None) => {
            entry.repository = victim.reference.repository.clone();
            entry.aliases = vec![tag.to_string()];
        }
        (None, None) => unreachable!("a name has a tag or a digest"),
    }
    world.catalogue().catalogue.images.push(entry);
}

prop_compose! {
    fn world()(
        images in prop::collection::vec(
            // The repositories of its tags and of its digests, and the prefixes of its tags.
            (select(vec![0..1, 1..2, 0..2]), select(vec![0..0, 0..1, 1..2, 0..2]), select(vec!["w_", "exp_", "odd-"]), 24..900i64),
            1..6,
        ),
        freeing in any::<bool>(),
    ) -> World {
        let (mut seen, mut history) = (Vec::new(), History::default());
        for (number, (tags, digests, class, hours)) in images.into_iter().enumerate() {
            let digit = char::from(b'1' + number as u8);
            let image = Image {
                id: hex(digit),
                // A few have lost their tags.
                tags: if number == 2 && !digests.is_empty() { Vec::new() } else {
                    REPOSITORIES[tags].iter().map(|repository| format!("{repository}:{class}{digit}")).collect()
                },
                digests: REPOSITORIES[digests]
                    .iter()
                    .map(|repository| format!("{repository}@sha256:{}", digit.to_string().repeat(63) + "e"))
                    .collect(),
                size: 1,
                pinned: false,
            };
            history.images.insert(image.id.clone(), Record::new(at(-hours * HOUR)));
            seen.push(image);
        }
        let wanted = REPOSITORIES.map(|repository| format!("{repository}:w_9")).into();
        seen.push(Image { id: hex('f'), tags: wanted, digests: Vec::new(), size: 1, pinned: false });
        let wanted = REPOSITORIES.map(|repository| listed_in(repository, "w_9", true));
        let catalogue = Catalogue::new(at(0), true, wanted.into());
        let catalogue = Ok(SeenCatalogue { catalogue, fresh_at: at(0) });
        let pods = Pods::Seen { at: at(0), pods: Vec::new() };
        let seen = Seen { now: at(0), images: seen, containers: Vec::new(), pods, catalogue, freeing };
        World { seen, history, rules: rules() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn protected_images_are_never_removed(world in world(), protection in select(PROTECTIONS.to_vec()), victim: Index, name: Index) {
        let before = world.going();
        prop_assert_eq!(before.len(), world.seen.images.len() - 1, "all but the wanted one would go");
        let victim = &before[victim.index(before.len())];
        let (mut protected, (what, protect)) = (world, protection);
        let victim = protected.victim(victim, name);
        protect(&mut protected, &victim);
        prop_assert!(!protected.going().contains(&victim.id), "{} of {:?}: {:?}", what, victim, protected);
    }

    #[test]
    fn nothing_is_removed_while_anything_is_not_known_well_enough(world in world(), hold in select(HOLDS.to_vec()), denied in any::<bool>()) {
        let mut held = world;
        held.rules.scope = Scope::All;
        if denied {
            held.rules.deny = REPOSITORIES.map(|repository| repository.parse().unwrap()).into();
        }
        prop_assert!(!held.going().is_empty());
        hold(&mut held);
        prop_assert!(held.going().is_empty(), "{:?}", held);
    }

    #[test]
    fn the_order_of_the_list_changes_nothing(world in world()) {
        let mut back = world.seen.clone();
        back.images.reverse();
        let forth = plan(&world.seen, &world.history, &world.rules);
        prop_assert_eq!(forth.verdicts, plan(&back, &world.history, &world.rules).verdicts);
    }

    /// Removes one image after another and decides again after each one, as a round does.
    #[test]
    fn early_removal_begins_above_the_high_watermark_and_ends_at_the_low_one(
        world in world(), start in 60u8..100, step in 1u8..20, hours in 1i64..48,
    ) {
        let (low, high) = (65, 75);
        let (mut world, mut used, mut is_freeing) = (world, start, false);
        world.history.images.values_mut().for_each(|record| record.first_seen = at(-hours * HOUR));
        loop {
            is_freeing = freeing(is_freeing, used, low, high);
            world.seen.freeing = is_freeing;
            let plan = plan(&world.seen, &world.history, &world.rules);
            let Some((image, to_go)) = plan.to_remove().next() else { break };
            prop_assert_eq!(to_go.early, hours < 24);
            if to_go.early {
                prop_assert!(start > high && used > low, "early at {used} %, from {start} %");
            }
            let id = image.id.clone();
            world.seen.images.retain(|image| image.id != id);
            used = used.saturating_sub(step);
        }
        prop_assert!(world.seen.images.len() == 1 || (hours < 24 && !is_freeing), "at {used} %: {:?}", world.seen.images);
    }
}
