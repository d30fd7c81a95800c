//! NFSv3: portmapper, mountd, and the export.

use super::{Pauses, Prober, Probing, Stop};
use crate::probe::fault::{Fault, wanted};
use crate::probe::result::Phase;
use crate::server::{Host, Server};
use crate::space::Space;
use crate::wire::nfs3::{self, Status};
use crate::wire::nfs4::elsewhere::Flavor;
use crate::wire::rpc::connection::{Connection, RpcError};
use crate::wire::rpc::message::{PROC_UNAVAIL, ReplyError};
use crate::wire::rpc::{MOUNTD, NFS_3, PORTMAPPER};

const PORTMAPPER_PORT: u16 = 111;

pub(super) async fn round(
    prober: &mut Prober,
    server: &Server,
    export: &str,
    nfs: Connection,
    probing: &Probing,
) -> Result<(), Stop> {
    let port = match probing.mount_port {
        Some(port) => port,
        None => ask_portmapper(prober, server, probing).await?,
    };
    let mut mountd = prober.connect_to_mountd(server, port, probing, Phase::Mountd, "mountd connect").await?;
    prober.null(&mut mountd, Phase::Mountd, MOUNTD, "mountd null").await?;
    let path = nfs3::export_path(export);
    let mut mount_pauses = Pauses::until(prober.deadline);
    let mount = async {
        let (handle, flavors) = loop {
            let mounted = mount_pauses.within(mount(&mut mountd, &path)).await;
            if !mount_pauses.again(&mounted).await {
                break mounted?;
            }
        };
        if !flavors.is_empty() && !flavors.iter().any(|flavor| flavor.is_open()) {
            return Err(Fault::Authentication(wanted(&flavors)));
        }
        Ok((handle, flavors))
    };
    let mounted = prober.step(Phase::Mountd, "mountd export", mount, |_| String::new()).await;
    let read = match mounted {
        Ok((handle, flavors)) => read_export(prober, nfs, &handle, &flavors).await,
        Err(Stop) => Err(Stop),
    };
    // We never mounted anything, so our name is removed from the server's list. Whether that works says nothing of the export.
    let _ = tokio::time::timeout_at(prober.deadline.into(), mountd.call(MOUNTD, nfs3::UMNT, &path)).await;
    read
}

async fn mount(mountd: &mut Connection, path: &[u8]) -> Result<(Vec<u8>, Vec<Flavor>), Fault> {
    Ok(nfs3::handle(&mountd.call(MOUNTD, nfs3::MNT, path).await?)?)
}

async fn read_export(prober: &mut Prober, mut nfs: Connection, handle: &[u8], flavors: &[Flavor]) -> Result<(), Stop> {
    let (mut room_pauses, mut write_pauses) = (Pauses::until(prober.deadline), Pauses::until(prober.deadline));
    let room = async {
        loop {
            let room = room_pauses.within(room_on(&mut nfs, handle)).await.map_err(|fault| match fault {
                // mountd says that our authentication is enough, so the reason is something else.
                Fault::Authentication(_) if !flavors.is_empty() => {
                    Fault::Denied("the server refuses the caller, whom mountd accepts".to_owned())
                }
                fault => fault,
            });
            if !room_pauses.again(&room).await {
                return room;
            }
        }
    };
    let describe = Space::to_string;
    prober.result.space = Some(prober.step(Phase::Compound, "nfs v3 export", room, describe).await?);
    let write = async {
        loop {
            let read_only = write_pauses.within(is_read_only(&mut nfs, handle)).await;
            if !write_pauses.again(&read_only).await {
                return read_only;
            }
        }
    };
    let describe = |read_only: &bool| if *read_only { "read-only" } else { "" }.to_owned();
    prober.result.read_only = Some(prober.step(Phase::Compound, "nfs v3 writable", write, describe).await?);
    Ok(())
}

async fn room_on(nfs: &mut Connection, handle: &[u8]) -> Result<Space, Fault> {
    Ok(nfs3::space(&nfs.call(NFS_3, nfs3::FSSTAT, &nfs3::file_system_of(handle)).await?)?)
}

async fn is_read_only(nfs: &mut Connection, handle: &[u8]) -> Result<bool, Fault> {
    let result = match nfs.call(NFS_3, nfs3::SETATTR, &nfs3::set_nothing(handle)).await {
        Err(RpcError::Reply(ReplyError::Refused(_) | ReplyError::Failed(PROC_UNAVAIL))) => return Ok(false),
        result => result?,
    };
    match nfs3::ok(&result) {
        Ok(_) => Ok(false),
        Err(nfs3::ResultError::Failed(Status::ROFS)) => Ok(true),
        // A probe needs no permission to change the export's folder, but errors of the server's storage count.
        Err(error @ nfs3::ResultError::Failed(_)) => {
            Some(Fault::from(error)).filter(Fault::is_trouble).map_or(Ok(false), Err)
        }
        Err(error) => Err(error.into()),
    }
}

impl Prober {
    /// Connects to mountd or its portmapper: on the server, unless the mounts use another place.
    async fn connect_to_mountd(
        &mut self,
        server: &Server,
        port: u16,
        probing: &Probing,
        phase: Phase,
        name: &'static str,
    ) -> Result<Connection, Stop> {
        let Some(address) = probing.mount_address else {
            return self.connect(&server.host, port, probing, phase, name).await;
        };
        let nfs = self.peer.take();
        let connected = self.connect(&Host::Address(address), port, probing, phase, name).await;
        self.peer = nfs;
        connected
    }
}

async fn ask_portmapper(prober: &mut Prober, server: &Server, probing: &Probing) -> Result<u16, Stop> {
    let (phase, name) = (Phase::Portmapper, "portmapper connect");
    let mut portmapper = prober.connect_to_mountd(server, PORTMAPPER_PORT, probing, phase, name).await?;
    prober.null(&mut portmapper, phase, PORTMAPPER, "portmapper null").await?;
    let ask = async {
        let result = portmapper.call(PORTMAPPER, nfs3::GETPORT, &nfs3::port_of_mountd()).await?;
        nfs3::port(&result)?.ok_or(Fault::NotRegistered)
    };
    prober.step(Phase::Portmapper, "portmapper", ask, |port| format!("mountd at port {port}")).await
}
