//! `/spawner/v1/images` and `/spawner/v1/prepulls`: the two documents that users of Nublado's controller read, field by field.

use std::collections::{BTreeMap, HashMap, HashSet};

use lab_images::catalogue::{Catalogue, CatalogueImage};
use lab_images::policy::Policy;
use lab_images::reference::{Digest, Reference, Repository, TagName};
use lab_images::settings::Source;
use lab_images::tag::Class;
use serde::Serialize;

use crate::overview::{NodeOverview, Overview};

/// The settings in `/spawner/v1/prepulls`.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    source: ConfigSource,
    recommended_tag: String,
    num_releases: usize,
    num_weeklies: usize,
    num_dailies: usize,
    /// Nublado can limit the menu to one cycle; this prepuller cannot.
    cycle: Option<u32>,
    pin: Vec<String>,
    alias_tags: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ConfigSource {
    #[serde(rename = "type")]
    kind: &'static str,
    registry: String,
    repository: String,
}

/// The images that a Hub may offer.
#[derive(Debug, Serialize)]
pub(super) struct SpawnerImages<'a> {
    recommended: Option<PrepulledImage<'a>>,
    latest_weekly: Option<PrepulledImage<'a>>,
    latest_daily: Option<PrepulledImage<'a>>,
    latest_release: Option<PrepulledImage<'a>>,
    all: Vec<PrepulledImage<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct PrepulledImage<'a> {
    reference: &'a Reference,
    tag: &'a str,
    name: &'a str,
    digest: Option<&'a Digest>,
    aliases: Vec<&'a str>,
    prepulled: bool,
}

/// The progress of the nodes.
#[derive(Debug, Serialize)]
pub(super) struct Prepulls<'a> {
    config: &'a Config,
    images: PrepulledOrPending<'a>,
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Serialize)]
struct PrepulledOrPending<'a> {
    prepulled: Vec<NodeImage<'a>>,
    pending: Vec<NodeImage<'a>>,
}

#[derive(Debug, Serialize)]
struct NodeImage<'a> {
    reference: &'a Reference,
    tag: &'a str,
    name: &'a str,
    digest: Option<&'a Digest>,
    size: Option<u64>,
    nodes: Vec<&'a str>,
    missing: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct Node<'a> {
    name: &'a str,
    eligible: bool,
    comment: Option<&'a str>,
    cached: Vec<&'a Reference>,
}

impl Config {
    /// Builds the configuration from the sources and the policy. Only the first repository is named.
    pub fn new(source: &Source, policy: &Policy) -> Self {
        let fixed = || source.fixed.first().map(|image| &image.repository);
        let repository = source.repositories.first().or_else(fixed);
        let part = |part: fn(&Repository) -> &str| repository.map(part).unwrap_or_default().to_owned();
        let mut aliases = policy.aliases.iter().cloned();
        Self {
            source: ConfigSource {
                kind: "docker",
                registry: part(Repository::host),
                repository: part(Repository::path),
            },
            recommended_tag: aliases.next().unwrap_or_default(),
            num_releases: policy.keep.of(Class::Release),
            num_weeklies: policy.keep.of(Class::Weekly),
            num_dailies: policy.keep.of(Class::Daily),
            cycle: None,
            pin: policy.pinned.clone(),
            alias_tags: aliases.collect(),
        }
    }
}

/// The tags of the same image, by repository and digest.
type SameImage<'a> = BTreeMap<(&'a Repository, &'a Digest), Vec<&'a str>>;

fn same_image(catalogue: &Catalogue) -> SameImage<'_> {
    let mut same = SameImage::new();
    for image in &catalogue.images {
        if let Some(digest) = &image.digest {
            same.entry((&image.repository, digest)).or_default().push(&image.tag);
        }
    }
    same
}

