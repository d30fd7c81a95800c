//! Decides which node should pull which image now. Pure. All its inputs are in the cluster's objects, so a planner that
//! restarts in the middle of a rollout continues it.
//!
//! - An image that no node has yet goes to one node, the canary. The others wait until it is present there.
//! - Then it goes to other nodes as slots become free: at most `parallel` nodes pull at a time.
//! - A node with a pod that waits for the image, and a node that is new in the cluster, need no slot.
//! - A node that fails, is stalled or is away takes no slot; the next node gets it.
//! - A failure of a node (it is not ready, its runtime is unavailable, its agent is silent, its disk is full) says
//!   nothing about the image: another node becomes the canary at once. A failure of an image stops its rollout, and
//!   another node tries it after a while.
//! - A node keeps its orders as long as the images are wanted.

use std::sync::Arc;
use std::time::Duration;

use sidecar::retry;

use super::eligible::Eligibility;
use super::seen::{Given, Key, SeenOrders};
use crate::node_images::PullState;
use crate::overview::{NextTry, Reported, Wave};

/// After this time another node may try what the canary could not pull. Each further try waits twice as long.
const SECOND_OPINION: Duration = Duration::from_secs(600);

/// The longest of these waits.
const LONGEST_OPINION: Duration = Duration::from_secs(3600);

/// This many nodes may go away while they pull an image that no node has. After that the next one waits as after a
/// failure, because an image may take nodes down.
const CHANCE: u32 = 2;

/// The facts about a wanted image that decisions use.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The image with its digest.
    pub key: Key,
    /// The image's name without the digest, as in pods.
    pub name: Key,
    /// The architectures of nodes that can run it; unset if they are not known.
    pub architectures: Option<Vec<Box<str>>>,
    /// Whether a new node's gate waits for it.
    pub gate: bool,
}

impl Wanted {
    /// Whether nodes of this architecture can run it, as far as is known.
    pub fn is_for(&self, architecture: Option<&str>) -> bool {
        let runs = |is: &str, architectures: &Vec<Box<str>>| architectures.iter().any(|one| **one == *is);
        self.architectures.as_ref().is_none_or(|all| architecture.is_none_or(|is| runs(is, all)))
    }
}

/// The facts about a node that decisions use.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Whether it should have lab images.
    pub eligibility: &'a Eligibility,
    /// Its architecture.
    pub architecture: Option<&'a str>,
    /// Whether it is new in the cluster.
    pub new: bool,
    /// The names of the images that pods on it wait for.
    pub waits_for: &'a [Key],
    /// Its orders and its reports.
    pub object: &'a SeenOrders,
    /// Whether it has reported nothing new for so long that its slot is free again.
    pub stalled: bool,
    /// Why it cannot pull anything now although it may be eligible.
    pub unfit: Option<Unfit>,
    /// How long ago it was last ordered to pull something.
    pub last_ordered: Duration,
}

/// Why a node that is ready cannot pull.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// Its agent reports that the container runtime is unavailable.
    Runtime,
    /// Its agent does not report.
    Silent,
}

/// The result of a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The orders of each node, in the order of the nodes given.
    pub orders: Vec<Vec<NodeOrder>>,
    /// The state of each wanted image, in the order given.
    pub images: Vec<Spread>,
}

/// One order of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeOrder {
    /// Index of the wanted image.
    pub image: usize,
    /// Whether a pod waits for it.
    pub urgent: bool,
    /// Whether the node has it already.
    pub present: bool,
}

/// The state of a wanted image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spread {
    /// How many eligible nodes have it.
    pub present: usize,
    /// How many eligible nodes should have it.
    pub eligible: usize,
    /// The state of its rollout.
    pub wave: Wave,
}

/// The state of an image on a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ImageState {
    /// It is not for this node.
    NotFor,
    /// The node was not ordered to pull it.
    Lacks,
    /// The node is pulling it, or is about to.
    Active,
    /// The node makes no progress, for an unknown reason.
    Stalled,
    /// The node cannot pull anything: it is paused, or unfit.
    Away,
    /// The node's disk has no room for it.
    NoRoom,
    /// The node failed to pull it, and tries again.
    Failing,
    /// The node has it.
    Present,
}

/// Decides.
pub fn decide(wanted: &[Wanted], nodes: &[Node<'_>], parallel: usize) -> Decision {
    let mut selection = Selection::new(wanted, nodes);
    let passed: Vec<bool> =
        (0..wanted.len()).map(|image| selection.having(image, ImageState::Present).next().is_some()).collect();
    for image in (0..wanted.len()).filter(|image| !passed[*image]) {
        selection.canary(image);
    }
    selection.roll(&passed, parallel);
    selection.decision(&passed)
}

struct Selection<'a, 'n> {
    wanted: &'a [Wanted],
    nodes: &'a [Node<'n>],
    /// The state of each image for each node.
    states: Vec<ImageState>,
    /// Which images are ordered now, indexed as [`Self::states`].
    given: Vec<bool>,
}

