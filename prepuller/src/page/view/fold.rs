//! Folds the names of one image into one row: an alias and a tag may name the same digest, and readers ask about the
//! image.

use std::iter;

use lab_images::tag::Class;

use super::Standing;
use crate::node_images::PullState;
use crate::overview::{ImageOnNode, ImageOverview, NodeOverview, Overview};

/// The wanted images of an overview, each with all of its names; failing and moving ones come first.
pub(super) struct Folded<'a> {
    overview: &'a Overview,
    images: Vec<Names>,
}

/// The positions of one image's names in [`Overview::images`].
struct Names {
    /// The main name: not an alias, if there is another.
    first: usize,
    others: Vec<usize>,
}

impl<'a> Folded<'a> {
    pub(super) fn new(overview: &'a Overview) -> Self {
        let mut images: Vec<Names> = Vec::new();
        for (index, image) in overview.images.iter().enumerate() {
            match images.iter_mut().find(|names| is_same(&overview.images[names.first], image)) {
                Some(names) if is_alias(overview, &overview.images[names.first]) => {
                    names.others.push(names.first);
                    names.first = index;
                }
                Some(names) => names.others.push(index),
                None => images.push(Names { first: index, others: Vec::new() }),
            }
        }
        images.sort_by_cached_key(|names| (names.furthest_behind(overview).1, names.most_urgent(overview)));
        Self { overview, images }
    }

    /// Each image under its main name, with its other names. The state is that of the name that is furthest behind.
    pub(super) fn images(
        &self,
    ) -> impl Iterator<Item = (&'a ImageOverview, Vec<&'a ImageOverview>, &'a ImageOverview)> {
        self.images.iter().map(|names| {
            let of = |index: usize| &self.overview.images[index];
            (of(names.first), names.others.iter().copied().map(of).collect(), names.furthest_behind(self.overview).0)
        })
    }

    /// The state of each image on a node: that of the name that is furthest behind.
    pub(super) fn on<'n>(&self, node: &'n NodeOverview) -> impl Iterator<Item = &'n ImageOnNode> {
        let found =
            |names: &Names| names.all().filter_map(|index| node.images.get(index)).min_by_key(|image| rank(image));
        self.images.iter().filter_map(found)
    }

    /// The image that has this name.
    pub(super) fn named(&self, reference: &str) -> Option<usize> {
        let is_it = |index: usize| self.overview.images[index].reference.to_string() == reference;
        self.images.iter().position(|names| names.all().any(is_it))
    }
}

impl Names {
    fn all(&self) -> impl Iterator<Item = usize> {
        iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The most urgent state on any node.
    fn most_urgent(&self, overview: &Overview) -> u8 {
        let eligible = overview.nodes.iter().filter(|node| node.not_eligible.is_none());
        let on = |node: &NodeOverview| self.all().filter_map(|index| node.images.get(index)).map(rank).min();
        eligible.filter_map(on).min().unwrap_or(u8::MAX)
    }

    fn furthest_behind<'a>(&self, overview: &'a Overview) -> (&'a ImageOverview, Standing) {
        let first = &overview.images[self.first];
        let all = self.all().map(|index| (&overview.images[index], Standing::of(&overview.images[index].wave)));
        all.min_by_key(|(image, standing)| (*standing, image.present)).unwrap_or((first, Standing::of(&first.wave)))
    }
}

/// Whether two names refer to one image. The same content in two repositories counts as two images, because nodes pull
/// both names.
fn is_same(one: &ImageOverview, other: &ImageOverview) -> bool {
    one.digest.is_some() && one.digest == other.digest && one.reference.repository == other.reference.repository
}

fn is_alias(overview: &Overview, image: &ImageOverview) -> bool {
    let all = overview.catalogue.iter().flat_map(|catalogue| &catalogue.images);
    all.filter(|one| one.class == Class::Alias).any(|one| one.reference == image.reference)
}

/// Failing images come first, then moving ones, then waiting ones.
fn rank(image: &ImageOnNode) -> u8 {
    match image {
        ImageOnNode::Reported(reported) => match reported.state {
            PullState::Failed | PullState::Refused => 0,
            PullState::Downloading | PullState::Unpacking => 1,
            PullState::Waiting => 2,
            PullState::Present => 5,
        },
        ImageOnNode::Ordered => 3,
        ImageOnNode::NotOrdered => 4,
        ImageOnNode::NotWanted => 6,
    }
}
