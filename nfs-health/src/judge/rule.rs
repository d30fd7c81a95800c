//! Decides whose fault it is: one ruling from the nodes' verdicts on an export and the probe's. Pure.
//!
//! Many failing nodes point to the server, a single one points to itself, and an address that fails while the server
//! behind it works points to the path between them.

use std::collections::BTreeMap;

use crate::agent::debounce::Debounce;
use crate::probe::verdict::{Kind, Verdict};

/// The part at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// The server.
    Server,
    /// The path from clients to the server: a Service, or the network.
    ServicePath,
    /// The nodes with the trouble.
    Node,
    /// The server or the path to it: one place alone cannot tell.
    Unclear,
}

/// A node's verdict on an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node.
    pub node: String,
    /// Its verdict.
    pub kind: Kind,
    /// The phase that showed it.
    pub phase: String,
    /// The explanation.
    pub sentence: String,
}

/// What is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportTrouble {
    /// The kind of trouble.
    pub kind: Kind,
    /// The part at fault.
    pub blame: Blame,
    /// A human-readable explanation.
    pub sentence: String,
}

/// The node condition that a ruling sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// `NFSMountStuck`: a mount hangs or is stale, while the server works.
    MountStuck,
    /// `NFSServerUnreachable`: this node cannot use the server.
    ServerUnreachable,
}

/// The trouble of an export on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTrouble {
    /// The condition that it makes true.
    pub condition: Condition,
    /// The node's verdict.
    pub kind: Kind,
    /// The part at fault.
    pub blame: Blame,
    /// The node's explanation.
    pub sentence: String,
}

/// The ruling on one export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// What is wrong, if anything.
    pub trouble: Option<ExportTrouble>,
    /// The nodes that cannot use it.
    pub nodes: BTreeMap<String, NodeTrouble>,
}

impl Debounce for Ruling {
    fn is_same_as(&self, other: &Self) -> bool {
        let gist = |ruling: &Self| ruling.trouble.as_ref().map(|trouble| (trouble.kind, trouble.blame));
        gist(self) == gist(other)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.trouble.is_some() == other.trouble.is_some()
    }
}

/// Rules on one export. `probe` is the judge's own verdict, from probes at the address and behind it. The server behind a tunnel is
/// seen from one node only.
pub fn rule(probe: Option<&Verdict>, verdicts: &[NodeVerdict], is_tunnel: bool) -> Ruling {
    let with = |wanted: fn(Kind) -> bool| -> Vec<&NodeVerdict> {
        verdicts.iter().filter(|verdict| wanted(verdict.kind)).collect()
    };
    let (unreached, stuck, refused) = (with(does_not_reach), with(is_stuck), with(is_refusal));
    let reach = reach(probe, &unreached, verdicts.len());
    let mounts = mounts(&stuck, verdicts.len(), is_tunnel);
    let mut nodes = BTreeMap::new();
    for (condition, trouble, bad) in
        [(Condition::ServerUnreachable, &reach, &unreached), (Condition::MountStuck, &mounts, &stuck)]
    {
        let Some(ExportTrouble { blame, .. }) = *trouble else { continue };
        nodes.extend(bad.iter().map(|verdict| {
            let (kind, sentence) = (verdict.kind, verdict.sentence.clone());
            (verdict.node.clone(), NodeTrouble { condition, kind, blame, sentence })
        }));
    }
    Ruling { trouble: reach.or(mounts).or_else(|| refusal(probe, &refused, verdicts.len())), nodes }
}

fn does_not_reach(kind: Kind) -> bool {
    !kind.server_works() && kind != Kind::ClientStuck
}

fn is_stuck(kind: Kind) -> bool {
    matches!(kind, Kind::ClientStuck | Kind::Stale)
}

fn is_refusal(kind: Kind) -> bool {
    matches!(kind, Kind::Readonly | Kind::Full | Kind::Denied)
}

/// How severe a kind is, compared to others.
pub fn severity(kind: Kind) -> u8 {
    match kind {
        _ if does_not_reach(kind) => 3,
        _ if is_stuck(kind) => 2,
        _ if is_refusal(kind) => 1,
        _ => 0,
    }
}

/// Whether too many of `all` are bad for the nodes to be at fault: at least two, and at least half.
fn many(bad: usize, all: usize) -> bool {
    bad >= 2 && bad * 2 >= all
}

