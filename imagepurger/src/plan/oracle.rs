//! A second opinion on the plan: worlds made of numbers, judged by brute force over those numbers. It shares no code with the
//! plan, which sees the same worlds written out as names.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::{Catalogue, CatalogueImage, Kind};
use lab_images::runtime::{ContainerImages, Image};
use lab_images::tag::{Class, TagScheme};
use proptest::prelude::*;
use proptest::sample::select;

use super::{PodImages, Pods, Rules, Scope, Seen, SeenCatalogue, plan};
use crate::history::{History, Record};
use crate::verdict::{Fate, Kept};

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// The first two may be listed in the catalogue.
const REPOSITORIES: [&str; 6] = [
    "registry.example.org:5000/owner/lab",
    "docker.io/library/lab",
    "other.example.org/x",
    "ghcr.io/owner/labhands-imagepurger",
    "ghcr.io/labhands/tool",
    "registry.k8s.io/pause",
];
/// The last one lies in a folder that is called as we are, and is somebody's tool.
const OWN: [usize; 1] = [3];
const SANDBOX: usize = 5;
const TAGS: [&str; 4] = ["w_1", "w_2", "exp_1", "recommended"];
const EXPERIMENTAL: usize = 2;
const DIGESTS: usize = 4;

fn hex(kind: u32, number: usize) -> String {
    format!("{:x}{:063x}", kind + 10, number + 1).replace("000000000000", "0f1e2d3c4b5a")
}

/// One name of an image, as somebody may write it.
#[derive(Clone, Debug)]
enum Name {
    Id(usize),
    BareId(usize),
    Tag(usize, usize),
    Digest(usize, usize),
    TagAndDigest(usize, usize, usize),
    Nonsense,
}

impl Name {
    fn written(&self, spelling: usize) -> String {
        let repository = |number: usize| match (number, spelling) {
            (1, 1) => "lab",
            (1, 2) => "library/lab",
            (1, 3) => "index.docker.io/library/lab",
            _ => REPOSITORIES[number],
        };
        match *self {
            Self::Id(image) => format!("sha256:{}", hex(0, image)),
            Self::BareId(image) => hex(0, image),
            Self::Tag(of, tag) => format!("{}:{}", repository(of), TAGS[tag]),
            Self::Digest(of, digest) => format!("{}@sha256:{}", repository(of), hex(1, digest)),
            Self::TagAndDigest(of, tag, digest) => {
                format!("{}:{}@sha256:{}", repository(of), TAGS[tag], hex(1, digest))
            }
            Self::Nonsense => "No Name".into(),
        }
    }
}

#[derive(Clone, Debug)]
struct ModelImage {
    tags: Vec<(usize, usize)>,
    digests: Vec<(usize, usize)>,
    pinned: bool,
    /// Seconds since first seen and since last used, and the repositories remembered.
    record: Option<(i64, Option<i64>, Vec<usize>)>,
}

#[derive(Clone, Debug)]
struct Listed {
    repository: usize,
    tag: usize,
    digest: Option<usize>,
    wanted: bool,
    alias: Option<usize>,
}

#[derive(Clone, Debug)]
enum ModelPods {
    NoCluster,
    Unknown,
    Seen { age: i64, names: Vec<(Name, usize)> },
}

#[derive(Clone, Debug)]
enum ModelPattern {
    Repository(usize),
    Tag(usize, usize),
    Experimental,
}

#[derive(Clone, Debug)]
struct World {
    images: Vec<ModelImage>,
    containers: Vec<(Name, usize)>,
    pods: ModelPods,
    readable: bool,
    complete: bool,
    age: i64,
    listed: Vec<Listed>,
    wanted_before: Option<usize>,
    freeing: bool,
    all: bool,
    grace: i64,
    force_shrink: bool,
    pinned_tag: Option<usize>,
    pinned_image: Option<(usize, usize)>,
    allow: Vec<ModelPattern>,
    deny: Vec<ModelPattern>,
}

