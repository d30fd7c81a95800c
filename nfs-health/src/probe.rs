//! One round of a server over the wire: connect, find the versions, and go through the calls that a client would make.
//!
//! The whole round has one time limit. It ends at the first step that fails; what was seen until then is kept.
//!
//! - [`result`] the steps of a round and what they showed; [`fault`] why a step failed; [`rate_limit`] how often one server is asked
//! - [`mount`] one look at one mount, in a child process (see `nfs_mounts`); [`mount_list`] lists them
//! - [`verdict`] the verdict on the results, pure; [`grace`] how long a grace period is healthy

mod connect;
pub mod fault;
pub mod grace;
pub mod mount;
pub mod mount_list;
pub mod rate_limit;
pub mod result;
mod v3;
mod v4;
pub mod verdict;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::probe::connect::{first_that_connects, with_port};
use crate::probe::fault::Fault;
use crate::probe::result::{Phase, ProbeResult, ProbeStep};
use crate::server::{Host, NFS_PORT, Server};
use crate::wire::nfs4::elsewhere::Location;
use crate::wire::rpc::connection::{Connection, RpcError};
use crate::wire::rpc::message::ReplyError;
use crate::wire::rpc::{NFS_3, NFS_4, NFS_UNKNOWN, universal_address};

/// A version of NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 3.
    V3,
    /// Version 4 with this minor version.
    V4(u32),
}

/// The existing minor versions of NFSv4.
const MINOR_VERSIONS: [u32; 3] = [0, 1, 2];

/// How to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// The version to use; the highest that the server supports if unset.
    pub version: Option<Version>,
    /// The time limit of a round.
    pub limit: Duration,
    /// The port of mountd (version 3 only); asked of the portmapper if unset.
    pub mount_port: Option<u16>,
    /// The host of mountd and its portmapper, if it is not the server's.
    pub mount_address: Option<IpAddr>,
    /// Whether to start from a port below 1024. A server that requires one is probed from there in any case.
    pub reserved_port: bool,
    /// The name that servers know us by. It is stable, and differs from that of any other prober.
    pub owner: String,
}

#[cfg(test)]
impl Probing {
    /// Only a limit, and defaults.
    pub(crate) fn plain(limit: Duration) -> Self {
        let owner = String::new();
        Self { version: None, limit, mount_port: None, mount_address: None, reserved_port: false, owner }
    }
}

/// Runs one round. If the server denies access, the round is repeated from a port below 1024, as mounts use, if one is
/// available. If it refers to other servers, the first of them that serves is probed, or else each, once.
pub async fn round(server: &Server, probing: &Probing) -> ProbeResult {
    let deadline = Instant::now() + probing.limit;
    let mut result = walk(server, probing, deadline).await;
    // A client would begin again.
    if let Some((_, Fault::Forgotten(_))) = result.failed() {
        result = walk(server, probing, deadline).await;
    }
    // nfs-ganesha calls it missing authentication, or hides the export.
    let is_denied = result.failed().is_some_and(|(_, fault)| {
        matches!(fault, Fault::Denied(_) | Fault::NoWay { .. } | Fault::Authentication(_) | Fault::NoExport(_))
    });
    if !is_denied || probing.reserved_port {
        return result;
    }
    let again = walk(server, &Probing { reserved_port: true, ..probing.clone() }, deadline).await;
    // If no such port is available, or the time is over, the first answer is more useful.
    let is_answer = again.from_reserved_port
        && !matches!(again.failed(), Some((_, Fault::Silent | Fault::Slow { .. } | Fault::Unreachable(_))));
    if is_answer { again } else { result }
}

