//! NFSv4: the minor versions, and the export, within a session if the version has sessions.

use std::time::Instant;

use super::{MINOR_VERSIONS, Pauses, Prober, Probing, Stop, Version, list};
use crate::probe::fault::{Fault, wanted};
use crate::probe::result::Phase;
use crate::wire::nfs4::attributes::Attributes;
use crate::wire::nfs4::elsewhere::{self, Flavor};
use crate::wire::nfs4::session::{self, Client, Session};
use crate::wire::nfs4::{self, Compound, CompoundError, Operation, Results, Status, attributes};
use crate::wire::rpc::NFS_4;
use crate::wire::rpc::connection::Connection;
use crate::wire::rpc::message::NOBODY;
use crate::wire::rpc::xdr::Writer;

/// The user of mounts, unless the server maps it to nobody.
const ROOT: u32 = 0;

/// A name that no file has.
const NO_FILE: &str = ".labhands-nfs-health-no-such-file";

pub(super) async fn round(
    prober: &mut Prober,
    export: Option<&str>,
    mut connection: Connection,
    wanted: Option<u32>,
    probing: &Probing,
) -> Result<(), Stop> {
    let minors = minors(prober, &mut connection, wanted).await?;
    let Some(minor) = wanted.or(minors.last().copied()) else { return Ok(()) };
    let mut caller = Caller { connection, minor, session: None, deadline: prober.deadline };
    if minor == 0 {
        return read_export(prober, &mut caller, export).await.map(drop);
    }
    let (client, session) = begin(prober, &mut caller, probing).await?;
    caller.session = Some(session);
    let export_read = read_export(prober, &mut caller, export).await;
    let grace = match export_read {
        Ok(path) => check_grace(prober, &mut caller, &client, &path).await,
        Err(Stop) => Err(Stop),
    };
    caller.connection.user = NOBODY;
    match grace {
        Ok(()) => {
            let ended = async {
                caller.end(&client).await;
                Ok(())
            };
            prober.step(Phase::Session, "nfs v4 session end", ended, |()| String::new()).await
        }
        Err(Stop) => {
            // A server that remembers a client waits for it after a restart. A server that no longer answers forgets it
            // on its own.
            if prober.result.failed().is_some_and(|(_, fault)| !fault.is_no_answer()) {
                let _ = tokio::time::timeout_at(prober.deadline.into(), caller.end(&client)).await;
            }
            Err(Stop)
        }
    }
}

/// Which minor versions the server supports, found with empty requests.
async fn minors(prober: &mut Prober, connection: &mut Connection, wanted: Option<u32>) -> Result<Vec<u32>, Stop> {
    let deadline = prober.deadline;
    let ask = async {
        let mut minors = Vec::new();
        for minor in MINOR_VERSIONS {
            let mut pauses = Pauses::until(deadline);
            let has = loop {
                let has = pauses.within(has_minor(connection, minor)).await;
                if !pauses.again(&has).await {
                    break has?;
                }
            };
            if has {
                minors.push(minor);
            }
        }
        let has = list(&minors.iter().map(|minor| Version::V4(*minor)).collect::<Vec<_>>());
        match wanted {
            Some(wanted) if !minors.contains(&wanted) => {
                Err(Fault::NoVersion(format!("version 4.{wanted} is required, but the server supports {has}")))
            }
            None if minors.is_empty() => Err(Fault::NoVersion("the server supports no known minor version".to_owned())),
            _ => Ok((minors, has)),
        }
    };
    let (minors, _) = prober.step(Phase::Compound, "nfs v4 minors", ask, |(_, has)| has.clone()).await?;
    prober.result.versions.extend(minors.iter().map(|minor| Version::V4(*minor)));
    Ok(minors)
}