fn name_strategy() -> impl Strategy<Value = (Name, usize)> {
    let (repository, tag, digest) = (0..REPOSITORIES.len(), 0..TAGS.len(), 0..DIGESTS);
    let name = prop_oneof![
        (0usize..6).prop_map(Name::Id),
        (0usize..6).prop_map(Name::BareId),
        (repository.clone(), tag.clone()).prop_map(|(r, t)| Name::Tag(r, t)),
        (repository.clone(), digest.clone()).prop_map(|(r, d)| Name::Digest(r, d)),
        (repository, tag, digest).prop_map(|(r, t, d)| Name::TagAndDigest(r, t, d)),
        Just(Name::Nonsense),
    ];
    (name, 0usize..4)
}

fn image_strategy() -> impl Strategy<Value = ModelImage> {
    // Mostly the catalogue's repositories, or hardly anything would ever go.
    let repository = || prop_oneof![8 => 0usize..2, 1 => 2..REPOSITORIES.len()];
    let age = || select(vec![-HOUR, 0, 60, 599, 600, 3599, 3600, 7199, 7200, 86_399, 86_400, 1_000_000]);
    let record = (age(), prop::option::of(age()), prop::collection::vec(0usize..3, 0..3));
    (
        prop::collection::vec((repository(), 0..TAGS.len()), 0..3),
        prop::collection::vec((repository(), 0..DIGESTS), 0..2),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.9, record),
    )
        .prop_map(|(tags, digests, pinned, record)| ModelImage { tags, digests, pinned, record })
}

fn pattern_strategy() -> impl Strategy<Value = ModelPattern> {
    prop_oneof![
        (0..REPOSITORIES.len()).prop_map(ModelPattern::Repository),
        (0..REPOSITORIES.len(), 0..TAGS.len()).prop_map(|(r, t)| ModelPattern::Tag(r, t)),
        Just(ModelPattern::Experimental),
    ]
}

prop_compose! {
    fn catalogue_strategy()(
        readable in prop::bool::weighted(0.95),
        complete in prop::bool::weighted(0.95),
        age in prop_oneof![12 => Just(60i64), 1 => select(vec![-30_000i64, -600, 21_600, 21_601, 100_000])],
        listed in prop::collection::vec(
            (0usize..2, 0..TAGS.len(), prop::option::of(0..DIGESTS), prop::bool::weighted(0.4), prop::option::of(0..TAGS.len())),
            1..6,
        ),
    ) -> (bool, bool, i64, Vec<Listed>) {
        let listed = listed.into_iter().map(|(repository, tag, digest, wanted, alias)| Listed { repository, tag, digest, wanted, alias });
        (readable, complete, age, listed.collect())
    }
}

prop_compose! {
    fn rules_strategy()(
        all in any::<bool>(),
        freeing in any::<bool>(),
        grace in select(vec![600i64, 7200, 86_400]),
        force_shrink in prop::bool::weighted(0.2),
        pinned_tag in prop::option::weighted(0.2, 0..TAGS.len()),
        pinned_image in prop::option::weighted(0.2, (0..REPOSITORIES.len(), 0..TAGS.len())),
        allow in prop::collection::vec(pattern_strategy(), 0..2),
        deny in prop::collection::vec(pattern_strategy(), 0..3),
    ) -> (bool, bool, i64, bool, Option<usize>, Option<(usize, usize)>, Vec<ModelPattern>, Vec<ModelPattern>) {
        (all, freeing, grace, force_shrink, pinned_tag, pinned_image, allow, deny)
    }
}

fn pods_strategy() -> impl Strategy<Value = ModelPods> {
    prop_oneof![
        2 => Just(ModelPods::NoCluster),
        1 => Just(ModelPods::Unknown),
        8 => (select(vec![0i64, 0, 0, 59, 60, 61, -61]), prop::collection::vec(name_strategy(), 0..3))
            .prop_map(|(age, names)| ModelPods::Seen { age, names }),
    ]
}

fn world_strategy() -> impl Strategy<Value = World> {
    (
        prop::collection::vec(image_strategy(), 0..6),
        prop::collection::vec(name_strategy(), 0..3),
        pods_strategy(),
        catalogue_strategy(),
        prop::option::weighted(0.5, 0usize..8),
        rules_strategy(),
    )
        .prop_map(|(images, containers, pods, (readable, complete, age, listed), wanted_before, rules)| {
            let (all, freeing, grace, force_shrink, pinned_tag, pinned_image, allow, deny) = rules;
            World {
                images,
                containers,
                pods,
                readable,
                complete,
                age,
                listed,
                wanted_before,
                freeing,
                all,
                grace,
                force_shrink,
                pinned_tag,
                pinned_image,
                allow,
                deny,
            }
        })
}