impl<'a, 'n> Selection<'a, 'n> {
    fn new(wanted: &'a [Wanted], nodes: &'a [Node<'n>]) -> Self {
        let states =
            nodes.iter().flat_map(|node| wanted.iter().map(move |wanted| state(wanted, node))).collect::<Vec<_>>();
        Self { wanted, nodes, given: vec![false; states.len()], states }
    }

    fn at(&self, node: usize, image: usize) -> usize {
        node * self.wanted.len() + image
    }

    fn state(&self, node: usize, image: usize) -> ImageState {
        self.states[self.at(node, image)]
    }

    fn having(&self, image: usize, state: ImageState) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |node| self.state(*node, image) == state)
    }

    fn row(&self, node: usize) -> &[ImageState] {
        &self.states[self.at(node, 0)..self.at(node, self.wanted.len())]
    }

    /// Whether the node fails or is stalled with any image.
    fn is_troubled(&self, node: usize) -> bool {
        let is_trouble = |state: &ImageState| {
            matches!(state, ImageState::Failing | ImageState::Stalled | ImageState::Away | ImageState::NoRoom)
        };
        self.nodes[node].unfit.is_some() || self.row(node).iter().any(is_trouble)
    }

    /// How long an image that no node has, and none is pulling, still waits for its next node.
    fn patience(&self, image: usize) -> Duration {
        let (mut failed, mut stalled, mut away, mut last) = (0_u32, 0_u32, 0_u32, Duration::MAX);
        for node in 0..self.nodes.len() {
            match self.state(node, image) {
                ImageState::Failing => failed += 1,
                ImageState::Stalled => stalled += 1,
                ImageState::Away => away += 1,
                // The disk guard refuses before any download.
                ImageState::NoRoom
                | ImageState::NotFor
                | ImageState::Lacks
                | ImageState::Active
                | ImageState::Present => continue,
            }
            last = last.min(self.nodes[node].last_ordered);
        }
        // A single stalled node may be an exception.
        let stalled = stalled - u32::from(failed == 0 && stalled > 0);
        let patience = match failed + stalled + away.saturating_sub(CHANCE) {
            0 => Duration::ZERO,
            tries => retry::pause(SECOND_OPINION, tries, LONGEST_OPINION),
        };
        patience.saturating_sub(last)
    }

    /// Orders an image that no node has on one node, unless one has the order or failed with it a short time ago.
    fn canary(&mut self, image: usize) {
        if self.having(image, ImageState::Active).next().is_some() || !self.patience(image).is_zero() {
            return;
        }
        let key = |node: &usize| {
            let row = self.row(*node);
            let proven = row.contains(&ImageState::Present);
            let leads = row.contains(&ImageState::Active)
                || (0..self.wanted.len()).any(|image| self.given[self.at(*node, image)]);
            let waits = self.nodes[*node].waits_for.contains(&self.wanted[image].name);
            (self.is_troubled(*node), !waits, !proven, !leads, self.nodes[*node].name)
        };
        if let Some(node) = self.may_be_canary(image).min_by_key(key) {
            let at = self.at(node, image);
            self.given[at] = true;
        }
    }

    /// The nodes that could be the image's canary.
    fn may_be_canary(&self, image: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |node| self.nodes[*node].unfit.is_none() && self.may_have(*node, image))
    }

    fn may_have(&self, node: usize, image: usize) -> bool {
        *self.nodes[node].eligibility == Eligibility::Eligible && self.state(node, image) == ImageState::Lacks
    }

    /// Orders images that some node has on the others, as slots are free.
    fn roll(&mut self, passed: &[bool], parallel: usize) {
        let pulls =
            |node: usize| (0..passed.len()).any(|image| passed[image] && self.state(node, image) == ImageState::Active);
        let mut free = parallel;
        let mut candidates = Vec::new();
        for node in 0..self.nodes.len() {
            let (pulls, exempt) = (pulls(node), self.nodes[node].new);
            let waits = !self.nodes[node].waits_for.is_empty();
            if pulls && !exempt && !waits {
                free = free.saturating_sub(1);
            }
            let lacks = (0..passed.len()).any(|image| passed[image] && self.may_have(node, image));
            if lacks {
                // A node that is pulling anyway takes no further slot.
                candidates.push((!(exempt || pulls), !waits, self.is_troubled(node), node));
            }
        }
        candidates.sort_unstable_by_key(|(needs_slot, calm, troubled, node)| {
            (*needs_slot, *calm, *troubled, self.nodes[*node].name)
        });
        for (needs_slot, _, _, node) in candidates {
            let has_slot = !needs_slot || free > 0;
            let mut took = false;
            for image in (0..passed.len()).filter(|image| passed[*image]) {
                let waited_for = self.nodes[node].waits_for.contains(&self.wanted[image].name);
                if (has_slot || waited_for) && self.may_have(node, image) {
                    took |= !waited_for;
                    let at = self.at(node, image);
                    self.given[at] = true;
                }
            }
            free -= usize::from(needs_slot && took);
        }
    }

    fn decision(&self, passed: &[bool]) -> Decision {
        let orders = |node: usize| {
            let keeps = !matches!(self.nodes[node].eligibility, Eligibility::Excluded(_));
            let order = |image: usize| {
                let state = self.state(node, image);
                let has = keeps
                    && match state {
                        ImageState::NotFor | ImageState::Lacks => self.given[self.at(node, image)],
                        ImageState::Active
                        | ImageState::Stalled
                        | ImageState::Away
                        | ImageState::NoRoom
                        | ImageState::Failing => true,
                        ImageState::Present => true,
                    };
                let urgent =
                    state != ImageState::Present && self.nodes[node].waits_for.contains(&self.wanted[image].name);
                has.then_some(NodeOrder { image, urgent, present: state == ImageState::Present })
            };
            (0..self.wanted.len()).filter_map(order).collect()
        };
        Decision {
            orders: (0..self.nodes.len()).map(orders).collect(),
            images: (0..self.wanted.len()).map(|image| self.spread(image, passed[image])).collect(),
        }
    }

    /// The node that is trying, or about to try, an image that no node has.
    fn trying(&self, image: usize) -> Option<usize> {
        let given = || (0..self.nodes.len()).find(|node| self.given[self.at(*node, image)]);
        self.having(image, ImageState::Active).next().or_else(given)
    }

    /// Which node tries an image next if its canary makes no progress.
    fn next(&self, image: usize) -> NextTry {
        match (self.trying(image), self.may_be_canary(image).next()) {
            (Some(node), _) => NextTry::Now { node: self.nodes[node].name.clone() },
            (None, Some(_)) => NextTry::In(self.patience(image)),
            (None, None) => NextTry::NoOther,
        }
    }

    /// The canary that makes no progress, and the reason.
    fn held(&self, image: usize) -> Option<(usize, String)> {
        let first = |state: ImageState| self.having(image, state).next();
        let away = |node: usize| match (self.nodes[node].eligibility, self.nodes[node].unfit) {
            (Eligibility::Paused(why) | Eligibility::Excluded(why), _) => format!("it is {why}"),
            (Eligibility::Eligible, Some(Unfit::Runtime)) => "its container runtime is unavailable".to_owned(),
            (Eligibility::Eligible, _) => "its agent does not report".to_owned(),
        };
        let stalled = || first(ImageState::Stalled).map(|node| (node, "it reports nothing new".to_owned()));
        let full = || first(ImageState::NoRoom).map(|node| (node, "its disk has no room".to_owned()));
        stalled().or_else(|| first(ImageState::Away).map(|node| (node, away(node)))).or_else(full)
    }

    fn spread(&self, image: usize, passed: bool) -> Spread {
        let is_eligible = |node: &usize| {
            *self.nodes[*node].eligibility == Eligibility::Eligible && self.state(*node, image) != ImageState::NotFor
        };
        let eligible = (0..self.nodes.len()).filter(is_eligible).count();
        let holds = |node: &usize| is_eligible(node) && self.state(*node, image) == ImageState::Present;
        let present = (0..self.nodes.len()).filter(holds).count();
        let name = |node: usize| self.nodes[node].name.clone();
        let first = |state: ImageState| self.having(image, state).next();
        let wave = if present == eligible {
            Wave::Done
        } else if passed {
            Wave::Rolling
        } else if let Some(node) = first(ImageState::Failing) {
            let report = self.nodes[node].object.report(self.wanted[image].key);
            let error = report.and_then(|report| report.error.as_deref()).unwrap_or("it failed and will be retried");
            Wave::Stopped { node: name(node), error: error.to_owned(), next: self.next(image) }
        } else if let Some(node) = self.trying(image) {
            Wave::Canary { node: name(node) }
        } else if let Some((node, why)) = self.held(image) {
            Wave::Held { node: name(node), why, next: self.next(image) }
        } else {
            Wave::Waiting
        };
        Spread { present, eligible, wave }
    }
}

/// The state of an image on a node.
fn state(wanted: &Wanted, node: &Node<'_>) -> ImageState {
    if !wanted.is_for(node.architecture) {
        return ImageState::NotFor;
    }
    let report = node.object.report(wanted.key);
    if matches!(report, Some(Reported { state: PullState::Present, .. })) {
        return ImageState::Present;
    }
    if !node.object.orders.iter().any(|given: &Given| given.key == wanted.key) {
        return ImageState::Lacks;
    }
    match (node.eligibility, report) {
        // Its orders are about to be withdrawn.
        (Eligibility::Excluded(_), _) => ImageState::Lacks,
        // Its last report does not matter: it cannot try now, and a reported failure may have been its own shutdown.
        (Eligibility::Paused(_), _) => ImageState::Away,
        _ if node.unfit.is_some() => ImageState::Away,
        (_, Some(Reported { state: PullState::Refused, .. })) => ImageState::NoRoom,
        (_, Some(report)) if report.failures > 0 || report.state == PullState::Failed => ImageState::Failing,
        _ if node.stalled => ImageState::Stalled,
        _ => ImageState::Active,
    }
}

#[cfg(test)]
mod tests;