/// The trouble of nodes that do not reach a working server.
fn reach(probe: Option<&Verdict>, unreached: &[&NodeVerdict], nodes: usize) -> Option<ExportTrouble> {
    let failed = probe.filter(|probe| does_not_reach(probe.kind));
    if unreached.is_empty() && (failed.is_none() || nodes > 0) {
        // If nodes can use the server, the judge's own path to it does not matter.
        return None;
    }
    let (bad, all) = (unreached.len() + usize::from(failed.is_some()), nodes + usize::from(probe.is_some()));
    let seen = unreached.iter().map(|verdict| (verdict.kind, verdict.sentence.as_str()));
    let seen = seen.chain(failed.map(|probe| (probe.kind, probe.sentence.as_str())));
    let (kind, cause) = most_common(seen)?;
    let works_behind =
        kind == Kind::ServicePathBroken || failed.is_some_and(|probe| probe.kind == Kind::ServicePathBroken);
    let works_here = probe.is_some() && failed.is_none();
    let blame = match (many(bad, all), all) {
        (true, _) | (false, 1) if works_behind => Blame::ServicePath,
        (true, _) if works_here => Blame::ServicePath,
        (true, _) => Blame::Server,
        (false, 1) if kind == Kind::Unreachable || nodes == 1 => Blame::Unclear,
        (false, 1) => Blame::Server,
        (false, _) => Blame::Node,
    };
    let kind = match (blame, kind) {
        (Blame::ServicePath, _) => Kind::ServicePathBroken,
        // No place reaches it; one place alone could not show that.
        (Blame::Server, Kind::Unreachable) => Kind::ServerDown,
        (_, kind) => kind,
    };
    let places = seen_from(unreached, nodes, failed.is_some());
    let sentence = match blame {
        Blame::Server => format!("the server is not serving{places}: {cause}"),
        Blame::ServicePath if works_here => {
            format!("the server works, but the network path to it is broken{places}: {cause}")
        }
        Blame::ServicePath => format!("the address that clients use is broken{places}: {cause}"),
        Blame::Node => format!("the server works for others, but is not reachable{places}: {cause}"),
        Blame::Unclear => format!("cannot tell whether the server or the network path is down{places}: {cause}"),
    };
    Some(ExportTrouble { kind, blame, sentence })
}

/// The trouble of mounts that hang or are stale while the server works.
fn mounts(stuck: &[&NodeVerdict], nodes: usize, is_tunnel: bool) -> Option<ExportTrouble> {
    let (kind, cause) = most_common(stuck.iter().map(|verdict| (verdict.kind, verdict.sentence.as_str())))?;
    let blame = if many(stuck.len(), nodes) {
        Blame::Server
    } else if is_tunnel {
        Blame::Unclear
    } else {
        Blame::Node
    };
    let places = seen_from(stuck, nodes, false);
    let sentence = match blame {
        Blame::Server => format!("the server answers, but does not serve its clients{places}: {cause}"),
        Blame::Unclear => {
            format!("cannot tell whether the server, its tunnel on the node or the mount is at fault{places}: {cause}")
        }
        _ => format!("the server works for others, but a mount fails{places}: {cause}"),
    };
    Some(ExportTrouble { kind, blame, sentence })
}

/// The trouble of a server that answers with a refusal.
fn refusal(probe: Option<&Verdict>, refused: &[&NodeVerdict], nodes: usize) -> Option<ExportTrouble> {
    // A probe may be denied what nodes are allowed.
    let own = probe.filter(|probe| is_refusal(probe.kind) && (probe.kind != Kind::Denied || nodes == 0));
    let seen = refused.iter().map(|verdict| (verdict.kind, verdict.sentence.as_str()));
    let (kind, cause) = most_common(seen.chain(own.map(|probe| (probe.kind, probe.sentence.as_str()))))?;
    // An export that is full or read-only is so for all.
    let some = kind == Kind::Denied && nodes > 1 && !many(refused.len(), nodes);
    let blame = if some { Blame::Node } else { Blame::Server };
    Some(ExportTrouble { kind, blame, sentence: format!("{cause}{}", seen_from(refused, nodes, false)) })
}

/// ` (seen from 2 of 5 nodes: a, b, and from the cluster probe)`, or nothing if there is no place to name.
fn seen_from(verdicts: &[&NodeVerdict], nodes: usize, probe: bool) -> String {
    const NAMED: usize = 3;
    let named: Vec<&str> = verdicts.iter().take(NAMED).map(|verdict| verdict.node.as_str()).collect();
    let more = if verdicts.len() > NAMED { ", …" } else { "" };
    match (verdicts.len(), probe) {
        (0, false) => String::new(),
        (0, true) => " (seen from the cluster probe)".to_owned(),
        (seen, false) => format!(" (seen from {seen} of {nodes} nodes: {}{more})", named.join(", ")),
        (seen, true) => {
            format!(" (seen from {seen} of {nodes} nodes: {}{more}, and from the cluster probe)", named.join(", "))
        }
    }
}

/// The most frequent kind, with the explanation of the first node that has it; of equals, the first in the order of
/// kinds.
fn most_common<'a>(seen: impl Iterator<Item = (Kind, &'a str)>) -> Option<(Kind, &'a str)> {
    let mut counts: BTreeMap<Kind, (usize, &str)> = BTreeMap::new();
    for (kind, sentence) in seen {
        counts.entry(kind).or_insert((0, sentence)).0 += 1;
    }
    let most = counts.iter().rev().max_by_key(|(_, (count, _))| *count)?;
    Some((*most.0, most.1.1))
}

impl Blame {
    /// The blame in one word, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::ServicePath => "service_path",
            Self::Node => "node",
            Self::Unclear => "unclear",
        }
    }
}

#[cfg(test)]
mod tests;