async fn walk(server: &Server, probing: &Probing, deadline: Instant) -> ProbeResult {
    let mut prober = Prober { deadline, peer: None, result: ProbeResult::default() };
    // The failed step is in the results.
    let _ = prober.go(server, probing).await;
    let others = referrals(&prober.result, server);
    let mut failed: Option<ProbeResult> = None;
    for (index, other) in others.iter().enumerate() {
        let mut result = ProbeResult { versions: Vec::new(), referred: Some(other.clone()), ..prober.result.clone() };
        if let Some(step) = result.steps.last_mut() {
            step.result = Ok(format!("the export is on another server: {other}"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(others.len() - index).unwrap_or(u32::MAX);
        let mut prober = Prober { deadline: Instant::now() + share, peer: None, result };
        let _ = prober.go(other, probing).await;
        match prober.result.failed() {
            None => return prober.result,
            Some(_) if failed.is_none() => failed = Some(prober.result),
            Some(_) => (),
        }
    }
    failed.unwrap_or(prober.result)
}

/// The other servers that have the export, if the last step said so and they can be probed.
fn referrals(result: &ProbeResult, asked: &Server) -> Vec<Server> {
    /// The most of them that are tried.
    const MOST: usize = 16;
    let Some((_, Fault::Elsewhere(locations))) = result.failed() else { return Vec::new() };
    let server = |location: &Location| {
        let name = location.server.trim_start_matches('[').trim_end_matches(']');
        let (host, port) = match universal_address(name) {
            Some(address) => (Host::Address(address.ip()), address.port()),
            // The server that was asked has it at another path (RFC 8881, section 11.16).
            None if name.is_empty() => (asked.host.clone(), asked.port),
            None => (Host::named(name)?, NFS_PORT),
        };
        Some(Server { host, port, export: Some(format!("/{}", location.path.join("/"))) })
    };
    locations.iter().filter_map(server).take(MOST).collect()
}

/// A round in progress.
struct Prober {
    deadline: Instant,
    /// The address that accepted the connection.
    peer: Option<SocketAddr>,
    result: ProbeResult,
}

/// A step failed and is recorded.
struct Stop;

/// The pauses before retries of a server that asks to come back later, as long as there is time.
struct Pauses {
    deadline: Instant,
    next: Duration,
    /// The last answer.
    busy: Option<Fault>,
}

impl Pauses {
    fn until(deadline: Instant) -> Self {
        Self { deadline, next: Duration::from_millis(100), busy: None }
    }

    /// The result of a call. If the time is over before a retry is answered, the answer before it is the result.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match &self.busy {
            None => call.await,
            Some(busy) => {
                tokio::time::timeout_at(self.deadline.into(), call).await.unwrap_or_else(|_| Err(busy.clone()))
            }
        }
    }

    /// Whether to retry after this answer. Returns after the pause.
    async fn again<T>(&mut self, answer: &Result<T, Fault>) -> bool {
        let Err(busy @ Fault::Busy(_)) = answer else { return false };
        if Instant::now() + self.next >= self.deadline {
            return false;
        }
        self.busy = Some(busy.clone());
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(1));
        true
    }
}

impl Prober {
    async fn go(&mut self, server: &Server, probing: &Probing) -> Result<(), Stop> {
        let connection = self.connect(&server.host, server.port, probing, Phase::Connect, "connect").await?;
        self.result.from_reserved_port = connection.is_from_reserved_port();
        let (mut connection, majors) = self.majors(connection).await?;
        let version = match probing.version {
            Some(version) => version,
            None if majors.contains(&4) => Version::V4(u32::MAX),
            None => Version::V3,
        };
        match version {
            Version::V3 => {
                self.null(&mut connection, Phase::Null, NFS_3, "nfs v3 null").await?;
                self.result.versions.push(Version::V3);
                match &server.export {
                    Some(export) => v3::round(self, server, export, connection, probing).await,
                    None => Ok(()),
                }
            }
            Version::V4(minor) => {
                if majors.contains(&3) {
                    self.result.versions.push(Version::V3);
                }
                self.null(&mut connection, Phase::Null, NFS_4, "nfs v4 null").await?;
                let wanted = (minor != u32::MAX).then_some(minor);
                v4::round(self, server.export.as_deref(), connection, wanted, probing).await
            }
        }
    }

    /// Connects to a port of the host: to the address that accepted the first connection, or else to the first one that
    /// does.
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

    /// Which major versions the server supports, found with a call to one that does not exist.
    async fn majors(&mut self, mut connection: Connection) -> Result<(Connection, Vec<u32>), Stop> {
        let call = async {
            match connection.call(NFS_UNKNOWN, 0, &[]).await {
                Err(RpcError::Reply(ReplyError::Versions { low, high })) => {
                    Ok((connection, [3, 4].into_iter().filter(|major| (low..=high).contains(major)).collect()))
                }
                // Odd, but the next call shows what it supports.
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

    /// If the answers before took a good part of the time, the server is slow. `last` is how long the last step has taken.
    fn slow(&self, last: Duration) -> Option<Fault> {
        const GOOD_PART: u32 = 10;
        let answered = self.result.steps.iter().filter(|step| !matches!(step.phase, Phase::Resolve | Phase::Connect));
        let (steps, time) = answered.fold((0, Duration::ZERO), |(steps, time), step| (steps + 1, time + step.time));
        (time * GOOD_PART >= time + last).then_some(Fault::Slow { steps, time })
    }

    /// Runs one step within the remaining time, and records it.
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
                _ => self.slow(start.elapsed()).unwrap_or(Fault::Silent),
            })
        });
        let (result, done) = match done {
            Ok(done) => (Ok(describe(&done)), Ok(done)),
            Err(fault) => (Err(fault), Err(Stop)),
        };
        self.result.steps.push(ProbeStep { phase, name, time: start.elapsed(), result });
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
        return "no known version".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