// ---- the world written out, as the plan sees it ----

fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds).unwrap()
}

fn pattern(pattern: &ModelPattern) -> crate::pattern::Pattern {
    let text = match *pattern {
        ModelPattern::Repository(of) => REPOSITORIES[of].to_owned(),
        ModelPattern::Tag(of, tag) => Name::Tag(of, tag).written(0),
        ModelPattern::Experimental => "*:exp_*".to_owned(),
    };
    text.parse().unwrap()
}

impl World {
    fn image(&self, number: usize) -> Image {
        let image = &self.images[number];
        Image {
            id: Name::Id(number).written(0),
            tags: image.tags.iter().map(|(of, tag)| Name::Tag(*of, *tag).written(0)).collect(),
            digests: image.digests.iter().map(|(of, digest)| Name::Digest(*of, *digest).written(0)).collect(),
            size: 1000,
            pinned: image.pinned,
        }
    }

    fn catalogue(&self) -> Result<SeenCatalogue, String> {
        let listed = self.listed.iter().map(|listed| CatalogueImage {
            reference: Name::Tag(listed.repository, listed.tag).written(0).parse().unwrap(),
            repository: REPOSITORIES[listed.repository].parse().unwrap(),
            tag: TAGS[listed.tag].into(),
            class: Class::Weekly,
            kind: Kind::Lab,
            name: "x".into(),
            digest: listed.digest.map(|digest| format!("sha256:{}", hex(1, digest)).parse().unwrap()),
            platforms: Vec::new(),
            size: None,
            aliases: listed.alias.map(|alias| TAGS[alias].to_owned()).into_iter().collect(),
            wanted: listed.wanted,
            why: "x".into(),
        });
        let catalogue = Catalogue::new(ago(self.age), self.complete, listed.collect());
        if self.readable { Ok(SeenCatalogue { catalogue, fresh_at: ago(self.age) }) } else { Err("no".into()) }
    }

    fn seen(&self, order: impl Iterator<Item = usize>) -> Seen {
        let containers = self.containers.iter().enumerate().map(|(number, (name, spelling))| ContainerImages {
            container: format!("c{number}"),
            images: BTreeSet::from([name.written(*spelling)]),
        });
        let pods = match &self.pods {
            ModelPods::NoCluster => Pods::NoCluster,
            ModelPods::Unknown => Pods::Unknown("no".into()),
            ModelPods::Seen { age, names } => Pods::Seen {
                at: ago(*age),
                pods: vec![PodImages {
                    pod: "a/b".into(),
                    images: names.iter().map(|(name, spelling)| name.written(*spelling)).collect(),
                }],
            },
        };
        Seen {
            now: ago(0),
            images: order.map(|number| self.image(number)).collect(),
            containers: containers.collect(),
            pods,
            catalogue: self.catalogue(),
            freeing: self.freeing,
        }
    }

    fn history(&self) -> History {
        let record = |(number, image): (usize, &ModelImage)| {
            let (first, used, of) = image.record.as_ref()?;
            let repositories = of.iter().map(|of| REPOSITORIES[*of].to_owned()).collect();
            let record = Record { last_used: used.map(ago), repositories, ..Record::new(ago(*first)) };
            Some((Name::Id(number).written(0), record))
        };
        let images = self.images.iter().enumerate().filter_map(record).collect();
        History { images, wanted: self.wanted_before, clock: None }
    }

    fn rules(&self) -> Rules {
        Rules {
            scope: if self.all { Scope::All } else { Scope::Catalogue },
            grace: SignedDuration::from_secs(self.grace),
            catalogue_max_age: SignedDuration::from_secs(6 * HOUR),
            force_shrink: self.force_shrink,
            pinned_tags: self.pinned_tag.map(|tag| TAGS[tag].to_owned()).into_iter().collect(),
            pinned_images: self
                .pinned_image
                .map(|(of, tag)| Name::Tag(of, tag).written(0).parse().unwrap())
                .into_iter()
                .collect(),
            allow: self.allow.iter().map(pattern).collect(),
            deny: self.deny.iter().map(pattern).collect(),
            tag_scheme: TagScheme::Rubin,
            retry: SignedDuration::ZERO,
        }
    }

