//! One round of a server over the wire: connect, find the versions, and go through the calls that a client would make.
//!
//! The whole round has one time limit. It ends at the first step that fails; what was seen until then stays.
//!
//! - [`seen`] what a round saw; [`fault`] why a step failed; [`rate_limit`] how often one server is asked
//! - [`mount`] one look at one mount, in a child process (see `nfs_mounts`)
//! - [`verdict`] the pure judgement on what was seen; [`patience`] what passes, and for how long

mod connect;
pub mod fault;
pub mod mount;
pub mod patience;
pub mod rate_limit;
pub mod seen;
mod v3;
mod v4;
pub mod verdict;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::probe::connect::{first_that_connects, with_port};
use crate::probe::fault::Fault;
use crate::probe::seen::{Phase, Seen, Step};
use crate::server::{Host, NFS_PORT, Server};
use crate::wire::rpc::connection::{Connection, RpcError};
use crate::wire::rpc::message::ReplyError;
use crate::wire::rpc::{NFS_3, NFS_4, NFS_UNKNOWN};

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
    /// The host of mountd and its portmapper, where it is not the server's.
    pub mount_address: Option<IpAddr>,
    /// Whether to begin from a port below 1024. A server that wants one is asked from there in any case.
    pub reserved_port: bool,
    /// Our name towards servers, stable, and unlike that of any other prober.
    pub owner: String,
}

#[cfg(test)]
impl Probing {
    /// With nothing but a limit.
    pub(crate) fn plain(limit: Duration) -> Self {
        let owner = String::new();
        Self { version: None, limit, mount_port: None, mount_address: None, reserved_port: false, owner }
    }
}

/// Goes through one round. A server that denies is asked again from a port below 1024, as mounts have one, where one can be had;
/// and one that refers to another server is followed there, once.
pub async fn round(server: &Server, probing: &Probing) -> Seen {
    let deadline = Instant::now() + probing.limit;
    let seen = walk(server, probing, deadline).await;
    // nfs-ganesha calls it a want of authentication, or hides the export.
    let is_denied = seen.failed().is_some_and(|(_, fault)| {
        matches!(fault, Fault::Denied(_) | Fault::NoWay { .. } | Fault::Authentication(_) | Fault::NoExport(_))
    });
    if !is_denied || probing.reserved_port {
        return seen;
    }
    let again = walk(server, &Probing { reserved_port: true, ..probing.clone() }, deadline).await;
    // Where no such port can be had, or the time is over, the first answer tells more.
    let tells = again.from_reserved_port && !matches!(again.failed(), Some((_, Fault::Silent | Fault::Unreachable(_))));
    if tells { again } else { seen }
}

async fn walk(server: &Server, probing: &Probing, deadline: Instant) -> Seen {
    let mut round = Round { deadline, peer: None, seen: Seen::default() };
    // The failed step is in what was seen.
    let _ = round.go(server, probing).await;
    if let Some(next) = round.referral() {
        if let Some(step) = round.seen.steps.last_mut() {
            step.result = Ok(format!("the export is on another server: {next}"));
        }
        (round.peer, round.seen.versions) = (None, Vec::new());
        round.seen.referred = Some(next.clone());
        let _ = round.go(&next, probing).await;
    }
    round.seen
}

struct Round {
    deadline: Instant,
    /// The address that took the connection.
    peer: Option<SocketAddr>,
    seen: Seen,
}

/// A step failed, and is written down.
struct Stop;

/// The pauses before a server is asked again that says to come back later, as long as there is time.
struct Pauses {
    deadline: Instant,
    next: Duration,
}

impl Pauses {
    fn until(deadline: Instant) -> Self {
        Self { deadline, next: Duration::from_millis(100) }
    }

    /// Whether to ask again after this answer; the pause is over by then.
    async fn again<T>(&mut self, answer: &Result<T, Fault>) -> bool {
        if !matches!(answer, Err(Fault::Busy(_))) || Instant::now() + self.next >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(1));
        true
    }
}

impl Round {
    async fn go(&mut self, server: &Server, probing: &Probing) -> Result<(), Stop> {
        let connection = self.connect(&server.host, server.port, probing, Phase::Connect, "connect").await?;
        self.seen.from_reserved_port = connection.is_from_reserved_port();
        let (mut connection, majors) = self.majors(connection).await?;
        let version = match probing.version {
            Some(version) => version,
            None if majors.contains(&4) => Version::V4(u32::MAX),
            None => Version::V3,
        };
        match version {
            Version::V3 => {
                self.null(&mut connection, Phase::Null, NFS_3, "nfs v3 null").await?;
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
                self.null(&mut connection, Phase::Null, NFS_4, "nfs v4 null").await?;
                let wanted = (minor != u32::MAX).then_some(minor);
                v4::round(self, server.export.as_deref(), connection, wanted, probing).await
            }
        }
    }

    /// The other server that has the export, if that is what the last step said, and it can be asked.
    fn referral(&self) -> Option<Server> {
        let Some((_, Fault::Elsewhere(locations))) = self.seen.failed() else { return None };
        locations.iter().find_map(|location| {
            let host = Host::named(location.server.trim_start_matches('[').trim_end_matches(']'))?;
            Some(Server { host, port: NFS_PORT, export: Some(format!("/{}", location.path.join("/"))) })
        })
    }

    /// Connects to a port of the host: to the address that took the first connection, or else to the first that does.
    async fn connect(
        &mut self,
        host: &Host,
        port: u16,
        probing: &Probing,
        phase: Phase,
        name: &'static str,
    ) -> Result<Connection, Stop> {
        let resolve = async { host.resolve(port).await.map_err(|error| Fault::Unresolved(error.to_string())) };
        let addresses = match (self.peer, host) {
            (Some(peer), _) => vec![with_port(peer, port)],
            (None, Host::Name(_)) => {
                let list = |addresses: &Vec<SocketAddr>| {
                    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
                };
                self.step(Phase::Resolve, "resolve", resolve, list).await?
            }
            (None, Host::Address(_)) => resolve.await.unwrap_or_default(),
            (None, Host::LinkLocal(..)) => match resolve.await {
                Ok(addresses) => addresses,
                Err(fault) => {
                    return self.step(Phase::Resolve, "resolve", async { Err(fault) }, |_| String::new()).await;
                }
            },
        };
        let several = addresses.len() > 1;
        let connect = first_that_connects(addresses, self.deadline, probing.reserved_port);
        let describe = |(connection, address): &(Connection, SocketAddr)| {
            let address = if several { address.ip().to_string() } else { String::new() };
            let reserved = if connection.is_from_reserved_port() { "from a port below 1024" } else { "" };
            [address.as_str(), reserved].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
        };
        let (connection, address) = self.step(phase, name, connect, describe).await?;
        self.peer = Some(address);
        Ok(connection)
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
        phase: Phase,
        program: crate::wire::rpc::Program,
        name: &'static str,
    ) -> Result<(), Stop> {
        let call = async { connection.call(program, 0, &[]).await.map(drop).map_err(Fault::from) };
        self.step(phase, name, call, |()| String::new()).await
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
