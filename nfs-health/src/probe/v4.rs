//! NFSv4: which minor versions; the export, with a session where there are sessions.

use super::{MINOR_VERSIONS, Phase, Probing, Round, Stop, Version, list};
use crate::fault::Fault;
use crate::nfs4::session::{self, Client, Session};
use crate::nfs4::{self, Compound, CompoundError, Operation, Results, Status, attributes};
use crate::rpc::NFS_4;
use crate::rpc::connection::Connection;

/// A name that no file has.
const NO_FILE: &str = ".labhands-nfs-health-no-such-file";

pub(super) async fn round(
    round: &mut Round,
    export: Option<&str>,
    mut connection: Connection,
    wanted: Option<u32>,
    probing: &Probing,
) -> Result<(), Stop> {
    let minors = minors(round, &mut connection, wanted).await?;
    let Some(minor) = wanted.or(minors.last().copied()) else { return Ok(()) };
    let mut caller = Caller { connection, minor, session: None };
    if minor == 0 {
        return look(round, &mut caller, export).await;
    }
    let (client, session) = begin(round, &mut caller, probing).await?;
    caller.session = Some(session);
    let looked = look(round, &mut caller, export).await;
    let grace = match looked {
        Ok(()) => see_grace(round, &mut caller, &client, export).await,
        Err(Stop) => Err(Stop),
    };
    // A server that no longer answers forgets the session by itself.
    if grace.is_ok() {
        end(round, &mut caller, &client).await?;
    }
    grace
}

/// Which minor versions the server has: an empty request tells.
async fn minors(round: &mut Round, connection: &mut Connection, wanted: Option<u32>) -> Result<Vec<u32>, Stop> {
    let ask = async {
        let mut minors = Vec::new();
        for minor in MINOR_VERSIONS {
            let result = connection.call(NFS_4, nfs4::COMPOUND, &Compound::new(minor).encode()).await?;
            match Results::parse(&result)?.ok() {
                Ok(()) => minors.push(minor),
                Err(CompoundError::Failed(Status::MINOR_VERSION)) => (),
                Err(error) => return Err(error.into()),
            }
        }
        let has = list(&minors.iter().map(|minor| Version::V4(*minor)).collect::<Vec<_>>());
        match wanted {
            Some(wanted) if !minors.contains(&wanted) => {
                Err(Fault::NoVersion(format!("version 4.{wanted} is wanted, the server has {has}")))
            }
            None if minors.is_empty() => {
                Err(Fault::NoVersion("the server has no minor version that is known".to_owned()))
            }
            _ => Ok((minors, has)),
        }
    };
    let (minors, _) = round.step(Phase::Compound, "nfs v4 minors", ask, |(_, has)| has.clone()).await?;
    round.seen.versions.extend(minors.iter().map(|minor| Version::V4(*minor)));
    Ok(minors)
}

/// A connection, and the session in which its requests are made, if any.
struct Caller {
    connection: Connection,
    minor: u32,
    session: Option<Session>,
}

