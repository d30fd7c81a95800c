//! From what was seen from one to three places to one verdict. Nothing here waits or looks.

use std::fmt;

use nfs_mounts::failure::Failure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::fault::Fault;
use crate::probe::mount::MountSeen;
use crate::probe::seen::{Phase, Seen};

/// What is wrong, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing.
    Ok,
    /// The server waits for clients to reclaim what they had; it is over after some leases, or no longer called so.
    Grace,
    /// The server does not serve.
    ServerDown,
    /// The server serves, and the address in front of it does not lead there.
    ServicePathBroken,
    /// The server serves others, and a mount on this node hangs.
    ClientStuck,
    /// A mount's handle, or the export's, is stale.
    Stale,
    /// The export is read-only.
    Readonly,
    /// The export has no room.
    Full,
    /// The server does not let this client, or has no such export.
    Denied,
    /// What answers speaks no NFS, or not the version that is wanted.
    ProtocolError,
    /// The server or the way to it: not to be told from here.
    Unreachable,
}

/// All kinds.
pub const KINDS: [Kind; 11] = [
    Kind::Ok,
    Kind::Grace,
    Kind::ServerDown,
    Kind::ServicePathBroken,
    Kind::ClientStuck,
    Kind::Stale,
    Kind::Readonly,
    Kind::Full,
    Kind::Denied,
    Kind::ProtocolError,
    Kind::Unreachable,
];

/// A verdict with the phase that showed it, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong.
    pub kind: Kind,
    /// Where it showed: a phase of the wire or of the mount.
    pub phase: &'static str,
    /// What was seen, for people.
    pub sentence: String,
}

/// What was seen of one export in one round.
#[derive(Clone, Debug)]
pub struct Sight<'a> {
    /// The server at the address that clients use.
    pub front: &'a Seen,
    /// The server itself, where the address in front of it is another.
    pub behind: Option<&'a Seen>,
    /// The mounts on this node, with their paths.
    pub mounts: Vec<(String, &'a MountSeen)>,
    /// Why a failure over the wire is no verdict, where only the mounts can tell.
    pub only_mounts: Option<OnlyMounts>,
}

/// Why the wire, as this process sees it, is not the mounts' wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnlyMounts {
    /// The server is a tunnel or a proxy on the node's loopback interface, which may not be that of this process.
    Loopback,
    /// The mounts speak RDMA.
    Rdma,
    /// The mounts speak UDP.
    Udp,
    /// The mounts name no server.
    NoServer,
}

impl OnlyMounts {
    /// Why, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Loopback => "the server is a tunnel on the node's loopback interface",
            Self::Rdma => "the mounts speak RDMA",
            Self::Udp => "the mounts speak UDP",
            Self::NoServer => "the mount names no server",
        }
    }
}

/// Judges one round.
///
/// The better witness wins: a mount that answers asked the server in this very round, by the way that clients have. That this
/// process was not let through is then a remark.
pub fn judge(sight: &Sight<'_>) -> Verdict {
    let front = wire(sight.front);
    let mounted = mounts(&sight.mounts);
    let answers = sight.mounts.iter().any(|(_, seen)| answers(seen));
    let is_way = sight.front.failed().is_none_or(|(_, fault)| fault.is_of_the_way());
    if is_way && !front.kind.server_serves() || front.kind == Kind::Denied {
        match (mounted.as_ref(), answers, sight.only_mounts) {
            (None, true, _) => return remark(&front),
            // Some answer: what is wrong with the others is not the server.
            (Some(mounted), true, _) => return mounted.clone(),
            (Some(mounted), false, Some(_)) => return mounted.clone(),
            (None, false, Some(only)) => return not_from_here(&front, only),
            (_, false, None) => (),
        }
    }
    match (front.kind.server_serves(), sight.behind.map(wire)) {
        // The server serves: what is wrong with a mount is this node's.
        (true, _) => match mounted {
            Some(mounted) if front.kind == Kind::Ok || mounted.kind == Kind::ClientStuck => mounted,
            _ => front,
        },
        (false, Some(behind)) if behind.kind.server_serves() => Verdict {
            kind: Kind::ServicePathBroken,
            phase: front.phase,
            sentence: format!("the server itself works, but at its address for clients {}", front.sentence),
        },
        (false, Some(behind)) => behind.or_down(),
        (false, None) => front,
    }
}

