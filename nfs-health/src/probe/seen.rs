//! What a round saw: its steps, by their phases, and what the server said of itself.

use std::time::Duration;

use crate::probe::Version;
use crate::probe::fault::Fault;
use crate::server::Server;
use crate::space::Space;
use crate::wire::nfs4::session::Identity;

/// The part of a round that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Looks up the name.
    Resolve,
    /// Connects.
    Connect,
    /// Calls that do nothing, of each program.
    Null,
    /// Asks the portmapper.
    Portmapper,
    /// Asks mountd for the export.
    Mountd,
    /// Calls of NFS itself: the export, its room, whether it may be written to.
    Compound,
    /// Begins and ends a session of NFSv4.1 or later.
    Session,
}

/// All phases.
pub const PHASES: [Phase; 7] =
    [Phase::Resolve, Phase::Connect, Phase::Null, Phase::Portmapper, Phase::Mountd, Phase::Compound, Phase::Session];

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its phase.
    pub phase: Phase,
    /// What it was, for people.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
    /// What it showed, for people; or why it failed.
    pub result: Result<String, Fault>,
}

/// What a round saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The steps; only the last can have failed.
    pub steps: Vec<Step>,
    /// The versions that the server has.
    pub versions: Vec<Version>,
    /// How long the server remembers a silent client.
    pub lease: Option<Duration>,
    /// Who the server is (NFSv4.1 and later).
    pub identity: Option<Identity>,
    /// Whether the server waits for clients to reclaim what they had, if it told.
    pub in_grace: Option<bool>,
    /// Whether the export is read-only, if it told.
    pub read_only: Option<bool>,
    /// The room on the export.
    pub space: Option<Space>,
    /// The other server that has the export, where the first said so.
    pub referred: Option<Server>,
    /// The export's path without the symbolic links on its way, where there are any (version 4): what mounts of it show.
    pub resolved: Option<String>,
    /// Whether all of it was seen from a port below 1024.
    pub from_reserved_port: bool,
}

impl Seen {
    /// Where the export of `server` is in the end, if that is elsewhere: by links, or on another server.
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
    /// The phase as it stands in metrics and verdicts.
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