    // ---- the opinion ----

    fn names_image(&self, name: &Name, number: usize) -> bool {
        let image = &self.images[number];
        let has_tag = |of, tag| image.tags.contains(&(of, tag));
        let has_digest = |digest| image.digests.iter().any(|(_, own)| *own == digest);
        match *name {
            Name::Id(id) | Name::BareId(id) => id == number,
            Name::Tag(of, tag) => has_tag(of, tag),
            Name::Digest(_, digest) => has_digest(digest),
            Name::TagAndDigest(of, tag, digest) => has_tag(of, tag) || has_digest(digest),
            Name::Nonsense => false,
        }
    }

    fn nothing_may_go(&self) -> bool {
        let wanted = self.listed.iter().filter(|listed| listed.wanted).count();
        let shrank = self.wanted_before.is_some_and(|before| wanted < before - before / 2 && wanted * 2 != before);
        let pods_bad = match &self.pods {
            ModelPods::NoCluster => false,
            ModelPods::Unknown => true,
            ModelPods::Seen { age, .. } => *age > 60 || *age < -60,
        };
        let stale = self.age > 6 * HOUR || self.age < -6 * HOUR;
        !self.readable || !self.complete || stale || wanted == 0 || (shrank && !self.force_shrink) || pods_bad
    }

    /// Whether the image is on the list of what is never removed.
    fn must_stay(&self, number: usize) -> bool {
        let image = &self.images[number];
        if self.nothing_may_go() || image.pinned {
            return true;
        }
        let pod_names = match &self.pods {
            ModelPods::Seen { names, .. } => names.as_slice(),
            _ => &[],
        };
        if self.containers.iter().chain(pod_names).any(|(name, _)| self.names_image(name, number)) {
            return true;
        }
        let repositories: Vec<usize> = image.tags.iter().chain(&image.digests).map(|(of, _)| *of).collect();
        if repositories.iter().any(|of| OWN.contains(of) || *of == SANDBOX) {
            return true;
        }
        for listed in self.listed.iter().filter(|listed| listed.wanted) {
            let by_digest = listed.digest.is_some_and(|digest| image.digests.iter().any(|(_, own)| *own == digest));
            let by_alias = listed.alias.is_some_and(|alias| image.tags.contains(&(listed.repository, alias)));
            if by_digest || by_alias || image.tags.contains(&(listed.repository, listed.tag)) {
                return true;
            }
        }
        let pinned_tag = self.pinned_tag.is_some_and(|pin| image.tags.iter().any(|(_, tag)| *tag == pin));
        let pinned_image = self.pinned_image.is_some_and(|pin| image.tags.contains(&pin));
        let allowed = self.allow.iter().any(|pattern| match *pattern {
            ModelPattern::Repository(of) => repositories.contains(&of),
            ModelPattern::Tag(of, tag) => image.tags.contains(&(of, tag)),
            ModelPattern::Experimental => image.tags.iter().any(|(_, tag)| *tag == EXPERIMENTAL),
        });
        pinned_tag || pinned_image || allowed
    }

    fn is_denied(&self, number: usize) -> bool {
        let image = &self.images[number];
        let tag_denied = |&(of, tag): &(usize, usize)| {
            self.deny.iter().any(|pattern| match *pattern {
                ModelPattern::Repository(denied) => denied == of,
                ModelPattern::Tag(denied, denied_tag) => (denied, denied_tag) == (of, tag),
                ModelPattern::Experimental => tag == EXPERIMENTAL,
            })
        };
        let digest_denied = |&(of, _): &(usize, usize)| {
            self.deny.iter().any(|pattern| matches!(*pattern, ModelPattern::Repository(denied) if denied == of))
        };
        match (image.tags.is_empty(), image.digests.is_empty()) {
            (false, _) => image.tags.iter().all(tag_denied),
            (true, false) => image.digests.iter().all(digest_denied),
            (true, true) => false,
        }
    }