/// The mounts work, and the wire from here does not.
fn remark(front: &Verdict) -> Verdict {
    let sentence =
        format!("the mounts here answer, but the server rejects this process ({}: {})", front.phase, front.sentence);
    ok("stat", &sentence)
}

fn not_from_here(front: &Verdict, only: OnlyMounts) -> Verdict {
    let sentence = format!(
        "no mount can be checked, and probing over the network from here proves nothing, because {} ({})",
        only.reason(),
        front.sentence
    );
    Verdict { kind: Kind::Unreachable, phase: front.phase, sentence }
}

/// The verdict from the wire alone.
fn wire(seen: &Seen) -> Verdict {
    let referred = |sentence: String| match &seen.referred {
        Some(server) => format!("{sentence} (the server refers to {server})"),
        None => sentence,
    };
    if let Some((phase, fault)) = seen.failed() {
        let sentence = match (phase, fault) {
            (Phase::Portmapper | Phase::Mountd, fault) if fault.is_no_answer() => {
                format!("NFS itself answers, but {} does not: {fault}", phase.name())
            }
            _ => fault.to_string(),
        };
        return Verdict { kind: kind_of(phase, fault), phase: phase.name(), sentence: referred(sentence) };
    }
    let compound =
        |kind, sentence: &str| Verdict { kind, phase: Phase::Compound.name(), sentence: referred(sentence.to_owned()) };
    if seen.read_only == Some(true) {
        return compound(Kind::Readonly, "the export is read-only");
    }
    if seen.space.is_some_and(|space| space.is_full()) {
        return compound(Kind::Full, "no space or no inodes left on the export");
    }
    if seen.in_grace == Some(true) {
        return Verdict { phase: Phase::Session.name(), ..compound(Kind::Grace, &Fault::Grace.to_string()) };
    }
    ok(Phase::Compound.name(), &referred("the server serves".to_owned()))
}

fn ok(phase: &'static str, sentence: &str) -> Verdict {
    Verdict { kind: Kind::Ok, phase, sentence: sentence.to_owned() }
}

fn answers(seen: &MountSeen) -> bool {
    matches!(seen, MountSeen::Answers { .. })
}

fn kind_of(phase: Phase, fault: &Fault) -> Kind {
    match fault {
        Fault::Refused
        | Fault::NotRegistered
        | Fault::Silent
        | Fault::Broken(_)
        | Fault::Busy(_)
        | Fault::Storage(_)
        | Fault::NotUnderstood(_) => Kind::ServerDown,
        Fault::Unresolved(_) | Fault::Unreachable(_) => match phase {
            // The server itself answered a moment before: only this program of it is away.
            Phase::Portmapper | Phase::Mountd => Kind::ServerDown,
            _ => Kind::Unreachable,
        },
        Fault::Protocol(_) | Fault::NoVersion(_) => Kind::ProtocolError,
        Fault::NoExport(_)
        | Fault::Denied(_)
        | Fault::NoWay { .. }
        | Fault::Authentication(_)
        | Fault::Elsewhere(_)
        | Fault::Link(_) => Kind::Denied,
        Fault::Full(_) => Kind::Full,
        Fault::Stale => Kind::Stale,
        Fault::Grace => Kind::Grace,
    }
}

impl Fault {
    /// Whether it may be this process' own way to the server, or what the server thinks of this process; and not what the server
    /// says of itself.
    fn is_of_the_way(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Storage(_) | Self::NotUnderstood(_) | Self::Grace | Self::Full(_) | Self::Stale => {
                false
            }
            Self::Unresolved(_)
            | Self::Refused
            | Self::NotRegistered
            | Self::Unreachable(_)
            | Self::Silent
            | Self::Broken(_)
            | Self::Protocol(_)
            | Self::NoVersion(_)
            | Self::NoExport(_)
            | Self::Denied(_)
            | Self::NoWay { .. }
            | Self::Authentication(_)
            | Self::Elsewhere(_)
            | Self::Link(_) => true,
        }
    }

    /// Whether nothing answered.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Refused | Self::Silent | Self::Broken(_) | Self::Unreachable(_))
    }
}

