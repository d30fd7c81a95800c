//! The results of a round: its steps, by their phases, and what the server reported about itself.

use std::time::Duration;

use crate::probe::Version;
use crate::probe::fault::Fault;
use crate::server::Server;
use crate::space::Space;
use crate::wire::nfs4::session::Identity;

/// The phase of a round that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Resolving the name.
    Resolve,
    /// Connecting.
    Connect,
    /// The null calls of each program.
    Null,
    /// Asking the portmapper.
    Portmapper,
    /// Asking mountd for the export.
    Mountd,
    /// NFS calls: the export, its free space, whether it can be written to.
    Compound,
    /// Opening and closing a session of NFSv4.1 or later.
    Session,
}

/// All phases.
pub const PHASES: [Phase; 7] =
    [Phase::Resolve, Phase::Connect, Phase::Null, Phase::Portmapper, Phase::Mountd, Phase::Compound, Phase::Session];

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeStep {
    /// Its phase.
    pub phase: Phase,
    /// Its human-readable name.
    pub name: &'static str,
    /// Its duration.
    pub time: Duration,
    /// Its human-readable result, or why it failed.
    pub result: Result<String, Fault>,
}

/// The results of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResult {
    /// The steps; only the last can have failed.
    pub steps: Vec<ProbeStep>,
    /// The versions that the server supports.
    pub versions: Vec<Version>,
    /// Lease time: how long the server remembers a silent client.
    pub lease: Option<Duration>,
    /// The server's identity (NFSv4.1 and later).
    pub identity: Option<Identity>,
    /// Whether the server is in its grace period, if it reported that.
    pub in_grace: Option<bool>,
    /// Whether the export is read-only, if the server reported that.
    pub read_only: Option<bool>,
    /// The free space of the export.
    pub space: Option<Space>,
    /// The other server that has the export, if the first one referred to it.
    pub referred: Option<Server>,
    /// The export's path with symbolic links resolved, if there are any (version 4): what its mounts show.
    pub resolved: Option<String>,
    /// Whether all results are from a port below 1024.
    pub from_reserved_port: bool,
}

impl ProbeResult {
    /// The actual location of the export of `server`, if that is different: through links, or on another server.
    pub fn location(&self, server: &Server) -> Option<Server> {
        let resolved = self.resolved.clone();
        match &self.referred {
            Some(other) => Some(Server { export: resolved.or_else(|| other.export.clone()), ..other.clone() }),
            None => Some(Server { export: Some(resolved?), ..server.clone() }),
        }
    }

    /// The step that failed, and why.
    pub fn failed(&self) -> Option<(Phase, &Fault)> {
        let last = self.steps.last()?;
        last.result.as_ref().err().map(|fault| (last.phase, fault))
    }
}

impl Phase {
    /// The phase's name in metrics and verdicts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Null => "null",
            Self::Portmapper => "portmapper",
            Self::Mountd => "mountd",
            Self::Compound => "compound",
            Self::Session => "session",
        }
    }
}
