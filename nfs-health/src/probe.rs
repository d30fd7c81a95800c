//! One round of a server over the wire: connect, find the versions, and go through the calls that a client would make.
//!
//! The whole round has one time limit. It ends at the first step that fails; what was seen until then stays.

mod v3;
mod v4;

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::nfs4::session::Identity;
use crate::rpc::connection::{Connection, RpcError};
use crate::rpc::message::ReplyError;
use crate::rpc::{NFS_3, NFS_4, NFS_UNKNOWN};
use crate::server::Server;
use crate::space::Space;

/// A version of NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 3.
    V3,
    /// Version 4 with this minor version.
    V4(u32),
}

/// The minor versions of NFSv4 that there are.
const MINOR_VERSIONS: [u32; 3] = [0, 1, 2];

/// How to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// The version to go through; the highest that the server has where unset.
    pub version: Option<Version>,
    /// How long a round may take.
    pub limit: Duration,
    /// The port of mountd (version 3 only); asked of the portmapper where unset.
    pub mount_port: Option<u16>,
    /// Our name towards servers, stable, and unlike that of any other prober.
    pub owner: String,
}

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
}

impl Seen {
    /// The step that failed, and why.
    pub fn failed(&self) -> Option<(Phase, &Fault)> {
        let last = self.steps.last()?;
        last.result.as_ref().err().map(|fault| (last.phase, fault))
    }
}

/// Goes through one round.
pub async fn round(server: &Server, probing: &Probing) -> Seen {
    let mut round = Round { deadline: Instant::now() + probing.limit, seen: Seen::default() };
    // The failed step is in what was seen.
    let _ = round.go(server, probing).await;
    round.seen
}

struct Round {
    deadline: Instant,
    seen: Seen,
}

/// A step failed, and is written down.
struct Stop;

impl Round {
    async fn go(&mut self, server: &Server, probing: &Probing) -> Result<(), Stop> {
        let connection = self.connect(server, server.port, "connect").await?;
        let (mut connection, majors) = self.majors(connection).await?;
        let version = match probing.version {
            Some(version) => version,
            None if majors.contains(&4) => Version::V4(u32::MAX),
            None => Version::V3,
        };
        match version {
            Version::V3 => {
                self.null(&mut connection, NFS_3, "nfs v3 null").await?;
                self.seen.versions.push(Version::V3);
                match &server.export {
                    Some(export) => v3::round(self, server, export, connection, probing).await,
                    None => Ok(()),
                }
            }
            Version::V4(minor) => {
                if majors.contains(&3) {
                    self.seen.versions.push(Version::V3);
                }
                self.null(&mut connection, NFS_4, "nfs v4 null").await?;
                let wanted = (minor != u32::MAX).then_some(minor);
                v4::round(self, server.export.as_deref(), connection, wanted, probing).await
            }
        }
    }

    async fn connect(&mut self, server: &Server, port: u16, name: &'static str) -> Result<Connection, Stop> {
        let resolve = async { server.resolve(port).await.map_err(|error| Fault::Unresolved(error.to_string())) };
        let address = match server.host {
            crate::server::Host::Address(address) => (address, port).into(),
            crate::server::Host::Name(_) => self.step(Phase::Resolve, "resolve", resolve, ToString::to_string).await?,
        };
        let connect = async {
            Connection::open(address).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset => Fault::Refused,
                _ => Fault::Unreachable(error.to_string()),
            })
        };
        self.step(Phase::Connect, name, connect, |_| String::new()).await
    }

    /// Which major versions the server has, by calling one that it does not have.
    async fn majors(&mut self, mut connection: Connection) -> Result<(Connection, Vec<u32>), Stop> {
        let call = async {
            match connection.call(NFS_UNKNOWN, 0, &[]).await {
                Err(RpcError::Reply(ReplyError::Versions { low, high })) => {
                    Ok((connection, [3, 4].into_iter().filter(|major| (low..=high).contains(major)).collect()))
                }
                // Odd, and for the next call to show what it has.
                Ok(_) | Err(RpcError::Reply(ReplyError::Failed(_))) => Ok((connection, vec![3, 4])),
                Err(error) => Err(error.into()),
            }
        };
        let majors = |(_, majors): &(Connection, Vec<u32>)| format!("major versions {}", list(majors));
        self.step(Phase::Null, "nfs versions", call, majors).await
    }

    async fn null(
        &mut self,
        connection: &mut Connection,
        program: crate::rpc::Program,
        name: &'static str,
    ) -> Result<(), Stop> {
        let call = async { connection.call(program, 0, &[]).await.map(drop).map_err(Fault::from) };
        self.step(Phase::Null, name, call, |()| String::new()).await
    }

    /// Does one step within what is left of the limit, and writes it down.
    async fn step<T>(
        &mut self,
        phase: Phase,
        name: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Stop> {
        let start = Instant::now();
        let done = tokio::time::timeout_at(self.deadline.into(), work).await.unwrap_or_else(|_| {
            Err(match phase {
                Phase::Resolve => Fault::Unresolved("no answer in time".to_owned()),
                Phase::Connect => Fault::Unreachable("no answer in time".to_owned()),
                _ => Fault::Silent,
            })
        });
        let (result, done) = match done {
            Ok(done) => (Ok(describe(&done)), Ok(done)),
            Err(fault) => (Err(fault), Err(Stop)),
        };
        self.seen.steps.push(Step { phase, name, time: start.elapsed(), result });
        done
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

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V3 => f.write_str("3"),
            Self::V4(minor) => write!(f, "4.{minor}"),
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none that is known".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
