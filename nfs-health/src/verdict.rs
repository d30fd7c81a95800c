//! From what was seen from one to three places to one verdict. Nothing here waits or looks.

use std::fmt;

use nfs_mounts::failure::Failure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::mount::MountSeen;
use crate::probe::{Phase, Seen};

/// What is wrong, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing.
    Ok,
    /// The server waits for clients to reclaim what they had; it is over soon.
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
    /// What answers does not speak NFS as it should, or not the version that is wanted.
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
}

/// Judges one round.
pub fn judge(sight: &Sight<'_>) -> Verdict {
    let front = wire(sight.front);
    let mounted = mounts(&sight.mounts);
    match (front.kind.server_serves(), sight.behind.map(wire)) {
        // The server serves: what is wrong with a mount is this node's.
        (true, _) => match mounted {
            Some(mounted) if front.kind == Kind::Ok || mounted.kind == Kind::ClientStuck => mounted,
            // An export may be closed to ports above 1023, which a prober has and the kernel's client has not.
            None if front.kind == Kind::Denied && sight.mounts.iter().any(|(_, seen)| answers(seen)) => {
                ok("stat", "the mounts here answer, although the server denies a prober")
            }
            _ => front,
        },
        (false, Some(behind)) if behind.kind.server_serves() => Verdict {
            kind: Kind::ServicePathBroken,
            phase: front.phase,
            sentence: format!("the server itself serves, and at its address for clients {}", front.sentence),
        },
        (false, Some(behind)) => behind.or_down(),
        (false, None) => front,
    }
}

/// The verdict from the wire alone.
fn wire(seen: &Seen) -> Verdict {
    if let Some((phase, fault)) = seen.failed() {
        return Verdict { kind: kind_of(phase, fault), phase: phase.name(), sentence: fault.to_string() };
    }
    let compound =
        |kind, sentence: &str| Verdict { kind, phase: Phase::Compound.name(), sentence: sentence.to_owned() };
    if seen.read_only == Some(true) {
        return compound(Kind::Readonly, "the export is read-only");
    }
    if seen.space.is_some_and(|space| space.is_full()) {
        return compound(Kind::Full, "no space or no files left on the export");
    }
    if seen.in_grace == Some(true) {
        return Verdict { phase: Phase::Session.name(), ..compound(Kind::Grace, &Fault::Grace.to_string()) };
    }
    ok(Phase::Compound.name(), "the server serves")
}

fn ok(phase: &'static str, sentence: &str) -> Verdict {
    Verdict { kind: Kind::Ok, phase, sentence: sentence.to_owned() }
}

fn answers(seen: &MountSeen) -> bool {
    matches!(seen, MountSeen::Answers { .. })
}

fn kind_of(phase: Phase, fault: &Fault) -> Kind {
    match fault {
        Fault::Refused | Fault::Silent | Fault::Broken(_) => Kind::ServerDown,
        Fault::Unresolved(_) | Fault::Unreachable(_) => match phase {
            // The server itself answered a moment before: only this program of it is away.
            Phase::Portmapper | Phase::Mountd => Kind::ServerDown,
            _ => Kind::Unreachable,
        },
        Fault::Protocol(_) | Fault::NoVersion(_) => Kind::ProtocolError,
        Fault::NoExport | Fault::Denied(_) => Kind::Denied,
        Fault::Stale => Kind::Stale,
        Fault::Grace => Kind::Grace,
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
            let what = format!("the mount hangs for {} s, and process {pid} on it can't be killed", after.as_secs());
            Some((0, said(Kind::ClientStuck, path, &what)))
        }
        MountSeen::Hung { after } => {
            Some((1, said(Kind::ClientStuck, path, &format!("the mount does not answer for {} s", after.as_secs()))))
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