/// `/spawner/v1/images`
pub(super) fn images<'a>(overview: &'a Overview, config: &Config) -> SpawnerImages<'a> {
    let Some(catalogue) = overview.catalogue.as_deref() else {
        return SpawnerImages {
            recommended: None,
            latest_weekly: None,
            latest_daily: None,
            latest_release: None,
            all: Vec::new(),
        };
    };
    let everywhere: HashSet<&Reference> =
        overview.images.iter().filter(|image| image.present == image.eligible).map(|image| &image.reference).collect();
    let same = same_image(catalogue);
    let shown = |image: &'a CatalogueImage| {
        let others = image.digest.as_ref().and_then(|digest| same.get(&(&image.repository, digest)));
        let mut aliases: Vec<&str> = others.into_iter().flatten().copied().filter(|tag| *tag != image.tag).collect();
        aliases.sort_unstable();
        PrepulledImage {
            reference: &image.reference,
            tag: &image.tag,
            name: &image.name,
            digest: image.digest.as_ref(),
            aliases,
            prepulled: everywhere.contains(&image.reference),
        }
    };
    let newest = |class| catalogue.wanted().find(|image| image.class == class).map(shown);
    SpawnerImages {
        recommended: catalogue.wanted().find(|image| image.tag == config.recommended_tag).map(shown),
        latest_weekly: newest(Class::Weekly),
        latest_daily: newest(Class::Daily),
        latest_release: newest(Class::Release),
        all: catalogue.images.iter().map(shown).collect(),
    }
}

/// `/spawner/v1/prepulls`
pub(super) fn prepulls<'a>(overview: &'a Overview, config: &'a Config) -> Prepulls<'a> {
    let mut images = PrepulledOrPending { prepulled: Vec::new(), pending: Vec::new() };
    let mut nodes: Vec<Node<'_>> = overview.nodes.iter().map(node).collect();
    for index in not_aliases(overview) {
        let wanted = &overview.images[index];
        let (mut holding, mut missing) = (Vec::new(), Vec::new());
        for (node, shown) in overview.nodes.iter().zip(&mut nodes) {
            if node.images.get(index).is_some_and(|image| image.is_present()) {
                holding.push(&*node.name);
                shown.cached.push(&wanted.reference);
            } else if shown.eligible && node.images.get(index).is_some_and(|image| image.is_missing()) {
                missing.push(&*node.name);
            }
        }
        let list = if missing.is_empty() { &mut images.prepulled } else { &mut images.pending };
        list.push(NodeImage {
            reference: &wanted.reference,
            tag: wanted.reference.tag.as_ref().map_or("", TagName::as_str),
            name: &wanted.name,
            digest: wanted.digest.as_ref(),
            size: wanted.size,
            nodes: holding,
            missing,
        });
    }
    Prepulls { config, images, nodes }
}

fn node(node: &NodeOverview) -> Node<'_> {
    Node {
        name: &node.name,
        eligible: node.not_eligible.is_none(),
        comment: node.not_eligible.as_deref(),
        cached: Vec::new(),
    }
}

/// The wanted images, without those that are aliases of other wanted images.
fn not_aliases(overview: &Overview) -> Vec<usize> {
    let classes: HashMap<&Reference, Class> = overview
        .catalogue
        .iter()
        .flat_map(|catalogue| catalogue.wanted())
        .map(|image| (&image.reference, image.class))
        .collect();
    let is_alias = |reference| classes.get(reference) == Some(&Class::Alias);
    let targets: HashSet<(&Repository, &Digest)> = overview
        .images
        .iter()
        .filter(|image| !is_alias(&image.reference))
        .filter_map(|image| Some((&image.reference.repository, image.digest.as_ref()?)))
        .collect();
    let resolved = |index: &usize| {
        let image = &overview.images[*index];
        let target = image.digest.as_ref().map(|digest| (&image.reference.repository, digest));
        is_alias(&image.reference) && target.is_some_and(|target| targets.contains(&target))
    };
    (0..overview.images.len()).filter(|index| !resolved(index)).collect()
}

#[cfg(test)]
mod tests;