async fn has_minor(connection: &mut Connection, minor: u32) -> Result<bool, Fault> {
    let result = connection.call(NFS_4, nfs4::COMPOUND, &Compound::new(minor).encode()).await?;
    match Results::parse(&result)?.ok() {
        Ok(()) => Ok(true),
        Err(CompoundError::Failed(Status::MINOR_VERS_MISMATCH)) => Ok(false),
        Err(error @ CompoundError::Failed(Status::DELAY)) => Err(error.into()),
        // A server checks the version first, and may not accept a request without operations.
        Err(CompoundError::Failed(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A connection, and the session for its requests, if any.
struct Caller {
    connection: Connection,
    minor: u32,
    session: Option<Session>,
    deadline: Instant,
}

/// What the LOOKUPs of a path found, or how far the server went.
enum Lookup {
    Found(Attributes),
    /// The server refused after this many names.
    Refused(usize, Status),
}

impl Caller {
    /// Makes a request, and retries while the server asks to come back later; `fill` adds its operations, `read` reads
    /// their results.
    async fn ask<T>(
        &mut self,
        fill: impl Fn(Compound) -> Compound,
        read: impl Fn(&mut Results<'_>) -> Result<T, CompoundError>,
    ) -> Result<T, Fault> {
        let mut pauses = Pauses::until(self.deadline);
        loop {
            let asked = pauses.within(self.ask_once(&fill, &read)).await;
            if !pauses.again(&asked).await {
                return asked;
            }
        }
    }

    async fn ask_once<T>(
        &mut self,
        fill: impl Fn(Compound) -> Compound,
        read: impl Fn(&mut Results<'_>) -> Result<T, CompoundError>,
    ) -> Result<T, Fault> {
        let mut compound = Compound::new(self.minor);
        if let Some(session) = &mut self.session {
            compound = compound.operation(Operation::SEQUENCE, &session.sequence());
        }
        let result = self.connection.call(NFS_4, nfs4::COMPOUND, &fill(compound).encode()).await?;
        let mut results = Results::parse(&result)?;
        if let Some(session) = &mut self.session
            && let Err(error) = session::sequenced(&mut results)
        {
            session.did_not_count();
            return Err(error.into());
        }
        Ok(read(&mut results)?)
    }

    /// Ends the session, and makes the server forget the client. A server that refuses serves nevertheless: it forgets both after
    /// the lease.
    async fn end(&mut self, client: &Client) {
        let Some(session) = self.session.take() else { return };
        for (operation, arguments) in [
            (Operation::DESTROY_SESSION, session.destroy()),
            (Operation::DESTROY_CLIENTID, client.id.to_be_bytes().to_vec()),
        ] {
            let fill = |compound: Compound| compound.operation(operation, &arguments);
            if self.ask_once(fill, |results| results.next(operation).map(drop)).await.is_err() {
                return;
            }
        }
    }

    /// Walks to a path as a mount does: through symbolic links, and as root if the folders' modes require it.
    async fn find(&mut self, mut path: Vec<String>) -> Result<(Vec<String>, Attributes), Fault> {
        // As many as Linux follows.
        const MOST_LINKS: usize = 40;
        let wanted = path.clone();
        // The last link, and how many names come after what it leads to.
        let mut followed: Option<(String, usize)> = None;
        for _ in 0..=MOST_LINKS {
            let depth = match self.attributes(&path).await? {
                Lookup::Found(attributes) if !attributes.is_link => return Ok((path, attributes)),
                Lookup::Found(_) => path.len(),
                Lookup::Refused(depth, Status::SYMLINK) => depth,
                Lookup::Refused(_, Status::ACCESS) if self.connection.user != ROOT => {
                    self.connection.user = ROOT;
                    continue;
                }
                Lookup::Refused(depth, status) => {
                    let is_lost =
                        |after: usize| matches!(status, Status::NOENT | Status::NOTDIR) && depth + after < path.len();
                    return Err(match followed {
                        Some((link, after)) if is_lost(after) => Fault::Link(link),
                        _ => self.refused(&path, depth, status).await,
                    });
                }
            };
            let link = &path[..depth];
            let target = self
                .ask(
                    |compound| compound.go_to(link).operation(Operation::READLINK, &[]),
                    |results| {
                        results.went_to(link)?;
                        elsewhere::link(results.next(Operation::READLINK)?)
                    },
                )
                .await?;
            let chain = format!("/{} leads to {target:?}", link.join("/"));
            followed = Some((chain.clone(), path.len() - depth));
            path = elsewhere::follow(&path, depth, &target).ok_or(Fault::Link(chain))?;
        }
        Err(Fault::Link(format!(
            "there are more than {MOST_LINKS} symbolic links on the path to /{}",
            wanted.join("/")
        )))
    }

    async fn attributes(&mut self, path: &[String]) -> Result<Lookup, Fault> {
        self.ask(
            |compound| compound.go_to(path).operation(Operation::GETATTR, &attributes::request()),
            |results| {
                let went = results.went_to(path);
                let depth = results.depth();
                match went.and_then(|()| attributes::parse(results.next(Operation::GETATTR)?)) {
                    Ok(attributes) => Ok(Lookup::Found(attributes)),
                    Err(CompoundError::Failed(status)) if status != Status::DELAY => Ok(Lookup::Refused(depth, status)),
                    Err(error) => Err(error),
                }
            },
        )
        .await
    }

    /// Explains a refusal after `depth` names, and asks the server for more details if it can give them.
    async fn refused(&mut self, path: &[String], depth: usize, status: Status) -> Fault {
        let (here, rest) = path.split_at(depth);
        match status {
            // A LOOKUP refuses a name so.
            Status::INVAL if depth < path.len() => Fault::NoExport(format!(": {status}")),
            Status::ACCESS if depth > 0 => {
                Fault::NoWay { status: status.to_string(), folder: format!("/{}", here.join("/")) }
            }
            Status::WRONGSEC => match self.flavors(path, depth).await {
                flavors if flavors.iter().any(|flavor| flavor.is_open()) => Fault::Denied(status.to_string()),
                flavors => Fault::Authentication(wanted(&flavors)),
            },
            Status::MOVED => {
                let located = self.ask(
                    |compound| compound.go_to(here).operation(Operation::GETATTR, &elsewhere::ask_locations()),
                    |results| {
                        results.went_to(here)?;
                        elsewhere::locations(results.next(Operation::GETATTR)?)
                    },
                );
                let mut locations = located.await.unwrap_or_default();
                locations.iter_mut().for_each(|location| location.path.extend_from_slice(rest));
                Fault::Elsewhere(locations)
            }
            status => status.into(),
        }
    }

    /// The kinds of authentication for the name after `depth` others, or for the last one; none if the server does not
    /// say.
    async fn flavors(&mut self, path: &[String], depth: usize) -> Vec<Flavor> {
        let Some(last) = path.len().checked_sub(1) else { return Vec::new() };
        let (folder, name) = (&path[..depth.min(last)], &path[depth.min(last)]);
        let name = Writer::default().opaque(name.as_bytes()).bytes();
        let asked = self.ask(
            |compound| compound.go_to(folder).operation(Operation::SECINFO, &name),
            |results| {
                results.went_to(folder)?;
                elsewhere::flavors(results.next(Operation::SECINFO)?)
            },
        );
        asked.await.unwrap_or_default()
    }
}

async fn begin(prober: &mut Prober, caller: &mut Caller, probing: &Probing) -> Result<(Client, Session), Stop> {
    let verifier = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
    let exchange = session::exchange_id(&probing.owner, verifier);
    let ask = caller.ask(|compound| compound.operation(Operation::EXCHANGE_ID, &exchange), session::exchanged);
    let describe = |client: &Client| {
        let name = String::from_utf8_lossy(&client.identity.owner);
        // Control characters in the server's name must not break the line.
        let name: String = name.chars().map(|c| if c.is_control() { '.' } else { c }).take(40).collect();
        format!("server {name:?}, epoch {:08x}", client.identity.epoch)
    };
    let client = prober.step(Phase::Session, "nfs v4 client", ask, describe).await?;
    prober.result.identity.get_or_insert_with(|| client.identity.clone());
    let create = session::create_session(&client);
    let ask = caller.ask(|compound| compound.operation(Operation::CREATE_SESSION, &create), session::created);
    let ask = async {
        ask.await.map_err(|fault| match fault {
            // Not the space of the export: the memory for sessions (RFC 8881, section 18.36.4).
            Fault::Full(_) => Fault::NoSession(Status::NOSPC.to_string()),
            fault => fault,
        })
    };
    let session = prober.step(Phase::Session, "nfs v4 session", ask, |_| String::new()).await?;
    Ok((client, session))
}

/// Reads the root's or the export's lease time and free space, and whether it can be written to. Returns its path
/// without symbolic links.
async fn read_export(prober: &mut Prober, caller: &mut Caller, export: Option<&str>) -> Result<Vec<String>, Stop> {
    let wanted = nfs4::names(export.unwrap_or_default());
    let name = if export.is_some() { "nfs v4 export" } else { "nfs v4 root" };
    let asked = wanted.clone();
    let ask = async { caller.find(asked).await.map(|(path, found)| (path, found, caller.connection.user == ROOT)) };
    let describe = |(path, found, as_root): &(Vec<String>, Attributes, bool)| {
        let mut parts =
            vec![found.lease.map_or("no lease time".to_owned(), |lease| format!("lease {} s", lease.as_secs()))];
        if let (Some(_), Some(space)) = (export, found.space) {
            parts.push(space.to_string());
        }
        if *path != wanted {
            parts.push(format!("through symbolic links to /{}", path.join("/")));
        }
        if *as_root {
            parts.push("as root, because other users may not access it".to_owned());
        }
        parts.join(", ")
    };
    let (path, found, _) = prober.step(Phase::Compound, name, ask, describe).await?;
    prober.result.lease = found.lease;
    if export.is_none() {
        return Ok(path);
    }
    prober.result.space = found.space;
    prober.result.resolved = (path != wanted).then(|| format!("/{}", path.join("/")));
    let ask = caller.ask(
        |compound| compound.go_to(&path).operation(Operation::SETATTR, &session::set_nothing()),
        |results| {
            results.went_to(&path)?;
            match results.next(Operation::SETATTR) {
                Ok(_) => Ok((false, None)),
                Err(CompoundError::Failed(Status::ROFS)) => Ok((true, None)),
                Err(CompoundError::Failed(Status::GRACE)) => Ok((false, Some(true))),
                // A probe needs no permission to change the export's folder, but errors of the server's storage count.
                Err(CompoundError::Failed(status)) if !Fault::from(status).is_trouble() => Ok((false, None)),
                Err(error) => Err(error),
            }
        },
    );
    let describe = |(read_only, _): &(bool, Option<bool>)| if *read_only { "read-only" } else { "" }.to_owned();
    let (read_only, in_grace) = prober.step(Phase::Compound, "nfs v4 writable", ask, describe).await?;
    prober.result.read_only = Some(read_only);
    prober.result.in_grace = in_grace;
    Ok(path)
}

/// Only an OPEN shows whether the server is in its grace period.
async fn check_grace(prober: &mut Prober, caller: &mut Caller, client: &Client, path: &[String]) -> Result<(), Stop> {
    let ask = async {
        // Without this call a server answers as in its grace period. It may answer that the call was made before.
        let one_file_system = 0_u32;
        let ask = |compound: Compound| compound.operation(Operation::RECLAIM_COMPLETE, &one_file_system.to_be_bytes());
        match caller.ask(ask, |results| Ok(results.next(Operation::RECLAIM_COMPLETE).map(drop))).await? {
            Ok(()) | Err(CompoundError::Failed(_)) => (),
            Err(error) => return Err(error.into()),
        }
        let open = session::open_to_read(client, NO_FILE);
        let ask = |compound: Compound| compound.go_to(path).operation(Operation::OPEN, &open);
        let asked = caller.ask(ask, |results| {
            results.went_to(path)?;
            match results.next(Operation::OPEN) {
                Ok(_) => Ok(false),
                Err(CompoundError::Failed(Status::GRACE)) => Ok(true),
                // There is no such file, and a probe needs no permission to open one.
                Err(CompoundError::Failed(status)) if !Fault::from(status).is_trouble() => Ok(false),
                Err(error) => Err(error),
            }
        });
        asked.await
    };
    let describe = |in_grace: &bool| if *in_grace { "in its grace period" } else { "over" }.to_owned();
    let in_grace = prober.step(Phase::Session, "nfs v4 grace", ask, describe).await?;
    prober.result.in_grace = Some(in_grace || prober.result.in_grace == Some(true));
    Ok(())
}
