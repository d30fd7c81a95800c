//! Property tests of what is never removed. Every image of a generated node would be removed, except those that the
//! catalogue wants; then one change protects one image, or all of them.

use lab_images::catalogue::RepositoryState;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Both are in the catalogue, which wants `w_9` of each.
const REPOSITORIES: [&str; 2] = ["registry.example.org:5000/owner/lab", "docker.io/library/lab"];
const HOUR: i64 = 3600;

#[derive(Clone, Debug)]
struct Node {
    seen: Seen,
    history: History,
    rules: Rules,
}

type Change = fn(&mut Node);

/// Changes that hold all images.
const HOLDS: [Change; 9] = [
    |node| node.seen.now = Timestamp::from_second(60).unwrap(),
    |node| node.seen.catalogue = Err("no such file".into()),
    |node| node.catalogue().fresh_at = at(-6 * HOUR - 1),
    |node| node.catalogue().fresh_at = at(6 * HOUR + 1),
    |node| node.catalogue().catalogue.complete = false,
    |node| node.catalogue().catalogue.images.iter_mut().for_each(|image| image.wanted = false),
    |node| node.history.wanted = Some(5),
    |node| node.seen.pods = Pods::Unknown("no answer".into()),
    |node| node.seen.pods = Pods::Seen { at: at(-61), pods: Vec::new() },
];

impl Node {
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
    fn target(&self, id: &str, chance: Index) -> Target {
        let image = self.seen.images.iter().find(|image| image.id == id).unwrap();
        let names: Vec<&String> = image.tags.iter().chain(&image.digests).collect();
        let name = names[chance.index(names.len())].clone();
        let short = name.trim_start_matches("docker.io/library/").to_owned();
        let spellings = [name.clone(), short, id.to_owned(), id.trim_start_matches("sha256:").to_owned()];
        let spelling = spellings[chance.index(spellings.len())].clone();
        Target { id: id.to_owned(), reference: name.parse().unwrap(), name, spelling }
    }
}

/// The image that the change protects.
#[derive(Debug)]
struct Target {
    id: String,
    name: String,
    reference: Reference,
    spelling: String,
}

type Protection = fn(&mut Node, &Target);

/// Changes that protect one image.
const PROTECTIONS: [(&str, Protection); 15] = [
    ("container", |node, target| node.seen.containers.push(uses_of("c", &[&target.spelling]))),
    ("pod", |node, target| {
        let pods = vec![PodImages { pod: "jupyter/someone".into(), images: vec![target.spelling.clone()] }];
        node.seen.pods = Pods::Seen { at: at(0), pods };
    }),
    ("name of the sandbox", |node, target| node.image(&target.id).tags.push("registry.k8s.io/pause:3.9".into())),
    ("pinned by the runtime", |node, target| node.image(&target.id).pinned = true),
    ("pinned tag", |node, target| {
        node.image(&target.id).tags.push(format!("{}:kept", REPOSITORIES[0]));
        node.rules.pinned_tags.insert("kept".into());
    }),
    ("pinned image", |node, target| node.rules.pinned_images.push(target.reference.clone())),
    ("allowed", |node, target| node.rules.allow.push(target.name.parse().unwrap())),
    ("own name", |node, target| node.image(&target.id).tags.push("ghcr.io/owner/labhands-imagepurger:1".into())),
    ("wanted", want),
    ("name elsewhere", |node, target| node.image(&target.id).tags.push("other.example.org/mine:1".into())),
    ("unreadable name", |node, target| node.image(&target.id).tags.push("No Name".into())),
    ("repository scanned in part", |node, target| {
        let name = target.reference.repository.clone();
        let state = RepositoryState { name, complete: false, scanned: None, problem: None, tags: None, unread: None };
        node.catalogue().catalogue.repositories.push(state);
    }),
    ("grace", |node, target| node.history.images.get_mut(&target.id).unwrap().last_used = Some(at(1 - HOUR))),
    ("never seen", |node, target| drop(node.history.images.remove(&target.id))),
    ("refused", |node, target| {
        node.history.note_refusal(&target.id, false, "busy".into(), at(0));
    }),
];

fn want(node: &mut Node, target: &Target) {
    let mut entry = listed_in(REPOSITORIES[0], "w_8", true);
    match (&target.reference.tag, &target.reference.digest) {
        (_, Some(digest)) => entry.digest = Some(digest.clone()),
        (Some(tag), None) => {
            entry.repository = target.reference.repository.clone();
            entry.aliases = vec![tag.to_string()];
        }
        (None, None) => unreachable!("a name has a tag or a digest"),
    }
    node.catalogue().catalogue.images.push(entry);
}

prop_compose! {
    fn node()(
        images in prop::collection::vec(
            // The repositories of its tags and of its digests, and the prefixes of its tags.
            (select(vec![0..1, 1..2, 0..2]), select(vec![0..0, 0..1, 1..2, 0..2]), select(vec!["w_", "exp_", "odd-"]), 24..900i64),
            1..6,
        ),
        freeing in any::<bool>(),
    ) -> Node {
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
        Node { seen, history, rules: rules() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn protected_images_are_never_removed(node in node(), protection in select(PROTECTIONS.to_vec()), target: Index, name: Index) {
        let before = node.going();
        prop_assert_eq!(before.len(), node.seen.images.len() - 1, "all but the wanted one would go");
        let target = &before[target.index(before.len())];
        let (mut protected, (what, protect)) = (node, protection);
        let target = protected.target(target, name);
        protect(&mut protected, &target);
        prop_assert!(!protected.going().contains(&target.id), "{} of {:?}: {:?}", what, target, protected);
    }

    #[test]
    fn nothing_is_removed_while_anything_is_not_known_well_enough(node in node(), hold in select(HOLDS.to_vec()), denied in any::<bool>()) {
        let mut held = node;
        held.rules.scope = Scope::All;
        if denied {
            held.rules.deny = REPOSITORIES.map(|repository| repository.parse().unwrap()).into();
        }
        prop_assert!(!held.going().is_empty());
        hold(&mut held);
        prop_assert!(held.going().is_empty(), "{:?}", held);
    }

    #[test]
    fn the_order_of_the_list_changes_nothing(node in node()) {
        let mut back = node.seen.clone();
        back.images.reverse();
        let forth = plan(&node.seen, &node.history, &node.rules);
        prop_assert_eq!(forth.verdicts, plan(&back, &node.history, &node.rules).verdicts);
    }

    /// Removes one image after another and decides again after each one, as a round does.
    #[test]
    fn early_removal_begins_above_the_high_watermark_and_ends_at_the_low_one(
        node in node(), start in 60u8..100, step in 1u8..20, hours in 1i64..48,
    ) {
        let (low, high) = (65, 75);
        let (mut node, mut used, mut is_freeing) = (node, start, false);
        node.history.images.values_mut().for_each(|record| record.first_seen = at(-hours * HOUR));
        loop {
            is_freeing = freeing(is_freeing, used, low, high);
            node.seen.freeing = is_freeing;
            let plan = plan(&node.seen, &node.history, &node.rules);
            let Some((image, to_go)) = plan.to_remove().next() else { break };
            prop_assert_eq!(to_go.early, hours < 24);
            if to_go.early {
                prop_assert!(start > high && used > low, "early at {used} %, from {start} %");
            }
            let id = image.id.clone();
            node.seen.images.retain(|image| image.id != id);
            used = used.saturating_sub(step);
        }
        prop_assert!(node.seen.images.len() == 1 || (hours < 24 && !is_freeing), "at {used} %: {:?}", node.seen.images);
    }
}
