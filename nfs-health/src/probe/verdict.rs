//! Derives one verdict from the observations at up to three places. Pure.

use std::fmt;

use nfs_mounts::failure::Failure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::fault::Fault;
use crate::probe::mount::MountSeen;
use crate::probe::result::{Phase, ProbeResult};

/// The kind of trouble, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No trouble.
    Ok,
    /// The server is in its grace period, which ends after some leases, or counts as trouble then.
    Grace,
    /// The server is not serving.
    ServerDown,
    /// The server works, but the address in front of it does not lead there.
    ServicePathBroken,
    /// The server works for others, but a mount on this node hangs.
    ClientStuck,
    /// A mount's handle, or the export's, is stale.
    Stale,
    /// The export is read-only.
    Readonly,
    /// The export has no free space.
    Full,
    /// The server denies access to this client, or has no such export.
    Denied,
    /// The peer does not speak NFS, or not the required version.
    ProtocolError,
    /// The server or the path to it is down: it is impossible to tell from here.
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

/// A verdict with the phase that led to it, and an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong.
    pub kind: Kind,
    /// The phase, on the wire or of the mount.
    pub phase: &'static str,
    /// The human-readable explanation.
    pub sentence: String,
}

/// The results of one round of one export.
#[derive(Clone, Debug)]
pub struct Observations<'a> {
    /// The server at the address that clients use.
    pub front: &'a ProbeResult,
    /// The server itself, if the address in front of it is different.
    pub behind: Option<&'a ProbeResult>,
    /// The mounts on this node, with their paths.
    pub mounts: Vec<(String, &'a MountSeen)>,
    /// Why a failure on the wire is not a verdict, if only the mounts count.
    pub only_mounts: Option<OnlyMounts>,
    /// Whether the mounts use Kerberos, so that the server need not accept less.
    pub kerberos: bool,
}

/// Why this process's network path is not the mounts' path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnlyMounts {
    /// The server is a tunnel or a proxy on the node's loopback interface, which this process may not share.
    Loopback,
    /// The mounts use RDMA.
    Rdma,
    /// The mounts use UDP.
    Udp,
    /// The mounts use TLS, and the server may require it.
    Tls,
    /// The mounts have no server name.
    NoServer,
}

impl OnlyMounts {
    /// The human-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Loopback => "the server is a tunnel on the node's loopback interface",
            Self::Rdma => "the mounts use RDMA",
            Self::Udp => "the mounts use UDP",
            Self::Tls => "the mounts use TLS",
            Self::NoServer => "the mount has no server name",
        }
    }
}

impl Observations<'_> {
    /// The verdict on one round.
    ///
    /// The better witness counts: a mount that answers has asked the server in this very round, by the clients' own path.
    /// If this process was denied, that is only mentioned.
    pub fn verdict(&self) -> Verdict {
        let wire = |seen| wire(seen, self.kerberos);
        let front = wire(self.front);
        let mounted = mounts(&self.mounts, self.kerberos);
        let answers = self.mounts.iter().any(|(_, seen)| answers(seen));
        let is_way = self.front.failed().is_none_or(|(_, fault)| fault.may_be_local());
        if is_way && !front.kind.server_works() || front.kind == Kind::Denied {
            match (mounted.as_ref(), answers, self.only_mounts) {
                (None, true, _) => return remark(&front),
                // Some mounts answer, so the trouble of the others is not the server's.
                (Some(mounted), true, _) => return mounted.clone(),
                (Some(mounted), false, Some(_)) => return mounted.clone(),
                (None, false, Some(only)) => return not_from_here(&front, only),
                (_, false, None) => (),
            }
        }
        match (front.kind.server_works(), self.behind.map(wire)) {
            // The server works, so trouble with a mount is this node's.
            (true, _) => match mounted {
                Some(mounted) if front.kind == Kind::Ok || mounted.kind == Kind::ClientStuck => mounted,
                _ => front,
            },
            (false, Some(behind)) if behind.kind.server_works() => Verdict {
                kind: Kind::ServicePathBroken,
                phase: front.phase,
                sentence: format!("the server itself works, but at its address for clients {}", front.sentence),
            },
            (false, Some(behind)) => behind.or_down(),
            (false, None) => front,
        }
    }
}