/// The worst of the mounts, if there is anything to say of one.
fn mounts(mounts: &[(String, &MountSeen)]) -> Option<Verdict> {
    let said = |kind, path: &str, what: &dyn fmt::Display| Verdict {
        kind,
        phase: "stat",
        sentence: format!("{path}: {what}"),
    };
    let verdicts = mounts.iter().filter_map(|(path, seen)| match seen {
        MountSeen::Stuck { after, pid } => {
            let what = format!(
                "the mount has been hanging for {} s, and process {pid} on it can't be killed",
                after.as_secs()
            );
            Some((0, said(Kind::ClientStuck, path, &what)))
        }
        MountSeen::Hung { after } => {
            Some((1, said(Kind::ClientStuck, path, &format!("the mount has not answered for {} s", after.as_secs()))))
        }
        MountSeen::Failed(failure) => Some((2, said(kind_of_failure(failure), path, failure))),
        MountSeen::Answers { look, .. } if look.space.is_full() => Some((3, said(Kind::Full, path, &Failure::Full))),
        // A mount may be read-only because it was meant so; the server's own word decides.
        MountSeen::Answers { .. } | MountSeen::Unknown(_) => None,
    });
    verdicts.min_by_key(|(order, _)| *order).map(|(_, verdict)| verdict)
}

fn kind_of_failure(failure: &Failure) -> Kind {
    match failure {
        Failure::Stale => Kind::Stale,
        Failure::ReadOnly => Kind::Readonly,
        Failure::Full | Failure::Quota => Kind::Full,
        Failure::Denied => Kind::Denied,
        Failure::NotFound | Failure::NoAnswer(_) | Failure::Other(_) => Kind::ClientStuck,
    }
}

impl Kind {
    /// The kind in one word, as metrics and conditions have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Grace => "grace",
            Self::ServerDown => "server_down",
            Self::ServicePathBroken => "service_path_broken",
            Self::ClientStuck => "client_stuck",
            Self::Stale => "stale",
            Self::Readonly => "readonly",
            Self::Full => "full",
            Self::Denied => "denied",
            Self::ProtocolError => "protocol_error",
            Self::Unreachable => "unreachable",
        }
    }

    /// The reason of Events about it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Ok => "NFSOk",
            Self::Grace => "NFSGrace",
            Self::ServerDown => "NFSServerDown",
            Self::ServicePathBroken => "NFSServicePathBroken",
            Self::ClientStuck => "NFSClientStuck",
            Self::Stale => "NFSStale",
            Self::Readonly => "NFSReadonly",
            Self::Full => "NFSFull",
            Self::Denied => "NFSDenied",
            Self::ProtocolError => "NFSProtocolError",
            Self::Unreachable => "NFSUnreachable",
        }
    }

    /// Whether nobody needs to do anything. A server in its grace period works as it should, and its clients must reach it then.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Ok | Self::Grace)
    }

    /// Whether the server answered as NFS servers do, if not as one would like.
    pub fn server_serves(self) -> bool {
        match self {
            Self::Ok | Self::Grace | Self::Stale | Self::Readonly | Self::Full | Self::Denied => true,
            Self::ServerDown
            | Self::ServicePathBroken
            | Self::ClientStuck
            | Self::ProtocolError
            | Self::Unreachable => false,
        }
    }
}

impl Verdict {
    /// Neither the server's own address nor the one in front of it answers: it is the server.
    fn or_down(self) -> Self {
        let kind = if self.kind == Kind::Unreachable { Kind::ServerDown } else { self.kind };
        Self { kind, ..self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Ok => f.write_str(self.kind.name()),
            kind => write!(f, "{} ({}): {}", kind.name(), self.phase, self.sentence),
        }
    }
}

#[cfg(test)]
mod tests;
