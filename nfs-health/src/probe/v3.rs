//! NFSv3: portmapper, mountd, and the export.

use super::{Phase, Probing, Round, Stop};
use crate::fault::Fault;
use crate::nfs3;
use crate::rpc::connection::Connection;
use crate::rpc::{MOUNTD, NFS_3, PORTMAPPER};
use crate::server::Server;
use crate::space::Space;

const PORTMAPPER_PORT: u16 = 111;

pub(super) async fn round(
    round: &mut Round,
    server: &Server,
    export: &str,
    mut nfs: Connection,
    probing: &Probing,
) -> Result<(), Stop> {
    let port = match probing.mount_port {
        Some(port) => port,
        None => ask_portmapper(round, server).await?,
    };
    let mut mountd = round.connect(server, port, "mountd connect").await?;
    round.null(&mut mountd, MOUNTD, "mountd null").await?;
    let path = nfs3::export_path(export);
    let mount = async {
        let handle = nfs3::handle(&mountd.call(MOUNTD, nfs3::MNT, &path).await?)?;
        // We never mounted anything: our name leaves the server's list at once.
        mountd.call(MOUNTD, nfs3::UMNT, &path).await?;
        Ok(handle)
    };
    let handle = round.step(Phase::Mountd, "mountd export", mount, |_| String::new()).await?;
    let room = async { Ok(nfs3::space(&nfs.call(NFS_3, nfs3::FSSTAT, &nfs3::file_system_of(&handle)).await?)?) };
    let describe = |space: &Space| format!("{} of {} MiB left", space.available >> 20, space.total >> 20);
    round.seen.space = Some(round.step(Phase::Compound, "nfs v3 export", room, describe).await?);
    let write = async {
        let result = nfs.call(NFS_3, nfs3::SETATTR, &nfs3::set_nothing(&handle)).await?;
        match nfs3::ok(&result) {
            Err(nfs3::ResultError::Failed(nfs3::Status::ROFS)) => Ok((true, None)),
            Err(nfs3::ResultError::Failed(nfs3::Status::JUKEBOX)) => Ok((false, Some(true))),
            Ok(_) | Err(nfs3::ResultError::Failed(_)) => Ok((false, None)),
            Err(error) => Err(error.into()),
        }
    };
    let describe = |(read_only, _): &(bool, Option<bool>)| if *read_only { "read-only" } else { "" }.to_owned();
    let (read_only, in_grace) = round.step(Phase::Compound, "nfs v3 writable", write, describe).await?;
    (round.seen.read_only, round.seen.in_grace) = (Some(read_only), in_grace);
    Ok(())
}

async fn ask_portmapper(round: &mut Round, server: &Server) -> Result<u16, Stop> {
    let mut portmapper = round.connect(server, PORTMAPPER_PORT, "portmapper connect").await?;
    round.null(&mut portmapper, PORTMAPPER, "portmapper null").await?;
    let ask = async {
        let result = portmapper.call(PORTMAPPER, nfs3::GETPORT, &nfs3::port_of_mountd()).await?;
        nfs3::port(&result)?.ok_or_else(|| {
            Fault::NoVersion("mountd version 3 over TCP is not registered with the portmapper".to_owned())
        })
    };
    round.step(Phase::Portmapper, "portmapper", ask, |port| format!("mountd at port {port}")).await
}