/// The verdict if the mounts work, but the wire from here does not.
fn remark(front: &Verdict) -> Verdict {
    let but = match front.kind {
        Kind::Denied => "the server rejects this process",
        _ => "this process cannot probe the server over the network",
    };
    ok("stat", &format!("the mounts here answer, but {but} ({}: {})", front.phase, front.sentence))
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
fn wire(seen: &ProbeResult, kerberos: bool) -> Verdict {
    let referred = |sentence: String| match &seen.referred {
        Some(server) => format!("{sentence} (the server refers to {server})"),
        None => sentence,
    };
    if let Some((phase, fault)) = seen.failed() {
        if let Fault::Authentication(_) = fault
            && kerberos
        {
            return ok(phase.name(), &referred(fault.to_string()));
        }
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
    ok(Phase::Compound.name(), &referred("the server works".to_owned()))
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
        | Fault::Forgotten(_)
        | Fault::Slow { .. }
        | Fault::NoSession(_)
        | Fault::Busy(_)
        | Fault::Storage(_)
        | Fault::NotUnderstood(_) => Kind::ServerDown,
        Fault::Unresolved(_) | Fault::Unreachable(_) => match phase {
            // The server itself answered a moment before, so only this program of it is down.
            Phase::Portmapper | Phase::Mountd => Kind::ServerDown,
            _ => Kind::Unreachable,
        },
        Fault::Protocol(_) | Fault::NoVersion(_) => Kind::ProtocolError,
        Fault::NoExport(_)
        | Fault::Denied(_)
        | Fault::NoWay { .. }
        | Fault::NameInUse(_)
        | Fault::Authentication(_)
        | Fault::Elsewhere(_)
        | Fault::Link(_) => Kind::Denied,
        Fault::Full(_) => Kind::Full,
        Fault::Stale => Kind::Stale,
        Fault::Grace => Kind::Grace,
    }
}

impl Fault {
    /// Whether the fault may be about this process's own path or permissions, and not about the server itself.
    pub(crate) fn may_be_local(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Storage(_) | Self::Grace | Self::Full(_) | Self::Stale => false,
            Self::Unresolved(_)
            | Self::Refused
            | Self::NotRegistered
            | Self::Unreachable(_)
            | Self::Silent
            | Self::Slow { .. }
            | Self::Broken(_)
            | Self::Forgotten(_)
            | Self::NameInUse(_)
            | Self::NoSession(_)
            | Self::Protocol(_)
            | Self::NoVersion(_)
            | Self::NoExport(_)
            | Self::Denied(_)
            | Self::NoWay { .. }
            | Self::Authentication(_)
            | Self::Elsewhere(_)
            | Self::Link(_)
            // What was not understood proves nothing.
            | Self::NotUnderstood(_) => true,
        }
    }

    /// Whether there was no answer at all.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Refused | Self::Silent | Self::Broken(_) | Self::Forgotten(_) | Self::Unreachable(_))
    }
}

/// The worst mount's verdict, if there is any trouble.
fn mounts(mounts: &[(String, &MountSeen)], kerberos: bool) -> Option<Verdict> {
    let verdict = |kind, path: &str, what: &dyn fmt::Display| Verdict {
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
            Some((0, verdict(Kind::ClientStuck, path, &what)))
        }
        MountSeen::Hung { after } => Some((
            1,
            verdict(Kind::ClientStuck, path, &format!("the mount has not answered for {} s", after.as_secs())),
        )),
        // This process has no ticket, and the mount's users have theirs.
        MountSeen::Failed(Failure::Denied | Failure::Ticket) if kerberos => None,
        MountSeen::Failed(failure) => Some((2, verdict(kind_of_failure(failure), path, failure))),
        MountSeen::Answers { look, .. } if look.space.is_full() => Some((3, verdict(Kind::Full, path, &Failure::Full))),
        // A mount may be read-only on purpose; the server's own answer decides.
        MountSeen::Answers { .. } | MountSeen::Unknown(_) => None,
    });
    verdicts.min_by_key(|(order, _)| *order).map(|(_, verdict)| verdict)
}

fn kind_of_failure(failure: &Failure) -> Kind {
    match failure {
        Failure::Stale => Kind::Stale,
        Failure::ReadOnly => Kind::Readonly,
        Failure::Full | Failure::Quota => Kind::Full,
        Failure::Denied | Failure::Ticket => Kind::Denied,
        Failure::NotFound | Failure::NoAnswer(_) | Failure::Other(_) => Kind::ClientStuck,
    }
}

impl Kind {
    /// The kind in one word, for metrics and conditions.
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

    /// Whether no action is needed. A server in its grace period works as it should, and its clients must be able to
    /// reach it then.
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Ok | Self::Grace)
    }

    /// Whether the server answered as an NFS server, even if with a refusal.
    pub fn server_works(self) -> bool {
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
    /// Neither the server's own address nor the one in front of it answers, so the server is down.
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