    fn is_of_the_catalogue(&self, number: usize) -> bool {
        let image = &self.images[number];
        let mut of: Vec<usize> = image.tags.iter().chain(&image.digests).map(|(of, _)| *of).collect();
        if of.is_empty() {
            of = image.record.as_ref().map(|(_, _, of)| of.clone()).unwrap_or_default();
        }
        !of.is_empty() && of.iter().all(|of| self.listed.iter().any(|listed| listed.repository == *of))
    }

    fn should_go(&self, number: usize) -> bool {
        let Some((first, used, _)) = &self.images[number].record else { return false };
        let needed = used.map_or(*first, |used| used.min(*first));
        let enough = if self.freeing && self.grace > HOUR { HOUR } else { self.grace };
        let may = self.is_denied(number) || self.is_of_the_catalogue(number) || (self.all && self.freeing);
        !self.must_stay(number) && may && needed >= enough
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_plan_and_the_oracle_agree_on_every_image(world in world_strategy()) {
        let (seen, history, rules) = (world.seen(0..world.images.len()), world.history(), world.rules());
        let plan = plan(&seen, &history, &rules);
        prop_assert_eq!(plan.verdicts.len(), world.images.len());
        for number in 0..world.images.len() {
            let id = Name::Id(number).written(0);
            let verdict = plan.verdicts.iter().find(|verdict| verdict.image.id == id).unwrap();
            let goes = matches!(verdict.fate, Fate::ToGo(_));
            prop_assert!(!(goes && world.must_stay(number)), "never: {:?}", verdict);
            // The succession has tests of its own; it only ever keeps.
            let waits = matches!(verdict.fate, Fate::Kept(Kept::Predecessor { .. }));
            prop_assert!(!waits || !world.is_denied(number), "{:?}", verdict);
            prop_assert_eq!(goes, world.should_go(number) && !waits, "{:?}", verdict);
        }
    }

    #[test]
    fn the_order_of_the_list_changes_nothing(world in world_strategy()) {
        let (history, rules) = (world.history(), world.rules());
        let (forth, back) = (world.seen(0..world.images.len()), world.seen((0..world.images.len()).rev()));
        let (forth, back) = (plan(&forth, &history, &rules), plan(&back, &history, &rules));
        prop_assert_eq!(forth.verdicts, back.verdicts);
    }

    /// Removes one image after the other, each time deciding anew, as a round does; the disk is full in steps.
    #[test]
    fn freeing_stops_at_the_low_watermark(world in world_strategy(), start in 60u8..100, step in 1u8..20) {
        let (low, high) = (65, 75);
        let (history, rules) = (world.history(), world.rules());
        let (mut seen, mut used, mut freeing) = (world.seen(0..world.images.len()), start, false);
        loop {
            freeing = super::freeing(freeing, used, low, high);
            seen.freeing = freeing;
            let plan = plan(&seen, &history, &rules);
            let Some((image, to_go)) = plan.to_go().next() else {
                if used > high {
                    // Then nothing is left that might go at all.
                    let early = |verdict: &super::Verdict<'_>| matches!(verdict.fate, Fate::ToGo(_));
                    prop_assert!(!plan.verdicts.iter().any(early));
                }
                break;
            };
            if to_go.early {
                prop_assert!(used > low, "early at {used} %");
                prop_assert!(start > high, "early though it began at {start} %");
            }
            let id = image.id.clone();
            seen.images.retain(|image| image.id != id);
            used = used.saturating_sub(step);
        }
    }

    #[test]
    fn what_is_kept_for_now_is_told_its_reason(world in world_strategy()) {
        let (seen, history, rules) = (world.seen(0..world.images.len()), world.history(), world.rules());
        let plan = plan(&seen, &history, &rules);
        let held = |verdict: &super::Verdict<'_>| matches!(verdict.fate, Fate::Kept(Kept::Held(_)));
        prop_assert_eq!(plan.hold.is_some(), world.nothing_may_go());
        prop_assert!(plan.hold.is_some() || !plan.verdicts.iter().any(held));
        for verdict in &plan.verdicts {
            prop_assert!(verdict.fate.to_string().len() > 5);
        }
    }
}