impl Caller {
    /// Makes a request; `fill` adds its operations, `read` takes their results.
    async fn ask<T>(
        &mut self,
        fill: impl FnOnce(Compound) -> Compound,
        read: impl FnOnce(&mut Results<'_>) -> Result<T, CompoundError>,
    ) -> Result<T, Fault> {
        let mut compound = Compound::new(self.minor);
        if let Some(session) = &mut self.session {
            compound = compound.operation(Operation::SEQUENCE, &session.sequence());
        }
        let result = self.connection.call(NFS_4, nfs4::COMPOUND, &fill(compound).encode()).await?;
        let mut results = Results::parse(&result)?;
        if self.session.is_some() {
            session::sequenced(&mut results)?;
        }
        Ok(read(&mut results)?)
    }
}

async fn begin(round: &mut Round, caller: &mut Caller, probing: &Probing) -> Result<(Client, Session), Stop> {
    let verifier = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
    let exchange = session::exchange_id(&probing.owner, verifier);
    let ask = caller.ask(|compound| compound.operation(Operation::EXCHANGE_ID, &exchange), session::exchanged);
    let describe = |client: &Client| {
        let name = String::from_utf8_lossy(&client.identity.owner);
        // Whatever the server calls itself, a line stays a line.
        let name: String = name.chars().map(|c| if c.is_control() { '.' } else { c }).take(40).collect();
        format!("server {name:?}, epoch {:08x}", client.identity.epoch)
    };
    let client = round.step(Phase::Session, "nfs v4 client", ask, describe).await?;
    round.seen.identity = Some(client.identity.clone());
    let create = session::create_session(&client);
    let ask = caller.ask(|compound| compound.operation(Operation::CREATE_SESSION, &create), session::created);
    let session = round.step(Phase::Session, "nfs v4 session", ask, |_| String::new()).await?;
    Ok((client, session))
}

async fn end(round: &mut Round, caller: &mut Caller, client: &Client) -> Result<(), Stop> {
    let Some(session) = caller.session.take() else { return Ok(()) };
    let end = async {
        let ask = |compound: Compound| compound.operation(Operation::DESTROY_SESSION, &session.destroy());
        caller.ask(ask, |results| results.next(Operation::DESTROY_SESSION).map(drop)).await?;
        let ask = |compound: Compound| compound.operation(Operation::DESTROY_CLIENTID, &client.id.to_be_bytes());
        // The server may hold on to the client for a moment; its lease ends by itself.
        match caller.ask(ask, |results| Ok(results.next(Operation::DESTROY_CLIENTID).map(drop))).await? {
            Ok(()) | Err(CompoundError::Failed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    round.step(Phase::Session, "nfs v4 session end", end, |()| String::new()).await
}

/// The root or the export: its lease time, its room, and whether it may be written to.
async fn look(round: &mut Round, caller: &mut Caller, export: Option<&str>) -> Result<(), Stop> {
    let path = export.unwrap_or_default();
    let ask = caller.ask(
        |compound| compound.go_to(path).operation(Operation::GETATTR, &attributes::request()),
        |results| {
            results.went_to(path)?;
            attributes::parse(results.next(Operation::GETATTR)?)
        },
    );
    let name = if export.is_some() { "nfs v4 export" } else { "nfs v4 root" };
    let describe = |attributes: &attributes::Attributes| {
        let lease = attributes.lease.map_or("no lease time".to_owned(), |lease| format!("lease {} s", lease.as_secs()));
        match (export, attributes.space) {
            (Some(_), Some(space)) => format!("{lease}, {} of {} MiB left", space.available >> 20, space.total >> 20),
            _ => lease,
        }
    };
    let attributes = round.step(Phase::Compound, name, ask, describe).await?;
    round.seen.lease = attributes.lease;
    if export.is_none() {
        return Ok(());
    }
    round.seen.space = attributes.space;
    let ask = async {
        let asked = caller.ask(
            |compound| compound.go_to(path).operation(Operation::SETATTR, &session::set_nothing()),
            |results| {
                results.went_to(path)?;
                // Only these two tell something; nobody needs the right to change the export's folder.
                match results.next(Operation::SETATTR) {
                    Err(CompoundError::Failed(Status::ROFS)) => Ok((true, None)),
                    Err(CompoundError::Failed(Status::GRACE)) => Ok((false, Some(true))),
                    Ok(_) | Err(CompoundError::Failed(_)) => Ok((false, None)),
                    Err(error) => Err(error),
                }
            },
        );
        asked.await
    };
    let describe = |(read_only, _): &(bool, Option<bool>)| if *read_only { "read-only" } else { "" }.to_owned();
    let (read_only, in_grace) = round.step(Phase::Compound, "nfs v4 writable", ask, describe).await?;
    round.seen.read_only = Some(read_only);
    round.seen.in_grace = in_grace;
    Ok(())
}

/// Only an OPEN shows whether the server is in its grace period.
async fn see_grace(round: &mut Round, caller: &mut Caller, client: &Client, export: Option<&str>) -> Result<(), Stop> {
    let path = export.unwrap_or_default();
    let ask = async {
        // Without this word a server answers as in its grace period. It may say that it was said before.
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
            Ok(results.next(Operation::OPEN).map(drop))
        });
        match asked.await? {
            Err(CompoundError::Failed(Status::GRACE)) => Ok(true),
            Ok(()) | Err(CompoundError::Failed(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    let describe = |in_grace: &bool| if *in_grace { "in its grace period" } else { "over" }.to_owned();
    let in_grace = round.step(Phase::Session, "nfs v4 grace", ask, describe).await?;
    round.seen.in_grace = Some(in_grace || round.seen.in_grace == Some(true));
    Ok(())
}
